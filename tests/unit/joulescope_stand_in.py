"""A stand-in for the module pyjoulescope_driver, for tests alone: it is no emulation of hardware.

It publishes NumPy blocks of the same shape as the driver's, one level above the USB protocol.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

NATIVE_HZ = 2_000_000


class Driver:
    """Paths and faults are set on the class by a test."""

    paths: ClassVar[list[str]] = []
    fails = ""
    opened: ClassVar[list[Driver]] = []

    def __init__(self) -> None:
        if Driver.fails:
            raise RuntimeError(Driver.fails)
        self.subscribed: dict[str, Callable[[str, Any], None]] = {}
        self.published: dict[str, Any] = {}
        self.open_path = ""
        self.finalized = False
        Driver.opened.append(self)

    def device_paths(self) -> list[str]:
        return list(Driver.paths)

    def open(self, path: str, mode: str) -> None:
        if path not in Driver.paths:
            raise RuntimeError("jsdrv_open failed 16: NOT_FOUND")
        assert mode == "defaults"
        self.open_path = path

    def close(self, path: str) -> None:
        assert path == self.open_path
        self.open_path = ""

    def publish(self, topic: str, value: Any) -> None:
        self.published[topic] = value

    def subscribe(self, topic: str, flags: list[str], fn: Callable[[str, Any], None]) -> None:
        assert flags == ["pub"]
        self.subscribed[topic] = fn

    def finalize(self) -> None:
        self.finalized = True

    def send(self, topic: str, sample_id: int, data: np.ndarray, decimate: int) -> None:
        """What the driver's thread does when samples have come."""
        block = {
            "sample_id": sample_id,
            "sample_rate": NATIVE_HZ,
            "decimate_factor": decimate,
            "data": data,
        }
        topic = f"{self.open_path}/{topic}/!data"
        self.subscribed[topic](topic, block)


def module() -> ModuleType:
    """A fresh module with nothing plugged in."""
    Driver.paths, Driver.fails, Driver.opened = [], "", []
    made = ModuleType("pyjoulescope_driver")
    made.Driver = Driver  # type: ignore[attr-defined]
    made.__version__ = "0.0-stand-in"  # type: ignore[attr-defined]
    return made
