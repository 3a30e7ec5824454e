"""The meter contract: open an instrument, read its bytes in one process, decode them in another.

A meter module exports ``open_meter(choice) -> Meter`` and ``find() -> list[Found]``; it imports its
third-party library at its own top and is found by its file name. The parts of a capture are:

- the *control* process opens a `Meter`: it identifies and sets up the instrument;
- the *reader* process makes a `Reader`: raw bytes and the time they came, nothing is decoded;
- the *writer* process makes a `Decoder`: bytes and times become `Block`s and `Gap`s.

The last two are fresh processes. What they need to know is `Meter.settings`, plain JSON values, of
which the module's ``reader_from(settings)`` and ``decoder_from(settings)`` make the two. Blocks and
gaps come in order and without overlap: each starts where the one before ended, the first at 0.
Blocks come late by as much as it takes to know where their samples belong (about 0.3 s after a
loss); `Decoder.finish` gives the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Literal, Protocol

from waistline import plugins
from waistline.bench import Bench
from waistline.errors import ConfigError, MeterError, MissingExtra
from waistline.evidence import Evidence
from waistline.trace.base import Annotation, Block, Gap, Signal
from waistline_hostctl.meters._calibrated import CalibratedMeter, calibrated, choice_of

PACKAGE = "waistline_hostctl.meters"
Part = Block | Gap | Annotation
"""Annotations are of samples that have come; only a trace that is played again has some."""
LedgerGrade = Literal["counter", "host-time"]
"""What losses are counted by: the instrument's own counter, or the host's clock alone."""


@dataclass(frozen=True, slots=True)
class MeterChoice:
    """What the user chose.

    Attributes:
        name: the meter's file name.
        port: a path, or an id that `find` lists; None picks the only one there is.
        options: the meter's own options, as text, checked by the meter's file.
    """

    name: str
    port: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Found:
    """An instrument that is plugged in.

    Attributes:
        id: stays with the instrument when it is plugged in elsewhere; may be given as ``port``.
        path: now.
        text: what it says of itself.
        untried: no one has yet run this driver on the real instrument.
    """

    id: str
    path: str
    text: str
    untried: bool


@dataclass(frozen=True, slots=True)
class MeterInfo:
    """What an opened meter is.

    Attributes:
        name: the meter's file name.
        id: of this very instrument, goes into traces as their source.
        rate_hz: nominal sample rate.
        signals: what its blocks hold.
        evidence: follows from what the instrument is: an emulator is never ``metered``.
        untried: only an emulator has seen this driver.
        ledger: what its losses are counted by.
        counter_modulo: its sample counter wraps here; None where it has none.
        supply_v: constant voltage that turns its current into power, None where not known.
        details: what else goes into run.json (firmware, calibration), plain JSON values.
        sample_bytes: of one sample on its way to the host, at most.
        pause_s: between two reads; what comes meanwhile waits in the instrument or the system.
        patient: it can wait: it is not read while there is no room, and its time is not the host's.
    """

    name: str
    id: str
    rate_hz: float
    signals: tuple[Signal, ...]
    evidence: Evidence
    untried: bool
    ledger: LedgerGrade
    counter_modulo: int | None = None
    supply_v: float | None = None
    details: Mapping[str, object] = field(default_factory=dict)
    sample_bytes: int = 4
    pause_s: float = 0.008
    patient: bool = False


class Reader(Protocol):
    """The instrument's byte stream; used by one thread of the reader process."""

    def start(self) -> None:
        """Open the instrument and start sampling.

        Raises:
            MeterError: it cannot be opened.
        """

    def fileno(self) -> int:
        """To wait for readability with ``select``; -1 where there is nothing to wait for."""

    def read_into(self, buffer: memoryview) -> int:
        """Move what has come into ``buffer``, without waiting; 0 is nothing yet, -1 the end.

        The time that goes with the bytes is ``time.monotonic_ns()`` taken right after this
        returns. Losses are measured by it, so it should be close to when the newest byte came. To
        read seldom and still be prompt: sleep, empty the line, then wait in ``select`` for what
        comes next and read that too; the time is that of the last read, the bytes are of both.
        The buffer should hold 64 KiB or more.

        Raises:
            MeterError: the instrument is gone.
        """

    def stop(self) -> None:
        """Stop sampling and close, also when it is gone already."""


