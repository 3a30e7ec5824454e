"""Envelopes for plots: minimum, maximum and mean of equal parts of a trace.

Long parts come from the summaries a JLS file stores, short ones and the end of a trace from its
samples. A stored entry that reaches over the border of two parts counts for both, so that no spike
is lost; a mean is therefore approximate, and no energy is ever made from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from waistline.trace.base import Doubles, Floats, Overview
from waistline.trace.sums import Samples

Raw = Callable[[int, int], Iterable[tuple[int, Samples]]]
Levels = dict[int, list[tuple[int, Callable[[], Floats]]]]
# Entries a column of a stored level must have at least, so that borders do not smear.
_ENTRIES = 4


class _Columns:
    """Running minimum, maximum, sum and count of each column."""

    def __init__(self, bounds: tuple[float, float], columns: int) -> None:
        self.edges: Doubles = np.linspace(*bounds, columns + 1)
        self.low = np.full(columns, np.inf)
        self.high = np.full(columns, -np.inf)
        self.sum = np.zeros(columns)
        self.count = np.zeros(columns)

    def add(self, first: int, step: int, low: Samples, high: Samples, mean: Samples) -> None:
        """Entries of ``step`` samples each, from sample ``first`` on."""
        # Per column: the entries that touch it.
        start = np.floor((self.edges[:-1] - first) / step).astype(np.int64)
        stop = np.ceil((self.edges[1:] - first) / step).astype(np.int64)
        stop = np.maximum(stop, start + 1)
        start, stop = np.clip(start, 0, len(mean)), np.clip(stop, 0, len(mean))
        some = np.flatnonzero(stop > start)
        if not len(some):
            return
        there = ~np.isnan(mean)
        low, high = np.where(there, low, np.inf), np.where(there, high, -np.inf)
        begin, end = start[some], stop[some]
        self.low[some] = np.minimum(self.low[some], _reduced(np.minimum, low, begin, end))
        self.high[some] = np.maximum(self.high[some], _reduced(np.maximum, high, begin, end))
        total = np.concatenate([[0.0], np.cumsum(np.where(there, mean, 0.0), dtype=np.float64)])
        number = np.concatenate([[0], np.cumsum(there)])
        self.sum[some] += (total[end] - total[begin]) * step
        self.count[some] += (number[end] - number[begin]) * step

    def result(self, scale: float) -> Overview:
        empty = self.count == 0
        mean = self.sum / np.maximum(self.count, 1)
        low, high = (self.low, self.high) if scale >= 0 else (self.high, self.low)
        return Overview(
            starts=self.edges[:-1].copy(),
            low=_float(low * scale, empty),
            high=_float(high * scale, empty),
            mean=_float(mean * scale, empty),
        )


def _reduced(
    function: np.ufunc, values: Samples, begin: NDArray[np.int64], end: NDArray[np.int64]
) -> Samples:
    """``function`` over each [begin, end), which may overlap; none is empty."""
    pairs = np.stack([begin, end], axis=1).ravel()
    padded = np.append(values, values[-1:])
    reduced: Samples = function.reduceat(padded, pairs)[::2]
    return reduced


def _float(values: Doubles, empty: NDArray[np.bool_]) -> Floats:
    out = values.astype(np.float32)
    out[empty] = np.nan
    return out


def envelope(
    raw: Raw,
    levels: Levels,
    bounds: tuple[float, float],
    columns: int,
    scale: float = 1.0,
) -> Overview:
    """Minimum, maximum and mean of ``columns`` equal parts.

    Args:
        raw: (first sample, samples) pieces of a range of samples.
        levels: by samples an entry, the stored chunks: first sample, and their entries
            (mean, deviation, minimum, maximum).
        bounds: in samples.
        columns: parts; fewer where there are fewer samples.
        scale: factor for all values.
    """
    start, stop = bounds
    columns = max(1, min(columns, int(stop - start) or 1))
    table = _Columns((start, stop), columns)
    if stop <= start:
        return table.result(scale)
    width = (stop - start) / columns
    step = max((step for step in levels if step * _ENTRIES <= width), default=0)
    done = int(start)
    # A hostile file may hold what is no number, or too large a one.
    with np.errstate(invalid="ignore", over="ignore"):
        if step:
            done = _stored(table, levels[step], step, start, stop)
        for first, values in raw(done, int(np.ceil(stop))):
            table.add(first, 1, values, values, values)
        return table.result(scale)


def _stored(
    table: _Columns,
    chunks: Sequence[tuple[int, Callable[[], Floats]]],
    step: int,
    start: float,
    stop: float,
) -> int:
    """Add stored entries; the first sample that none of them covers."""
    done = int(start)
    firsts = [first for first, _ in chunks]
    place = max(0, int(np.searchsorted(firsts, start, side="right")) - 1)
    for first, entries in chunks[place:]:
        if first >= stop:
            break
        rows = entries()
        table.add(first, step, rows[:, 2], rows[:, 3], rows[:, 0])
        done = max(done, first + len(rows) * step)
    return done
