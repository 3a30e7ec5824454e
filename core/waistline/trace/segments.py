"""Segments of a trace: what lies between two edges, wherever these come from.

Segments are stored as such, or made of two markers ``NAME-begin`` and ``NAME-end``, or a logic bit
is high. Of those a program marked, one of the same name may lie inside another; a begin without an
end makes none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from waistline.trace.base import Annotation, Trace
from waistline.trace.events import BEGIN, END
from waistline.trace.markers import EDGE_SIGMA, read_edges

MOST = 20_000
"""That are looked at; a bit that changes with every sample says nothing."""
_PIECE = 1 << 22

Origin = Literal["note", "markers", "bit"]


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a trace.

    Attributes:
        name: several may have it, such as a layer in each inference.
        begin, end: in samples, inside the trace.
        by: what its edges come from.
        edge_sigma: standard uncertainty of each edge, samples; 0.0 where nothing is known of it.
        cut: it reaches beyond the trace, of which this is what lies inside.
    """

    name: str
    begin: float
    end: float
    by: Origin
    edge_sigma: float = 0.0
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """What a trace is divided into.

    Attributes:
        segments: by begin.
        markers: that are no edge of a segment.
        more: kinds of which there are more than `MOST`: ``note``, ``markers``, ``D0``.
    """

    segments: tuple[Segment, ...]
    markers: tuple[Annotation, ...]
    more: tuple[str, ...]


def find_segments(trace: Trace, marker_sigma: float = 0.0) -> Found:
    """Everything on a trace that has a begin and an end, the first `MOST` of each kind.

    Args:
        trace: an open one.
        marker_sigma: standard uncertainty of a marker's place, samples.
    """
    noted = [
        Segment(note.text, note.sample, note.end_sample, "note")
        for note in trace.annotations
        if note.end_sample is not None
    ]
    points = [note for note in trace.annotations if note.end_sample is None]
    marked, markers = of_markers(points, marker_sigma)
    kinds = {"note": noted, "markers": marked}
    kinds |= {f"D{bit}": _of_bit(trace, bit) for bit in trace.spec.bits}
    first = [row for rows in kinds.values() for row in rows[:MOST]]
    inside = [found for row in first if (found := _inside(row, trace.length))]
    inside.sort(key=lambda row: (row.begin, -row.end))
    more = tuple(name for name, rows in kinds.items() if len(rows) > MOST)
    return Found(tuple(inside), tuple(markers), more)


def _inside(row: Segment, length: int) -> Segment | None:
    """What of it lies in the trace."""
    begin, end = max(0.0, row.begin), min(float(length), row.end)
    if begin >= end:
        return None
    if (begin, end) == (row.begin, row.end):
        return row
    return Segment(row.name, begin, end, row.by, row.edge_sigma, cut=True)


def of_markers(
    points: Iterable[Annotation], sigma: float = 0.0
) -> tuple[list[Segment], list[Annotation]]:
    """Segments between pairs of markers, and the markers without a partner.

    Args:
        points: markers and notes, in order.
        sigma: standard uncertainty of a marker's place, samples.
    """
    open_ones: dict[str, list[Annotation]] = {}
    found, alone = [], []
    for note in points:
        name = note.text.removesuffix(END)
        begins = open_ones.get(name)
        if note.text.endswith(BEGIN) and len(note.text) > len(BEGIN):
            open_ones.setdefault(note.text.removesuffix(BEGIN), []).append(note)
        elif name != note.text and begins:
            found.append(Segment(name, begins.pop().sample, note.sample, "markers", sigma))
        else:
            alone.append(note)
    alone += [note for rest in open_ones.values() for note in rest]
    found.sort(key=lambda row: row.begin)
    alone.sort(key=lambda note: note.sample)
    return found, alone


def _of_bit(trace: Trace, bit: int) -> list[Segment]:
    """Where a bit is high; at most one more than are looked at."""
    found: list[Segment] = []
    for begin, end in pairwise(_changes(trace, bit)):
        if begin[1] and not end[1]:
            found.append(Segment(f"D{bit} high", begin[0], end[0], "bit", EDGE_SIGMA))
            if len(found) > MOST:
                break
    return found


def _changes(trace: Trace, bit: int) -> Iterator[tuple[float, bool]]:
    """(place, to high) of each change, as far as is asked for."""
    for first in range(0, trace.length, _PIECE):
        edges = read_edges(trace, bit, max(0, first - 1), min(first + _PIECE, trace.length))
        yield from zip(edges.places.tolist(), edges.rising.tolist(), strict=True)
