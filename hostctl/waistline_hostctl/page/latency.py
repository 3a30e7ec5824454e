"""Latency by stage."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from waistline.evidence import Evidence
from waistline.run import RunRecord
from waistline.words import stage_name
from waistline_hostctl import svg
from waistline_hostctl.console import si
from waistline_hostctl.page.html import Dicts, grade, legend, maybe, tabulate, word

_SHADES = {
    "source": 4, "preprocess": 6, "head": 0, "board": 0, "bridge": 3, "encode": 2, "node_queue": 7,
    "transit": 1, "edge_queue": 5, "decode": 3, "edge_preprocess": 6, "tail": 8, "postprocess": 4,
}  # fmt: skip


def latency_section(rows: Dicts, record: RunRecord, streams: Mapping[str, str]) -> str:
    if not rows:
        return ""
    bars: list[svg.Bar] = []
    used: dict[str, int] = {}
    for stream in dict.fromkeys(row["stream"] for row in rows):
        parts = []
        for row in rows:
            if row["stream"] == stream and row["stage"] != "total" and row["p50_s"] > 0:
                name = stage_name(row["stage"])
                used[name] = _SHADES[row["stage"]]
                parts.append((name, row["p50_s"], used[name]))
        bars.append(svg.Bar(word(streams, stream), parts))
    link = str(record.settings.get("link", "")) or "this machine's loopback, as it is"
    chart = svg.stacked(
        bars, "median of each stage; their sum is not the median of the whole",
        lambda value: si(value, "s"),
    )  # fmt: skip
    table = tabulate(
        ("stream", "stage", "median", "±", "p99", "±", "n", ""),
        [
            (escape(word(streams, row["stream"])), escape(stage_name(row["stage"])),
             si(row["p50_s"], "s"), maybe(row["p50_u_s"]), si(row["p99_s"], "s"),
             maybe(row["p99_u_s"]), str(row["n"]), grade(row["evidence"]))
            for row in rows
            if row["p99_s"] > 0
        ],
        numbers=range(2, 7),
        stressed=[row["stage"] == "total" for row in rows if row["p99_s"] > 0],
    )  # fmt: skip
    found = {row["evidence"] for row in rows}
    how = " ".join(grade(evidence) for evidence in Evidence if evidence in found)
    return (
        f"<h2>Latency by stage {how}</h2>"
        f'<p class="note">Node and edge were two processes of this machine. Link: {escape(link)}. '
        f"{escape(_computed(rows, record))}</p>{chart}"
        f"{legend(used)}<details><summary>Table</summary>{table}</details>"
    )


def _computed(rows: Dicts, record: RunRecord) -> str:
    """Where the computing stages ran."""
    on_board = [row["evidence"] for row in rows if row["stage"] == "board"]
    if not on_board:
        return "Computing stages were measured here; a smaller device takes longer."
    board = record.settings.get("head", {}).get("board") or "a microcontroller"
    text = (
        f"The head ran on {board} and is timed by the board's own clock; the way to the board is "
        "the rest of what the node waited for it. All other stages were computed here."
    )
    if Evidence.EMULATED in on_board:
        text += " The board was emulated: its time says nothing about a real one."
    return text
