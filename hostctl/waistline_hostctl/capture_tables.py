"""From a trace to the tables and figures of a capture's report: lazily, and the same each time.

Tables: ``overview`` and ``detail`` (what is drawn), ``segments``, ``markers``, ``gaps``,
``account`` (what became of every sample), ``terms`` (what the uncertainties are made of). The
samples are read in pieces; what is kept of them does not grow with the trace.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np

from waistline.errors import ConfigError
from waistline.evidence import Evidence, Figure, weakest
from waistline.run import Cell, Column, RunRecord, Table, table
from waistline.trace.accuracy import Stretch, Summed, as_figures, calibration_of, summed
from waistline.trace.base import FLOAT_SIGNALS, Annotation, Floats, Gap, Overview, TraceSpec
from waistline.trace.budget import Quantity
from waistline.trace.jls_read import JlsTrace
from waistline.trace.segments import Segment, find_segments
from waistline.trace.view import drawn
from waistline_hostctl.capture_account import ACCOUNT, account_table
from waistline_hostctl.capture_segments import (
    SEGMENTS,
    Baseline,
    above,
    baseline_of,
    measure,
    segments_table,
)
from waistline_hostctl.derive import Derived

OVERVIEW, DETAIL, MARKERS, GAPS, TERMS = "overview", "detail", "markers", "gaps", "terms"
TABLES = (OVERVIEW, DETAIL, SEGMENTS, MARKERS, GAPS, ACCOUNT, TERMS)
MORE = "more"
"""Kind of a row of ``markers`` that says of which segments there were too many."""
PEAKS = {"power": "peak_power_w", "current": "peak_current_a", "voltage": "peak_voltage_v"}
_COLUMNS = 800
_AROUND = 8
"""Times the length of a segment that a closer look takes in."""


class MeterEntry(msgspec.Struct, frozen=True):
    """A meter as run.json tells of it."""

    name: str
    id: str
    rate_hz: float
    evidence: Evidence
    untried: bool = False
    details: dict[str, Any] = {}


class CaptureEntry(msgspec.Struct, frozen=True):
    """``settings.capture`` of run.json, as `capture.control` writes it."""

    meter: MeterEntry
    ended: str = ""
    problems: tuple[str, ...] = ()
    samples: int = 0
    missing: int = 0
    ledger: dict[str, Any] = {}
    clock_residual_s: float | None = None
    command: dict[str, Any] = {}


def recorded_entry(record: RunRecord) -> CaptureEntry:
    """What run.json says of the capture.

    Raises:
        ConfigError: it does not say it.
    """
    try:
        return msgspec.convert(record.settings["capture"], CaptureEntry)
    except (KeyError, msgspec.ValidationError) as error:
        raise ConfigError(
            f"run {record.name} does not say what it captured",
            cause=str(error),
            fix="restore its run.json, or look at the trace itself: waistline trace info",
        ) from error


def derive(trace: JlsTrace, entry: CaptureEntry) -> Derived:
    """Every table and figure.

    Args:
        trace: an open one with a sample.
        entry: of its run.
    """
    # Where the two disagree on how it was obtained, the weaker one holds.
    spec = replace(trace.spec, evidence=weakest((trace.spec.evidence, entry.meter.evidence)))
    calibration = calibration_of(trace)
    (whole,) = summed(trace, [Stretch(0.0, float(trace.length))], calibration)
    residual_s = entry.clock_residual_s or 0.0
    sigma = residual_s * spec.rate_hz if 0 < residual_s < trace.duration_s else 0.0
    found = find_segments(trace, sigma)
    rows = measure(trace, found.segments, calibration)
    base = baseline_of(rows)
    signal = drawn(spec)
    view = trace.overview(signal, 0.0, float(trace.length), _COLUMNS)
    tables = (
        _overview_table(OVERVIEW, view, spec),
        *_detail_tables(trace, found.segments, spec),
        segments_table(rows, base, spec),
        _markers_table(found.markers, found.more, spec),
        _gaps_table(trace.gaps, spec),
        account_table(trace, entry.ledger, whole.missing),
        _terms_table(whole, spec),
    )
    made = tuple(one for one in tables if one.rows)
    return Derived(made, _figures(trace, spec, whole, base, view))


def _figures(
    trace: JlsTrace, spec: TraceSpec, whole: Summed, base: Baseline | None, view: Overview
) -> dict[str, Figure]:
    count = whole.parts.total.count
    found = as_figures(whole.quantities, spec, count, trace.length)
    source = found["duration_s"].source
    signal, there = drawn(spec), view.high[np.isfinite(view.high)]
    if len(there):
        what = f"{source}, the highest"
        peak = float(np.max(there))
        found[PEAKS[signal]] = Figure(peak, FLOAT_SIGNALS[signal], spec.evidence, what)
    if base is not None and "energy_j" in whole.quantities:
        idle = base.power
        of = f"segment {base.segment.name} of {spec.source}"
        found["baseline_power_w"] = _figure(idle, spec, of)
        found["energy_above_baseline_j"] = _figure(above(whole, base, spec), spec, source)
    spread = math.hypot(*map(_half_width, trace.gaps)) / math.sqrt(3)
    found["samples"] = Figure(float(trace.length), "sample", spec.evidence, spec.source, spread)
    found["lost_samples"] = Figure(
        whole.missing, "sample", spec.evidence, f"{len(trace.gaps)} gaps", spread
    )
    return found


def _figure(one: Quantity, spec: TraceSpec, source: str) -> Figure:
    return Figure(one.value, one.unit, spec.evidence, source, one.uncertainty, one.n)


def _half_width(gap: Gap) -> float:
    """Of the bounds of a gap's size; its standard uncertainty is this by the root of three."""
    low = gap.count if gap.low is None else gap.low
    high = gap.count if gap.high is None else gap.high
    return (high - low) / 2


