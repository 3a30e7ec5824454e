"""A data acquisition device of Measurement Computing and a shunt: two voltages, and Ohm's law.

The shunt lies in the device's ground line. ``reference`` is the channel at the supply, ``measured``
the one across the shunt, both against ground; so I = Um / R, V = Uref - Um, and the device's power
is (Uref - Um) Um / R. One converter takes the channels in turn, one conversion apart.

Options: ``shunt`` (ohms; 0.1, or ``shunt_ohm`` of the bench file), ``reference`` (0), ``measured``
(1), ``marker`` (a channel that becomes D0, above ``threshold`` volts, 1.5), ``range`` (of the
channels, plus and minus volts; 10), ``wiring`` (``single`` or ``differential``), ``rate`` (of each
channel in hertz; by default what the device can do). Losses are known from the scan's own count;
where its FIFO ran over, the scan is begun again and the hole has bounds. No one has tried it on the
real instrument.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Mapping
from dataclasses import replace

import msgspec
import numpy as np

from waistline.errors import ConfigError, MeterError
from waistline.evidence import Evidence
from waistline.trace.base import SIGNALS, Block, Gap
from waistline_hostctl.meters._options import check_options, number, word
from waistline_hostctl.meters._planar import Form, PlanarDecoder
from waistline_hostctl.meters._uldaq import RANGES, WIRINGS, Scan, Settings, inventory
from waistline_hostctl.meters.base import Found, MeterChoice, MeterInfo, Part, choose_port

UNTRIED = True
_OPTIONS = ("shunt", "reference", "measured", "marker", "threshold", "range", "wiring", "rate")
_RESTART_S = 0.1
"""A hole from one scan to the next is known to this, one way and the other."""
_RESTARTS = 5
"""So many in a row without a sample mean that the host cannot keep up."""


def find() -> list[Found]:
    """Devices that are plugged in or on the network; ids are what they call themselves uniquely."""
    return sorted(
        (
            Found(str(one.unique_id), str(one.unique_id), str(one.product_name), UNTRIED)
            for one in inventory()
        ),
        key=lambda one: one.id,
    )


def open_meter(choice: MeterChoice) -> MccDaq:
    """Check the options, and ask the device for the rate it will really have.

    Raises:
        ConfigError: an option that does not exist or fit, or no single device.
        MeterError: it cannot be opened.
    """
    check_options(choice, _OPTIONS)
    asked = Settings(
        unique_id="",
        shunt_ohm=number(choice, "shunt", 0.1, 1e-6, 1e6),
        reference=int(number(choice, "reference", 0, 0, 63, whole=True)),
        measured=int(number(choice, "measured", 1, 0, 63, whole=True)),
        marker=int(number(choice, "marker", -1, -1, 63, whole=True)),
        threshold_v=number(choice, "threshold", 1.5, -10, 10),
        range=word(choice, "range", "10", RANGES),
        wiring=word(choice, "wiring", "single", WIRINGS),
        rate_hz=number(choice, "rate", 0, 0, 1e8),
    )
    if len({asked.reference, asked.measured, asked.marker}) < 3:
        raise ConfigError(
            "two signals cannot be one channel",
            cause=f"reference {asked.reference}, measured {asked.measured}, marker {asked.marker}",
            fix="give each a channel of its own",
        )
    path = choose_port(choice, find(), "data acquisition device")
    asked = msgspec.structs.replace(asked, unique_id=path)
    with Scan(asked) as scan:
        if not asked.rate_hz:
            asked = msgspec.structs.replace(asked, rate_hz=scan.best_rate_hz())
        known = msgspec.structs.replace(asked, rate_hz=scan.begin(asked.rate_hz))
        return MccDaq(known, scan.product)


def reader_from(settings: Mapping[str, object]) -> MccReader:
    """The reader of a device that was found."""
    return MccReader(msgspec.convert(settings, Settings))


def decoder_from(settings: Mapping[str, object]) -> ShuntDecoder:
    """Two voltages to current, voltage and power."""
    return ShuntDecoder(msgspec.convert(settings, Settings))


class MccDaq:
    """A device that was asked for its rate."""

    def __init__(self, settings: Settings, product: str) -> None:
        self._settings = settings
        names = ("current", "voltage", "power", *(["d0"] if settings.marker >= 0 else []))
        self.info = MeterInfo(
            name="mccdaq",
            id=f"mccdaq:{settings.unique_id}",
            rate_hz=settings.rate_hz,
            signals=tuple(SIGNALS[name] for name in names),
            evidence=Evidence.METERED,
            untried=UNTRIED,
            ledger="counter",
            details={"product": product, **msgspec.structs.asdict(settings)},
            sample_bytes=_form(settings).sample_bytes,
        )

    def settings(self) -> dict[str, object]:
        """As `Settings`."""
        return msgspec.structs.asdict(self._settings)

    def close(self) -> None:
        """The reader has closed it."""


class MccReader:
    """What the scan has put into its buffer, as raw blocks of two voltages."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._form = _form(settings)
        low, _ = settings.channels
        used = (settings.measured, settings.reference, settings.marker)
        self._columns = [channel - low for channel in used if channel >= 0]
        self._stack = contextlib.ExitStack()
        self._base = 0
        self._taken = 0
        self._seen_ns = 0
        self._restarts = 0

    def start(self) -> None:
        self._scan = self._stack.enter_context(Scan(self._settings))
        self._scan.begin(self._settings.rate_hz)
        self._seen_ns = time.monotonic_ns()

    def fileno(self) -> int:
        return -1

    def read_into(self, buffer: memoryview) -> int:
        count = self._scan.count()
        if count is None:
            return self._again(buffer)
        self._seen_ns = time.monotonic_ns()
        size = len(self._scan.samples)
        if count - self._taken > size // 2:
            # What comes next may be written over while it is copied; the ids tell of the hole.
            self._taken = count - size // 4
        place = self._taken % size
        most = min(count - self._taken, size - place, self._form.most(len(buffer)))
        if most <= 0:
            return 0
        self._restarts = 0
        rows = self._scan.samples[place : place + most]
        planes = [rows[:, column].astype(np.float32) for column in self._columns]
        if self._settings.marker >= 0:
            planes[2] = (planes[2] > self._settings.threshold_v).astype(np.uint8)
        after = self._scan.count()
        if after is not None and after - self._taken > size:
            return 0
        used = self._form.put(buffer, self._base + self._taken, most, planes)
        self._taken += most
        return used

    def _again(self, buffer: memoryview) -> int:
        """Begin another scan behind one that ran over."""
        known = self._settings
        self._restarts += 1
        if self._restarts > _RESTARTS:
            raise MeterError(
                f"{self._scan.product} samples faster than this machine reads",
                cause=f"its FIFO ran over {self._restarts} times in a row",
                fix=f"use --meter-option rate={known.rate_hz / 2:g}",
            )
        self._scan.begin(known.rate_hz)
        now_ns = time.monotonic_ns()
        count = max(1, round((now_ns - self._seen_ns) * 1e-9 * known.rate_hz))
        apart = math.ceil(_RESTART_S * known.rate_hz)
        first = self._base + self._taken
        self._base, self._taken, self._seen_ns = first + count, 0, now_ns
        hole = Gap(first, count, "host-time", max(0, count - apart), count + apart)
        return self._form.put_gap(buffer, hole)

    def stop(self) -> None:
        self._stack.close()


def _form(settings: Settings) -> Form:
    """Two planes: the voltage across the shunt in the place of a current, then the supply's."""
    return Form(("current", "voltage"), settings.marker >= 0)


class ShuntDecoder(PlanarDecoder):
    """Raw blocks to current, voltage and power of the device behind the shunt."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(_form(settings))
        self._ohm = np.float32(settings.shunt_ohm)

    def feed(self, raw: bytes | memoryview, host_ns: int) -> list[Part]:
        parts = super().feed(raw, host_ns)
        return [self._by_ohm(part) if isinstance(part, Block) else part for part in parts]

    def _by_ohm(self, block: Block) -> Block:
        shunt_v, supply_v = block.current_a, block.voltage_v
        assert shunt_v is not None
        assert supply_v is not None
        current, voltage = shunt_v / self._ohm, supply_v - shunt_v
        return replace(block, current_a=current, voltage_v=voltage, power_w=current * voltage)
