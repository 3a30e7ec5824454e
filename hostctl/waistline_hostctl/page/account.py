"""Sections of a capture's report about how far to trust it: the account, the uncertainty."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from waistline.evidence import Figure
from waistline_hostctl import capture_account as account
from waistline_hostctl.capture.record import problems_of
from waistline_hostctl.page.html import Dicts, tabulate
from waistline_hostctl.page.quantity import share, uncertainty, value, whole

_FIGURES = {
    "energy_j": "energy", "mean_power_w": "mean power", "mean_current_a": "mean current",
    "duration_s": "duration",
}  # fmt: skip
_MOST_DETAILS = 40


def doubts(rows: Dicts) -> list[str]:
    """Why the account itself does not hold, one line each."""
    found = {row["entry"]: row["count"] for row in rows}
    if account.KEPT not in found:
        return ["the account of samples is lost"]
    left = found.get(account.OPEN)
    lines = [f"{whole(left)} samples of the file are not accounted for"] if left else []
    return lines + problems_of(
        {
            "unknown": int(found.get(account.UNKNOWN) or 0),
            "holes": int(found.get(account.HOLES) or 0),
            "contradictions": int(found.get(account.BACK) or 0),
            "closes": bool(found.get(account.CLOSES)) or bool(lines),
            "balance": found.get(account.BALANCE),
        }
    )


def account_section(rows: Dicts) -> str:
    """What became of every sample."""
    if not rows:
        return ""
    wrong = doubts(rows)
    state = (
        f'<span class="bad">It does not close: {escape("; ".join(wrong))}.</span>'
        if wrong
        else "It closes."
    )
    cells, stressed = [], []
    for row in rows:
        entry = row["entry"]
        if entry == account.CLOSES:
            continue
        cells.append((escape(entry), whole(row["count"]), escape(row["where"])))
        stressed.append(entry == account.TRACE)
    by = next((row["where"] for row in rows if row["entry"] == account.CLOSES), "")
    counted_by = f" Losses are counted {escape(by)}." if by else ""
    heads = ("", "samples", "where it was counted")
    table = tabulate(heads, cells, numbers=(1,), stressed=stressed)
    return f'<h2>What became of every sample</h2><p class="note">{state}{counted_by}</p>{table}'


def uncertainty_section(
    rows: Dicts, figures: Mapping[str, Figure], calibration: Mapping[str, Any], told: bool
) -> str:
    """What the uncertainties of the whole trace are made of.

    Args:
        rows: of the table ``terms``.
        figures: of the run.
        calibration: as run.json has it.
        told: whether there is one.
    """
    if not rows:
        return ""
    parts = []
    for name, word in _FIGURES.items():
        terms = [row for row in rows if row["figure"] == name]
        if terms and name in figures:
            parts += _terms(word, terms, figures[name])
    table = tabulate(("of", "term", "standard uncertainty", "relative"), parts, numbers=(2, 3))
    note = (
        "Terms add in quadrature. Noise and drift is what batches of about a sixteenth of the "
        "trace scatter by, as if nothing but chance made them differ; the rest is what the "
        "instrument may be off by, as its section of the bench file says."
    )
    if not told:
        note += (
            " <b>The bench file says nothing of this instrument</b>, so most terms are not known, "
            "and the figures have no uncertainty."
        )
    return (
        f'<h2>Where the uncertainty comes from</h2><p class="note">{note}</p>{table}'
        f"{_known(calibration)}"
    )


def _terms(word: str, terms: Dicts, figure: Figure) -> list[tuple[str, ...]]:
    shown = [row for row in terms if row["contribution"] != 0]
    shown.sort(key=lambda row: -(row["contribution"] or 0.0))
    lines: list[tuple[str, ...]] = []
    for row in shown:
        by = row["contribution"]
        lines.append(
            (
                "" if lines else escape(f"{word}, {value(figure.value, figure.unit)}"),
                escape(row["term"]),
                "not known" if by is None else escape(uncertainty(by, row["unit"])),
                "" if by is None else share(figure.value, by),
            )
        )
    spread = figure.standard_uncertainty
    if spread and len(lines) > 1:
        total = escape(uncertainty(spread, figure.unit))
        lines.append(("", "<b>together</b>", f"<b>{total}</b>", share(figure.value, spread)))
    return lines


def _known(calibration: Mapping[str, Any]) -> str:
    cells = [
        (escape(str(name)[:60].replace("_", " ")), f"<code>{escape(str(stored)[:60])}</code>")
        for name, stored in list(calibration.items())[:_MOST_DETAILS]
    ]
    if not cells:
        return ""
    table = tabulate(("", ""), cells)
    return f"<details><summary>Calibration of the instrument</summary>{table}</details>"
