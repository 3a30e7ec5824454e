"""What each segment of a trace took, in one pass over the samples for each depth of nesting."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from waistline.instrument import Calibration
from waistline.run import Cell, Column, Table, table
from waistline.trace.accuracy import Stretch, Summed, summed
from waistline.trace.base import TraceSpec
from waistline.trace.budget import Quantity
from waistline.trace.jls_read import JlsTrace
from waistline.trace.segments import Segment

SEGMENTS = "segments"
BASELINES = ("baseline", "idle")
"""Names of a segment whose power counts as what is there anyway."""
WHOLE, LOST, UNKNOWN, CUT, DEEP = (
    "whole", "samples lost", "gap of unknown size", "reaches beyond the trace", "not measured",
)  # fmt: skip
_LANES = 16
_FIGURES = (
    ("energy", "J", "energy of the samples that are there"),
    ("above_baseline", "J", "energy above the power of the baseline"),
    ("mean_power", "W", "mean power"),
    ("mean_current", "A", "mean current"),
)


@dataclass(frozen=True, slots=True)
class Baseline:
    """A segment that shows what is taken anyway, and the power of that."""

    segment: Segment
    power: Quantity


@dataclass(frozen=True, slots=True)
class Measured:
    """A segment and what it took; None where it lies in too many others."""

    segment: Segment
    summed: Summed | None

    @property
    def state(self) -> str:
        """What keeps it from being valid, or `WHOLE`."""
        if self.summed is None:
            return DEEP
        if self.summed.uncertain:
            return UNKNOWN
        if self.summed.missing:
            return LOST
        return CUT if self.segment.cut else WHOLE


def measure(
    trace: JlsTrace, segments: Sequence[Segment], calibration: Calibration | None
) -> list[Measured]:
    """Each segment's sums; the samples are read once for each depth of nesting.

    Args:
        trace: an open one.
        segments: by begin.
        calibration: of the instrument.
    """
    found: list[Summed | None] = [None] * len(segments)
    for lane in _lanes(segments):
        rows = [segments[place] for place in lane]
        stretches = [Stretch(row.begin, row.end, row.edge_sigma) for row in rows]
        for place, one in zip(lane, summed(trace, stretches, calibration), strict=True):
            found[place] = one
    return [Measured(row, one) for row, one in zip(segments, found, strict=True)]


def _lanes(segments: Sequence[Segment]) -> list[list[int]]:
    """Places of segments, so that in each lane none overlaps another; 16 lanes at most."""
    lanes: list[list[int]] = []
    free: list[tuple[float, int]] = []
    for place, row in enumerate(segments):
        if free and free[0][0] <= row.begin:
            _, lane = heapq.heappop(free)
        elif len(lanes) < _LANES:
            lane = len(lanes)
            lanes.append([])
        else:
            continue
        lanes[lane].append(place)
        heapq.heappush(free, (row.end, lane))
    return lanes


def baseline_of(rows: Sequence[Measured]) -> Baseline | None:
    """The longest whole segment that is named as the baseline."""
    named = [
        Baseline(row.segment, row.summed.quantities["mean_power_w"])
        for row in rows
        if row.segment.name in BASELINES
        and row.state == WHOLE
        and row.summed is not None
        and "mean_power_w" in row.summed.quantities
    ]
    return max(named, key=lambda row: row.segment.end - row.segment.begin, default=None)


def above(one: Summed, base: Baseline, spec: TraceSpec) -> Quantity:
    """Energy of a stretch above what the baseline takes in the same time."""
    there_s = one.parts.total.count / spec.rate_hz
    return one.quantities["energy_j"].above(base.power, there_s)


def segments_table(rows: Sequence[Measured], base: Baseline | None, spec: TraceSpec) -> Table:
    """One row a segment; what is not valid has no figures."""
    grade = spec.evidence.value
    columns = [
        Column("name", "text"),
        Column("by", "text", "", "its edges: note (stored), markers (of a program), bit"),
        Column("begin_s", "number", "s", "since the first sample"),
        Column("duration_s", "number", "s", "on the trace's clock", grade),
        Column("duration_u_s", "number", "s", "standard uncertainty; empty: not known", grade),
    ]
    for name, unit, meaning in _FIGURES:
        letter = unit.lower()
        columns += [
            Column(f"{name}_{letter}", "number", unit, meaning, grade),
            Column(f"{name}_u_{letter}", "number", unit, "its standard uncertainty", grade),
        ]
    columns += [
        Column("samples", "number", "sample", "lost ones included"),
        Column("missing", "number", "sample", "of these, lost"),
        Column("state", "text", "", f"{WHOLE}, or why it is not"),
    ]
    return table(SEGMENTS, columns, [_row(row, base, spec) for row in rows])


def _row(row: Measured, base: Baseline | None, spec: TraceSpec) -> list[Cell]:
    segment, one = row.segment, row.summed
    size = segment.end - segment.begin
    cells: list[Cell] = [segment.name, segment.by, segment.begin / spec.rate_hz]
    if one is None:
        nothing: list[Cell] = [None] * (1 + 2 * len(_FIGURES))
        return [*cells, size / spec.rate_hz, *nothing, size, None, row.state]
    found = dict(one.quantities)
    if base is not None and "energy_j" in found and segment != base.segment:
        found["above_baseline_j"] = above(one, base, spec)
    valid = row.state != UNKNOWN
    cells += [*_pair(found.get("duration_s"), True)]
    for name, unit, _ in _FIGURES:
        cells += _pair(found.get(f"{name}_{unit.lower()}"), valid)
    return [*cells, size, one.missing, row.state]


def _pair(one: Quantity | None, valid: bool) -> tuple[float | None, float | None]:
    return (one.value, one.uncertainty) if one is not None and valid else (None, None)
