"""The firmware as a device in a process of its own, without a clock, and the client's line to it.

Time passes only where the client waits for what does not come, so that a thousand lost frames cost
nothing and no test depends on how busy the machine is.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess

from bridge_help import built

from waistline_bridge import client as client_module
from waistline_bridge.client import DEADLINE_S, Client
from waistline_bridge.shim import BadLine, Damage

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "fuzz"))

from driver import BuildFailed, Driver, build


def device_program(path: str = "portable", *more: str, name: str = "") -> Path:
    """tests/firmware/device.c, built once for all test processes; skips without sanitizers."""

    def make(folder: Path) -> CompletedProcess[str]:
        try:
            build(path, folder, *more, name=name)
        except BuildFailed as error:
            return CompletedProcess([], 1, "", str(error))
        return CompletedProcess([], 0, "", "")

    return built(f"device-{name or path}", make)


class DeviceLine:
    """Implements `Line`; also the clock of the client that uses it."""

    name = "a device in this test"

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._waiting = b""
        self.now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s

    def send(self, data: bytes) -> None:
        self._waiting += self._driver.take(data)[2]

    def receive(self, timeout_s: float) -> bytes:
        if not self._waiting:
            self.now_s += timeout_s
        data, self._waiting = self._waiting, b""
        return data

    def close(self) -> None:
        pass


@contextlib.contextmanager
def client_over(
    program: Path, damage: Damage, seed: int, *, deadline_s: float = DEADLINE_S
) -> Iterator[Client]:
    """A client whose line to a fresh device damages what passes, in a time of its own."""
    driver = Driver(program)
    driver.begin(40_000, 16_384, 16_384)
    line = DeviceLine(driver)
    real, client_module.time = client_module.time, line  # type: ignore[assignment]
    try:
        yield Client(BadLine(line, damage, seed=seed), deadline_s=deadline_s)
    finally:
        client_module.time = real
        driver.close()
