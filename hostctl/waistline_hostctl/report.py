"""``report.html``: one file that opens from disk, without server, network or script."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from html import escape

import msgspec

from waistline.errors import ConfigError
from waistline.evidence import Evidence, Figure
from waistline.run import RunRecord, Table
from waistline_hostctl import derive, raw
from waistline_hostctl.console import si, size
from waistline_hostctl.page.choices import choices_section
from waistline_hostctl.page.cuts import bits_section, cuts_section
from waistline_hostctl.page.html import Dicts, document, grade, percent, tabulate, word
from waistline_hostctl.page.latency import latency_section
from waistline_hostctl.page.samples import samples_section


def render(record: RunRecord, tables: Mapping[str, Table]) -> bytes:
    """The page.

    Args:
        record: of the run.
        tables: raw and computed, by name; sections whose table is missing are left out.
    """
    rows = {name: found.dicts() for name, found in tables.items()}
    settings = recorded_settings(record)
    measure = derive.measure_of(settings)
    sequential = bool(record.settings.get("sequential", True))
    words = derive.stream_words(sequential, str(record.settings.get("picture", "")))
    title = str(record.settings.get("title", record.name))
    sections = [
        head(record, title),
        _tiles(record.figures, measure),
        remarks(record.settings.get("remarks", [])),
        samples_section(rows, settings),
        choices_section(rows, settings),
        latency_section(rows.get(derive.LATENCY, []), record, words),
        cuts_section(rows.get(raw.CUTS, []), record.figures),
        bits_section(rows.get(derive.BITS, []), record, measure),
        _outcomes(rows.get(derive.OUTCOMES, []), words),
        provenance(record),
    ]
    return document(title, sections)


def recorded_settings(record: RunRecord) -> derive.Settings:
    """What the run's tables are computed with.

    Raises:
        ConfigError: run.json does not say it.
    """
    try:
        return msgspec.convert(record.settings["compute"], derive.Settings)
    except (KeyError, msgspec.ValidationError) as error:
        raise ConfigError(
            f"run {record.name} does not say how its tables are computed", cause=str(error)
        ) from error


def head(record: RunRecord, title: str) -> str:
    machine = record.machine
    place = f"{machine.processor}, {machine.cores} cores, {machine.system}"
    codec = {"c": "compiled codec", "numpy": "NumPy codec"}.get(record.codec, "no codec")
    return (
        f"<h1>{escape(title)}</h1>"
        f'<p class="sub">{escape(record.started_utc)} &middot; {escape(place)} &middot; '
        f"{codec} &middot; waistline {escape(record.version)}</p>"
    )


def _tiles(figures: Mapping[str, Figure], measure: str) -> str:
    wanted: list[tuple[str, str, Callable[[float], str]]] = [
        ("latency_p50_waist_s", "latency, median", lambda value: si(value, "s")),
        ("latency_p99_waist_s", "latency, 99th percentile", lambda value: si(value, "s")),
        ("waist_as_sent_bytes", "waist a frame", size),
        (f"{measure}_cut", measure, percent),
        ("agreement", "agreement with the uncut model", percent),
        ("throughput_overlap_hz", "frames a second, pipelined", lambda value: f"{value:.0f}"),
    ]
    tiles = [
        f'<div class="tile"><b>{escape(show(figures[name].value))}</b>'
        f"<span>{escape(text)}<br>{_spread(figures[name], show)} "
        f"{grade(figures[name].evidence)}</span></div>"
        for name, text, show in wanted
        if name in figures
    ]
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _spread(figure: Figure, show: Callable[[float], str]) -> str:
    text = f"n = {figure.n}"
    if figure.standard_uncertainty is not None:
        text = f"± {show(figure.standard_uncertainty)}, {text}"
    return escape(text)


def remarks(remarks: Iterable[str]) -> str:
    items = "".join(f"<li>{escape(remark)}</li>" for remark in remarks)
    return f'<ul class="remarks">{items}</ul>' if items else ""


def _outcomes(rows: Dicts, streams: Mapping[str, str]) -> str:
    if not rows:
        return ""
    table = tabulate(
        ("stream", "outcome", "reason", "frames"),
        [
            (escape(word(streams, row["stream"])), escape(row["outcome"]),
             escape(row["reason"]), str(row["frames"]))
            for row in rows
        ],
        numbers=(3,),
    )  # fmt: skip
    return f"<h2>What became of each frame {grade(Evidence.MEASURED)}</h2>{table}"


def provenance(record: RunRecord, source: str = "the raw tables") -> str:
    """Versions, hashes, settings; ``source``: what everything is computed from, as HTML."""
    machine = record.machine
    rows = [
        ("command", " ".join(record.command)),
        ("commit", record.commit or "not a checkout"),
        ("kernel, governor", f"{machine.kernel}, {machine.governor or 'not reported'}"),
        ("python", machine.python),
        ("threads", ", ".join(f"{name} {count}" for name, count in record.threads.items())),
        ("seeds", ", ".join(f"{name} {seed}" for name, seed in record.seeds.items()) or "none"),
        *((f"{row.name} {row.version}", row.sha256) for row in record.libraries),
        *((name, digest) for name, digest in record.inputs.items()),
    ]
    cells = [(escape(name), f"<code>{escape(value)}</code>") for name, value in rows]
    names = ", ".join(f"<code>{escape(row.name)}.csv</code>" for row in record.tables)
    return (
        "<h2>How to do it again</h2>"
        f'<p class="note">Everything here is computed from {source} beside this file '
        f"(<code>waistline report RUN --recompute</code>): {names}. Each has its units in a "
        f"<code>.schema.json</code>.</p><details><summary>Versions, hashes, settings</summary>"
        f"{tabulate(('', ''), cells)}</details>"
    )
