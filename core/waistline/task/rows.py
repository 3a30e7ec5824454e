"""Windows of rows out of sensor CSV, read as a stream: files larger than memory, or a pipe.

The first line names the columns. A line is a row; quotes may surround a field, and line breaks
inside quotes are not read. Blank lines are skipped. A line that cannot be read spoils the windows
it lies in, not the stream.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from waistline.errors import ConfigError
from waistline.task.windows import Order, Windowing, fit_window
from waistline.tensors import TensorSpec

MAX_LINE_BYTES = 1 << 16
MAX_WINDOW_VALUES = 1 << 24
"""Rows wait as Python numbers, some 32 bytes each."""
_MAX = float(np.finfo(np.float32).max)
_SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t"}

_Row = tuple[list[float], str] | str
"""Values and label, or what is wrong with the line."""


class RowOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How rows become frames.

    Attributes:
        columns: which are the channels, in this order; (): all but the label.
        window: rows in a frame; None: as many as the model's input holds.
        hop: rows from one frame to the next; None: the window.
        label: column with the class of each row; "": rows have none.
        separator: ``comma``, ``semicolon`` or ``tab``.
        order: of the axes in the input, where its shape leaves it open.
    """

    columns: tuple[str, ...] = ()
    window: int | None = None
    hop: int | None = None
    label: str = ""
    separator: str = "comma"
    order: Order | None = None


@dataclass(frozen=True, slots=True)
class RowWindow:
    """One frame.

    Attributes:
        name: file and lines, for people.
        array: as the model takes it; None: a line of the window cannot be read.
        label: text that all rows of the window carry; None: they have none, or several.
        problem: which line and column, where there is no array.
    """

    name: str
    array: np.ndarray | None
    label: str | None
    problem: str = ""


class Lines:
    """Splits a stream of bytes into lines of a bounded length.

    Args:
        read: the next bytes, b"" at the end.
    """

    def __init__(self, read: Callable[[], bytes]) -> None:
        self._read = read
        self._whole: deque[bytes] = deque()
        self._rest = bytearray()
        self._skipping = False
        self._ended = False

    def next(self) -> bytes | None:
        """The next line without its end; None after the last.

        One too long comes cut off, and before its end, which may never come.
        """
        while not self._whole and not self._ended:
            self._take(self._read())
        return self._whole.popleft() if self._whole else None

    def _take(self, chunk: bytes) -> None:
        if not chunk:
            self._ended = True
            if self._rest:
                self._whole.append(bytes(self._rest))
            return
        first, *more = chunk.split(b"\n")
        if not self._skipping:
            self._rest += first
        if more:
            if not self._skipping:
                self._whole.append(bytes(self._rest))
            self._whole.extend(more[:-1])
            self._rest, self._skipping = bytearray(more[-1]), False
        if len(self._rest) > MAX_LINE_BYTES:
            self._whole.append(bytes(self._rest[: MAX_LINE_BYTES + 1]))
            self._rest.clear()
            self._skipping = True


