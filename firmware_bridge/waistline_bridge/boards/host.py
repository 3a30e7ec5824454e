"""The firmware as a program on this machine: line on a pseudoterminal, slots in a file.

Options: ``firmware`` (the program), ``flash`` (the slots' file; default: a temporary one),
``arena``, ``slot``, ``page`` (bytes), ``cut`` (OPERATION:BYTES, a power failure; for tests).
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from waistline_bridge.boards._lines import TerminalLine
from waistline_bridge.boards._programs import firmware, start, stop
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
    folder = None
    flash = options.get("flash")
    if flash is None:
        folder = tempfile.TemporaryDirectory(prefix="waistline-host-")
        flash = str(Path(folder.name) / "slots")
    command = [str(program), flash]
    for key in _SIZES:
        if key in options:
            command += [key, options[key]]
    try:
        process, path = start(command, "ready ")
        try:
            line = TerminalLine(path)
        except BaseException:
            stop(process)
            raise
    except BaseException:
        if folder is not None:
            folder.cleanup()
        raise
    board = Board(name, line, emulated=True, process=process)
    if folder is not None:
        board.on_close(folder.cleanup)
    board.on_close(lambda: stop(process))
    return board
