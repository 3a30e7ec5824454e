"""A run in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from waistline.evidence import Evidence, Figure
from waistline.run import Table
from waistline.words import stage_name
from waistline_hostctl import derive, raw
from waistline_hostctl.console import grid, indented, plus_minus, si, size

_HEADING_PARTS = 2


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
        (stage_name(row["stage"]),
         si(row["p50_s"], "s"), si(row["p99_s"], "s"), row["evidence"])
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


def choices_text(tables: Mapping[str, Table], metric: str) -> str:
    """What could be sent for one frame: its bytes, how good the answers are, radio energy."""
    if derive.BYTES not in tables:
        return ""
    quality = _by(tables, derive.QUALITY, "sent")
    radio = tables[derive.RADIO].dicts() if derive.RADIO in tables else []
    radios = list(dict.fromkeys(row["radio"] for row in radio))
    energy = {(row["radio"], row["what"]): row for row in radio}
    rows = tables[derive.BYTES].dicts()
    waist = next((row["mean_bytes"] for row in rows if row["what"] == derive.WAIST), 0.0)
    cells = []
    for row in rows:
        what = row["what"]
        cells.append(
            (what, size(row["mean_bytes"]),
             f"{row['mean_bytes'] / waist:.2f}" if waist else "-",
             *_quality_cells(quality.get(what), scored=bool(metric)),
             *(_energy(energy.get((radio, what))) for radio in radios))
        )  # fmt: skip
    score = (f"{metric} %", "change") if metric else ()
    table = grid(
        ("for one frame", "bytes", "x waist", *score, "agreement %", *map(_short, radios)), cells
    )
    return f"{table}\n{_uncut_line(quality, metric)}"


def _quality_cells(row: Mapping[str, Any] | None, *, scored: bool) -> tuple[str, ...]:
    if row is None:
        return ("-",) * (3 if scored else 1)
    agreement = plus_minus(100 * row["agreement"], _times(row["agreement_u"], 100), 1)
    if not scored:
        return (agreement,)
    change = plus_minus(100 * row["change"], _times(row["change_u"], 100), 1)
    return f"{100 * row['score']:.1f}", change, agreement


def _short(radio: str) -> str:
    """``ble5-2m-nrf52840`` as a heading: the remarks below the table have the whole name."""
    return "-".join(radio.split("-")[:_HEADING_PARTS])


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _energy(row: Mapping[str, Any] | None) -> str:
    return "-" if row is None else si(row["energy_j"], "J") + (" *" if row["cheapest"] else "  ")


def _uncut_line(quality: Mapping[str, Mapping[str, Any]], metric: str) -> str:
    notes = "bytes and answers measured; radio energy modelled, * cheapest"
    uncut = quality.get(derive.UNCUT)
    if uncut is None:
        return indented(notes, " ")
    score = plus_minus(100 * uncut["score"], _times(uncut["score_u"], 100), 1, "%")
    pictures = {row["n"] for what, row in quality.items() if what.startswith(raw.PICTURE_PREFIX)}
    fewer = "".join(
        f"pictures are of the first {n} frames; " for n in sorted(pictures) if n != uncut["n"]
    )
    text = f"uncut model: {metric} {score} (n = {uncut['n']}); {fewer}change in points, paired"
    return indented(f"{text}; {notes}", " ")


def _by(tables: Mapping[str, Table], name: str, column: str) -> dict[str, dict[str, Any]]:
    return {row[column]: row for row in tables[name].dicts()} if name in tables else {}


def bits_text(table: Table, metric: str) -> str:
    def share(row: dict[str, Any], name: str) -> str:
        if row[name] is None:
            return "-"
        spread = row[f"{name}_u"]
        return plus_minus(100 * row[name], None if spread is None else 100 * spread, 1, "%")

    cells = [
        ("float" if row["bits"] == raw.FLOAT_BITS else str(row["bits"]), size(row["mean_bytes"]),
         share(row, "score"), share(row, "agreement"), str(row["n"]), Evidence.MEASURED.value)
        for row in table.dicts()
    ]  # fmt: skip
    return grid(("bits", "bytes", metric or "-", "agreement", "frames", ""), cells)


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
    tables: Mapping[str, Table],
    figures: Mapping[str, Figure],
    *,
    metric: str,
    sequential: bool = True,
    picture: str = "",
) -> str:
    """Every computed table that there is.

    Args:
        tables: raw and computed, by name.
        figures: of the run.
        metric: what the score is called, "" where frames have no labels.
        sequential: the main stream ran one frame at a time.
        picture: codec of the picture stream, where there is one.
    """
    words = derive.stream_words(sequential, picture)
    parts = [latency_text(tables[derive.LATENCY], words)] if derive.LATENCY in tables else []
    parts += [board_text(figures), choices_text(tables, metric)]
    if derive.BITS in tables:
        parts.append(bits_text(tables[derive.BITS], metric))
    rate = figures.get("throughput_overlap_hz")
    if rate is not None:
        spread = rate.standard_uncertainty
        parts.append(
            f"  pipelined: {plus_minus(rate.value, spread, 0)} frames a second ({rate.evidence})"
        )
    return "\n\n".join(part for part in parts if part)


def board_text(figures: Mapping[str, Figure]) -> str:
    """Where the time of a head on a board went; "" where none ran there."""
    names = (f"head_{stage}_p50_s" for stage in (derive.ON_BOARD, derive.ON_LINE))
    computed, rest = (figures.get(name) for name in names)
    if computed is None or rest is None:
        return ""
    board = computed.source.rpartition("; ")[2]
    share = computed.value / max(computed.value + rest.value, 1e-12)
    text = (
        f"{board} computed {si(computed.value, 's')} of each head by its own ticks "
        f"({100 * share:.0f} %), {si(rest.value, 's')} went to the line and the host (medians)"
    )
    if computed.evidence is Evidence.EMULATED:
        text += "; emulated: its ticks are no time of a processor, its line has no baud"
    return indented(text, "board")
