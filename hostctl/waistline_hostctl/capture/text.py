"""A capture for people and for programs."""

from __future__ import annotations

from waistline_hostctl.capture.record import Captured
from waistline_hostctl.capture.results import CaptureResult
from waistline_hostctl.console import indented, si
from waistline_hostctl.trace_text import figures

_ENDED = {
    "duration": "after the time that was asked for",
    "command": "when the command had ended",
    "interrupted": "when interrupted",
    "source": "where its source ends",
}


def captured(found: Captured) -> str:
    """What was captured, and whether it can be trusted."""
    info = found.info
    lines = [indented(f"{info.id} at {si(info.rate_hz, 'Hz')}, {info.evidence}", "meter")]
    how = f"{found.samples:,} in {si(found.samples / info.rate_hz, 's')}, {found.missing:,} lost"
    if found.ended in _ENDED:
        how += f"; ended {_ENDED[found.ended]}"
    lines.append(indented(how, "samples"))
    lines += figures(found.figures)
    lines += [indented(remark, "note") for remark in found.remarks]
    lines += [indented(problem, "PROBLEM") for problem in found.problems]
    lines.append(indented(str(found.trace), "trace"))
    if found.folder is not None:
        lines.append(indented(str(found.folder), "run"))
    if found.report is not None:
        lines.append(indented(str(found.report), "report"))
    return "\n".join(lines)


def result(found: Captured) -> CaptureResult:
    """For programs."""
    return CaptureResult(
        trace=str(found.trace),
        folder=str(found.folder or ""),
        meter=found.info.id,
        rate_hz=found.info.rate_hz,
        evidence=found.info.evidence,
        ended=found.ended,
        trusted=not found.problems,
        problems=found.problems,
        remarks=found.remarks,
        samples=found.samples,
        missing=found.missing,
        figures=found.figures,
        ledger=found.ledger,
        command_code=found.command_code,
        report=str(found.report or ""),
    )
