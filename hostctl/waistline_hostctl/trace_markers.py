"""``waistline trace markers``: where on a trace lies what a program, a pin or a board has noted.

Four ways, each giving a clock map: edges of a logic bit that was set when an event was noted; a
code in the power; a head's runs on its marker pin, with the ticks of its layers; the host's clock
alone. The trace is only read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from waistline.errors import ConfigError, MarkerMissing, TraceError
from waistline.files import read_regular
from waistline.trace.base import Annotation, Doubles
from waistline.trace.clocks import ClockMap, fit_clocks, map_of
from waistline.trace.coded import Played, clock_of, find_codes, read_played
from waistline.trace.events import SoftwareEvent, place_events, read_events
from waistline.trace.jls_read import JlsTrace
from waistline.trace.markers import EDGE_SIGMA, Edges, annotations_of, read_edges
from waistline.trace.matching import LEAST
from waistline.trace.snapshot import plain
from waistline_bridge.messages import Mark
from waistline_hostctl.markers.mcu import LONGEST_S, passes
from waistline_hostctl.markers.ticks import HeadTicks, place_ticks, read_ticks

JITTER_S, OWN_JITTER_S, OWN_WITHIN_S = 50e-6, 2e-3, 0.1
_MOST_CODE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Asked:
    """What is looked for.

    Attributes:
        events: file of what was noted; None: the trace's own markers, or none.
        clock_hz: ticks a second of that file's clock; None: it has seconds.
        bit: logic bit whose edges belong to events, or that a head's pin is on.
        edge: ``both``, ``rising`` or ``falling``.
        jitter_s: between an event and its edge; None: 50 us, and 2 ms of the trace's own markers.
        within_s: the host's clock and the trace's UTC are as close; None: not taken for granted.
        codes: files of played codes.
        lag_s: the power follows the load within this.
        mode: of the marker pin; OFF: the bit is none of a head.
        layers: of the head; 0: as many as ``ticks`` has.
        settle_s: as MARK had it.
        longest_s: no layer takes longer, and runs are further apart; for mode LAYERS.
        ticks: file of the layers' ticks.
        names: of the layers.
        start, stop: samples to look at, and to place what was noted in.
    """

    events: Path | None = None
    clock_hz: float | None = None
    bit: int | None = None
    edge: str = "both"
    jitter_s: float | None = None
    within_s: float | None = None
    codes: tuple[Path, ...] = ()
    lag_s: float = 0.0
    mode: Mark = Mark.OFF
    layers: int = 0
    settle_s: float = 0.0
    longest_s: float = LONGEST_S
    ticks: Path | None = None
    names: tuple[str, ...] = ()
    start: int = 0
    stop: int = 0


@dataclass(slots=True)
class Found:
    """What was found, before anybody is told.

    Attributes:
        notes: on the trace.
        clock: by which.
        told: of the clock.
        by: of the clock.
        epoch_ns: of the clock.
        spread_s: standard uncertainty of each note; None: not known.
        outside, odd: as in the result.
        fresh: the trace did not have them so far.
    """

    notes: list[Annotation]
    clock: ClockMap | None
    told: str
    by: str
    epoch_ns: int = 0
    spread_s: Doubles | None = None
    outside: int = 0
    odd: int = 0
    fresh: bool = True


def find(trace: JlsTrace, asked: Asked) -> Found:
    """Place what was noted.

    Raises:
        ConfigError: what was asked for does not go together.
        TraceError, MarkerMissing: a file is none of these, or no one answer fits.
    """
    if asked.mode != Mark.OFF:
        return _of_pin(trace, asked)
    if asked.codes:
        return _of_codes(trace, asked)
    if asked.bit is not None:
        return _of_edges(trace, asked, asked.bit)
    return _of_host(trace, asked)


def _events(asked: Asked) -> list[SoftwareEvent]:
    """Those of the file.

    Raises:
        MarkerMissing: it has none.
    """
    if asked.events is None:
        return []
    found = read_events(asked.events, asked.clock_hz)
    if not found:
        raise MarkerMissing(
            f"{asked.events} holds no event",
            cause="no line of it is whole",
            fix="note events by waistline.trace.events.mark, or as 'SECONDS NAME' lines",
        )
    return found


def _of_edges(trace: JlsTrace, asked: Asked, bit: int) -> Found:
    edges = _chosen(read_edges(trace, bit, asked.start, asked.stop), asked.edge)
    rate_hz = trace.spec.rate_hz
    if asked.events is None:
        names, times = _own(trace, asked)
        epoch_ns = 0
        near_s: float | None = 0.0
        within_s = asked.within_s or OWN_WITHIN_S
        jitter_s = asked.jitter_s or OWN_JITTER_S
        told = f"edges of D{bit} against the trace's own markers"
    else:
        events = _events(asked)
        names, times, epoch_ns = _times(events)
        near_s, within_s = _near(trace, events, asked.within_s)
        jitter_s = asked.jitter_s or JITTER_S
        told = f"edges of D{bit} against {asked.events.name}"
    clock = fit_clocks(
        np.unique(times),
        edges.places,
        rate_hz,
        jitter_s=jitter_s,
        near_s=near_s,
        within_s=within_s,
    )
    return _placed(trace, asked, names, times, Found([], clock, told, "edges", epoch_ns))


def _chosen(edges: Edges, which: str) -> Edges:
    if which == "both":
        return edges
    kept = edges.rising if which == "rising" else ~edges.rising
    return Edges(edges.places[kept], edges.rising[kept], edges.holes)


def _own(trace: JlsTrace, asked: Asked) -> tuple[list[str], Doubles]:
    """Names and times of the trace's markers, seconds of its nominal clock."""
    rows = [note for note in trace.annotations if _marks(note, asked)]
    if not rows:
        raise MarkerMissing(
            f"no marker of {trace.path} can belong to an edge",
            cause="it has none in this stretch",
            fix="name the file of what the program noted: --events FILE",
        )
    return [note.text for note in rows], np.array([note.sample for note in rows]) / (
        trace.spec.rate_hz
    )


