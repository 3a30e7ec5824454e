"""``waistline trace`` for people."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from waistline.evidence import Figure
from waistline.trace.base import Annotation, Gap
from waistline.trace.repair import RepairReport
from waistline_hostctl.console import grid, indented, si
from waistline_hostctl.trace_markers_result import Clock, TraceMarkersResult
from waistline_hostctl.trace_work import TraceEnergyResult, TraceInfoResult

_LABELS = {"mean_current_a": "current", "mean_power_w": "power", "energy_j": "energy"}
_ROWS = 12


def quantity(figure: Figure) -> str:
    """A figure with prefix, standard uncertainty in per cent, and grade."""
    spread = figure.standard_uncertainty
    if spread is None or not figure.value:
        return f"{si(figure.value, figure.unit)} ({figure.evidence})"
    share = f"{100 * spread / abs(figure.value):.2g}"
    return f"{si(figure.value, figure.unit)} ± {share} % ({figure.evidence})"


def figures(found: Mapping[str, Figure]) -> list[str]:
    """One line each."""
    rows = [
        indented(quantity(found[name]), label) for name, label in _LABELS.items() if name in found
    ]
    if found and all(figure.standard_uncertainty is None for figure in found.values()):
        rows.append(
            indented("no uncertainty: the bench file says nothing of this instrument", "note")
        )
    if "mean_current_a" in found and "energy_j" not in found:
        rows.append(indented("no voltage, so no power and no energy", "note"))
    return rows


def info(found: TraceInfoResult) -> str:
    """What a trace is."""
    lines = [
        indented(f"{found.source}, {found.evidence}", "source"),
        indented(
            f"{found.samples:,} at {si(found.rate_hz, 'Hz')}, {si(found.duration_s, 's')}: "
            + ", ".join(found.signals),
            "samples",
        ),
    ]
    if found.start_utc_ns:
        began = datetime.fromtimestamp(found.start_utc_ns * 1e-9, UTC)
        lines.append(indented(began.isoformat(timespec="milliseconds"), "began"))
    if found.supply_v is not None:
        lines.append(indented(f"{found.supply_v:g} V, constant", "supply"))
    lines += figures(found.figures)
    lost = sum(gap.count for gap in found.gaps)
    told = f"{len(found.gaps)}, {lost:,} samples" if lost else "none"
    if found.missing > lost:
        told += f"; beside them {found.missing - lost:,.0f} samples have no value"
    lines.append(indented(told.replace("none; beside them", "none, but"), "gaps"))
    if found.gaps:
        lines.append(_gaps(found.gaps, found.rate_hz))
    if found.annotations:
        lines.append(indented(f"{len(found.annotations)}", "notes"))
        lines.append(_notes(found.annotations, found.rate_hz))
    lines.append(indented(_ledger(found), "ledger"))
    return "\n".join(lines)


def _gaps(gaps: tuple[Gap, ...], rate_hz: float) -> str:
    rows = [
        (
            f"{gap.first / rate_hz:.6f}",
            f"{gap.count}" if gap.resolved else f"{gap.low}..{gap.high}",
            gap.kind,
        )
        for gap in gaps[:_ROWS]
    ]
    more = len(gaps) - _ROWS
    return grid(("at_s", "lost", "shown by"), rows) + (f"\n  and {more} more" if more > 0 else "")


def _notes(notes: tuple[Annotation, ...], rate_hz: float) -> str:
    rows = [
        (
            f"{note.sample / rate_hz:.6f}",
            "" if note.end_sample is None else f"{note.end_sample / rate_hz:.6f}",
            note.kind,
            note.text,
        )
        for note in notes[:_ROWS]
    ]
    more = len(notes) - _ROWS
    text = grid(("at_s", "to_s", "kind", "text"), rows)
    return text + (f"\n  and {more} more" if more > 0 else "")


def _ledger(found: TraceInfoResult) -> str:
    if not found.ledger:
        return "none: " + (
            "its writer did not close it" if found.run else "waistline capture did not make this"
        )
    lost = found.ledger.get("lost")
    parts = [f"{n:,} by {kind}" for kind, n in lost.items()] if isinstance(lost, dict) else []
    if invalid := found.ledger.get("invalid"):
        parts.append(f"{invalid:,} of uncertain place")
    by = ", ".join(parts)
    state = "closes" if found.ledger.get("closes") else "DOES NOT CLOSE"
    return f"{state}; by {found.ledger.get('grade', '?')}; lost {by or 'nothing'}" + (
        f"; {found.ledger['unknown']} holes of unknown size" if found.ledger.get("unknown") else ""
    )


def energy(found: TraceEnergyResult) -> str:
    """Energy of a stretch."""
    span = found.stop_s - found.start_s
    lines = [indented(f"{found.start_s:.6f} s to {found.stop_s:.6f} s, {si(span, 's')}", "stretch")]
    lines += figures(found.figures)
    if found.missing:
        share = found.missing / (found.stop - found.start)
        lines.append(
            indented(
                f"{found.missing:,.0f} samples ({share:.2%}) were lost; the energy is that of the "
                "others",
                "gaps",
            )
        )
    if found.uncertain:
        lines.append(indented("a gap of unknown size lies in it: not valid", "PROBLEM"))
    return "\n".join(lines)


def repaired(report: RepairReport) -> str:
    """What a repair did."""
    if not report.repaired:
        return indented(f"{report.path} is whole; nothing was done", "trace")
    lines = [
        indented(report.path, "trace"),
        indented(f"{report.length:,} in {si(report.duration_s, 's')}", "samples"),
    ]
    for count, text in (
        (report.dropped, "samples that not all signals had"),
        (report.torn_bytes, "bytes at the end that make no whole chunk"),
        (report.damaged_bytes, "bytes with wrong checksums"),
        (report.damaged_samples, "samples lost to that, now a gap"),
    ):
        if count:
            lines.append(indented(f"{count:,} {text}", "dropped"))
    if report.left_out:
        lines.append(indented(", ".join(report.left_out), "left out"))
    return "\n".join(lines)


def markers(found: TraceMarkersResult) -> str:
    """What was placed, and by which clock."""
    lines = [] if found.clock is None else _clock(found.clock)
    placed = f"{len(found.notes):,}"
    for count, text in (
        (found.outside, "outside the trace, or the stretch"),
        (sum(note.lost for note in found.notes), "in a gap"),
        (found.odd, "pieces of the pin's signal made no sense"),
        (found.replaced, "took the place of one that was there"),
    ):
        placed += f"; {count:,} {text}" if count else ""
    lines.append(indented(placed, "markers"))
    rows = [
        (
            f"{note.at_s:.6f}",
            "" if note.end_s is None else f"{note.end_s:.6f}",
            "" if note.uncertainty_s is None else f"± {si(note.uncertainty_s, 's')}",
            "in a gap" if note.lost else "",
            note.text,
        )
        for note in found.notes[:_ROWS]
    ]
    if rows:
        lines.append(grid(("at_s", "to_s", "", "", "name"), rows))
    if len(found.notes) > _ROWS:
        lines.append(f"  and {len(found.notes) - _ROWS:,} more")
    if found.output:
        lines.append(indented(found.output, "written"))
    return "\n".join(lines)


def _clock(clock: Clock) -> list[str]:
    offset, drift = clock.figures["offset_s"], clock.figures["drift"]
    begins = {"host": "the first of them", "ticks": "the first run"}.get(
        clock.by, "the first event"
    )
    spread = (
        "" if offset.standard_uncertainty is None else f" ± {si(offset.standard_uncertainty, 's')}"
    )
    rate = f"{drift.value * 1e6:+.4g}"
    if drift.standard_uncertainty is not None:
        rate += f" ± {drift.standard_uncertainty * 1e6:.2g}"
    lines = [
        indented(clock.told, "clock"),
        indented(f"{offset.value:.9g} s{spread} of the trace is {begins}", "offset"),
        indented(
            f"{rate} ppm, the trace's clock against the other" if clock.n > 1 else "unknown",
            "drift",
        ),
    ]
    if clock.n > 2:
        lines.append(indented(f"{si(clock.residual_s, 's')} rms about the line", "residual"))
    if clock.common_s:
        lines.append(indented(f"± {si(clock.common_s, 's')} alike for all, by the lag", "shift"))
    if clock.by == "edges":
        lines.append(
            indented(
                f"{clock.n} matched; {clock.missed} events without an edge, {clock.extra} edges "
                "without an event",
                "edges",
            )
        )
    return lines
