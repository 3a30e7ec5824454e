"""What ``waistline trace`` does: places in a trace, energies between them, and what a trace is."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from waistline.errors import ConfigError, MarkerMissing
from waistline.evidence import Evidence, Figure
from waistline.trace.accuracy import Stretch, Summed, as_figures, calibration_of, summed
from waistline.trace.base import Annotation, Gap, Trace
from waistline.trace.jls_read import JlsTrace
from waistline.trace.repair import RepairReport
from waistline.trace.segments import of_markers
from waistline_hostctl.results import Result

_TIME = re.compile(r"(?P<number>[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?)(?P<unit>s|ms|us|µs|min)?\Z")
_UNITS = {"": 1.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "min": 60.0}
_SAMPLE = re.compile(r"#(?P<sample>\d+(\.\d+)?)\Z")
_NUMBERED = re.compile(r"(?P<name>.+)\[(?P<number>-?\d+)\]\Z")
PLACES = "seconds (1.5, 250ms), #SAMPLE, or a marker's name; NAME[2] is its third one"


class TraceInfoResult(Result, frozen=True, kw_only=True, tag="trace info"):
    """What a trace is; ``run`` and ``ledger`` are {} where it has none.

    ``missing`` are samples without a value: those of the gaps, and in files of others more.
    """

    path: str
    source: str
    evidence: Evidence
    rate_hz: float
    signals: tuple[str, ...]
    samples: int
    duration_s: float
    start_utc_ns: int
    supply_v: float | None
    figures: dict[str, Figure]
    missing: float
    gaps: tuple[Gap, ...]
    annotations: tuple[Annotation, ...]
    run: dict[str, Any]
    ledger: dict[str, Any]


class TraceEnergyResult(Result, frozen=True, kw_only=True, tag="trace energy"):
    """Energy of a stretch.

    Attributes:
        start, stop: in samples.
        missing: samples lost in it; the energy is that of those that are there.
        uncertain: touched by a gap of unknown size.
    """

    path: str
    start: float
    stop: float
    start_s: float
    stop_s: float
    missing: float
    uncertain: bool
    figures: dict[str, Figure]


class TraceWrittenResult(Result, frozen=True, kw_only=True, tag="trace written"):
    """A file that ``plot``, ``export`` or ``import`` wrote; rows or samples, 0 for a picture."""

    path: str
    count: int
    remarks: tuple[str, ...] = ()


class TraceRepairResult(Result, frozen=True, kw_only=True, tag="trace repair"):
    report: RepairReport


def place(trace: JlsTrace, text: str) -> float:
    """A place in a trace, in samples; see `PLACES`.

    Raises:
        ConfigError: not in the trace.
        MarkerMissing: no marker of that name, or several and no number.
    """
    if found := _SAMPLE.match(text):
        sample = float(found["sample"])
    elif found := _TIME.match(text):
        sample = float(found["number"]) * _UNITS[found["unit"] or ""] * trace.spec.rate_hz
    else:
        sample = _marker(trace, text).sample
    if not 0 <= sample <= trace.length:
        raise ConfigError(
            f"{text} is not in the trace",
            cause=f"it lasts {trace.duration_s:g} s, {trace.length} samples",
            fix="choose a place inside",
        )
    return sample


def seconds(text: str) -> float | None:
    """``250ms`` as seconds; None: it is no time."""
    found = _TIME.match(text.strip())
    return float(found["number"]) * _UNITS[found["unit"] or ""] if found else None


def _marker(trace: JlsTrace, text: str) -> Annotation:
    exact = [note for note in trace.annotations if note.text == text]
    numbered = None if exact else _NUMBERED.match(text)
    name = numbered["name"] if numbered else text
    rows = exact or [note for note in trace.annotations if note.text == name]
    if not rows:
        pairs, _ = of_markers(note for note in trace.annotations if note.end_sample is None)
        rows = [Annotation(k.begin, "segment", name, k.end) for k in pairs if k.name == name]
    if len(rows) == 1 and numbered is None:
        return rows[0]
    if numbered is not None:
        number = int(numbered["number"])
        if -len(rows) <= number < len(rows):
            return rows[number]
    names = list(dict.fromkeys(note.text for note in trace.annotations))
    listed = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
    if len(rows) > 1:
        raise MarkerMissing(
            f"{name!r} stands {len(rows)} times in {trace.path}",
            cause=f"from {name}[0] to {name}[{len(rows) - 1}]",
            fix=f"say which: {name}[0]",
        )
    raise MarkerMissing(
        f"there is no marker {name!r} in {trace.path}",
        cause=f"there are: {listed}" if names else "there are none",
        fix="give a place as " + PLACES,
    )


def stretch(trace: JlsTrace, start: str | None, stop: str | None) -> tuple[float, float]:
    """Begin and end in samples; a segment's name as ``start`` alone is all of it.

    Raises:
        ConfigError, MarkerMissing: as `place`; or the end is not behind the begin.
    """
    first = 0.0 if start is None else place(trace, start)
    last = float(trace.length) if stop is None else place(trace, stop)
    if start is not None and stop is None and not _is_number(start):
        last = _marker(trace, start).end_sample or last
    if last <= first:
        raise ConfigError(
            "the end is not behind the begin",
            cause=f"they are samples {first:g} and {last:g}",
            fix="exchange --from and --to",
        )
    return first, last


def _is_number(text: str) -> bool:
    return bool(_SAMPLE.match(text) or _TIME.match(text))


def info(trace: JlsTrace) -> TraceInfoResult:
    """Everything but the samples; the figures are of all of them."""
    spec = trace.spec
    figures: dict[str, Figure] = {}
    missing = 0.0
    if trace.length:
        found, figures = _summed(trace, 0.0, float(trace.length))
        missing = found.missing
    return TraceInfoResult(
        path=str(trace.path),
        source=spec.source,
        evidence=spec.evidence,
        rate_hz=spec.rate_hz,
        signals=tuple(signal.name for signal in spec.signals),
        samples=trace.length,
        duration_s=trace.duration_s,
        start_utc_ns=_start(trace),
        supply_v=spec.supply_v,
        figures=figures,
        missing=missing,
        gaps=trace.gaps,
        annotations=trace.annotations,
        run=_decoded(trace.run),
        ledger=_decoded(trace.ledger),
    )


def _start(trace: Trace) -> int:
    """Wall clock at sample 0, 0 where unknown."""
    if trace.spec.start_utc_ns or not trace.utc:
        return trace.spec.start_utc_ns
    point = trace.utc[0]
    return point.utc_ns - round(point.sample / trace.spec.rate_hz * 1e9)


def _decoded(data: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(data) if data else {}
    except msgspec.DecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _summed(trace: JlsTrace, first: float, last: float) -> tuple[Summed, dict[str, Figure]]:
    """A stretch and its figures; every sample is read once."""
    (found,) = summed(trace, [Stretch(first, last)], calibration_of(trace))
    count = found.parts.total.count
    return found, as_figures(found.quantities, trace.spec, count, last - first)


def energy(trace: JlsTrace, start: str | None, stop: str | None) -> TraceEnergyResult:
    """Energy between two places."""
    first, last = stretch(trace, start, stop)
    found, figures = _summed(trace, first, last)
    rate_hz = trace.spec.rate_hz
    return TraceEnergyResult(
        path=str(trace.path),
        start=first,
        stop=last,
        start_s=first / rate_hz,
        stop_s=last / rate_hz,
        missing=found.missing,
        uncertain=found.uncertain,
        figures=figures,
    )