def _marks(note: Annotation, asked: Asked) -> bool:
    return note.kind == "marker" and asked.start <= note.sample <= asked.stop


def _times(events: Sequence[SoftwareEvent]) -> tuple[list[str], Doubles, int]:
    """Names, seconds since the first, and when that was by their clock."""
    base_ns = events[0].monotonic_ns if events else 0
    times = np.array([event.monotonic_ns - base_ns for event in events], np.float64) * 1e-9
    return [event.text for event in events], times, base_ns


def _near(
    trace: JlsTrace, events: Sequence[SoftwareEvent], within_s: float | None
) -> tuple[float | None, float]:
    """Where the clocks stand roughly, as `fit_clocks` takes it.

    Raises:
        ConfigError: that cannot be known.
    """
    if within_s is None:
        return None, float("inf")
    if not (trace.utc and all(event.utc_ns for event in events)):
        raise ConfigError(
            "--within needs both to know the time of day",
            cause="the trace has no UTC map" if not trace.utc else "an event has no utc_ns",
            fix="leave it out, or note events by waistline.trace.events.mark",
        )
    point = trace.utc[0]
    at_s = point.sample / trace.spec.rate_hz
    return at_s + (events[0].utc_ns - point.utc_ns) * 1e-9, within_s


def _of_codes(trace: JlsTrace, asked: Asked) -> Found:
    played = [_played(path) for path in asked.codes]
    names, times, epoch_ns = _times(_events(asked))
    epoch_ns = epoch_ns or round(min(one.times_s[0] for one in played) * 1e9)
    places = find_codes(trace, played, asked.start, asked.stop)
    clock = clock_of(places, trace.spec.rate_hz, lag_s=asked.lag_s)
    clock = replace(clock, middle_s=clock.middle_s - epoch_ns * 1e-9)
    match = min(one.match for one in places)
    told = f"{len(played)} played, in the power (correlation {match:.2f})"
    return _placed(trace, asked, names, times, Found([], clock, told, "code", epoch_ns))


def _played(path: Path) -> Played:
    """A code that was run.

    Raises:
        TraceError: the file cannot be read, or is none.
    """
    try:
        data = read_regular(path, _MOST_CODE_BYTES)
    except (OSError, ValueError) as error:
        raise TraceError(
            f"the code in {path} cannot be read",
            cause=getattr(error, "strerror", None) or str(error),
            fix="play one: python -m waistline_hostctl.markers.load -o played.json",
        ) from error
    return read_played(data)


