"""Boards and the lines to them.

A board module exports ``names() -> list[str]`` of the boards it can open here and
``open_board(name, options) -> Board``. A line is a byte stream that may lose and damage bytes; the
client above it copes.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from waistline.errors import ConfigError

BAUD = 921_600
"""Of a serial port where nobody says another: what the firmware is built for."""


SOCKET = "socket://"
"""Begins the address of a board behind TCP: ``socket://HOST:PORT``."""


class Line(Protocol):
    """Bytes to and from a device."""

    name: str
    """For people: a device path or an address."""

    def send(self, data: bytes) -> None:
        """Write all of it.

        Raises:
            LinkClosed: the line is gone.
        """
        ...

    def receive(self, timeout_s: float) -> bytes:
        """What has arrived, at least a byte, or nothing within the time.

        Raises:
            LinkClosed: the line is gone.
        """
        ...

    def close(self) -> None:
        """Safe to call twice."""
        ...


def permission_fix(path: Path) -> str:
    """What lets this user open a device file: its group, by its name."""
    group = "dialout"
    with contextlib.suppress(KeyError, OSError):
        group = path.group()
    return f"sudo usermod -aG {group} $USER, then log in again"


def no_option(board: str, option: str, known: Iterable[str]) -> ConfigError:
    """The error for an option that a board does not have."""
    return ConfigError(
        f"board {board} has no option {option!r}",
        cause=f"its options are {', '.join(sorted(known))}",
        fix="use one of these, or leave it out",
    )


@dataclass
class Board:
    """A device that is there to be talked to.

    Attributes:
        name: as `names` gives it.
        line: to it.
        emulated: it is a program on this machine.
        again: opens this very board anew, also where it went to another path; None: as it was
            opened.
        process: that program; None: it was attached to.
    """

    name: str
    line: Line
    emulated: bool
    again: Callable[[], Board] | None = None
    process: subprocess.Popen[bytes] | None = None
    _on_close: list[Callable[[], object]] = field(default_factory=list)

    def on_close(self, action: Callable[[], object]) -> None:
        """Do this when the board is closed, the last one first."""
        self._on_close.append(action)

    def close(self) -> None:
        """Close the line and end what was started for it."""
        self.line.close()
        while self._on_close:
            self._on_close.pop()()

    def __enter__(self) -> Board:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
