"""The report of a capture: what was measured, with what, how well, and what was lost."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from importlib import resources

from waistline.evidence import Evidence, Figure, weakest
from waistline.run import RunRecord, Table
from waistline.trace.accuracy import SETTING
from waistline_hostctl import report
from waistline_hostctl.capture_account import ACCOUNT
from waistline_hostctl.capture_tables import (
    TERMS,
    CaptureEntry,
    recorded_entry,
)
from waistline_hostctl.console import si
from waistline_hostctl.page.account import account_section, doubts, uncertainty_section
from waistline_hostctl.page.html import document, grade
from waistline_hostctl.page.power import gaps_section, segments_section, trace_section
from waistline_hostctl.page.quantity import share, spread_of, value, whole

_UNREAL = {
    Evidence.SIMULATED: "a device model made up every sample. No joule here was measured.",
    Evidence.EMULATED: "an emulated instrument made up every sample. No joule here was measured.",
    Evidence.REPLAYED: "a stored recording was played again. Nothing was measured in this run.",
    Evidence.MODELLED: "a formula gave every sample. No joule here was measured.",
    Evidence.PUBLISHED: "copied from a source. No joule here was measured.",
}
_ENDED = {
    "duration": "after the time that was asked for",
    "command": "when the command had ended",
    "interrupted": "interrupted by hand",
    "source": "where its source ends",
    "meter": "the meter was gone",
    "silent": "the meter fell silent",
    "reader": "the reader process died",
    "writer": "the writer process died",
    "trace": "the trace could not be written",
    "no command": "the command did not run",
    "killed": "the capture itself was killed",
}
_TILES: tuple[tuple[str, str], ...] = (
    ("mean_power_w", "mean power"),
    ("energy_j", "energy, gross"),
    ("energy_above_baseline_j", "energy above baseline"),
    ("peak_power_w", "highest power of one sample"),
    ("mean_current_a", "mean current"),
    ("peak_current_a", "highest current of one sample"),
    ("peak_voltage_v", "highest voltage of one sample"),
    ("samples", "samples, lost ones included"),
    ("lost_samples", "samples lost"),
)


def render(record: RunRecord, tables: Mapping[str, Table]) -> bytes:
    """The page; ``tables`` as `capture_tables.derive` makes them, by name."""
    entry = recorded_entry(record)
    rows = {name: found.dicts() for name, found in tables.items()}
    evidence = weakest((entry.meter.evidence, *(row.evidence for row in record.figures.values())))
    duration = record.figures.get("duration_s")
    duration_s = 0.0 if duration is None else duration.value
    stored = entry.meter.details.get(SETTING)
    calibration = stored if isinstance(stored, dict) else {}
    title = str(record.settings.get("title", record.name))
    sections = [
        _head(record, entry, title, evidence, duration),
        _wrong(entry, doubts(rows.get(ACCOUNT, []))),
        _unreal(evidence),
        _tiles(record.figures, evidence),
        report.remarks(map(str, _remarks(record))),
        trace_section(tables, rows, duration_s, _rate_hz(record.figures), evidence),
        segments_section(rows, evidence),
        gaps_section(rows),
        account_section(rows.get(ACCOUNT, [])),
        uncertainty_section(rows.get(TERMS, []), record.figures, calibration, bool(calibration)),
        report.provenance(record, "the trace <code>trace.jls</code>"),
    ]
    style = resources.files("waistline_hostctl").joinpath("capture.css").read_text("utf-8")
    return document(title, sections, style=style)


def _rate_hz(figures: Mapping[str, Figure]) -> float:
    """Samples on the trace's own time base; 0.0 where nothing is known of them."""
    duration, samples = figures.get("duration_s"), figures.get("samples")
    if duration is None or samples is None or not duration.value > 0:
        return 0.0
    return samples.value / duration.value


def _remarks(record: RunRecord) -> list[object]:
    found = record.settings.get("remarks", [])
    return found if isinstance(found, list) else []


def _head(
    record: RunRecord, entry: CaptureEntry, title: str, evidence: str, duration: Figure | None
) -> str:
    machine = record.machine
    place = f"{machine.processor}, {machine.cores} cores, {machine.system}"
    lasted = "" if duration is None else value(duration.value, "s", duration.standard_uncertainty)
    facts = [
        ("instrument", f"<code>{escape(entry.meter.id[:120])}</code> {grade(evidence)}"),
        ("rate", escape(si(entry.meter.rate_hz, "Hz"))),
        ("trace", escape(lasted)),
        ("ended", escape(_ENDED.get(entry.ended, entry.ended[:40]))),
    ]
    words = entry.command.get("words")
    if isinstance(words, list):
        shown = " ".join(map(str, words))
        facts.append(("around", f"<code>{escape(shown[:80])}</code>"))
    items = "".join(f"<div><span>{name}</span>{told}</div>" for name, told in facts if told)
    return (
        f"<h1>{escape(title)}</h1>"
        f'<p class="sub">{escape(record.started_utc)} &middot; {escape(place)} &middot; '
        f'waistline {escape(record.version)}</p><div class="facts">{items}</div>'
    )


def _wrong(entry: CaptureEntry, found: list[str]) -> str:
    """What run.json and the account say is wrong, each once."""
    known = " ".join(entry.problems)
    rows = [*entry.problems, *(row for row in found if row not in known)]
    if not rows:
        return ""
    items = "".join(f"<li>{escape(row[:400])}</li>" for row in rows[:20])
    return (
        '<div class="banner wrong"><p><b class="bad">This capture cannot be trusted as a whole.'
        f"</b> What came is kept, and shown as it is.</p><ul>{items}</ul></div>"
    )


def _unreal(evidence: Evidence) -> str:
    if evidence not in _UNREAL:
        return ""
    word = evidence.value.capitalize()
    return f'<div class="banner"><p><b>{word}:</b> {_UNREAL[evidence]}</p></div>'


def _tiles(figures: Mapping[str, Figure], evidence: Evidence) -> str:
    tiles = []
    for name, words in _TILES:
        figure = figures.get(name)
        if figure is None or (name == "mean_current_a" and "energy_above_baseline_j" in figures):
            continue
        count = figure.unit == "sample"
        spread = figure.standard_uncertainty
        shown = whole(figure.value) if count else value(figure.value, figure.unit, spread)
        tiles.append(
            f'<div class="tile"><b>{escape(shown)}</b><span>{escape(words)}<br>'
            f"{escape(_spread(figure))} {grade(weakest((figure.evidence, evidence)))}</span></div>"
        )
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _spread(figure: Figure) -> str:
    spread = figure.standard_uncertainty
    if spread is None:
        return "uncertainty not known"
    if figure.unit == "sample":
        return f"± {whole(round(spread))}" if spread else "counted"
    relative = share(figure.value, spread)
    told = spread_of(figure.value, figure.unit, spread) or "± 0"
    return f"{told} ({relative})" if relative else told
