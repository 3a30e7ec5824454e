"""A simulated device at any rate: current, voltage, power and logic bits, without any line.

Options: ``waveform`` (``constant:AMPERES``, ``device:FILE.json``, ``file:FILE.csv``; by default
``layers``, a device of ten layers), ``rate`` (2000000), ``bits`` (logic bits kept, 1), ``fifo``
(seconds it holds while nobody reads, 1.0). Where a period is a whole number of samples these are
made once, and their noise repeats after a second or so. What it shows is ``simulated``.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import msgspec
import numpy as np
from numpy.typing import NDArray

from waistline.errors import ConfigError
from waistline.evidence import Evidence
from waistline.trace.base import FLOAT_SIGNALS, LOGIC_BITS, SIGNALS
from waistline_hostctl.meters._options import check_options, number
from waistline_hostctl.meters._planar import Form, PlanarDecoder
from waistline_hostctl.meters.base import Found, MeterChoice, MeterInfo
from waistline_hostctl.simulated.device import Device, DeviceSpec, Samples
from waistline_hostctl.simulated.load import Layer, Load
from waistline_hostctl.simulated.waveform import Constant, Table, Waveform, open_waveform

_OPTIONS = ("waveform", "rate", "bits", "fifo")
_LOW_HZ, _HIGH_HZ = 1.0, 1e8
_LEAST, _TABLE = 1 << 16, 1 << 20
_MOST = 1 << 24
_PAUSE_S = 0.05
_LAYERS_S = (20e-6, 50e-6, 120e-6, 300e-6, 700e-6, 1.5e-3, 400e-6, 2.2e-3, 90e-6, 1.62e-3)


class Settings(msgspec.Struct, frozen=True):
    """What reader and decoder need to know."""

    waveform: str
    rate_hz: float
    bits: int
    fifo_s: float


def find() -> list[Found]:
    """It is always there, and never found."""
    return []


def open_meter(choice: MeterChoice) -> Sim:
    """Check the options; nothing is opened.

    Raises:
        ConfigError: an option that does not exist or fit, or a port.
    """
    check_options(choice, _OPTIONS)
    options = choice.options
    # The bench file names its instrument by the waveform.
    if choice.port not in (None, options.get("waveform", "layers")):
        raise ConfigError(
            f"the meter sim has no port {choice.port}",
            cause="it is simulated, and on no line",
            fix="leave out --port; to play a file: --meter-option waveform=file:FILE.csv",
        )
    bits = number(choice, "bits", 1, 0, LOGIC_BITS, whole=True)
    return Sim(
        Settings(
            waveform=options.get("waveform", "layers"),
            rate_hz=number(choice, "rate", 2e6, _LOW_HZ, _HIGH_HZ),
            bits=int(bits),
            fifo_s=number(choice, "fifo", 1.0, 1e-3, 60.0),
        )
    )


def reader_from(settings: Mapping[str, object]) -> SimReader:
    """What makes the samples."""
    return SimReader(msgspec.convert(settings, Settings))


def decoder_from(settings: Mapping[str, object]) -> PlanarDecoder:
    """What takes them apart."""
    return PlanarDecoder(_form(msgspec.convert(settings, Settings)))


def _form(settings: Settings) -> Form:
    return Form(tuple(FLOAT_SIGNALS), settings.bits > 0)


def layers() -> DeviceSpec:
    """The device that is simulated where none is named: ten layers of 20 us to 2.2 ms in 10 ms."""
    rows = tuple(
        Layer(f"layer{k}", duration_s, 0.4 + 0.13 * (k * 7 % 10), 0.1)
        for k, duration_s in enumerate(_LAYERS_S)
    )
    return DeviceSpec(Load(period_s=0.01, idle_w=0.35, start_s=1e-3, layers=rows), supply_v=5.0)


class Sim:
    """The device, before it runs."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        opened(settings)  # so that a file that is not there is known now
        names = (*FLOAT_SIGNALS, *(f"d{bit}" for bit in range(settings.bits)))
        self.info = MeterInfo(
            name="sim",
            id=f"sim:{settings.waveform}",
            rate_hz=settings.rate_hz,
            signals=tuple(SIGNALS[name] for name in names),
            evidence=Evidence.SIMULATED,
            untried=False,
            ledger="counter",
            details=msgspec.structs.asdict(settings),
            sample_bytes=_form(settings).sample_bytes,
            # Half of what one read takes at most.
            pause_s=min(_PAUSE_S, _TABLE / 2 / settings.rate_hz),
        )

    def settings(self) -> dict[str, object]:
        """As `Settings`."""
        return msgspec.structs.asdict(self._settings)

    def close(self) -> None:
        """Nothing is open."""


def opened(settings: Settings) -> Waveform:
    """The waveform.

    Raises:
        ConfigError: there is none such.
    """
    if settings.waveform == "layers":
        return Device(layers(), settings.rate_hz)
    return open_waveform(settings.waveform, settings.rate_hz)


class SimReader:
    """Samples whose time has come, as raw blocks."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._form = _form(settings)
        self._waveform = opened(settings)
        self._period = _period(self._waveform, settings.rate_hz)
        self._table: list[NDArray[np.generic]] = []
        self._next = 0
        self._start_ns = 0

    def start(self) -> None:
        if self._period:
            # Twice the length of what one read takes at most follows, so that none wraps around.
            wanted = min(_TABLE, max(_LEAST, int(self._settings.rate_hz)))
            length = -(-wanted // self._period) * self._period
            more = min(_TABLE, length)
            found = self._planes(self._waveform.samples(0, length))
            self._table = [np.concatenate([plane, plane[:more]]) for plane in found]
            self._period, self._most = length, more
        else:
            self._most = _TABLE
        self._start_ns = time.monotonic_ns()

    def fileno(self) -> int:
        return -1

    def read_into(self, buffer: memoryview) -> int:
        rate_hz = self._settings.rate_hz
        due = int((time.monotonic_ns() - self._start_ns) * rate_hz * 1e-9)
        # What nobody fetched in time is lost, as in an instrument.
        self._next = max(self._next, due - int(self._settings.fifo_s * rate_hz))
        count = min(due - self._next, self._form.most(len(buffer)), self._most)
        if count <= 0:
            return 0
        if self._table:
            place = self._next % self._period
            planes = [plane[place : place + count] for plane in self._table]
        else:
            planes = self._planes(self._waveform.samples(self._next, count))
        size = self._form.put(buffer, self._next, count, planes)
        self._next += count
        return size

    def stop(self) -> None:
        """Nothing is open."""

    def _planes(self, samples: Samples) -> list[NDArray[np.generic]]:
        planes: list[NDArray[np.generic]] = [samples.current_a, samples.voltage_v, samples.power_w]
        return [*planes, samples.logic] if self._settings.bits else planes


def _period(waveform: Waveform, rate_hz: float) -> int:
    """Samples after which it repeats; 0 where that is no whole, or too large, number."""
    if isinstance(waveform, Constant):
        return 1
    period_s = waveform.spec.load.period_s if isinstance(waveform, Device) else 0.0
    if isinstance(waveform, Table):
        period_s = waveform.period_s
    turns = period_s * rate_hz
    whole = round(turns)
    return whole if 0 < whole <= _MOST and abs(turns - whole) < 1e-9 * whole else 0
