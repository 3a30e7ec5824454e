"""The library uldaq: which devices there are, and a continuous scan of one.

It is a shell around libuldaq.so, which its package does not bring.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np

from waistline.errors import MeterError, MissingExtra
from waistline_hostctl.meters.base import gone

try:
    import uldaq
except OSError as error:  # its Python part is there, the library that it loads is not
    raise MissingExtra(
        "mccdaq needs the library libuldaq.so, which is not installed",
        cause=str(error),
        fix="build it (https://github.com/mccdaq/uldaq: ./configure && make && sudo make install), "
        "then run sudo ldconfig",
    ) from error

RANGES = {"10": "BIP10VOLTS", "5": "BIP5VOLTS", "2": "BIP2VOLTS", "1": "BIP1VOLTS"}
WIRINGS = {"single": "SINGLE_ENDED", "differential": "DIFFERENTIAL"}
_OVERRUNS = ("OVERRUN", "ADC_OVERRUN", "NET_BUFFER_OVERRUN")
_BUFFER_S = 4.0


class Settings(msgspec.Struct, frozen=True):
    """What reader and decoder need to know; ``marker`` below 0 is none."""

    unique_id: str
    shunt_ohm: float
    reference: int
    measured: int
    marker: int
    threshold_v: float
    range: str
    wiring: str
    rate_hz: float

    @property
    def channels(self) -> tuple[int, int]:
        """First and last channel of the scan."""
        used = [one for one in (self.reference, self.measured, self.marker) if one >= 0]
        return min(used), max(used)


def inventory() -> list[Any]:
    kinds = uldaq.InterfaceType
    with _translated("the list of devices"):
        return list(uldaq.get_daq_device_inventory(kinds.USB | kinds.ETHERNET))


@contextlib.contextmanager
def _translated(name: str) -> Iterator[None]:
    try:
        yield
    except uldaq.ULException as error:
        raise MeterError(
            f"the data acquisition device failed: {name}",
            cause=str(error),
            fix="close the program that uses it; let users reach it: its udev rules come with "
            "libuldaq",
        ) from error


class Scan:
    """A continuous scan of a device into a circular buffer. A context that leaves it stopped."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        low, high = settings.channels
        self.width = high - low + 1
        self._buffer: Any = None
        self.samples = np.empty((0, self.width))
        with _translated(settings.unique_id):
            found = [one for one in inventory() if str(one.unique_id) == settings.unique_id]
            if not found:
                raise gone(settings.unique_id, "it is not among the devices that are there")
            self.product = str(found[0].product_name)
            self._device = uldaq.DaqDevice(found[0])
            self._inputs = self._device.get_ai_device()
            if self._inputs is None:
                raise MeterError(f"{self.product} has no analog inputs", fix="use another device")
            self._device.connect()

    def __enter__(self) -> Scan:
        return self

    def __exit__(self, *_: object) -> None:
        for step in (self._inputs.scan_stop, self._device.disconnect, self._device.release):
            with contextlib.suppress(uldaq.ULException):
                step()

    def best_rate_hz(self) -> float:
        """The highest rate of each channel."""
        info = self._inputs.get_info()
        with _translated(self.product):
            most = min(info.get_max_scan_rate(), info.get_max_throughput() / self.width)
        return float(most)

    def begin(self, rate_hz: float) -> float:
        """Start; the rate it really has."""
        known, (low, high) = self._settings, self._settings.channels
        if self._buffer is None:
            scans = max(1024, int(_BUFFER_S * rate_hz))
            self._buffer = uldaq.create_float_buffer(self.width, scans)
            self.samples = np.frombuffer(self._buffer).reshape(scans, self.width)
        with _translated(self.product):
            actual = self._inputs.a_in_scan(
                low,
                high,
                getattr(uldaq.AiInputMode, WIRINGS[known.wiring]),
                getattr(uldaq.Range, RANGES[known.range]),
                len(self.samples),
                rate_hz,
                uldaq.ScanOption.CONTINUOUS,
                uldaq.AInScanFlag.DEFAULT,
                self._buffer,
            )
        return float(actual)

    def count(self) -> int | None:
        """Scans since it began; None: its FIFO ran over, and it has stopped."""
        try:
            status, done = self._inputs.get_scan_status()
        except uldaq.ULException as error:
            if getattr(error.error_code, "name", "") in _OVERRUNS:
                return None
            raise gone(self._settings.unique_id, error) from error
        if status == uldaq.ScanStatus.IDLE:
            raise gone(self._settings.unique_id, "its scan has ended by itself")
        return int(done.current_total_count) // self.width
