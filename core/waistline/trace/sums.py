"""Exact sums between fractional edges: what an energy is made of.

Sums run over raw samples in float64. A lost sample (NaN, or what is not finite) counts as missing
and adds nothing; it is found for free: only a part that holds one has no finite sum, and only that
is added up again.
The averages a JLS file stores are never used: over several windows they are off by up to a fifth.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from waistline.errors import TraceError
from waistline.trace.base import Doubles

Samples = NDArray[np.float32] | NDArray[np.float64]
# Below this many samples a part, one call for all parts beats one call for each.
_FEW = 1500
_MANY_TURNS = 64
_MANY_HOLED = 64


def window_sums(
    pieces: Iterable[tuple[int, Samples]], edges: Doubles, length: int
) -> tuple[Doubles, Doubles]:
    """Sums of the samples between consecutive edges, and how many of them are missing.

    Args:
        pieces: (first sample, samples) from before the first edge to behind the last one, in
            order; what no piece holds is missing.
        edges: float64 (n + 1,), ascending, in samples; sample i lies in [i, i + 1).
        length: of the trace, in samples.

    Returns:
        sums float64 (n,) in sample units, missing float64 (n,).

    Raises:
        TraceError: edges that descend or lie outside the trace.
    """
    edges = checked_edges(edges, length)
    whole = edges.astype(np.int64)
    sums = np.zeros(len(edges) - 1)
    found = np.zeros(len(edges) - 1)
    at_edge = np.full(len(edges), np.nan)
    for first, values in pieces:
        end = first + len(values)
        inside = slice(*np.searchsorted(whole, [first, end]))
        with np.errstate(invalid="ignore"):
            at_edge[inside] = values[whole[inside] - first]
        low = max(0, int(np.searchsorted(whole, first, side="right")) - 1)
        high = min(len(sums), int(np.searchsorted(whole, end)))
        if high > low:
            cuts = np.clip(whole[low : high + 1], first, end) - first
            with np.errstate(invalid="ignore"):
                part, there = part_sums(values, cuts)
            sums[low:high] += part
            found[low:high] += there
    share = edges - whole
    there_at_edge = np.isfinite(at_edge)
    lost = ~there_at_edge
    lost[whole >= length] = False
    value = np.where(there_at_edge, at_edge, 0.0)
    missing = np.diff(whole) - found
    sums += value[1:] * share[1:] - value[:-1] * share[:-1]
    missing += lost[1:] * share[1:] - lost[:-1] * share[:-1]
    return sums, missing


def checked_edges(edges: Doubles, length: int) -> Doubles:
    """Edges as float64, ascending and inside the trace."""
    edges = np.asarray(edges, np.float64)
    if edges.ndim != 1 or len(edges) < 2:
        raise TraceError("windows need two edges or more", fix="give a start and an end")
    if not (np.isfinite(edges).all() and edges[0] >= 0 and edges[-1] <= length):
        raise TraceError(
            "a window lies outside the trace",
            cause=f"it spans {edges.min():g} to {edges.max():g}, the trace 0 to {length} samples",
            fix="choose times inside the trace: waistline trace info",
        )
    if (np.diff(edges) < 0).any():
        raise TraceError("the edges of windows descend", fix="sort them")
    return edges


def part_sums(values: Samples, cuts: NDArray[np.int64]) -> tuple[Doubles, Doubles]:
    """Sum and number of the samples that are there, between consecutive cuts."""
    sizes = np.diff(cuts)
    if len(values) > _FEW * len(sizes):
        pairs = zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True)
        part = np.array([values[a:b].sum(dtype=np.float64) for a, b in pairs])
    else:
        # For an empty part reduceat gives a sample instead of nothing.
        some = sizes > 0
        part = np.zeros(len(sizes))
        if some.any():
            starts = cuts[:-1][some]
            part[some] = np.add.reduceat(values[: cuts[-1]], starts, dtype=np.float64)
    there = sizes.astype(np.float64)
    holed = np.flatnonzero(~np.isfinite(part))
    if len(holed) > _MANY_HOLED:
        return _sums_of_found(values[: cuts[-1]], cuts, sizes)
    for place in holed:
        part[place], there[place] = _sum_of_found(values[cuts[place] : cuts[place + 1]])
    return part, there


def _sums_of_found(
    values: Samples, cuts: NDArray[np.int64], sizes: NDArray[np.int64]
) -> tuple[Doubles, Doubles]:
    """As `part_sums`, where many parts hold lost samples."""
    lost = ~np.isfinite(values)
    filled = np.where(lost, 0, values)
    part, there = np.zeros(len(sizes)), sizes.astype(np.float64)
    some = sizes > 0
    starts = cuts[:-1][some]
    part[some] = np.add.reduceat(filled, starts, dtype=np.float64)
    there[some] -= np.add.reduceat(lost, starts, dtype=np.int64)
    return part, there


def _sum_of_found(values: Samples) -> tuple[float, int]:
    """Sum and number of the samples that are there."""
    lost = ~np.isfinite(values)
    # Lost samples come in runs: adding up what lies between them is faster than picking.
    turns = np.flatnonzero(lost[1:] != lost[:-1]) + 1
    if len(turns) > _MANY_TURNS:
        found = values[~lost]
        return float(found.sum(dtype=np.float64)), len(found)
    borders = [0, *turns.tolist(), len(values)]
    total, count = 0.0, 0
    for start, end in pairwise(borders):
        if not lost[start]:
            total += float(values[start:end].sum(dtype=np.float64))
            count += end - start
    return total, count
