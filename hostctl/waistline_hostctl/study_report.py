"""The report of a codec study: fronts, the seeds' comparison of zip and JPEG, advice by link."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from waistline.evidence import Evidence
from waistline.run import RunRecord, Table
from waistline_hostctl import report
from waistline_hostctl.console import si, size
from waistline_hostctl.derived.base import measure_of
from waistline_hostctl.page.html import bare, bare_percent, document, grade, tabulate
from waistline_hostctl.study_svg import Mark, Series, scatter
from waistline_hostctl.study_tables import CODECS, LINKS, recorded_settings

Rows = list[dict[str, Any]]

_STYLE = """
svg .line { fill: none; stroke-width: 1.8; } svg .ring { fill: none; stroke-width: 1.8; }
svg .whisker { stroke-width: 1; opacity: .45; } svg .faint { opacity: .35; }
svg .l0 { stroke: var(--c0); } svg .t0 { fill: var(--c0); }
svg .l5 { stroke: var(--c5); } svg .t5 { fill: var(--c5); }
svg .l8 { stroke: var(--c8); } svg .t8 { fill: var(--c8); }
svg text.t0, svg text.t5, svg text.t8 {
  paint-order: stroke; stroke: var(--paper); stroke-width: 3px;
}
code.spec { overflow-wrap: normal; }
.l5.key { border: 2px solid var(--c5); background: none; border-radius: 50%; }
"""
_SHOWN_LOSS = 0.12
"""Of the metric, below the uncut model: how far down the charts reach, or to the best codec."""
_FAMILIES = (("affine", "affine, static limits", 2), ("affine", "affine, each frame's own", 6),
             ("i8", "i8", 2), ("q1", "q1, q1h", 1), ("q2", "q2, q2m", 8),
             ("", "float, others", 4))  # fmt: skip


def render(record: RunRecord, tables: Mapping[str, Table]) -> bytes:
    """The page; ``tables`` raw and computed by name."""
    rows = tables[CODECS].dicts()
    links = tables[LINKS].dicts() if LINKS in tables else []
    title = str(record.settings.get("title", record.name))
    sections = [
        report.head(record, title),
        report.remarks(record.settings.get("remarks", [])),
        _advice(links, rows, record),
        _front(rows, _word(rows, record)),
        _seeds(rows, _word(rows, record)),
        _all(rows, _word(rows, record)),
        report.provenance(record),
    ]
    return document(title, sections, style=_STYLE)


def _column(rows: Rows) -> str:
    """``accuracy`` where frames have labels, else ``agreement``."""
    return "agreement" if rows[0]["accuracy"] is None else "accuracy"


def _word(rows: Rows, record: RunRecord) -> str:
    """What people call the figures of `_column`."""
    labelled = rows[0]["accuracy"] is not None
    return measure_of(recorded_settings(record)) if labelled else "agreement"


def _advice(links: Rows, rows: Rows, record: RunRecord) -> str:
    settings = record.settings.get("compute", {})
    board = settings.get("board", "")
    by_codec = {row["codec"]: row for row in rows}
    cells: list[tuple[str, ...]] = []
    stressed = []
    whys: list[str] = []
    for link in settings.get("links", []):
        found = [row for row in links if row["link"] == link]
        for row in found:
            codec = by_codec[row["codec"]]
            first = row["rank"] == 1
            line = (si(row["line_s"], "s"),) if board else ()
            if first and board and row["why"]:
                whys.append(f"<li>{_link(link)}: {_code(row['codec'])} {escape(row['why'])}</li>")
            cells.append((
                _link(link) if first else "",
                _code(row["codec"]),
                size(codec["mean_bytes"]), si(row["time_s"], "s"), *line, si(row["send_s"], "s"),
                si(codec["encode_s"], "s"), si(codec["decode_s"], "s"), _points(codec["loss"]),
                _points(row["loss_bound"]),
            ))  # fmt: skip
            stressed.append(first)
        if not found:
            empty = [""] * (8 if board else 7)
            cells.append((_link(link), "none within the bound", *empty))
            stressed.append(False)
    sending = ("of it line", "link") if board else ("of it sending",)
    names = ("link", "codec", "payload", "time", *sending, "encode", "decode", "loss", "95 % bound")
    table = tabulate(names, cells, numbers=range(2, len(names)), stressed=stressed)
    slowdown, bound = settings.get("slowdown", 1.0), settings.get("max_loss", 0.0)
    if board:
        return (
            f"<h2>What the board should send over which link {grade(Evidence.MODELLED)}</h2>"
            f'<p class="note">The fastest codecs that lose at most {_points(bound)} points at the '
            f"95&nbsp;% bound: encode on <code>{escape(board)}</code> at "
            f"{settings['clock_hz'] / 1e6:g}&nbsp;MHz + its line to the bridge at "
            f"{settings['baud']} baud + payload / rate of the link + decode. The waist crosses "
            "both, one after the other. Bytes and decoding were measured on this machine; the "
            "board's time is computed from what its coders were counted to take, the rates stand "
            "in the protocol table; round trips are the same for all.</p>"
            f"{table}" + (f"<ul>{''.join(whys)}</ul>" if whys else "")
        )
    return (
        f"<h2>What to send over which link {grade(Evidence.MODELLED)}</h2>"
        f'<p class="note">The fastest codecs that lose at most {_points(bound)} points at the '
        "95&nbsp;% bound: encode "
        f"{f'&times; {slowdown:g} (the node is slower) ' if slowdown != 1 else ''}"
        "+ payload / rate + decode. Bytes and processor time were measured on this machine, the "
        f"rates stand in the protocol table; round trips are the same for all.</p>{table}"
    )


def _link(name: str) -> str:
    return f'<code class="whole">{escape(name)}</code>'


def _front(rows: Rows, word: str) -> str:
    name, whole, coded = _column(rows), rows[0], rows[1:]
    series = []
    for quantizer, text, shade in _FAMILIES:
        group = [row for row in coded if _family(row) == (quantizer, text)]
        series.append(Series(text, [_mark(row, name) for row in group], shade, faint=True))
    pictures = [row for row in coded if not row["lossless"]]
    series.append(Series("JPEG, WebP mosaic", [_mark(row, name) for row in pictures], 3, "square"))
    front = sorted((row for row in coded if row["front_bytes"]), key=lambda row: row["mean_bytes"])
    also = [row for row in coded if row["front_cpu"] and not row["front_bytes"]]
    spent = "the board's time" if "instructions" in whole else "processor time"
    text = f"front over bytes, {spent}, {word}"
    series.append(Series(text, [_mark(row, name) for row in also], 5, "ring"))
    marks = [_mark(row, name, label=_short(row["codec"])) for row in front]
    series.append(Series(f"front over bytes and {word}", marks, 0, "dot", line=True))
    chart = _chart(series, rows, f"{word} on the study's frames")
    table = _codec_table(front, [False] * len(front))
    return (
        f"<h2>Bytes against {word} {grade(Evidence.MEASURED)}</h2>"
        f'<p class="note">{len(coded)} codecs on the same {whole["n"]} frames; uncoded, the waist '
        f"has {size(whole['mean_bytes'])}. A codec is on a front if no other is at least as good "
        "in every respect and better in one. Bars: one standard uncertainty; the frames are the "
        "same, so differences are surer than the bars suggest. Codecs that lose more than "
        f"{_points(_SHOWN_LOSS)} points are left out.</p>"
        f"{chart}{_legend(series)}<details open><summary>The front over bytes and {word}</summary>"
        f"{table}</details>"
    )


def _seeds(rows: Rows, word: str) -> str:
    """Zip of Q1 at each width, and of Q2, against JPEG of the 8-bit mosaic."""
    name, coded = _column(rows), rows[1:]
    zipped = [row for row in coded if row["quantizer"].startswith("q1:") and _is(row, "deflate")]
    if not zipped:
        return ""
    q2 = [row for row in coded if row["quantizer"] in {"q2", "q2m"} and _is(row, "deflate")]
    pictures = [row for row in coded if row["quantizer"] == "affine:b=8" and not row["lossless"]]
    front = sorted((row for row in coded if row["front_bytes"]), key=lambda row: row["mean_bytes"])
    series = [
        Series("the front above", [_mark(row, name) for row in front], 4, "dot", line=True,
               faint=True),
        Series("zip of Q1, b = 1 to 8",
               [_mark(row, name, label=f"b={row['bits']}") for row in zipped], 1, line=True),
        Series("zip of Q2 (q2, q2m)",
               [_mark(row, name, label=row["quantizer"]) for row in q2], 8),
        *(Series(f"{text} of the 8-bit mosaic",
                 [_mark(row, name, label=f"q{row['coder'].partition(':')[2]}")
                  for row in pictures if row["coder"].startswith(text.lower())],
                 shade, "square", line=True)
          for text, shade in (("JPEG", 3), ("WebP", 2))),
    ]  # fmt: skip
    series = [row for row in series if row.marks]
    chart = _chart(series, rows, word)
    table = _codec_table([*zipped, *q2, *pictures], [])
    return (
        f"<h2>Zip against JPEG, as in the seeds {grade(Evidence.MEASURED)}</h2>"
        '<p class="note">The comparison of the lectures this project started from: a quantized '
        "waist compressed by zip (here <code>deflate</code> with run lengths, 0.8 to 1 of the "
        "bytes of zlib level 6) or, as a picture of its channels side by side, by JPEG. Nothing "
        f"is retrained here, which is what makes one bit usable there.</p>{chart}{_legend(series)}"
        f"<details><summary>Table, with what lies below the chart</summary>{table}</details>"
    )


def _all(rows: Rows, word: str) -> str:
    ordered = sorted(rows[1:], key=lambda row: row["mean_bytes"])
    table = _codec_table(ordered, [bool(row["front_bytes"]) for row in ordered])
    return (
        f"<h2>All codecs {grade(Evidence.MEASURED)}</h2>"
        f'<p class="note">{_encoded_where(rows)} for one frame on this machine, right after '
        f"the head or the tail. Bold: on the front over bytes and {word}.</p>"
        f"<details><summary>Table, {len(rows) - 1} rows</summary>{table}</details>"
    )


def _encoded_where(rows: Rows) -> str:
    if "instructions" in rows[0]:
        return "Encode: modelled time of the board. Decode: processor time of one thread"
    return "Processor time of one thread"


def _codec_table(rows: Rows, stressed: Sequence[bool]) -> str:
    board = bool(rows) and "instructions" in rows[0]
    count = ("instructions",) if board else ()
    return tabulate(
        ("codec", "payload", "±", *count, "encode", "decode", "score", "±", "loss", "±",
         "agreement", "n"),
        [
            (_code(row["codec"]), size(row["mean_bytes"]),
             bare(row["u_bytes"], 1), *((f"{row['instructions']:.0f}",) if board else ()),
             si(row["encode_s"], "s"), si(row["decode_s"], "s"),
             bare_percent(row["accuracy"]), bare_percent(row["u_accuracy"]),
             _points(row["loss"]), _points(row["u_loss"]), bare_percent(row["agreement"]),
             str(row["n"]))
            for row in rows
        ],
        numbers=range(1, 12 if board else 11), stressed=stressed,
    )  # fmt: skip


def _chart(series: Sequence[Series], rows: Rows, y_name: str) -> str:
    whole = rows[0][_column(rows)]
    best = max(mark.y for row in series for mark in row.marks)
    return scatter(
        series,
        x_name="payload of a frame, bytes (logarithmic)",
        y_name=y_name,
        show=lambda value: f"{100 * value:.4g} %",
        floor=min(whole - _SHOWN_LOSS, best),
        level=(f"uncut {100 * whole:.2f} %", whole),
    )


def _family(row: dict[str, Any]) -> tuple[str, str]:
    name = row["quantizer"].partition(":")[0]
    for quantizer, text, _ in _FAMILIES:
        limits = "static" in text
        fits = quantizer != "affine" or limits == ("clip=" in row["quantizer"])
        if row["lossless"] and quantizer and name.startswith(quantizer) and fits:
            return quantizer, text
    return ("", _FAMILIES[-1][1]) if row["lossless"] else ("", "")


def _mark(row: dict[str, Any], name: str, label: str = "") -> Mark:
    text = f"{row['codec']}: {size(row['mean_bytes'])}, {name} {100 * row[name]:.2f} %"
    return Mark(row["mean_bytes"], row[name], text, label, row[f"u_{name}"])


def _legend(series: Iterable[Series]) -> str:
    items = []
    for row in series:
        if row.marks:
            css = f"l{row.shade} key" if row.shape == "ring" else f"s{row.shade}"
            items.append(f'<span><i class="{css}"></i>{escape(row.name)}</span>')
    return f'<div class="legend">{"".join(items)}</div>'


def _short(codec: str) -> str:
    """A spec short enough to stand beside its point."""
    return codec.replace("clip=", "").replace("per=channel", "ch").replace("affine:", "")


def _code(codec: str) -> str:
    """A spec that may wrap between its parts."""
    text = escape(codec).replace(",", ",<wbr>").replace("|", "<wbr>|")
    return f'<code class="spec">{text}</code>'


def _is(row: dict[str, Any], coder: str) -> bool:
    return bool(row["coder"] == coder)


def _points(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f}"
