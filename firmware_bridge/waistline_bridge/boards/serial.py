"""A board on a serial port, by pyserial.

Options: ``port`` (a path, an id that `ports` lists, or ``socket://HOST:PORT`` of a serial server),
``baud`` (default `BAUD`).
"""

from __future__ import annotations

import errno
import os
import termios
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import serial
from serial.tools import list_ports

from waistline.errors import ConfigError, LinkClosed
from waistline_bridge.boards._lines import connected
from waistline_bridge.boards.base import BAUD, SOCKET, Board, no_option, permission_fix

_RECEIVE_BYTES = 4096
_SEND_S = 10.0
_TAKEN = (errno.EAGAIN, errno.EBUSY)
_CAUSES = {
    **dict.fromkeys(_TAKEN, "another program has it open"),
    errno.ENOTTY: "it is no serial port",
}
_FASTEST_BAUD = (1 << 31) - 1
"""What Linux can be asked for."""


@dataclass(frozen=True, slots=True)
class Port:
    """A serial port that is there.

    Attributes:
        id: stays with the adapter when it is plugged in elsewhere, where it has a serial number;
            may be given instead of the path.
        path: now.
        text: what the adapter says of itself.
    """

    id: str
    path: str
    text: str


def names() -> list[str]:
    return ["serial"]


def ports() -> list[Port]:
    """USB serial ports, sorted by path. Ports of the mainboard are not boards."""
    found = []
    for entry in list_ports.comports():
        if entry.vid is None:
            continue
        identity = f"{entry.vid:04x}:{entry.pid:04x}"
        if entry.serial_number:
            identity += f":{entry.serial_number}"
        found.append(Port(identity, entry.device, entry.description or ""))
    return sorted(found, key=lambda port: port.path)


def choose(wanted: str | None, found: list[Port]) -> str:
    """Path of the port to open; never a guess between two.

    Raises:
        ConfigError: none, or more than one, fits.
    """
    fitting = [port for port in found if wanted in (None, port.id, port.path)]
    if wanted is not None and not fitting and wanted.startswith("/"):
        return wanted
    if len(fitting) == 1:
        return fitting[0].path
    listed = "; ".join(f"{port.path} ({port.id}, {port.text})" for port in found)
    if not fitting:
        raise ConfigError(
            f"there is no serial port {wanted}" if wanted else "no board is plugged in",
            cause=f"there are: {listed}" if found else "no USB serial port was found",
            fix="plug the board in, or give its path: --port /dev/ttyACM0",
        )
    raise ConfigError(
        f"{len(fitting)} serial ports could be the board",
        cause=listed,
        fix=f"choose one: --port {fitting[0].id if wanted is None else fitting[0].path}",
    )


def open_board(name: str, options: Mapping[str, str]) -> Board:
    """Attach to a board.

    Raises:
        ConfigError: no port or several fit; an unknown option.
        LinkClosed: the port cannot be opened.
    """
    unknown = set(options) - {"port", "baud"}
    if unknown:
        raise no_option(name, min(unknown), ("port", "baud"))
    try:
        baud = int(options.get("baud", BAUD))
    except ValueError:
        baud = 0
    if not 0 < baud <= _FASTEST_BAUD:
        raise ConfigError(
            f"baud={options['baud']} is not a rate",
            cause=f"it is the line's rate in bit/s, a whole number up to {_FASTEST_BAUD}",
            fix=f"give it as in --baud {BAUD}",
        )
    address = options.get("port", "")
    if address.startswith(SOCKET):
        return Board(name, connected(address), emulated=False)
    found = ports()
    path = choose(options.get("port"), found)
    lasting = lasting_name(path, found)

    def again() -> Board:
        return open_board(name, {**options, "port": lasting})

    return Board(name, SerialLine(path, baud), emulated=False, again=again)


def lasting_name(path: str, found: list[Port]) -> str:
    """What finds the board at ``path`` when it was plugged in again.

    The id where it has a serial number and no other port has the same, else the path.
    """
    ids = [port.id for port in found]
    own = [port.id for port in found if port.path == path]
    if own and own[0].count(":") > 1 and ids.count(own[0]) == 1:
        return own[0]
    return path


def _number(error: Exception) -> int | None:
    """The system's, also where pyserial tells it in words alone."""
    number = getattr(error, "errno", None)
    if number is None and isinstance(error.__context__, termios.error):
        number = error.__context__.args[0]
    return number if isinstance(number, int) else None


class SerialLine:
    """A serial port."""

    def __init__(self, path: str, baud: int) -> None:
        self.name = path
        try:
            self._port = serial.Serial(path, baud, timeout=0, write_timeout=_SEND_S, exclusive=True)
        except (serial.SerialException, OSError, ValueError) as error:
            number = _number(error)
            fix = "give a serial port: waistline mcu info lists those that are there"
            if number in {errno.EACCES, errno.EPERM}:
                fix = permission_fix(Path(path))
            elif number == errno.ENOENT:
                fix = "plug the board in; waistline mcu info lists the ports that are there"
            elif number in {None, *_TAKEN}:
                fix = "close the program that has it open"
            raise LinkClosed(
                f"cannot open {path}",
                cause=_CAUSES.get(number or 0) or (os.strerror(number) if number else str(error)),
                fix=fix,
            ) from error

    def send(self, data: bytes) -> None:
        try:
            self._port.write(data)
        except (serial.SerialException, OSError, TypeError) as error:
            raise self._gone(error) from error

    def receive(self, timeout_s: float) -> bytes:
        try:
            # Wait for one byte, then take what has come with it.
            self._port.timeout = max(0.0, timeout_s)
            first = self._port.read(1)
            waiting = min(self._port.in_waiting, _RECEIVE_BYTES) if first else 0
            return bytes(first + self._port.read(waiting)) if waiting else bytes(first)
        except (serial.SerialException, OSError, TypeError) as error:
            raise self._gone(error) from error

    def close(self) -> None:
        self._port.close()

    def _gone(self, error: BaseException) -> LinkClosed:
        return LinkClosed(
            f"the line to {self.name} is closed",
            cause=str(error),
            fix="plug the board in again",
        )
