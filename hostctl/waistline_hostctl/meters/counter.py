"""Counters that a machine has itself, as a slow meter: RAPL, INA sensors by hwmon, NVML.

They show tens or hundreds of values a second, too few for layers, so a capture asks for
``--allow-slow``; what they give is ``counter``, not ``metered``. A sample is the mean power between
two grid points, by the line through the energies read around them, so that energies are kept.

Options: ``rate`` (of samples in hertz; 100 for RAPL, 50 for hwmon, 10 for NVML), ``shunt`` (ohms of
a hwmon sensor's shunt, where it is another than the sensor believes), ``root`` (a folder in the
place of ``/sys``, for tests: what it gives is ``emulated``). Tried on such folders only.
"""

from __future__ import annotations

import math
import struct
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np

from waistline.errors import ConfigError, MeterError
from waistline.evidence import Evidence
from waistline.trace.base import FLOAT_SIGNALS, SIGNALS, Block, Gap
from waistline_hostctl.meters._counters import (
    RATES_HZ,
    UNTRIED,
    Counter,
    Source,
    found,
    opened,
    with_shunt,
)
from waistline_hostctl.meters._ledger import Ledger, Loss
from waistline_hostctl.meters._options import check_options, number
from waistline_hostctl.meters.base import Found, MeterChoice, MeterInfo, Part, choose_port

_OPTIONS = ("rate", "shunt", "root")
_SYS = Path("/sys")
_LOW_HZ, _HIGH_HZ = 0.1, 1000.0
_LATE = 4.0
"""Between readings further apart than so many samples nobody knows what a power was."""


class Settings(msgspec.Struct, frozen=True):
    """What reader and decoder need to know."""

    counter: Counter
    rate_hz: float


def find() -> list[Found]:
    """Counters of this machine."""
    return [one for one, _ in found(_SYS)]


def open_meter(choice: MeterChoice) -> CounterMeter:
    """Find the counter, and read it once.

    Raises:
        ConfigError: an option that does not exist or fit, or no single counter.
        MeterError: it may not be read.
    """
    check_options(choice, _OPTIONS)
    root = Path(choice.options.get("root", str(_SYS)))
    rows = found(root)
    if not rows:
        raise ConfigError(
            "this machine has no counter of power",
            cause=f"no RAPL zone or INA sensor below {root}, and no graphics processor answers",
            fix="use a meter: waistline capture --meter ppk2",
        )
    path = choose_port(choice, [one for one, _ in rows], "counter")
    fitting = [row for row in rows if row[0].path == path]
    if not fitting:
        raise ConfigError(f"there is no counter at {path}", fix="waistline meter list")
    one, counter = fitting[0]
    rate_hz = number(choice, "rate", RATES_HZ[counter.kind], _LOW_HZ, _HIGH_HZ)
    if "shunt" in choice.options:
        counter = with_shunt(counter, number(choice, "shunt", 0.1, 1e-6, 1e6))
    source = opened(counter)
    try:
        source.read()
    finally:
        source.close()
    evidence = Evidence.COUNTER if root == _SYS else Evidence.EMULATED
    return CounterMeter(Settings(counter, rate_hz), one.id, evidence)


def reader_from(settings: Mapping[str, object]) -> CounterReader:
    """What reads the counter in time."""
    return CounterReader(msgspec.convert(settings, Settings))


def decoder_from(settings: Mapping[str, object]) -> CounterDecoder:
    """Readings to samples on a grid."""
    return CounterDecoder(msgspec.convert(settings, Settings))


class CounterMeter:
    """A counter that was read once."""

    def __init__(self, settings: Settings, identity: str, evidence: Evidence) -> None:
        self._settings = settings
        self.info = MeterInfo(
            name="counter",
            id=f"counter:{identity}",
            rate_hz=settings.rate_hz,
            signals=tuple(SIGNALS[name] for name in settings.counter.names),
            evidence=evidence,
            untried=UNTRIED and evidence is Evidence.COUNTER,
            ledger="host-time",
            details={"place": settings.counter.place, "kind": settings.counter.kind},
            sample_bytes=_record(settings.counter).size,
        )

    def settings(self) -> dict[str, object]:
        """As `Settings`."""
        settings: dict[str, object] = msgspec.to_builtins(self._settings)
        return settings

    def close(self) -> None:
        """Nothing is open."""


def _record(counter: Counter) -> struct.Struct:
    """A reading: host's monotonic time in nanoseconds, and its numbers."""
    return struct.Struct(f"<q{len(counter.names)}d")