class Decoder(Protocol):
    """Bytes to samples; pure computation without a clock, used by one thread."""

    def feed(self, raw: bytes | memoryview, host_ns: int) -> list[Part]:
        """Take the next bytes of the stream.

        Args:
            raw: any number of bytes, cut anywhere; not kept, but blocks may look into it, so it
                is left as it is until they are used up.
            host_ns: monotonic time right after the last of them was read; never falls.
        """

    def skip(self, size_bytes: int, host_ns: int) -> list[Part]:
        """Take note of bytes that were read, but thrown away on the host (a full ring)."""

    def finish(self, host_ns: int) -> list[Part]:
        """End the stream and give what was held back."""

    def ledger(self) -> dict[str, object]:
        """The account so far, plain JSON values; see `meters._ledger.Ledger`."""


class Meter(Protocol):
    """An instrument, identified and set up."""

    @property
    def info(self) -> MeterInfo: ...

    def settings(self) -> dict[str, object]:
        """What its reader and decoder need to know, plain JSON values."""

    def close(self) -> None:
        """Leave the instrument as it should be between captures; call it after the reader's end."""


def open_meter(choice: MeterChoice) -> Meter:
    """Open the meter that was chosen.

    Raises:
        ConfigError: no such meter, an option it does not have, or no single instrument fits.
        MissingExtra: its library is not installed.
        MeterError: the instrument does not answer as it should.
    """
    opener: Callable[[MeterChoice], Meter] = _module(choice.name).open_meter
    return opener(choice)


def open_on_bench(choice: MeterChoice, bench: Bench) -> Meter:
    """Open the meter that was chosen as its section ``[meter.NAME]`` describes it, if it has one.

    Raises:
        ConfigError, MissingExtra, MeterError: as `open_meter`; or the section does not fit it.
    """
    entry = bench.meter.get(choice.name)
    if entry is None:
        return open_meter(choice)
    meter = open_meter(choice_of(entry, choice))
    try:
        return CalibratedMeter(meter, choice.name, entry)
    except ConfigError:
        meter.close()
        raise


def find(name: str) -> list[Found]:
    """Instruments of this kind that are plugged in, sorted by path.

    Raises:
        ConfigError, MissingExtra: as `open_meter`.
    """
    finder: Callable[[], list[Found]] = _module(name).find
    return finder()


def reader_from(name: str, settings: Mapping[str, object]) -> Reader:
    """The reader of meter ``name`` with what `Meter.settings` gave, perhaps in another process."""
    maker: Callable[[Mapping[str, object]], Reader] = _module(name).reader_from
    return maker(settings)


def decoder_from(name: str, settings: Mapping[str, object]) -> Decoder:
    """The decoder of meter ``name``, as `reader_from`."""
    maker: Callable[[Mapping[str, object]], Decoder] = _module(name).decoder_from
    return calibrated(maker(settings), settings)


def _module(name: str) -> ModuleType:
    try:
        return plugins.load(PACKAGE, name)
    except MissingExtra as error:
        cause = error.__cause__
        own = f"waistline[{name}]" in error.fix
        if own or not isinstance(cause, ModuleNotFoundError) or not cause.name:
            raise
        # Several extras bring pyserial; with this one the capture works, too.
        raise plugins.missing_extra(cause.name, needed_by="capture") from error


def choose_port(choice: MeterChoice, found: Sequence[Found], what: str) -> str:
    """Path of the instrument to open; never a guess between two.

    Raises:
        ConfigError: none, or more than one, fits.
    """
    wanted = choice.port
    fitting = [one for one in found if wanted in (None, one.id, one.path)]
    if wanted is not None and not fitting and wanted.startswith("/"):
        return wanted
    if len(fitting) == 1:
        return fitting[0].path
    listed = "; ".join(f"{one.path} ({one.id}, {one.text})" for one in found)
    if not fitting:
        raise ConfigError(
            f"there is no {what} at {wanted}" if wanted else f"no {what} is plugged in",
            cause=f"there are: {listed}" if found else "no USB port has its ids",
            fix="plug it in, or give its path: --port /dev/ttyACM0",
        )
    raise ConfigError(
        f"{len(fitting)} instruments could be the {what}",
        cause=listed,
        fix=f"choose one: --port {fitting[0].id if wanted is None else fitting[0].path}",
    )


def gone(name: str, cause: object) -> MeterError:
    """The error for an instrument that does not answer any more."""
    return MeterError(
        f"the meter at {name} is gone",
        cause=str(cause),
        fix="plug it in again; the trace up to here is kept",
    )
