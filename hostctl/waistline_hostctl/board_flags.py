"""The options of commands that choose a microcontroller."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from waistline_bridge.boards import DEFAULT
from waistline_hostctl.mcu_open import BoardChoice, parse_options


def board_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--board``, ``--port``, ``--baud`` and ``--board-option``; they arrive as ``wanted``."""

    @click.option("--board", metavar="NAME",
                  help=f"Emulated board to start (default: {DEFAULT}).")  # fmt: skip
    @click.option("--port", metavar="PATH|ID",
                  help="Of a board that runs already (see 'waistline mcu info').")  # fmt: skip
    @click.option("--baud", type=click.IntRange(300), metavar="N",
                  help="Of the port (default 921600).")  # fmt: skip
    @click.option("--board-option", "pairs", multiple=True, metavar="KEY=VALUE",
                  help="The board's own option, such as icount=on or firmware=FILE.")  # fmt: skip
    @functools.wraps(function)
    def with_wanted(
        *args: Any,
        board: str | None,
        port: str | None,
        baud: int | None,
        pairs: tuple[str, ...],
        **rest: Any,
    ) -> Any:
        wanted = BoardChoice(board or "", port or "", baud, parse_options(pairs))
        return function(*args, wanted=wanted, **rest)

    return with_wanted
