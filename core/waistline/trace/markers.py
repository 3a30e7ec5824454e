"""Edges of a logic bit on a trace's clock, and what a head's marker pin says by them.

A bit that is sampled at the begin of sample k and differs from the one before changed between k - 1
and k: the edge is put at k - 1/2, its standard uncertainty is 1 / sqrt(12) sample. The pin's modes
are those of the bridge's MARK (`firmware_bridge/PROTOCOL.md`): ``HEAD`` is high from the first
layer to the last, ``LAYERS`` changes at every layer and is low after the last, ``PULSES`` gives
k + 1 pulses before layer k.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from waistline.errors import MarkerMissing
from waistline.trace.base import Annotation, Doubles, Trace

EDGE_SIGMA = 12**-0.5
"""Standard uncertainty of one edge, samples."""
_PIECE = 1 << 22


@dataclass(frozen=True, slots=True)
class Edges:
    """Changes of one bit, in order.

    Attributes:
        places: float64 (n,), in samples.
        rising: bool (n,), to 1.
        holes: (begin, end) of stretches in which changes could not be seen.
    """

    places: Doubles
    rising: NDArray[np.bool_]
    holes: tuple[tuple[int, int], ...] = ()

    def __len__(self) -> int:
        return len(self.places)


def read_edges(trace: Trace, bit: int, start: int = 0, stop: int | None = None) -> Edges:
    """Changes of logic bit ``bit`` between two samples; none is made up beside a gap.

    Raises:
        MarkerMissing: the trace has no such bit.
    """
    if bit not in trace.spec.bits:
        raise MarkerMissing(
            f"the trace has no logic bit D{bit}",
            cause=f"it has: {', '.join(f'D{one}' for one in trace.spec.bits) or 'none'}",
            fix="wire the marker to a logic input of the meter, and capture again",
        )
    stop = trace.length if stop is None else stop
    found: list[Doubles] = [np.empty(0)]
    up: list[NDArray[np.bool_]] = [np.empty(0, np.bool_)]
    for first in range(start, stop, _PIECE):
        begin = max(start, first - 1)
        values = trace.bits(f"d{bit}", begin, min(first + _PIECE, stop))
        at = np.flatnonzero(np.diff(values)) + 1
        found.append(at.astype(np.float64) + (begin - 0.5))
        up.append(values[at] != 0)
    places, rising = np.concatenate(found), np.concatenate(up)
    holes = tuple(
        (max(gap.first, start), min(gap.end, stop))
        for gap in trace.gaps
        if gap.end > start and gap.first < stop
    )
    seen = ~_within(places, holes)
    return Edges(places[seen], rising[seen], holes)


def _within(places: Doubles, holes: Sequence[tuple[int, int]]) -> NDArray[np.bool_]:
    """Whether a change is one into, in, or out of a hole; holes are in order."""
    if not holes:
        return np.zeros(len(places), np.bool_)
    firsts, ends = np.array(holes, np.float64).T
    # Of two that overlap the one that begins first may end last.
    reach = np.maximum.accumulate(ends)
    before = np.searchsorted(firsts - 1, places, side="right") - 1
    inside: NDArray[np.bool_] = (before >= 0) & (places <= reach[np.maximum(before, 0)])
    return inside


@dataclass(frozen=True, slots=True)
class Pass:
    """One run of a head.

    Attributes:
        layers: those that are known, in order.
        begins: float64 (n,), in samples.
        ends: float64 (n,), NaN where the pin does not show it.
    """

    layers: tuple[int, ...]
    begins: Doubles
    ends: Doubles


def passes_of_head(edges: Edges, settle: float = 0.0) -> list[Pass]:
    """Mode ``HEAD``: high from the first layer to the last; what a hole cut is left out.

    Args:
        edges: of the pin.
        settle: samples between an edge and the layer behind it.
    """
    found = []
    for at in range(len(edges) - 1):
        begin, end = edges.places[at : at + 2].tolist()
        if edges.rising[at] and not edges.rising[at + 1] and not _cut(edges, begin, end):
            found.append(Pass((0,), np.array([begin + settle]), np.array([end])))
    return found


def passes_of_layers(
    edges: Edges, layers: int, pause: float, settle: float = 0.0
) -> tuple[list[Pass], int]:
    """Mode ``LAYERS``: passes, and how many were left out as incomplete.

    Args:
        edges: of the pin.
        layers: of the head.
        pause: samples of low that only lie between passes: longer than any layer.
        settle: samples between an edge and the layer behind it.
    """
    found, left_out = [], 0
    for rows in _split(edges, pause):
        places = edges.places[rows]
        # The last edge is low; where that is no change nothing shows the last layer's end.
        if len(places) != layers + layers % 2 or not _whole(edges, rows):
            left_out += 1
            continue
        ends = np.append(places[1:], [math.nan] * (1 - layers % 2))
        found.append(Pass(tuple(range(layers)), places[:layers] + settle, ends))
    return found, left_out


def passes_of_pulses(edges: Edges, layers: int, settle: float) -> tuple[list[Pass], int]:
    """Mode ``PULSES``: layers by how many pulses went before, and how many bursts made no sense.

    A burst begins where the pin was low for longer than a pulse. A layer shorter than a third of a
    pulse does not show; behind a layer that is known it is told by the number of pulses on its two
    sides together. The last layer's end is not shown.

    Args:
        edges: of the pin.
        layers: of the head.
        settle: samples that a pulse is high, and low.
    """
    known: list[list[tuple[int, float, float]]] = [[]]
    odd, follows = 0, False
    for rows in _split(edges, settle * 4 / 3):
        row, sure = known[-1], _whole(edges, rows)
        rises, falls = edges.places[rows][::2], edges.places[rows][1::2]
        next_layer = (row[-1][0] + 1) % layers if row and follows else -1
        ids = _layers_of(len(rises), next_layer, layers) if sure else []
        if not ids and sure:
            # Some before it are missing: the number of pulses says which one it is.
            ids = _layers_of(len(rises), len(rises) - 1, layers)
            next_layer = -1
        follows = bool(ids)
        if not ids:
            odd += 1
            continue
        if row and ids[0] == row[-1][0] + 1 == next_layer:
            row[-1] = (*row[-1][:2], float(rises[0]))
        elif row and ids[0] <= row[-1][0]:
            known.append([])
        last = -1
        for layer in ids:
            last += layer + 1
            end = float(rises[last + 1]) if last + 1 < len(rises) else math.nan
            known[-1].append((layer, float(falls[last]) + settle, end))
    return [_pass(rows) for rows in known if rows], odd


def _pass(rows: list[tuple[int, float, float]]) -> Pass:
    layers, begins, ends = zip(*rows, strict=True)
    return Pass(tuple(layers), np.array(begins), np.array(ends))


def _layers_of(pulses: int, first: int, layers: int) -> list[int]:
    """Layers from ``first`` on whose pulses together are so many; [] where none are."""
    ids, total = [], 0
    while total < pulses and 0 <= first < layers:
        ids.append(first)
        total += first + 1
        first += 1
    return ids if total == pulses else []


def _whole(edges: Edges, rows: slice) -> bool:
    """Whether edges come in pairs, up and down, with nothing missing between."""
    places, rising = edges.places[rows], edges.rising[rows]
    pairs = len(places) % 2 == 0 and bool(rising[::2].all()) and not rising[1::2].any()
    return pairs and not _cut(edges, places[0], places[-1])


def _split(edges: Edges, pause: float) -> list[slice]:
    """Rows between two of which the pin was low for longer than ``pause``."""
    if not len(edges):
        return []
    low = ~edges.rising[:-1] & edges.rising[1:]
    long = np.diff(edges.places) > pause
    cuts = [0, *(np.flatnonzero(long & low) + 1).tolist(), len(edges)]
    return [slice(first, end) for first, end in pairwise(cuts)]


def _cut(edges: Edges, begin: float, end: float) -> bool:
    return any(first <= end and last >= begin for first, last in edges.holes)


def annotations_of(passes: Sequence[Pass], names: Sequence[str] = ()) -> list[Annotation]:
    """Passes as notes on a trace: segments, or markers where an end is not known.

    Args:
        passes: of one mode.
        names: of the layers; beyond them their numbers.
    """
    notes = []
    for one in passes:
        rows = zip(one.layers, one.begins.tolist(), one.ends.tolist(), strict=True)
        for layer, begin, end in rows:
            text = names[layer] if layer < len(names) else f"layer {layer}"
            if math.isnan(end):
                notes.append(Annotation(begin, "marker", text))
            else:
                notes.append(Annotation(begin, "segment", text, end))
    return notes
