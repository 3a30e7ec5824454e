"""``waistline verify`` in the terminal."""

from __future__ import annotations

from waistline.verification.ends import Place
from waistline_hostctl.console import grid, indented
from waistline_hostctl.results import VerifyResult


def text(result: VerifyResult, *, via: bool) -> str:
    """The report for people: where, a table, the verdict, its reasons."""
    report = result.report
    rows = [
        (check.name, check.verdict, str(check.different), str(check.codes), str(check.largest_step))
        for check in report.tensors
    ]
    answer = "identical" if report.answer_identical else f"agrees {report.answer_agrees:.3f}"
    rows.append(("answer", answer, "", "", ""))
    lines = []
    if report.head_at.head_backend or not report.tail_at.tail_backend:
        lines.append(_where("head", report.head_at, report.head_at.head_engine, via))
    if report.tail_at.tail_backend:
        lines.append(_where("tail", report.tail_at, report.tail_at.tail_engine, via))
    lines += ["", grid(("", "verdict", "different", "codes", "largest step"), rows, indent=0)]
    if report.frames:
        found = report.frames
        lines += ["", indented(
            f"{found.frames}, against {found.reference} here: {found.different} of {found.codes} "
            f"codes differ ({found.share:.3%}), by at most {found.largest_step}; "
            f"answers agree {found.agrees:.3f}", "frames")]  # fmt: skip
    lines += ["", f"{'ok' if report.ok else 'FAILED'}  {result.bundle}  id {report.bundle_id[:12]}"]
    lines += [indented(reason, "", 4) for reason in report.reasons]
    lines += [
        indented(f"{check.name}: {check.cause}", "", 4)
        for check in report.tensors
        if check.cause and not check.failed
    ]
    lines += [indented(f"note: {note}", "", 4) for note in report.notes]
    return "\n".join(lines)


def _where(role: str, place: Place, engine: dict[str, str], via: bool) -> str:
    named = " ".join(engine.get(key, "") for key in ("engine", "version")).strip() or "no slice"
    details = ", ".join(
        f"{key} {engine[key]}" for key in ("device", "precision", "threads") if key in engine
    )
    parts = [part for part in (named, details) if part]
    if engine.get("emulated") == "yes":
        parts.append("emulated")
    if role == "head":
        parts.append(f"codec {place.codec}")
    if via:
        machine = place.machine
        parts.append(
            f"on {machine.processor}, {machine.architecture}, {machine.python}, "
            f"numpy {place.numpy}, waistline {place.waistline}"
            if place.name != "here" else "here"
        )  # fmt: skip
    return indented("; ".join(parts), role, 6)
