"""What could be sent for a frame: bytes, answers and radio energy, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from waistline.evidence import Evidence
from waistline_hostctl import derive
from waistline_hostctl.console import si, size
from waistline_hostctl.page.html import Dicts, bare, bare_percent, grade, percent, tabulate


def choices_section(rows: Mapping[str, Dicts], settings: derive.Settings) -> str:
    sizes = rows.get(derive.BYTES, [])
    if not sizes:
        return ""
    measure = derive.measure_of(settings)
    quality = {row["sent"]: row for row in rows.get(derive.QUALITY, [])}
    radio = rows.get(derive.RADIO, [])
    radios = {row["radio"]: row for row in radio}
    energy = {(row["radio"], row["what"]): row for row in radio}
    scored = bool(settings.metric)
    score = (escape(measure), "change, points") if scored else ()
    table = tabulate(
        ("for one frame", "bytes", "±", *score, "agreement",
         *(f"<code>{escape(name)}</code>" for name in radios)),
        [
            (escape(row["what"]), size(row["mean_bytes"]), bare(row["u_bytes"], 1),
             *_answers(quality.get(row["what"]), scored),
             *(_energy(energy.get((name, row["what"]))) for name in radios))
            for row in sizes
        ],
        numbers=range(1, 4 + len(score) + len(radios)),
        stressed=[row["what"] == derive.WAIST for row in sizes],
    )  # fmt: skip
    return (
        f"<h2>What could be sent instead {grade(Evidence.MEASURED)} {grade(Evidence.MODELLED)}</h2>"
        f"{_note(quality, measure)}{table}{_sources(radios)}"
    )


def _answers(row: Mapping[str, Any] | None, scored: bool) -> tuple[str, ...]:
    if row is None:
        return ("",) * (3 if scored else 1)
    agreement = _spread(percent(row["agreement"]), bare_percent(row["agreement_u"]))
    if not scored:
        return (agreement,)
    score = _spread(percent(row["score"]), bare_percent(row["score_u"]))
    change = _spread(f"{100 * row['change']:+.2f}", _points(row["change_u"]))
    return score, change, agreement


def _spread(value: str, uncertainty: str) -> str:
    return f"{value} ± {uncertainty.removesuffix(' %')}" if uncertainty else value


def _points(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f}"


def _energy(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    text = si(row["energy_j"], "J")
    return f"<b>{text}</b>" if row["cheapest"] else text


def _note(quality: Mapping[str, Mapping[str, Any]], measure: str) -> str:
    uncut = quality.get(derive.UNCUT)
    first = ""
    if uncut is not None:
        spread = _spread(percent(uncut["score"]), bare_percent(uncut["score_u"]))
        first = (
            f"The uncut model on the frame itself: {escape(measure)} {spread}, n = {uncut['n']}; "
            "changes are paired with it, frame by frame. "
        )
    return (
        f'<p class="note">{first}Agreement is with the uncut model and says nothing about labels. '
        "A picture is what the same model answers on the picture as it arrives, measured on the "
        "first frames. Bytes are the payload on the wire without the 40-byte header. Radio energy, "
        "bold where least, is a formula: set-up, tail, waiting and the processor are left out, and "
        "real radios spend more.</p>"
    )


def _sources(radios: Mapping[str, Mapping[str, Any]]) -> str:
    items = "".join(
        f'<p class="note"><code>{escape(name)}</code> {escape(row["name"])}: '
        f"{escape(row['source'])}</p>"
        for name, row in radios.items()
    )
    return f"<details><summary>Radio formulas and their sources</summary>{items}</details>"
