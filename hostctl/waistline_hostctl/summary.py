"""A run in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from waistline.evidence import Evidence, Figure
from waistline.run import Table
from waistline_hostctl import derive, raw
from waistline_hostctl.console import grid, indented, plus_minus, si, size


def latency_text(table: Table, words: Mapping[str, str]) -> str:
    """p50 and p99 of the whole, then the stages of the main stream."""
    rows = table.dicts()
    wholes = [
        (words.get(row["stream"], row["stream"]), str(row["n"]),
         _time(row["p50_s"], row["p50_u_s"]), _time(row["p99_s"], row["p99_u_s"]), row["evidence"])
        for row in rows
        if row["stage"] == "total"
    ]  # fmt: skip
    stages = [
        (row["stage"].replace("_", " "), si(row["p50_s"], "s"), si(row["p99_s"], "s"),
         row["evidence"])
        for row in rows
        if row["stream"] == derive.MAIN and row["stage"] != "total" and row["p99_s"] > 0
    ]  # fmt: skip
    return "\n".join(
        [
            grid(("latency", "frames", "p50", "p99", ""), wholes),
            "",
            grid(("stage", "p50", "p99", ""), stages),
        ]
    )


def _time(value_s: float, uncertainty_s: float | None) -> str:
    spread = "" if uncertainty_s is None else f" ± {si(uncertainty_s, 's')}"
    return si(value_s, "s") + spread


def bytes_text(table: Table) -> str:
    """The waist against what could be sent instead."""
    rows = table.dicts()
    waist = next((row["mean_bytes"] for row in rows if row["what"] == "waist as sent"), 0.0)
    cells = [
        (row["what"], plus_minus(row["mean_bytes"], row["u_bytes"], 1, "B"),
         f"{row['mean_bytes'] / waist:.2f}" if waist else "-", Evidence.MEASURED.value)
        for row in rows
    ]  # fmt: skip
    return grid(("one frame, mean", "bytes", "x waist", ""), cells)


def quality_text(table: Table) -> str:
    cells = [
        (row["what"],
         plus_minus(100 * row["value"], None if row["u"] is None else 100 * row["u"], 2, "%"),
         str(row["n"]), Evidence.MEASURED.value)
        for row in table.dicts()
    ]  # fmt: skip
    return grid(("answers", "", "frames", ""), cells)


def radio_text(table: Table) -> str:
    """Joules a frame, one column a radio."""
    rows = table.dicts()
    radios = list(dict.fromkeys(row["radio"] for row in rows))
    energies: dict[str, dict[str, Any]] = {}
    for row in rows:
        energies.setdefault(row["what"], {})[row["radio"]] = row
    cells = [
        (what,
         *(si(found[radio]["energy_j"], "J") + (" *" if found[radio]["cheapest"] else "  ")
           for radio in radios),
         Evidence.MODELLED.value)
        for what, found in energies.items()
    ]  # fmt: skip
    return grid(("radio, J a frame", *radios, "* cheapest"), cells)


def bits_text(table: Table) -> str:
    def share(row: dict[str, Any], name: str) -> str:
        if row[name] is None:
            return "-"
        spread = row[f"{name}_u"]
        return plus_minus(100 * row[name], None if spread is None else 100 * spread, 1, "%")

    cells = [
        ("float" if row["bits"] == raw.FLOAT_BITS else str(row["bits"]), size(row["mean_bytes"]),
         share(row, "accuracy"), share(row, "agreement"), str(row["n"]), Evidence.MEASURED.value)
        for row in table.dicts()
    ]  # fmt: skip
    return grid(("bits", "bytes", "accuracy", "agreement", "frames", ""), cells)


def outcomes_text(outcomes: Mapping[str, int]) -> str:
    """``1300 frames: 1300 remote, 0 local, 0 dropped, 0 error``."""
    total = sum(outcomes.values())
    names = ("remote", "local", "dropped", "error")
    return f"{total} frames: " + ", ".join(f"{outcomes.get(name, 0)} {name}" for name in names)


def reasons_text(frames: Table) -> str:
    """Why frames were dropped or failed: each reason with the first frame that it met."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in frames.dicts():
        if row["reason"]:
            found.setdefault(f"{row['outcome']}({row['reason']})", []).append(row)
    lines = []
    for reason, rows in found.items():
        first = rows[0]
        why = f": {first['detail']}" if first["detail"] else ""
        lines.append(indented(f"{len(rows)} {reason}, first {first['name']}{why}"))
    return "\n".join(lines)


def run_text(
    tables: Mapping[str, Table], figures: Mapping[str, Figure], *, sequential: bool = True
) -> str:
    """Every computed table that there is; ``sequential``: one frame at a time."""
    words = derive.stream_words(sequential)
    parts = [latency_text(tables[derive.LATENCY], words)] if derive.LATENCY in tables else []
    parts += [
        show(tables[name])
        for name, show in (
            (derive.BYTES, bytes_text),
            (derive.QUALITY, quality_text),
            (derive.RADIO, radio_text),
            (derive.BITS, bits_text),
        )
        if name in tables
    ]
    rate = figures.get("throughput_overlap_hz")
    if rate is not None:
        spread = rate.standard_uncertainty
        parts.append(
            f"  pipelined: {plus_minus(rate.value, spread, 0)} frames a second ({rate.evidence})"
        )
    return "\n\n".join(parts)
