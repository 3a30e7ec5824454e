"""Windows of rows out of a sensor CSV file, for a task without ``[preprocess]``.

Labelled with ``label = COLUMN``; a window whose rows do not all carry the same label is left out,
as there is no one truth to judge its answer by.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from functools import partial
from typing import Any

from waistline.errors import ConfigError
from waistline.frame import SensorFrame
from waistline.task.data.base import DataContext
from waistline.task.rows import RowOptions, RowWindow, RowWindows, number_label

CHUNK_BYTES = 1 << 16


class Options(RowOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``path`` of the file; the rest as `RowOptions` says."""

    path: str


class RowData:
    """Reads the file once to count and check its windows, and again each time it is iterated."""

    def __init__(self, options: Options, context: DataContext) -> None:
        self._options = options
        self._context = context
        self._path = context.path(options.path)
        self._count = sum(1 for _ in self)
        if not self._count:
            raise self._bad("it has no window of rows", "give a longer file, or a smaller model")

    @property
    def labelled(self) -> bool:
        return bool(self._options.label)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[SensorFrame]:
        index = 0
        for window in self._windows():
            if window.array is None:
                raise self._bad(window.problem, "mend the line, or leave it out")
            if self.labelled and window.label is None:
                continue
            label = None if window.label is None else self._number(window.label)
            yield SensorFrame(index, (window.array,), label, window.name)
            index += 1

    def _windows(self) -> Iterator[RowWindow]:
        try:
            with closing(self._path.open("rb", buffering=0)) as file:
                read = partial(file.read, CHUNK_BYTES)
                yield from RowWindows(read, self._path.name, self._context.inputs, self._options)
        except OSError as error:
            raise self._bad(error.strerror or str(error), "give a CSV file") from error

    def _number(self, text: str) -> int:
        label = number_label(text, self._context.classes)
        if isinstance(label, str):
            raise self._bad(
                f"label {text[:40]!r} is neither a class of the task nor a whole number",
                "name it in classes of [answer] in the task file",
            )
        return label

    def _bad(self, cause: str, fix: str) -> ConfigError:
        return ConfigError(f"{self._path} cannot be used", cause=cause, fix=fix)


def open_data(options: Mapping[str, Any], context: DataContext) -> RowData:
    chosen = context.options(options, Options)
    context.needs_inputs("sensor rows")
    return RowData(chosen, context)
