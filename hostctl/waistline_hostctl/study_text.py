"""What a codec study says on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from waistline.run import Table
from waistline_hostctl import study_tables
from waistline_hostctl.console import grid, indented, plus_minus, si, size
from waistline_hostctl.study import Request

_SHOWN = 18


def front_text(rows: list[dict[str, Any]]) -> str:
    """The codecs that are worth having, smallest first, below the uncut model."""
    labelled = rows[0]["accuracy"] is not None
    name = "accuracy" if labelled else "agreement"
    front = study_tables.front_rows(rows)
    cells = [_cells(row, name) for row in (rows[0], *front[:_SHOWN])]
    board = ("instructions", "board") if "instructions" in rows[0] else ("encode",)
    headings = ("codec", "bytes", "±", *board, "decode", f"{name} %", "loss")
    better = "none smaller or quicker" if len(board) > 1 else "none smaller"
    lines = [
        f"front    {len(front)} of {len(rows) - 1} codecs: {better} has a better {name} "
        f"({rows[0]['n']} frames)\n",
        grid(headings, cells),
    ]
    if len(front) > _SHOWN:
        lines.append(f"  .. {len(front) - _SHOWN} larger ones: see the report")
    return "\n".join(lines)


def _cells(row: dict[str, Any], name: str) -> tuple[str, ...]:
    spread = row[f"u_{name}"]
    quality = plus_minus(100 * row[name], None if spread is None else 100 * spread, 2)
    coded = row["codec"] != study_tables.UNCODED
    count = () if "instructions" not in row else (f"{row['instructions']:.0f}" if coded else "",)
    return (
        row["codec"],
        size(row["mean_bytes"]),
        f"{row['u_bytes']:.1f}" if row["u_bytes"] is not None else "",
        *count,
        si(row["encode_s"], "s") if coded else "",
        si(row["decode_s"], "s") if coded else "",
        quality,
        f"{100 * row['loss']:.2f}" if coded else "",
    )


def advice_text(tables: Mapping[str, Table], request: Request) -> str:
    """The codec for each link."""
    found = tables[study_tables.LINKS].dicts() if study_tables.LINKS in tables else []
    board = bool(found) and "line_s" in found[0]
    encode = "encode on the board + line" if board else "encode"
    points = f"{100 * request.max_loss:g}"
    lines = [f"\nadvice   at most {points} point{'s' if points != '1' else ''} lost (95 % bound); "
             f"time = {encode} + send + decode"]  # fmt: skip
    for link in request.links:
        rows = [row for row in found if row["link"] == link]
        if not rows:
            text = "no codec is proved to lose so little: more --frames, or a larger --max-loss"
            lines.append(indented(f"{link}: {text}", ""))
            continue
        best, *others = rows
        lines.append(f"         {link:<18} {best['codec']}  {si(best['time_s'], 's')}")
        for text in _parts(best) if board else ():
            lines.append(f"         {'':<18} {text}")
        if others:
            second = others[0]
            lines.append(f"         {'':<18} then {second['codec']}  {si(second['time_s'], 's')}")
    return "\n".join(lines)


def _parts(row: Mapping[str, Any]) -> list[str]:
    """Where a board's time goes, and why it is this coder."""
    names = (("encode_s", "encode"), ("line_s", "line"), ("send_s", "link"))
    spent = ", ".join(f"{name} {si(row[key], 's')}" for key, name in names)
    return [spent, row["why"]] if row["why"] else [spent]
