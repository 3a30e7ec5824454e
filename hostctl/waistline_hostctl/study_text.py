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
    front = sorted((row for row in rows if row["front_bytes"]), key=lambda row: row["mean_bytes"])
    cells = [_cells(row, name) for row in (rows[0], *front[:_SHOWN])]
    headings = ("codec", "bytes", "±", "encode", "decode", f"{name} %", "loss")
    lines = [
        f"front    {len(front)} of {len(rows) - 1} codecs: none smaller has a better {name} "
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
    return (
        row["codec"],
        size(row["mean_bytes"]),
        f"{row['u_bytes']:.1f}" if row["u_bytes"] is not None else "",
        si(row["encode_s"], "s") if coded else "",
        si(row["decode_s"], "s") if coded else "",
        quality,
        f"{100 * row['loss']:.2f}" if coded else "",
    )


def advice_text(tables: Mapping[str, Table], request: Request) -> str:
    """The codec for each link."""
    found = tables[study_tables.LINKS].dicts() if study_tables.LINKS in tables else []
    lines = [f"\nadvice   at most {100 * request.max_loss:g} points lost (95 % bound); "
             "time = encode + send + decode"]  # fmt: skip
    for link in request.links:
        rows = [row for row in found if row["link"] == link]
        if not rows:
            text = "no codec is proved to lose so little: more --frames, or a larger --max-loss"
            lines.append(indented(f"{link}: {text}", ""))
            continue
        best, *others = rows
        lines.append(f"         {link:<18} {best['codec']}  {si(best['time_s'], 's')}")
        if others:
            second = others[0]
            lines.append(f"         {'':<18} then {second['codec']}  {si(second['time_s'], 's')}")
    return "\n".join(lines)
