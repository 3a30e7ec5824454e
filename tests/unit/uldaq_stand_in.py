"""A stand-in for the module uldaq, for tests alone: it is no emulation of hardware.

A scan goes on by as many scans as a test says, into the same circular buffer.
"""

from __future__ import annotations

import ctypes
import enum
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np


class ULError(enum.IntEnum):
    OVERRUN = 18
    DEAD_DEV = 3


class ULException(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(ULError(code).name)
        self.error_code = ULError(code)


class InterfaceType(enum.IntEnum):
    USB = 1
    ETHERNET = 4


class ScanStatus(enum.IntEnum):
    IDLE = 0
    RUNNING = 1


class AiInputMode(enum.IntEnum):
    DIFFERENTIAL = 1
    SINGLE_ENDED = 2


class Range(enum.IntEnum):
    BIP10VOLTS = 5
    BIP5VOLTS = 6
    BIP2VOLTS = 9
    BIP1VOLTS = 11


class ScanOption(enum.IntEnum):
    CONTINUOUS = 8


class AInScanFlag(enum.IntEnum):
    DEFAULT = 0


class Inputs:
    """The analog inputs; ``voltage(scan, channel)`` says what they see, id 0 of each scan is 0."""

    voltage: Callable[[np.ndarray, int], np.ndarray]
    current: ClassVar[Inputs | None] = None

    def __init__(self) -> None:
        Inputs.current = self
        self.voltage = lambda scans, channel: scans + 1000.0 * channel
        self.running = False
        self.failure = 0
        self.scans = 0
        self.asked: tuple[Any, ...] = ()

    def get_info(self) -> SimpleNamespace:
        return SimpleNamespace(get_max_scan_rate=lambda: 500e3, get_max_throughput=lambda: 500e3)

    def a_in_scan(self, low: int, high: int, *rest: Any) -> float:
        self.asked = (low, high, *rest)
        self.channels = range(low, high + 1)
        self.buffer = np.frombuffer(rest[-1]).reshape(rest[2], len(self.channels))
        self.running, self.failure, self.scans = True, 0, 0
        return float(rest[3]) * 0.999

    def advance(self, count: int) -> None:
        """The hardware takes ``count`` scans."""
        ids = np.arange(self.scans, self.scans + count)
        for column, channel in enumerate(self.channels):
            self.buffer[ids % len(self.buffer), column] = self.voltage(ids, channel)
        self.scans += count

    def get_scan_status(self) -> tuple[ScanStatus, SimpleNamespace]:
        if self.failure:
            raise ULException(self.failure)
        done = SimpleNamespace(current_total_count=self.scans * len(self.channels))
        return ScanStatus(self.running), done

    def scan_stop(self) -> None:
        self.running = False


class DaqDevice:
    present: ClassVar[list[SimpleNamespace]] = []
    connected: ClassVar[int] = 0

    def __init__(self, descriptor: SimpleNamespace) -> None:
        self.inputs = Inputs()

    def get_ai_device(self) -> Inputs:
        return self.inputs

    def connect(self) -> None:
        DaqDevice.connected += 1

    def disconnect(self) -> None:
        DaqDevice.connected -= 1

    def release(self) -> None:
        assert DaqDevice.connected == 0


def get_daq_device_inventory(kinds: int) -> list[SimpleNamespace]:
    assert kinds == 5
    return DaqDevice.present


def create_float_buffer(channels: int, scans: int) -> Any:
    return (ctypes.c_double * (channels * scans))()


def module(*unique_ids: str) -> ModuleType:
    """A fresh module with such devices plugged in."""
    DaqDevice.present = [
        SimpleNamespace(unique_id=one, product_name="USB-1608GX") for one in unique_ids
    ]
    DaqDevice.connected = 0
    made = ModuleType("uldaq")
    for value in (
        ULError, ULException, InterfaceType, ScanStatus, AiInputMode, Range, ScanOption,
        AInScanFlag, DaqDevice, get_daq_device_inventory, create_float_buffer,
    ):  # fmt: skip
        setattr(made, value.__name__, value)
    return made
