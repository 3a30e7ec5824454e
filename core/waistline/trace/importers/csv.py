"""Text tables: CSV of data loggers, oscilloscope dumps, DAQ exports, nRF Connect.

Lines above the first row of numbers are searched for headings. Rows are read in blocks; a cell
that is empty is a lost sample, a row that is no row is an error with its number.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from waistline.errors import ConfigError, TraceError
from waistline.trace.base import SIGNALS, Source
from waistline.trace.importers._times import timed_source
from waistline.trace.importers.base import (
    ROWS,
    Column,
    ImportOptions,
    blocks_of,
    guess_columns,
    needed_rate,
    place_of,
)

_MAX_LINE = 1 << 16
_MAX_BLOCK = 1 << 25
_MAX_HEAD = 500
_COMMA = "give --decimal-comma, for numbers are written like 1,5"
_BITS = re.compile(r"[01]{8}\Z")


@dataclass(frozen=True)
class _Table:
    """What the lines above the numbers tell."""

    delimiter: str | None
    names: list[str]
    count: int
    skipped: int
    commas: bool
    """The first row has numbers like 1,5, and nobody said so."""


def read_source(path: Path, options: ImportOptions) -> Source:
    """A text table as a source.

    Raises:
        TraceError: it holds no table of numbers.
        ConfigError: the map does not fit it.
    """
    lines = _lines(path)
    try:
        table = _table(lines, path, options)
    finally:
        lines.close()
    columns = dict(options.columns) or guess_columns(table.names)
    wanted = {signal for signal in columns if signal in SIGNALS}
    if not wanted:
        raise ConfigError(
            f"what the columns of {path.name} are is not clear",
            cause=f"it has {', '.join(table.names) or f'{table.count} columns, no headings'}",
            fix=_COMMA if table.commas else "say so, like --map current=#2*0.001,time=#1:s",
        )
    if options.rate_hz is not None:
        columns.pop("time", None)
    places = {
        signal: place_of(column, table.names, table.count, path)
        for signal, column in columns.items()
    }

    def batches() -> Iterator[dict[str, NDArray[np.float64]]]:
        body = _lines(path)
        with closing(body):
            yield from _batches(
                islice(body, table.skipped, None), path, options, table, columns, places
            )

    if "time" in columns:
        return timed_source(batches, path, options)
    spec = options.spec(path, needed_rate(options, path), wanted)
    return Source(spec, blocks_of(batches()))


def _lines(path: Path) -> Generator[str, None, None]:
    try:
        stream = path.open(encoding="utf-8-sig", errors="replace", newline=None)
    except OSError as error:
        raise TraceError(f"{path} cannot be read", cause=str(error.strerror)) from error
    with stream:
        while line := stream.readline(_MAX_LINE):
            if len(line) == _MAX_LINE and not line.endswith("\n"):
                raise TraceError(
                    f"{path.name} is not a table",
                    cause=f"it has a line of over {_MAX_LINE} characters",
                    fix="export it as text with one sample a line",
                )
            yield line


def _table(lines: Iterator[str], path: Path, options: ImportOptions) -> _Table:
    """Find the first row of numbers, and the headings above it."""
    above: list[str] = []
    usual = [";", "\t", None] if options.decimal_comma else [",", ";", "\t", None]
    for line in islice(lines, _MAX_HEAD):
        for delimiter in [options.delimiter] if options.delimiter else usual:
            cells = _cells(line, delimiter, options)
            if _is_row(cells) and (len(cells) > 1 or delimiter is None):
                names = _names(above, delimiter, len(cells), options)
                commas = not options.decimal_comma and _commas(line)
                return _Table(delimiter, names, len(cells), len(above), commas)
        above.append(line)
    raise TraceError(
        f"{path.name} holds no table of numbers",
        cause=f"none in its first {len(above)} lines",
        fix="give --delimiter, or --decimal-comma where numbers are written 1,5",
    )


def _commas(line: str) -> bool:
    """It has numbers like 1,5, for its columns are apart without a comma."""
    return (";" in line or "\t" in line) and re.search(r"\d,\d", line) is not None


def _cells(line: str, delimiter: str | None, options: ImportOptions) -> list[str]:
    cells = [cell.strip().strip('"') for cell in line.rstrip("\n").split(delimiter)]
    if options.decimal_comma:
        cells = [cell.replace(",", ".") for cell in cells]
    return cells[:-1] if len(cells) > 1 and not cells[-1] else cells


def _is_row(cells: list[str]) -> bool:
    """Numbers, maybe some empty cells and text, but more numbers than either."""
    numbers = sum(_number(cell) is not None for cell in cells)
    return numbers > 0 and numbers * 2 >= len(cells) and _number(cells[0]) is not None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _names(
    above: list[str], delimiter: str | None, count: int, options: ImportOptions
) -> list[str]:
    """The lowest line of as many cells that holds a name we know, else the lowest that fits."""
    rows = [_cells(line, delimiter, options) for line in reversed(above) if line.strip()]
    fits = [row for row in rows if len(row) == count]
    asked = {column.name for column in options.columns.values()}
    for row in fits:
        if asked & set(row) or (not asked and set(guess_columns(row)) & set(SIGNALS)):
            return row
    return fits[0] if fits else []


def _batches(
    lines: Iterator[str],
    path: Path,
    options: ImportOptions,
    table: _Table,
    columns: dict[str, Column],
    places: dict[str, int],
) -> Iterator[dict[str, NDArray[np.float64]]]:
    order = sorted(set(places.values()))
    row = table.skipped
    while block := _next_lines(lines):
        if not any(line.strip() for line in block):
            row += len(block)
            continue
        try:
            values = _quickly(block, options, table.delimiter, order)
        except ValueError:
            values = _slowly(block, path, options, table, order, row)
        row += len(block)
        if len(values):
            yield {
                signal: values[:, order.index(places[signal])] * column.scale + column.offset
                for signal, column in columns.items()
            }


def _next_lines(lines: Iterator[str]) -> list[str]:
    """`ROWS` lines, or fewer long ones."""
    block: list[str] = []
    size = 0
    for line in islice(lines, ROWS):
        block.append(line)
        size += len(line)
        if size > _MAX_BLOCK:
            break
    return block


def _quickly(
    block: list[str], options: ImportOptions, delimiter: str | None, order: list[int]
) -> NDArray[np.float64]:
    """A block as NumPy reads it, empty cells as NaN."""
    text = [line.replace(",", ".") for line in block] if options.decimal_comma else block
    if delimiter:
        ends = (delimiter + "\n", delimiter + "\r\n")
        double = delimiter * 2
        text = [
            _empty(delimiter).sub("nan", line) if double in line or line.endswith(ends) else line
            for line in text
        ]
    return np.loadtxt(text, np.float64, delimiter=delimiter, usecols=order, ndmin=2, comments=None)


@lru_cache
def _empty(delimiter: str) -> re.Pattern[str]:
    one = re.escape(delimiter)
    return re.compile(f"(?<={one})(?={one}|[\r\n])")


def _slowly(
    block: list[str],
    path: Path,
    options: ImportOptions,
    table: _Table,
    order: list[int],
    row: int,
) -> NDArray[np.float64]:
    """Row by row, for blocks with quotes, blank cells, or a line that is no row."""
    rows: list[list[float]] = []
    for number, line in enumerate(block, row + 1):
        if not line.strip():
            continue
        cells = _cells(line, table.delimiter, options)
        cells += [""] * (table.count - len(cells))
        try:
            rows.append([float(cells[place] or "nan") for place in order])
        except ValueError as error:
            raise TraceError(
                f"line {number} of {path.name} is no row of numbers",
                cause=str(error),
                fix=_COMMA if table.commas else "remove it, or map other columns",
            ) from error
    return np.array(rows, np.float64).reshape(-1, len(order))