class RowWindows:
    """Frames of one CSV stream, in order.

    Args:
        read: the next bytes, b"" at the end.
        name: of the stream, for messages.
        inputs: of the model.
        options: how rows become frames.

    Raises:
        ConfigError: the first line does not name the columns, or the model takes no such windows.
    """

    def __init__(
        self,
        read: Callable[[], bytes],
        name: str,
        inputs: Sequence[TensorSpec],
        options: RowOptions,
    ) -> None:
        self._lines = Lines(read)
        self._name = name
        separator = _SEPARATORS.get(options.separator)
        if separator is None:
            raise _bad(name, f"separator is {options.separator!r}", f"use {', '.join(_SEPARATORS)}")
        self._separator = separator
        self._number = 1
        self._columns = self._header()
        wanted = options.columns or tuple(c for c in self._columns if c != options.label)
        self._label = self._place(options.label) if options.label else None
        self._places = [(column, self._place(column)) for column in wanted]
        self.windowing = _fitted(inputs, name, wanted, options)

    def __iter__(self) -> Iterator[RowWindow]:
        window, hop = self.windowing.window, self.windowing.hop
        rows: deque[tuple[int, _Row]] = deque(maxlen=window)
        seen = 0
        while (line := self._lines.next()) is not None:
            self._number += 1
            if not line.strip():
                continue
            rows.append((self._number, self._row(line)))
            seen += 1
            if seen >= window and (seen - window) % hop == 0:
                yield self._window(rows)

    def _header(self) -> list[str]:
        line = self._lines.next()
        if line is None:
            raise _bad(self._name, "it is empty", "its first line names the columns")
        try:
            columns = [text.strip() for text in self._split(line.removeprefix(b"\xef\xbb\xbf"))]
        except ValueError as error:
            raise _bad(self._name, f"line 1: {error}", "give a CSV file") from error
        if len(set(columns)) != len(columns) or any(map(_is_number, columns)):
            shown = ", ".join(columns)[:200]
            raise _bad(self._name, f"line 1 is {shown!r}", "let its first line name the columns")
        return columns

    def _place(self, column: str) -> int:
        if column in self._columns:
            return self._columns.index(column)
        fix = f"its columns are {', '.join(self._columns)[:200]}"
        if len(self._columns) == 1:
            fix += "; if that is one line of several, give separator=semicolon or separator=tab"
        raise _bad(self._name, f"there is no column {column!r}", fix)

    def _split(self, line: bytes) -> list[str]:
        """Fields of a line; ValueError where it is none."""
        if len(line) > MAX_LINE_BYTES:
            raise ValueError(f"it is over {MAX_LINE_BYTES} bytes")
        try:
            text = line.decode().rstrip("\r")
            if '"' not in text:
                return text.split(self._separator)
            return next(csv.reader([text], delimiter=self._separator, strict=True))
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(str(error)) from error

    def _row(self, line: bytes) -> _Row:
        try:
            fields = self._split(line)
        except ValueError as error:
            return str(error)
        if len(fields) != len(self._columns):
            return f"{len(fields)} fields, the first line names {len(self._columns)} columns"
        values = []
        for column, place in self._places:
            try:
                value = float(fields[place])
            except ValueError:
                value = float("nan")
            if not -_MAX <= value <= _MAX or "_" in fields[place]:
                return f"column {column!r} holds {fields[place][:40]!r}, not a number"
            values.append(value)
        return values, "" if self._label is None else fields[self._label].strip()

    def _window(self, rows: deque[tuple[int, _Row]]) -> RowWindow:
        name = f"{self._name}:{rows[0][0]}-{rows[-1][0]}"
        values: list[list[float]] = []
        labels = set()
        for number, row in rows:
            if isinstance(row, str):
                return RowWindow(name, None, None, f"line {number}: {row}")
            values.append(row[0])
            labels.add(row[1])
        label = labels.pop() if len(labels) == 1 else ""
        return RowWindow(name, self.windowing.frame(np.array(values, np.float32)), label or None)


def number_label(text: str, classes: Sequence[str]) -> int | str:
    """A label as a class index: its place in ``classes``, else the whole number it is, else text.

    Where the task names its classes, a number is an index only if it is no class's name.
    """
    if text in classes:
        return list(classes).index(text)
    return int(text) if text.isdecimal() and len(text) < 10 else text


def _fitted(
    inputs: Sequence[TensorSpec], name: str, columns: Sequence[str], options: RowOptions
) -> Windowing:
    if not columns:
        raise _bad(name, "it has no column but the label", "give columns=NAME,NAME,..")
    found = fit_window(
        inputs,
        len(columns),
        what=f"the columns {', '.join(columns)[:200]} of {name}",
        window=options.window,
        hop=options.hop,
        order=options.order,
    )
    if found.window * found.channels > MAX_WINDOW_VALUES:
        raise _bad(name, f"a window is over {MAX_WINDOW_VALUES} values", "use npz data")
    return found


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _bad(name: str, cause: str, fix: str) -> ConfigError:
    return ConfigError(f"{name} cannot be read as sensor data", cause=cause, fix=fix)
