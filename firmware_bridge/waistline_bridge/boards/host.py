"""The firmware as a program on this machine: line on a pseudoterminal, slots in a file.

Options: ``firmware`` (the program), ``flash`` (the slots' file; default: memory that ends with it),
``arena``, ``slot``, ``page`` (bytes), ``cut`` (OPERATION:BYTES, a power failure; for tests).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from waistline.errors import BridgeError
from waistline_bridge.boards._lines import TerminalLine
from waistline_bridge.boards._programs import board_of, firmware, start
from waistline_bridge.boards.base import Board, no_option

_SIZES = ("arena", "slot", "page", "cut")


def names() -> list[str]:
    return ["host"] if sys.platform == "linux" else []


def open_board(name: str, options: Mapping[str, str]) -> Board:
    """Start it.

    Raises:
        ConfigError: an unknown option, or it was not built.
        BridgeError: it does not start.
    """
    known = {"firmware", "flash", *_SIZES}
    if unknown := set(options) - known:
        raise no_option(name, min(unknown), known)
    program = firmware(name, options.get("firmware"), "waistline-host")
    flash, kept = options.get("flash"), -1
    if flash is None:
        # No file: nothing is left of it however this process ends.
        kept = os.memfd_create("waistline-slots")
        flash = f"/proc/self/fd/{kept}"
    command = [str(program), flash]
    for key in _SIZES:
        if key in options:
            command += [key, options[key]]
    try:
        process, path = start(command, "ready ", () if kept < 0 else (kept,))
    except BridgeError as error:
        raise _unusable_slots(flash, error) or error from error
    finally:
        if kept >= 0:
            os.close(kept)
    return board_of(name, process, lambda: TerminalLine(path))


def _unusable_slots(flash: str, error: BridgeError) -> BridgeError | None:
    """The error where the program complained of its slots' file; None where it did not."""
    _, named, fact = error.cause.partition(f"waistline-host: {flash}: ")
    if not named:
        return None
    fix = "free space there, or choose another file: flash=FILE"
    if fact.startswith("in use"):
        fix = "attach to that board, end it, or choose another file: flash=FILE"
    elif fact.startswith("has "):
        fix = "give slot= as when it was made, or another file: flash=FILE"
    return BridgeError(f"{flash} cannot hold the slots of a host board", cause=fact, fix=fix)
