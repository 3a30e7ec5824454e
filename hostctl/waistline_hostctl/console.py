"""What a command says: tables for people, one JSON object for programs, progress on stderr."""

from __future__ import annotations

import io
import sys
import textwrap
import time
from collections.abc import Sequence
from typing import TextIO

import msgspec

from waistline.errors import WaistlineError
from waistline.terminal import shown
from waistline_hostctl.results import Result, encode

WIDTH = 100
_LABEL = 9
_PROGRESS_AFTER_S = 1.0
_PROGRESS_EVERY_S = 0.1


class Console:
    """Output of one command.

    Args:
        json: one object on stdout at the end, everything else beside it.
        beside: where notes and progress go; None: standard error.
    """

    def __init__(self, *, json: bool = False, beside: TextIO | None = None) -> None:
        self.json = json
        self.beside = beside or sys.stderr

    def say(self, text: str = "") -> None:
        """Part of the result, for people."""
        if not self.json:
            print(shown(text), flush=True)

    def note(self, text: str) -> None:
        """What is worth knowing but not the result."""
        print(shown(f"note: {text}"), file=self.beside, flush=True)

    def complain(self, error: WaistlineError) -> None:
        """What went wrong after the result, which stays the only one."""
        print(shown("\n".join(error.lines())), file=self.beside, flush=True)

    def emit(self, result: Result) -> None:
        """The result, for programs."""
        if self.json:
            sys.stdout.write(encode(result))
            sys.stdout.flush()

    def emit_line(self, result: Result) -> None:
        """A result that others wait for while the command goes on: one line."""
        if self.json:
            sys.stdout.write(msgspec.json.encode(result).decode() + "\n")
            sys.stdout.flush()

    def progress(self, what: str, total: int | None = None) -> Progress:
        return Progress(what, total, self.beside)


def nobody() -> Console:
    """For callers of the Python API that want no words."""
    return Console(json=True, beside=io.StringIO())


class Progress:
    """One line that is rewritten; nothing unless stderr is a terminal and it takes a second."""

    def __init__(self, what: str, total: int | None, stream: TextIO) -> None:
        self._what, self._total, self._stream = what, total, stream
        self._began = time.monotonic()
        self._last = 0.0
        self._shown = False

    def update(self, done: int) -> None:
        now = time.monotonic()
        if not self._stream.isatty() or now - self._began < _PROGRESS_AFTER_S:
            return
        if now - self._last >= _PROGRESS_EVERY_S:
            self._last, self._shown = now, True
            of = f"/{self._total}" if self._total else ""
            self._stream.write(f"\r\x1b[K{self._what} {done}{of}")
            self._stream.flush()

    def close(self) -> None:
        if self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def grid(headings: Sequence[str], rows: Sequence[Sequence[str]], *, indent: int = 2) -> str:
    """An aligned table; columns whose cells all start with a digit or sign are set right.

    The last column is cut so that the table fits into `WIDTH`.
    """
    if not rows:
        return ""
    columns = list(zip(*([headings, *rows]), strict=True))
    widths = [max(map(len, column)) for column in columns]
    room = WIDTH - indent - sum(widths[:-1]) - 2 * (len(widths) - 1)
    widths[-1] = max(min(widths[-1], room), len(headings[-1]))
    right = [all(_numeric(cell) for cell in column[1:]) for column in columns]
    lines = []
    for row in (headings, *rows):
        cells = [
            _fit(cell, width).rjust(width) if to_right else _fit(cell, width).ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ]
        lines.append((" " * indent + "  ".join(cells)).rstrip())
    return "\n".join(lines)


def _fit(cell: str, width: int) -> str:
    return cell if len(cell) <= width else cell[: max(width - 2, 0)] + ".."


def _numeric(cell: str) -> bool:
    return (
        not cell or cell == "-" or cell[0].isdigit() or (cell[0] in "+-<" and cell[1:2].isdigit())
    )


def indented(text: str, label: str = "", indent: int = _LABEL) -> str:
    """``text`` wrapped into `WIDTH` behind a label of ``indent`` columns; names stay whole."""
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=label.ljust(indent),
        subsequent_indent=" " * indent,
        break_on_hyphens=False,
    )


def si(value: float, unit: str) -> str:
    """Three digits with an SI prefix: ``si(0.00123, "s")`` is ``1.23 ms``."""
    if value == 0:
        return f"0 {unit}"
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1, ""), (1e-3, "m"), (1e-6, "µ")):
        if abs(value) >= factor * 0.9995:
            return f"{value / factor:.3g} {prefix}{unit}"
    return f"{value / 1e-9:.3g} n{unit}"


def size(size_bytes: float) -> str:
    """Bytes for people, in steps of 1000."""
    if abs(size_bytes) < 10_000:
        return f"{size_bytes:.0f} B"
    return si(size_bytes, "B")


def plus_minus(value: float, uncertainty: float | None, digits: int, unit: str = "") -> str:
    """``91.2 ± 0.9 %``; without an uncertainty the value alone."""
    tail = f" {unit}" if unit else ""
    spread = "" if uncertainty is None else f" ± {uncertainty:.{digits}f}"
    return f"{value:.{digits}f}{spread}{tail}"
