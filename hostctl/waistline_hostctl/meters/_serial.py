"""Instruments on a serial port: finding them by USB ids, asking, and reading raw bytes."""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import serial
from serial.tools import list_ports

from waistline.errors import MeterError
from waistline.evidence import Evidence
from waistline_bridge.boards.base import permission_fix
from waistline_hostctl.meters.base import Found, gone

_WRITE_S = 2.0


def find_usb(ids: dict[tuple[int, int], str], *, untried: bool) -> list[Found]:
    """Serial ports whose USB vendor and product ids are among ``ids``, sorted by path."""
    found = []
    for entry in list_ports.comports():
        text = ids.get((entry.vid, entry.pid)) if entry.vid is not None else None
        if text is None:
            continue
        identity = f"{entry.vid:04x}:{entry.pid:04x}"
        for detail in (entry.serial_number, entry.location):
            if detail:
                identity += f":{detail}"
                break
        if entry.interface:
            text += f", {entry.interface}"
        found.append(Found(identity, entry.device, text, untried))
    times = Counter(one.id for one in found)
    # One instrument may have several ports.
    unique = [
        replace(one, id=f"{one.id}:{Path(one.path).name}") if times[one.id] > 1 else one
        for one in found
    ]
    return sorted(unique, key=lambda one: one.path)


def identity_of(path: str, found: list[Found]) -> tuple[str, Evidence]:
    """Id of the instrument at ``path``, and the grade of what it samples.

    A port without the instrument's USB ids is an emulator, whatever it says of itself.
    """
    real = os.path.realpath(path)
    for one in found:
        if os.path.realpath(one.path) == real:
            return one.id, Evidence.METERED
    return f"emulator:{path}", Evidence.EMULATED


class Port:
    """An open serial port.

    Raises:
        MeterError: it cannot be opened, or the instrument is gone.
    """

    def __init__(self, path: str, baud: int) -> None:
        self.path = path
        try:
            self._port = serial.Serial(
                path, baud, timeout=0, write_timeout=_WRITE_S, exclusive=True
            )
        except (serial.SerialException, OSError, ValueError) as error:
            raise MeterError(
                f"cannot open the meter at {path}",
                cause=str(error),
                fix=permission_fix(Path(path))
                if "Permission" in str(error)
                else "close the program that has it open, or plug it in",
            ) from error

    def fileno(self) -> int:
        return int(self._port.fileno())

    def send(self, data: bytes) -> None:
        try:
            self._port.write(data)
        except (serial.SerialException, OSError) as error:
            raise gone(self.path, error) from error

    def read_into(self, buffer: memoryview) -> int:
        """What has come, without waiting."""
        total = 0
        while total < len(buffer):
            try:
                # A terminal gives a few kilobytes at a time; an early end would look like delay.
                got = os.readv(self._port.fileno(), [buffer[total:]])
            except BlockingIOError:
                break
            except OSError as error:
                if total:
                    break
                raise gone(self.path, error) from error
            if not got:
                # With VMIN 0 an empty line reads as nothing, and so does one that hung up.
                if not total and self._hung_up():
                    raise gone(self.path, "the line hung up")
                break
            total += got
        return total

    def drain(
        self, quiet_s: float, limit_s: float, until: bytes = b"", most: int = 1 << 16
    ) -> bytes:
        """Bytes until ``until`` has come, nothing came for ``quiet_s``, or ``limit_s`` is over."""
        buffer, end = bytearray(), time.monotonic() + limit_s
        chunk = memoryview(bytearray(4096))
        while (left := end - time.monotonic()) > 0 and len(buffer) < most:
            ready, _, _ = select.select([self.fileno()], [], [], min(left, quiet_s))
            if not ready:
                break
            buffer += chunk[: self.read_into(chunk)]
            if until and until in buffer:
                break
        return bytes(buffer)

    def close(self) -> None:
        self._port.close()

    def _hung_up(self) -> bool:
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        return any(event & (select.POLLHUP | select.POLLERR) for _, event in poll.poll(0))


def tell(path: str, baud: int, data: bytes) -> None:
    """Send something to an instrument that no one has open; one that is gone is not told."""
    with contextlib.suppress(MeterError):
        port = Port(path, baud)
        try:
            port.send(data)
        finally:
            port.close()


class SerialReader:
    """Raw bytes of an instrument on a serial port; opens it anew, so any process can use it.

    Args:
        path: of the port.
        baud: of the port.
        begin: sent to start sampling.
        end: sent to stop.
    """

    def __init__(self, path: str, baud: int, begin: tuple[bytes, ...], end: bytes) -> None:
        self._path = path
        self._baud = baud
        self._begin = begin
        self._end = end
        self._port: Port | None = None

    def start(self) -> None:
        self._port = Port(self._path, self._baud)
        self._port.send(self._end)
        self._port.drain(0.05, 0.5, most=1 << 22)
        for command in self._begin:
            self._port.send(command)

    def fileno(self) -> int:
        return self._opened().fileno()

    def read_into(self, buffer: memoryview) -> int:
        return self._opened().read_into(buffer)

    def stop(self) -> None:
        port, self._port = self._port, None
        if port is None:
            return
        try:
            port.send(self._end)
        except MeterError:
            pass
        finally:
            port.close()

    def _opened(self) -> Port:
        if self._port is None:
            raise MeterError(
                f"the meter at {self._path} is not started", cause="it was read before its start"
            )
        return self._port