def _detail_tables(
    trace: JlsTrace, segments: Sequence[Segment], spec: TraceSpec
) -> tuple[Table, ...]:
    """Some segments of middling length, where in the whole trace they are too narrow to be seen."""
    lengths = sorted(row.end - row.begin for row in segments)
    middle = lengths[len(lengths) // 2] if lengths else 0.0
    if not 0 < _AROUND * middle < trace.length / 2:
        return ()
    first = next(row for row in segments if row.end - row.begin <= middle)
    start = min(max(0.0, first.begin - middle / 2), trace.length - _AROUND * middle)
    view = trace.overview(drawn(spec), start, start + _AROUND * middle, _COLUMNS)
    return (_overview_table(DETAIL, view, spec),)


def _overview_table(name: str, view: Overview, spec: TraceSpec) -> Table:
    signal, grade = drawn(spec), spec.evidence.value
    unit = FLOAT_SIGNALS[signal]
    columns = [
        Column("begin_s", "number", "s", "of one of equal parts"),
        Column("low", "number", unit, f"lowest {signal} in it; empty where all is lost", grade),
        Column("high", "number", unit, "highest", grade),
        Column("mean", "number", unit, "mean, for pictures only", grade),
    ]
    rows = zip(
        (view.starts / spec.rate_hz).tolist(),
        *map(_cells, (view.low, view.high, view.mean)),
        strict=True,
    )
    return table(name, columns, list(rows))


def _cells(values: Floats) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values.tolist()]


def _markers_table(
    markers: tuple[Annotation, ...], more: tuple[str, ...], spec: TraceSpec
) -> Table:
    columns = [
        Column("at_s", "number", "s", "since the first sample"),
        Column("kind", "text", "", "marker or note; more: segments of this kind were left out"),
        Column("text", "text"),
    ]
    rows: list[tuple[Cell, ...]] = [
        (note.sample / spec.rate_hz, note.kind, note.text) for note in markers
    ]
    return table(MARKERS, columns, rows + [(None, MORE, name) for name in more])


def _gaps_table(gaps: tuple[Gap, ...], spec: TraceSpec) -> Table:
    columns = [
        Column("at_s", "number", "s", "first lost sample"),
        Column("duration_s", "number", "s", "on the trace's clock"),
        Column("first", "integer", "sample", "first lost sample"),
        Column("count", "integer", "sample", "lost; the best estimate where bounds differ"),
        Column("low", "integer", "sample", "fewest it can have been"),
        Column("high", "integer", "sample", "most"),
        Column("kind", "text", "", "what showed it"),
        Column("known", "flag", "", "whether its size is certain"),
    ]
    rows = [
        (gap.first / spec.rate_hz, gap.count / spec.rate_hz, gap.first, gap.count,
         gap.count if gap.low is None else gap.low, gap.count if gap.high is None else gap.high,
         gap.kind, gap.resolved)
        for gap in gaps
    ]  # fmt: skip
    return table(GAPS, columns, rows)


def _terms_table(whole: Summed, spec: TraceSpec) -> Table:
    columns = [
        Column("figure", "text", "", "of the whole trace"),
        Column("term", "text", "", "what may be off"),
        Column("contribution", "number", "row", "standard uncertainty by it; empty: not known",
               spec.evidence.value),
        Column("unit", "text", "", "of the contribution"),
    ]  # fmt: skip
    rows = [
        (name, term, None if by is None else abs(by), one.unit)
        for name, one in whole.quantities.items()
        for term, by in one.terms.items()
    ]
    return table(TERMS, columns, rows)
