"""The cuts of the model, and the code width at the cut that was chosen."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from waistline.evidence import Evidence, Figure
from waistline.run import RunRecord
from waistline_hostctl import raw, svg
from waistline_hostctl.console import size
from waistline_hostctl.page.html import Dicts, bare, bare_percent, grade, percent, tabulate


def cuts_section(rows: Dicts, figures: Mapping[str, Figure]) -> str:
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
    table = tabulate(
        ("x", "waist", "float", "4 bit", "head MACs", "breaks fusion"),
        [
            (str(row["x"]), f"<code>{escape(row['waist'])}</code>", size(row["float_bytes"]),
             size(row["packed_bytes"]), percent(row["head_macs_share"]),
             escape(row["breaks_fusion"]))
            for row in rows
        ],
        numbers=(0, 2, 3, 4),
        stressed=[bool(row["chosen"]) for row in rows],
    )  # fmt: skip
    return (
        f"<h2>Bytes at each cut {grade(Evidence.MEASURED)}</h2>"
        '<p class="note">Float tensors at 4 bit before entropy coding; x = 0 is the picture itself '
        "as PNG, the last one the answer. Dashed: the picture, mean of this run.</p>"
        f"{chart}<details><summary>Table</summary>{table}</details>"
    )


def bits_section(rows: Dicts, record: RunRecord, measure: str) -> str:
    coded = [row for row in rows if row["bits"] != raw.FLOAT_BITS]
    if not coded:
        return ""
    labelled = coded[0]["score"] is not None
    column, name = ("score", measure) if labelled else ("agreement", "agreement")
    whole = next((row for row in rows if row["bits"] == raw.FLOAT_BITS), None)
    level = None
    if whole is not None and labelled:
        level = svg.Level(f"float {percent(whole[column])}", whole[column], 1)
    chart = svg.points(
        [
            svg.Point(
                f"{row['bits']} b", row[column], row[f"{column}_u"],
                f"{row['bits']} bit: {percent(row[column])}, {size(row['mean_bytes'])}",
            )
            for row in coded
        ],
        name, "code width; bars: two standard uncertainties each way", percent, level,
    )  # fmt: skip
    table = tabulate(
        ("bits", "bytes a frame", "±", escape(measure), "±", "agreement", "±", "n"),
        [
            ("float" if row["bits"] == raw.FLOAT_BITS else str(row["bits"]),
             size(row["mean_bytes"]), bare(row["u_bytes"], 1), bare_percent(row["score"]),
             bare_percent(row["score_u"]), bare_percent(row["agreement"]),
             bare_percent(row["agreement_u"]), str(row["n"]))
            for row in rows
        ],
        numbers=range(8),
    )  # fmt: skip
    frames = coded[0]["n"]
    return (
        f"<h2>{escape(_capital(name))} against bits {grade(Evidence.MEASURED)}</h2>"
        f'<p class="note">At the cut of this run, on {frames} selection frames (other images than '
        f"those that were streamed), codec <code>{escape(_codec(record))}</code> at each width, "
        f"nothing retrained. The same frames at every width, so differences are surer than the "
        f"bars suggest.</p>{chart}<details><summary>Table</summary>{table}</details>"
    )


def _codec(record: RunRecord) -> str:
    return str(record.settings.get("compute", {}).get("codec", ""))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
