"""What ``waistline trace markers`` tells, and the new trace that it writes."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from waistline.errors import ConfigError
from waistline.evidence import Figure
from waistline.trace.base import Annotation
from waistline.trace.jls_read import JlsTrace
from waistline.trace.matching import LEAST
from waistline.trace.rewrite import check_new, rewrite
from waistline_bridge.messages import Mark
from waistline_hostctl.results import Result
from waistline_hostctl.trace_markers import Asked, Found, find

_MOST_RUN_BYTES = 900_000
_KEY = "markers"
"""Of run.json inside a trace: the clock maps that its markers were placed by."""


class Clock(msgspec.Struct, frozen=True, kw_only=True):
    """A clock map.

    Attributes:
        by: ``edges``, ``code``, ``ticks`` or ``host``.
        told: what against what, for people.
        epoch_ns: reading of the other clock that its seconds count from; UTC for ``host``.
        figures: ``offset_s`` (where on the trace the epoch lies, s) and ``drift`` (1; of the
            trace's clock against the other).
        residual_s: rms of what it rests on about the line.
        n: edges, codes or points it rests on.
        missed, extra: noted without an edge; edges that nobody noted.
        locked: edges' phases to the sample clock are alike.
        common_s: standard uncertainty of what shifts all alike; in ``offset_s``, too.
    """

    by: str
    told: str
    epoch_ns: int
    figures: dict[str, Figure]
    residual_s: float
    n: int
    missed: int
    extra: int
    locked: bool
    common_s: float


class Placed(msgspec.Struct, frozen=True, kw_only=True):
    """A marker or a segment on the trace.

    Attributes:
        sample, end_sample: where; the end is None of a marker.
        at_s, end_s: the same by the meter's nominal clock.
        uncertainty_s: standard uncertainty of the begin; None: not known.
        lost: its begin lies in a gap.
    """

    text: str
    kind: str
    sample: float
    at_s: float
    end_sample: float | None = None
    end_s: float | None = None
    uncertainty_s: float | None = None
    lost: bool = False


class TraceMarkersResult(Result, frozen=True, kw_only=True, tag="trace markers"):
    """Markers that were found, or that the trace has.

    Attributes:
        output: the new trace; "" where none was written.
        clock: None: the trace has no time of its own, and none was asked for.
        outside: events that lie outside the trace or the stretch.
        odd: pieces of a marker pin's signal that make no sense.
        replaced: notes of the old trace that the new one has at another place.
    """

    path: str
    output: str = ""
    clock: Clock | None
    notes: tuple[Placed, ...]
    outside: int = 0
    odd: int = 0
    replaced: int = 0
    remarks: tuple[str, ...] = ()


def markers(
    trace: JlsTrace,
    asked: Asked,
    output: Path | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> TraceMarkersResult:
    """Find, and write a new trace where one is wanted.

    Args:
        trace: an open one; it is not changed.
        asked: what to look for.
        output: the new trace; None: none.
        progress: called with samples written.

    Raises:
        ConfigError, TraceError: as `find`; or there is nothing new, or no new file to be made.
    """
    if output is not None:
        check_new(output)
    found = find(trace, asked)
    clock = None if found.clock is None else _clock(trace, found)
    old = replaced_by(trace, found, asked)
    if output is not None:
        if not found.fresh or not found.notes:
            raise ConfigError(
                f"there is nothing new to write into {output}",
                cause="no event lies in this stretch of the trace"
                if found.fresh
                else "the markers are those that the trace has",
                fix="give --events, --bit, --code or --mark, or leave out -o",
            )
        kept = [note for note in trace.annotations if note not in old]
        rewrite(trace, output, [*kept, *found.notes], _run(trace.run, found, clock), progress)
    return TraceMarkersResult(
        path=str(trace.path),
        output=str(output or ""),
        clock=clock,
        notes=_notes(trace, found),
        outside=found.outside,
        odd=found.odd,
        replaced=len(old) if output is not None else 0,
        remarks=_remarks(found, asked),
    )


def replaced_by(trace: JlsTrace, found: Found, asked: Asked) -> frozenset[Annotation]:
    """Markers and segments of the stretch whose names have got better places."""
    if not found.fresh:
        return frozenset()
    names = {note.text for note in found.notes}
    return frozenset(
        note
        for note in trace.annotations
        if note.kind != "note" and note.text in names and asked.start <= note.sample <= asked.stop
    )


def _clock(trace: JlsTrace, found: Found) -> Clock:
    clock = found.clock
    assert clock is not None
    spec = trace.spec
    offset_s = float(clock.place(0.0)) / spec.rate_hz
    # Of a single point, or of two of the host's, nobody knows how late they are.
    known = clock.n > 1 and (found.by != "host" or clock.n >= LEAST)
    alone = found.by in ("edges", "code", "ticks")
    spread_s = float(clock.uncertainty_s(0.0)) if known or alone else None
    figures = {
        "offset_s": Figure(offset_s, "s", spec.evidence, found.told, spread_s, clock.n),
        "drift": Figure(
            clock.drift,
            "1",
            spec.evidence,
            found.told,
            clock.drift_uncertainty if known else None,
            clock.n,
        ),
    }
    return Clock(
        by=found.by,
        told=found.told,
        epoch_ns=found.epoch_ns,
        figures=figures,
        residual_s=clock.residual_s,
        n=clock.n,
        missed=clock.missed,
        extra=clock.extra,
        locked=clock.locked,
        common_s=clock.common_s,
    )


def _notes(trace: JlsTrace, found: Found) -> tuple[Placed, ...]:
    rate_hz = trace.spec.rate_hz
    spreads = [None] * len(found.notes) if found.spread_s is None else found.spread_s.tolist()
    holes = [(gap.first, gap.end) for gap in trace.gaps]
    firsts = [first for first, _ in holes]
    rows = []
    for note, spread_s in zip(found.notes, spreads, strict=True):
        at = bisect_right(firsts, note.sample) - 1
        end = note.end_sample
        rows.append(
            Placed(
                text=note.text,
                kind=note.kind,
                sample=note.sample,
                at_s=note.sample / rate_hz,
                end_sample=end,
                end_s=None if end is None else end / rate_hz,
                uncertainty_s=spread_s,
                lost=at >= 0 and note.sample < holes[at][1],
            )
        )
    return tuple(rows)


def _remarks(found: Found, asked: Asked) -> tuple[str, ...]:
    rows = []
    clock = found.clock
    if clock is not None and clock.locked:
        rows.append("the edges are locked to the sample clock: averaging them does not help")
    if found.by == "code" and not asked.lag_s:
        rows.append(
            "what the supply lags behind the load shifts all alike, and is in no uncertainty "
            "(--lag TIME bounds it)"
        )
    if clock is not None and found.by == "code" and clock.n == 1:
        rows.append("one code alone leaves the drift open; play another behind what is measured")
    if found.odd and asked.mode == Mark.LAYERS:
        rows.append(
            "runs are told apart by a pause longer than any layer: is it over "
            f"{asked.longest_s * 1e3:g} ms? (--longest TIME)"
        )
    if found.by == "host" and clock is not None:
        rows.append("by the host's clock: how late the meter's bytes come is in no uncertainty")
    return tuple(rows)


def _run(data: bytes, found: Found, clock: Clock | None) -> bytes:
    """run.json of the old trace with how its markers were placed."""
    try:
        run: Any = msgspec.json.decode(data) if data else {}
    except (msgspec.DecodeError, RecursionError):
        return data
    if not isinstance(run, dict):
        return data
    before = run.get(_KEY)
    entry = {"placed": len(found.notes), "told": found.told, "clock": clock}
    run[_KEY] = [*(before if isinstance(before, list) else []), entry]
    told = msgspec.json.encode(run)
    return told if len(told) <= _MOST_RUN_BYTES else data
