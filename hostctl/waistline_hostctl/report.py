"""``report.html``: one file that opens from disk, without server, network or script."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from importlib import resources
from typing import Any

from waistline.evidence import Evidence, Figure
from waistline.run import RunRecord, Table
from waistline_hostctl import derive, raw, svg
from waistline_hostctl.console import si, size

_SHADES = {
    "source": 4, "preprocess": 6, "head": 0, "encode": 2, "node_queue": 7, "transit": 1,
    "queue": 5, "decode": 3, "edge_preprocess": 6, "tail": 8, "postprocess": 4,
}  # fmt: skip
_WORDS = {"node_queue": "wait on node", "queue": "wait on edge", "edge_preprocess": "preprocess",
          "transit": "link"}  # fmt: skip

Dicts = list[dict[str, Any]]


def render(record: RunRecord, tables: Mapping[str, Table]) -> bytes:
    """The page.

    Args:
        record: of the run.
        tables: raw and computed, by name; sections whose table is missing are left out.
    """
    rows = {name: found.dicts() for name, found in tables.items()}
    words = derive.stream_words(bool(record.settings.get("sequential", True)))
    title = str(record.settings.get("title", record.name))
    sections = [
        _head(record, title),
        _tiles(record.figures),
        _remarks(record.settings.get("remarks", [])),
        _latency(rows.get(derive.LATENCY, []), record, words),
        _cuts(rows.get(raw.CUTS, []), record.figures),
        _bits(rows.get(derive.BITS, []), record),
        _bytes(rows.get(derive.BYTES, [])),
        _quality(rows.get(derive.QUALITY, [])),
        _radio(rows.get(derive.RADIO, [])),
        _outcomes(rows.get(derive.OUTCOMES, []), words),
        _provenance(record),
    ]
    style = resources.files(__package__).joinpath("page.css").read_text(encoding="utf-8")
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body>"
        f"{''.join(sections)}</body></html>\n"
    )
    return page.encode()


def _head(record: RunRecord, title: str) -> str:
    machine = record.machine
    place = f"{machine.processor}, {machine.cores} cores, {machine.system}"
    codec = {"c": "compiled codec", "numpy": "NumPy codec"}.get(record.codec, "no codec")
    return (
        f"<h1>{escape(title)}</h1>"
        f'<p class="sub">{escape(record.started_utc)} &middot; {escape(place)} &middot; '
        f"{codec} &middot; waistline {escape(record.version)}</p>"
    )


def _tiles(figures: Mapping[str, Figure]) -> str:
    wanted: list[tuple[str, str, Callable[[float], str]]] = [
        ("latency_p50_waist_s", "latency, median", lambda value: si(value, "s")),
        ("latency_p99_waist_s", "latency, 99th percentile", lambda value: si(value, "s")),
        ("waist_as_sent_bytes", "waist a frame", size),
        ("accuracy_cut", "accuracy", _percent),
        ("agreement", "agreement with the uncut model", _percent),
        ("throughput_overlap_hz", "frames a second, pipelined", lambda value: f"{value:.0f}"),
    ]
    tiles = [
        f'<div class="tile"><b>{escape(show(figures[name].value))}</b>'
        f"<span>{escape(text)}<br>{_spread(figures[name], show)} "
        f"{_grade(figures[name].evidence)}</span></div>"
        for name, text, show in wanted
        if name in figures
    ]
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _spread(figure: Figure, show: Callable[[float], str]) -> str:
    text = f"n = {figure.n}"
    if figure.standard_uncertainty is not None:
        text = f"± {show(figure.standard_uncertainty)}, {text}"
    return escape(text)


def _remarks(remarks: Iterable[str]) -> str:
    items = "".join(f"<li>{escape(remark)}</li>" for remark in remarks)
    return f'<ul class="remarks">{items}</ul>' if items else ""


def _latency(rows: Dicts, record: RunRecord, streams: Mapping[str, str]) -> str:
    if not rows:
        return ""
    bars: list[svg.Bar] = []
    used: dict[str, int] = {}
    for stream in dict.fromkeys(row["stream"] for row in rows):
        parts = []
        for row in rows:
            if row["stream"] == stream and row["stage"] != "total" and row["p50_s"] > 0:
                word = _word(_WORDS, row["stage"])
                used[word] = _SHADES[row["stage"]]
                parts.append((word, row["p50_s"], used[word]))
        bars.append(svg.Bar(_word(streams, stream), parts))
    link = str(record.settings.get("link", "")) or "this machine's loopback, as it is"
    chart = svg.stacked(
        bars, "median of each stage; their sum is not the median of the whole",
        lambda value: si(value, "s"),
    )  # fmt: skip
    table = _table(
        ("stream", "stage", "median", "±", "p99", "±", "n", ""),
        [
            (escape(_word(streams, row["stream"])), escape(_word(_WORDS, row["stage"])),
             si(row["p50_s"], "s"), _maybe(row["p50_u_s"]), si(row["p99_s"], "s"),
             _maybe(row["p99_u_s"]), str(row["n"]), _grade(row["evidence"]))
            for row in rows
            if row["p99_s"] > 0
        ],
        numbers=range(2, 7),
        stressed=[row["stage"] == "total" for row in rows if row["p99_s"] > 0],
    )  # fmt: skip
    grade = _grade(Evidence.EMULATED if record.settings.get("link") else Evidence.MEASURED)
    return (
        f"<h2>Latency by stage {grade}</h2>"
        f'<p class="note">Node and edge were two processes of this machine. Link: {escape(link)}. '
        f"Computing stages were measured here; a smaller device takes longer.</p>{chart}"
        f"{_legend(used)}<details><summary>Table</summary>{table}</details>"
    )


def _word(words: Mapping[str, str], name: str) -> str:
    return words.get(name, name)


def _maybe(value: float | None) -> str:
    return "" if value is None else si(value, "s")


def _legend(used: Mapping[str, int]) -> str:
    items = "".join(
        f'<span><i class="s{shade}"></i>{escape(word)}</span>' for word, shade in used.items()
    )
    return f'<div class="legend">{items}</div>'


def _cuts(rows: Dicts, figures: Mapping[str, Figure]) -> str:
    if not rows:
        return ""
    bars = [
        svg.Column(
            str(row["x"]), float(max(row["packed_bytes"], 1)), bool(row["chosen"]),
            f"x = {row['x']} {row['waist']}: {size(row['packed_bytes'])} at 4 bit,"
            f" {size(row['float_bytes'])} in float",
        )
        for row in rows
    ]  # fmt: skip
    names = (("picture_raw_bytes", "raw"), ("picture_png_bytes", "PNG"),
             ("picture_jpeg_q90_bytes", "JPEG q90"))  # fmt: skip
    levels = [
        svg.Level(f"{text} {size(figures[name].value)}", figures[name].value, place)
        for place, (name, text) in enumerate(names, 1)
        if name in figures
    ]
    chart = svg.columns(
        bars, levels, "bytes a frame", "partition point x; blue: the cut of this run"
    )
    table = _table(
        ("x", "waist", "float", "4 bit", "head MACs", "breaks fusion"),
        [
            (str(row["x"]), f"<code>{escape(row['waist'])}</code>", size(row["float_bytes"]),
             size(row["packed_bytes"]), _percent(row["head_macs_share"]),
             escape(row["breaks_fusion"]))
            for row in rows
        ],
        numbers=(0, 2, 3, 4),
        stressed=[bool(row["chosen"]) for row in rows],
    )  # fmt: skip
    return (
        f"<h2>Bytes at each cut {_grade(Evidence.MEASURED)}</h2>"
        '<p class="note">Float tensors at 4 bit before entropy coding; x = 0 is the picture itself '
        "as PNG, the last one the answer. Dashed: the picture, mean of this run.</p>"
        f"{chart}<details><summary>Table</summary>{table}</details>"
    )


def _bits(rows: Dicts, record: RunRecord) -> str:
    coded = [row for row in rows if row["bits"] != raw.FLOAT_BITS]
    if not coded:
        return ""
    labelled = coded[0]["accuracy"] is not None
    name = "accuracy" if labelled else "agreement"
    whole = next((row for row in rows if row["bits"] == raw.FLOAT_BITS), None)
    level = None
    if whole is not None and labelled:
        level = svg.Level(f"float {_percent(whole[name])}", whole[name], 1)
    chart = svg.points(
        [
            svg.Point(
                f"{row['bits']} b", row[name], row[f"{name}_u"],
                f"{row['bits']} bit: {_percent(row[name])}, {size(row['mean_bytes'])}",
            )
            for row in coded
        ],
        name, "code width; bars: two standard uncertainties each way", _percent, level,
    )  # fmt: skip
    table = _table(
        ("bits", "bytes a frame", "±", "accuracy", "±", "agreement", "±", "n"),
        [
            ("float" if row["bits"] == raw.FLOAT_BITS else str(row["bits"]),
             size(row["mean_bytes"]), _bare(row["u_bytes"], 1), _bare_percent(row["accuracy"]),
             _bare_percent(row["accuracy_u"]), _bare_percent(row["agreement"]),
             _bare_percent(row["agreement_u"]), str(row["n"]))
            for row in rows
        ],
        numbers=range(8),
    )  # fmt: skip
    frames = coded[0]["n"]
    return (
        f"<h2>{name.capitalize()} against bits {_grade(Evidence.MEASURED)}</h2>"
        f'<p class="note">At the cut of this run, on {frames} selection frames (other images than '
        f"those that were streamed), codec <code>{escape(_codec(record))}</code> at each width, "
        f"nothing retrained. The same frames at every width, so differences are surer than the "
        f"bars suggest.</p>{chart}<details><summary>Table</summary>{table}</details>"
    )


def _codec(record: RunRecord) -> str:
    return str(record.settings.get("compute", {}).get("codec", ""))


def _bytes(rows: Dicts) -> str:
    if not rows:
        return ""
    table = _table(
        ("one frame", "mean", "±", "smallest", "largest", "n"),
        [
            (escape(row["what"]), f"{row['mean_bytes']:.1f} B", _bare(row["u_bytes"], 1),
             f"{row['min_bytes']} B", f"{row['max_bytes']} B", str(row["n"]))
            for row in rows
        ],
        numbers=range(1, 6),
        stressed=[row["what"] == "waist as sent" for row in rows],
    )  # fmt: skip
    return (
        f"<h2>What is sent instead of what {_grade(Evidence.MEASURED)}</h2>"
        f'<p class="note">Payload on the wire: the length of each tensor (4 bytes) included, the '
        f"40-byte header of a frame not. What coding would enlarge is sent as it is.</p>{table}"
    )


def _quality(rows: Dicts) -> str:
    if not rows:
        return ""
    table = _table(
        ("", "value", "±", "n"),
        [
            (escape(row["what"]), _percent(row["value"]), _bare_percent(row["u"]), str(row["n"]))
            for row in rows
        ],
        numbers=(1, 2, 3),
    )
    return (
        f"<h2>Answers {_grade(Evidence.MEASURED)}</h2>"
        '<p class="note">Accuracy is against labels; agreement is with the uncut model on the same '
        f"frames and says nothing about labels.</p>{table}"
    )


def _radio(rows: Dicts) -> str:
    if not rows:
        return ""
    parts = []
    for radio in dict.fromkeys(row["radio"] for row in rows):
        group = [row for row in rows if row["radio"] == radio]
        table = _table(
            ("sent for one frame", "up", "down", "energy a frame", ""),
            [
                (escape(row["what"]), f"{row['up_bytes']:.0f} B", f"{row['down_bytes']:.0f} B",
                 si(row["energy_j"], "J"), "cheapest" if row["cheapest"] else "")
                for row in group
            ],
            numbers=(1, 2, 3),
            stressed=[row["what"] == "waist as sent" for row in group],
        )  # fmt: skip
        parts.append(
            f"<p><b>{escape(group[0]['name'])}</b> <code>{escape(radio)}</code></p>{table}"
            f'<p class="note">{escape(group[0]["source"])}</p>'
        )
    return (
        f"<h2>Radio energy {_grade(Evidence.MODELLED)}</h2>"
        '<p class="note">A formula, not a measurement: transmit power times bytes over throughput, '
        "and the same for the reply. Set-up, tail, waiting and the processor are left out; real "
        f"radios spend more.</p>{''.join(parts)}"
    )


def _outcomes(rows: Dicts, streams: Mapping[str, str]) -> str:
    if not rows:
        return ""
    table = _table(
        ("stream", "outcome", "reason", "frames"),
        [
            (escape(_word(streams, row["stream"])), escape(row["outcome"]),
             escape(row["reason"]), str(row["frames"]))
            for row in rows
        ],
        numbers=(3,),
    )  # fmt: skip
    return f"<h2>What became of each frame {_grade(Evidence.MEASURED)}</h2>{table}"


def _provenance(record: RunRecord) -> str:
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
        '<p class="note">Everything here is computed from the raw tables beside this file '
        f"(<code>waistline report RUN --recompute</code>): {names}. Each has its units in a "
        f"<code>.schema.json</code>.</p><details><summary>Versions, hashes, settings</summary>"
        f"{_table(('', ''), cells)}</details>"
    )


def _table(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    numbers: Iterable[int] = (),
    stressed: Sequence[bool] = (),
) -> str:
    """An HTML table; cells are HTML already. ``numbers``: columns set right."""
    right = set(numbers)

    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{' class=n' if place in right else ''}>{cell}</{tag}>"
            for place, cell in enumerate(row)
        )

    body = "".join(
        f"<tr{' class=stressed' if place < len(stressed) and stressed[place] else ''}>"
        f"{cells('td', row)}</tr>"
        for place, row in enumerate(rows)
    )
    return (
        f'<div class="scroll"><table><thead><tr>{cells("th", headings)}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _grade(evidence: str) -> str:
    return f'<span class="grade {escape(evidence)}">{escape(evidence)}</span>'


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _bare_percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f} %"


def _bare(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
