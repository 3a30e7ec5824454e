"""Boards: QEMU, the firmware as a program, serial ports. The folder is the registry.

``open_board("qemu-mps2-an386")``, ``open_board("host")``, ``open_board("serial", port="...")``.
"""

from __future__ import annotations

from waistline import plugins
from waistline.errors import ConfigError
from waistline_bridge.boards.base import Board

DEFAULT = "qemu-mps2-an386"
"""Where nobody chose one: it needs no hardware."""
SERIAL = "serial"
"""A board that is plugged in, whatever it is."""


def names() -> list[str]:
    """Every board there is a way to; a module whose package is missing has none."""
    return sorted(name for _, name in _offered())


def open_board(name: str, **options: str) -> Board:
    """Start or attach to a board; the module's own text lists its options.

    Raises:
        ConfigError: no such board or option.
        MissingExtra: a program or package it needs is not installed.
        BridgeError, LinkError: it does not start or answer.
    """
    if name == SERIAL:
        # Asked for by name, so that a missing pyserial is named, too.
        module = plugins.load(__name__, name)
    else:
        # A board that is a program needs no pyserial, and does not wait for its import.
        modules = {board: module for module, board in _offered(leave_out=SERIAL)}
        if name not in modules:
            raise ConfigError(
                f"there is no emulated board {name!r}",
                cause=f"there are: {', '.join(sorted(modules))}",
                fix="use one of these, or --port for a board that is plugged in",
            )
        module = plugins.load(__name__, modules[name])
    board: Board = module.open_board(name, options)
    return board


def _offered(*, leave_out: str = "") -> list[tuple[str, str]]:
    """Pairs of module and board."""
    pairs = []
    for name in plugins.names(__name__):
        if name == leave_out:
            continue
        try:
            module = plugins.load(__name__, name)
        except ImportError:
            continue
        pairs += [(name, board) for board in module.names()]
    return pairs
