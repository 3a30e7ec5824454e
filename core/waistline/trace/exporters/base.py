"""What an exporter is given.

An exporter module exports ``export(trace, path, part) -> int``, which writes a new file and returns
how many rows it wrote; what could not be finished is removed. ``csv`` is for people, ``parquet``
for programs, ``perfetto`` for looking at segments in a browser.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from waistline import plugins
from waistline.errors import ConfigError
from waistline.files import unwritable
from waistline.trace.base import FLOAT_SIGNALS, GAP, Trace
from waistline.trace.sums import Samples

ROWS = 1 << 18


@dataclass(frozen=True)
class Part:
    """What of a trace is exported.

    Attributes:
        start: first sample.
        stop: behind the last; None is the end.
        every: samples averaged into one row.
        force: write more rows than a spreadsheet opens.
    """

    start: int = 0
    stop: int | None = None
    every: int = 1
    force: bool = False

    def rows(self, trace: Trace) -> int:
        """Rows it makes of a trace."""
        start, stop = self.bounds(trace)
        return -(-(stop - start) // self.every)

    def bounds(self, trace: Trace) -> tuple[int, int]:
        """First sample, and behind the last.

        Raises:
            ConfigError: not inside the trace.
        """
        stop = trace.length if self.stop is None else self.stop
        if not 0 <= self.start <= stop <= trace.length or self.every < 1:
            raise ConfigError(
                f"samples {self.start} to {stop} in steps of {self.every} cannot be exported",
                cause=f"the trace holds samples 0 to {trace.length}",
                fix="choose --from and --to inside the trace, and --every 1 or more",
            )
        return self.start, stop


def export(trace: Trace, path: str | Path, part: Part | None = None, kind: str = "") -> int:
    """Write ``path`` in the format of its suffix, or in ``kind``; how many rows it has.

    Raises:
        ConfigError: the file exists or cannot be written, or would be too long for its readers.
        MissingExtra: the exporter needs a package that is not installed.
    """
    target = Path(path)
    name = kind or {".json": "perfetto"}.get(target.suffix.lower(), target.suffix[1:].lower())
    if target.exists():
        raise ConfigError(f"{target} exists, and is not overwritten", fix="choose another name")
    rows: int = plugins.load("waistline.trace.exporters", name).export(
        trace, target, part or Part()
    )
    return rows


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A new file; removed when what writes it fails. A full disk becomes an error for people."""
    try:
        stream = path.open("xb")
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        with stream:
            yield stream
    except OSError as error:
        path.unlink(missing_ok=True)
        raise unwritable(path, error) from error
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def headings(trace: Trace) -> list[str]:
    """Column names with their units: ``current_a``, ``d0``, ``gap``."""
    floats = [f"{name}_{FLOAT_SIGNALS[name].lower()}" for name in trace.spec.floats]
    return [*floats, *(f"d{bit}" for bit in trace.spec.bits), GAP]


def tables(trace: Trace, part: Part) -> Iterator[tuple[Samples, list[np.ndarray]]]:
    """(time in seconds float64, columns) in blocks.

    Of several samples floats are averaged over those that are there; a bit is set if it was set in
    any of them, and so is ``gap``.
    """
    start, stop = part.bounds(trace)
    if part.every > ROWS:
        yield from _long_rows(trace, part)
        return
    step = max(1, ROWS // part.every) * part.every
    for first in range(start, stop, step):
        end = min(first + step, stop)
        cuts = np.arange(0, end - first, part.every)
        columns: list[np.ndarray] = []
        for name in trace.spec.floats:
            columns.append(_averaged(trace.read(name, first, end), cuts))
        for name in [*(f"d{bit}" for bit in trace.spec.bits), GAP]:
            columns.append(np.maximum.reduceat(trace.bits(name, first, end), cuts))
        yield (first + cuts) / trace.spec.rate_hz, columns


def _long_rows(trace: Trace, part: Part) -> Iterator[tuple[Samples, list[np.ndarray]]]:
    """As `tables`, for rows that are longer than what is read at once."""
    start, stop = part.bounds(trace)
    bits = [*(f"d{bit}" for bit in trace.spec.bits), GAP]
    for first in range(start, stop, part.every):
        end = min(first + part.every, stop)
        total, number = np.zeros(len(trace.spec.floats)), np.zeros(len(trace.spec.floats))
        high = np.zeros(len(bits), np.uint8)
        for low in range(first, end, ROWS):
            until = min(low + ROWS, end)
            for place, name in enumerate(trace.spec.floats):
                values = trace.read(name, low, until)
                there = values[~np.isnan(values)]
                total[place] += there.sum(dtype=np.float64)
                number[place] += len(there)
            for place, name in enumerate(bits):
                high[place] |= trace.bits(name, low, until).max()
        with np.errstate(invalid="ignore"):
            mean = (total / number).astype(np.float32)
        columns: list[np.ndarray] = list(np.split(mean, len(mean)))
        columns += np.split(high, len(high))
        yield np.array([first / trace.spec.rate_hz]), columns


def _averaged(values: Samples, cuts: np.ndarray) -> Samples:
    if len(cuts) == len(values):
        return values
    there = ~np.isnan(values)
    number = np.add.reduceat(there, cuts, dtype=np.float64)
    total = np.add.reduceat(np.where(there, values, 0), cuts, dtype=np.float64)
    total[number == 0] = np.nan
    mean: Samples = (total / np.maximum(number, 1)).astype(np.float32)
    return mean
