"""Writing firmware into a microcontroller. The folder is the registry, a file a method.

``open_flasher(Choice("uf2", drive="/media/me/RPI-RP2"))``; images come from `read_image`.
"""

from __future__ import annotations

from pathlib import Path

from waistline import plugins
from waistline.errors import ConfigError
from waistline_bridge import places
from waistline_bridge.boards import _programs
from waistline_bridge.flash._chips import board_names
from waistline_bridge.flash._image import Image, read_image
from waistline_bridge.flash.base import UNTRIED, Choice, Flasher

__all__ = [
    "UNTRIED",
    "Choice",
    "Flasher",
    "Image",
    "board_names",
    "check_board",
    "firmware_of",
    "names",
    "open_flasher",
    "read_image",
    "tried",
]


def names() -> list[str]:
    """Every method, also those that lack a package."""
    return plugins.names(__name__)


def tried(method: str) -> str:
    """What this method was run on before it was released.

    Raises:
        MissingExtra: a package it needs is not installed.
    """
    text: str = plugins.load(__name__, method).TRIED
    return text


def open_flasher(choice: Choice) -> Flasher:
    """The flasher of ``choice.method``; touches no device.

    Raises:
        ConfigError: no such method, or an option it does not have.
        MissingExtra: a package or program it needs is not installed.
    """
    flasher: Flasher = plugins.load(__name__, choice.method).open_flasher(choice)
    return flasher


def firmware_of(board: str) -> Path:
    """The firmware of a board, as it was built.

    Raises:
        ConfigError: no such board, or it was not built.
    """
    check_board(board)
    return _programs.firmware(board, None, places.built_name(board))


def check_board(board: str) -> None:
    """Raise `ConfigError` for a name that is none of `board_names`."""
    if board not in board_names():
        raise ConfigError(
            f"there is no board {board!r} with firmware to flash",
            cause=f"known: {', '.join(sorted(board_names()))}",
            fix="use one of these, or give an image and --target",
        )