class CounterReader:
    """Readings, each with the middle of the time that it took."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._record = _record(settings.counter)
        self._source: Source | None = None
        self._period_ns = int(1e9 / settings.rate_hz)
        self._due_ns = 0

    def start(self) -> None:
        self._source = opened(self._settings.counter)
        self._due_ns = time.monotonic_ns()

    def fileno(self) -> int:
        return -1

    def read_into(self, buffer: memoryview) -> int:
        before = time.monotonic_ns()
        if before < self._due_ns or len(buffer) < self._record.size or self._source is None:
            return 0
        values = self._source.read()
        middle = (before + time.monotonic_ns()) // 2
        self._record.pack_into(buffer, 0, middle, *values)
        # Those that were missed are not made up for: one reading tells as much.
        self._due_ns += (before - self._due_ns) // self._period_ns * self._period_ns
        self._due_ns += self._period_ns
        return self._record.size

    def stop(self) -> None:
        source, self._source = self._source, None
        if source is not None:
            source.close()


class CounterDecoder:
    """Readings to means over the samples of a grid that begins with the first reading.

    Sample k lies between t0 + k / rate and t0 + (k + 1) / rate. An energy is a straight line
    between two readings; a power, current or voltage of the moment is, too, and its integral is
    taken. Where readings are further apart than four samples the whole ones between are a gap; of
    an energy nothing is lost by that but where it went.
    """

    def __init__(self, settings: Settings) -> None:
        self._counter = settings.counter
        self._rate_hz = settings.rate_hz
        self._record = _record(settings.counter)
        self._rest = b""
        self._start_ns: int | None = None
        self._last_s = 0.0
        self._last = np.zeros(len(settings.counter.names))
        self._sums = np.zeros(len(settings.counter.names))
        self._next = 0
        self._ledger = Ledger("host-time")

    def feed(self, raw: bytes | memoryview, host_ns: int) -> list[Part]:
        data = self._rest + bytes(raw)
        whole = len(data) // self._record.size * self._record.size
        self._rest = data[whole:]
        parts: list[Part] = []
        for host, *values in self._record.iter_unpack(data[:whole]):
            if not any(map(math.isnan, values)):
                self._reading(host, np.array(values), parts)
        return parts

    def skip(self, size_bytes: int, host_ns: int) -> list[Part]:
        # Readings that are not there make the next ones further apart.
        return []

    def finish(self, host_ns: int) -> list[Part]:
        return []

    def ledger(self) -> dict[str, object]:
        return self._ledger.as_dict()

    def _reading(self, host_ns: int, values: np.ndarray, parts: list[Part]) -> None:
        if self._start_ns is None:
            self._start_ns, self._last = host_ns, values
            return
        now_s = (host_ns - self._start_ns) * 1e-9
        span_s = now_s - self._last_s
        if span_s <= 0:
            raise MeterError("readings of a counter go back in time", cause=f"by {-span_s} s")
        first, before_s = self._next, self._last_s
        stop = int(now_s * self._rate_hz)
        # Bounds of the pieces that the whole samples cut this span into.
        edges = np.arange(first + 1, stop + 1) / self._rate_hz
        bounds = np.concatenate([[before_s], edges, [now_s]])
        pieces = self._integrals(bounds, span_s, values)
        self._last_s, self._last = now_s, values
        if stop == first:
            self._sums += pieces[0]
            return
        pieces[0] += self._sums
        self._sums = pieces[-1]
        means = (pieces[:-1] * self._rate_hz).astype(np.float32)
        self._next = stop
        if span_s * self._rate_hz > _LATE and not self._counter.energy:
            self._gap(first, stop - first, parts)
        else:
            names = [f"{name}_{FLOAT_SIGNALS[name].lower()}" for name in self._counter.names]
            columns = [column.copy() for column in means.T]
            parts.append(Block(first, **dict(zip(names, columns, strict=True))))
            self._ledger.kept += stop - first

    def _integrals(self, bounds: np.ndarray, span_s: float, values: np.ndarray) -> np.ndarray:
        """Integral of each signal over each piece, float64 (pieces, signals)."""
        shares = np.diff(bounds)[:, None] / span_s
        if self._counter.energy:
            risen = values - self._last
            if risen[0] < 0:
                if not self._counter.modulo_j or risen[0] + self._counter.modulo_j < 0:
                    raise MeterError(
                        "a counter of energy fell",
                        cause=f"from {self._last[0]:g} to {values[0]:g} J",
                        fix="capture again; it was reset meanwhile",
                    )
                risen = risen + self._counter.modulo_j
            return shares * risen
        middles = (bounds[:-1] + bounds[1:])[:, None] / 2
        slope = (values - self._last) / span_s
        means: np.ndarray = self._last + slope * (middles - bounds[0])
        return means * np.diff(bounds)[:, None]

    def _gap(self, first: int, count: int, parts: list[Part]) -> None:
        gap = Gap(first, count, "host-time")
        parts.append(gap)
        self._ledger.hole(Loss(first, count, count, count, 0, gap.kind))