def _placed(
    trace: JlsTrace, asked: Asked, names: Sequence[str], times: Doubles, found: Found
) -> Found:
    """Events put on the trace by the clock that was found."""
    assert found.clock is not None
    places = found.clock.place(times)
    inside = (places >= asked.start) & (places <= asked.stop)
    rows = zip(names, places.tolist(), inside.tolist(), strict=True)
    found.notes = [Annotation(at, "marker", plain(name)) for name, at, kept in rows if kept]
    found.spread_s = found.clock.uncertainty_s(times[inside])
    found.outside = len(names) - len(found.notes)
    return found


def _of_pin(trace: JlsTrace, asked: Asked) -> Found:
    """Runs of a head on its marker pin."""
    assert asked.bit is not None
    ticks = None if asked.ticks is None else read_ticks(asked.ticks)
    layers, names = _layers(asked, ticks)
    rate_hz = trace.spec.rate_hz
    seen, odd = passes(
        trace,
        asked.bit,
        asked.mode,
        layers=layers,
        settle_us=round(asked.settle_s * 1e6),
        longest_s=asked.longest_s,
        start=asked.start,
        stop=asked.stop,
    )
    told = f"{len(seen)} runs of a head on D{asked.bit}"
    if ticks is None:
        notes = annotations_of(seen, names)
        spread = np.full(len(notes), EDGE_SIGMA / rate_hz)
        return Found(notes, None, told, "edges", spread_s=spread, odd=odd)
    found = place_ticks(seen, ticks, asked.mode, rate_hz, asked.settle_s)
    notes = annotations_of(found.passes, names)
    spread = np.full(len(notes), found.clock.sigma_s)
    told += f" against {asked.ticks.name if asked.ticks else ''}"
    return Found(notes, found.clock, told, "ticks", spread_s=spread, odd=odd)


def _layers(asked: Asked, ticks: HeadTicks | None) -> tuple[int, list[str]]:
    """How many the head has, and their names.

    Raises:
        ConfigError: that is not said, or said twice and differently.
    """
    known = asked.layers or len(asked.names)
    names = list(asked.names)
    if ticks is not None:
        rows = ticks.of_layers
        if known not in (0, len(rows)):
            raise ConfigError(
                f"the head cannot have {known} layers and {len(rows)}",
                cause=f"{asked.ticks} has ticks of {len(rows)}",
                fix="leave out --layers",
            )
        known = len(rows)
        names = names or [row.name or f"layer {k}" for k, row in enumerate(rows)]
    if not known and asked.mode != Mark.HEAD:
        raise ConfigError(
            "the head's layers are not known",
            cause=f"in mode {asked.mode.name.lower()} they are told by their number",
            fix="give --layers N, --names A,B,.. or the --ticks of: waistline mcu bench --json",
        )
    if asked.mode == Mark.HEAD and ticks is None:
        names = names[:1] or ["head"]
    return max(known, 1), [plain(name) for name in names]


def _of_host(trace: JlsTrace, asked: Asked) -> Found:
    """By the host's clock: the events of a file, or what the trace has anyway."""
    points = [point for point in trace.utc if asked.start <= point.sample <= asked.stop]
    epoch_ns, clock, spread_s = 0, None, None
    if points:
        epoch_ns = points[0].utc_ns
        times = np.array([point.utc_ns - epoch_ns for point in points], np.float64) * 1e-9
        there = np.array([point.sample for point in points], np.float64)
        clock = _host(times, there, trace.spec.rate_hz)
        spread_s = clock.sigma_s if len(points) >= LEAST else None
    told = f"the host's clock, {len(points)} points"
    events = _events(asked)
    if events:
        placed = place_events(trace, events)
        notes = [replace(note, text=plain(note.text)) for note in placed if _marks(note, asked)]
    else:
        notes = [note for note in trace.annotations if asked.start <= note.sample <= asked.stop]
    found = Found(notes, clock, told, "host", epoch_ns, fresh=bool(events))
    if spread_s is not None:
        found.spread_s = np.full(len(notes), spread_s)
    found.outside = max(0, len(events) - len(notes))
    return found


def _host(times: Doubles, there: Doubles, rate_hz: float) -> ClockMap:
    """The line through the points; one has the scatter of all, for a place lies between two."""
    clock = map_of(times, there, rate_hz, EDGE_SIGMA / rate_hz)
    if len(times) < LEAST:
        return clock
    return replace(clock, sigma_s=clock.residual_s * math.sqrt(len(times) / (len(times) - 2)))
