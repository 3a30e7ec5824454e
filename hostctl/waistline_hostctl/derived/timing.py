"""How frames ended and how long they took.

Percentiles carry a bootstrap uncertainty (frames resampled, fixed seed).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from waistline.evidence import Evidence, Figure, mean
from waistline.run import Column, Table, table
from waistline_hostctl import raw
from waistline_hostctl.derived.base import (
    ANSWERED,
    LATENCY,
    MAIN,
    ON_BOARD,
    ON_LINE,
    OUTCOMES,
    OVERLAP,
    Rows,
    Settings,
)
from waistline_node.summary import STAGES as STAGE_COLUMNS

SEED = 20_260_101
RESAMPLES = 200
STAGES = tuple(column.removesuffix("_s") for column in STAGE_COLUMNS)
_BOARD_SOURCES = {
    ON_BOARD: "device_s, the board's own ticks",
    ON_LINE: "head_s - device_s, the line and the host",
}
_DRAWN = 1 << 20
"""Values resampled at a time; a run may have millions."""


def outcomes_table(frames: Rows) -> Table:
    counts: dict[tuple[str, str, str], int] = {}
    for row in frames:
        key = (row["stream"], row["outcome"], row["reason"])
        counts[key] = counts.get(key, 0) + 1
    columns = (
        Column("stream", "text"),
        Column("outcome", "text", "", "remote, local, dropped or error"),
        Column("reason", "text"),
        Column("frames", "integer", "frame", "that ended so", Evidence.MEASURED.value),
    )
    return table(OUTCOMES, columns, [(*key, count) for key, count in sorted(counts.items())])


def latency_table(frames: Rows, settings: Settings) -> Table:
    columns = (
        Column("stream", "text", "", "waist: the main one; overlap: pipelined"),
        Column("stage", "text", "", "total is the frame from reading to outcome"),
        Column("p50_s", "number", "s", "median", "row"),
        Column("p50_u_s", "number", "s", "its standard uncertainty, bootstrap", "row"),
        Column("p99_s", "number", "s", "99th percentile", "row"),
        Column("p99_u_s", "number", "s", "its standard uncertainty, bootstrap", "row"),
        Column("mean_s", "number", "s", "mean", "row"),
        Column("n", "integer", "frame", "answered frames"),
        Column("evidence", "text"),
    )
    rows = []
    for stream in dict.fromkeys(row["stream"] for row in frames):
        answered = [row for row in frames if row["stream"] == stream and row["outcome"] in ANSWERED]
        for stage in (*_stages(answered), "total"):
            values = np.array([_duration_s(row, stage) for row in answered])
            if not len(values):
                continue
            grade = _grade(stage, settings)
            p50, p99 = np.percentile(values, (50, 99))
            u50, u99 = _percentile_errors(values)
            rows.append((stream, stage, float(p50), u50, float(p99), u99,
                         float(values.mean()), len(values), grade.value))  # fmt: skip
    return table(LATENCY, columns, rows)


def _stages(rows: Rows) -> list[str]:
    """In order; a head on a board is two, which together are the head."""
    if not any(row.get("device_s") for row in rows):
        return list(STAGES)
    at = STAGES.index("head")
    return [*STAGES[:at], ON_BOARD, ON_LINE, *STAGES[at + 1 :]]


def _duration_s(row: Mapping[str, Any], stage: str) -> float:
    if stage == "total":
        return float(row["latency_s"])
    if stage == ON_BOARD:
        return float(row["device_s"])
    if stage == ON_LINE:
        # An emulator's ticks may run ahead of this machine's clock.
        return max(0.0, float(row["head_s"]) - float(row["device_s"]))
    return float(row[f"{stage}_s"])


def _grade(stage: str, settings: Settings) -> Evidence:
    name = "latency_s" if stage == "total" else f"{stage}_s"
    linked = bool(settings.link) and name in raw.ON_LINK
    boarded = settings.board_emulated and stage in {"total", "head", ON_BOARD, ON_LINE}
    return Evidence.EMULATED if linked or boarded else Evidence.MEASURED


def _percentile_errors(values: np.ndarray) -> tuple[float | None, float | None]:
    if len(values) < 2:
        return None, None
    rng = np.random.default_rng(SEED)
    count = len(values)
    at_once = max(1, _DRAWN // count)
    found = []
    for done in range(0, RESAMPLES, at_once):
        drawn = values[rng.integers(count, size=(min(at_once, RESAMPLES - done), count))]
        found.append(np.percentile(drawn, (50, 99), axis=1))
    p50, p99 = np.concatenate(found, axis=1)
    # Nothing is clocked finer: what is below is the rounding of equal values.
    return round(float(p50.std(ddof=1)), 9), round(float(p99.std(ddof=1)), 9)


def latency_figures(latency: Table, settings: Settings) -> dict[str, Figure]:
    link = f"link paced to {settings.link}" if settings.link else "loopback"
    return {
        f"latency_{name}_{row['stream']}_s": Figure(
            row[f"{name}_s"], "s", Evidence(row["evidence"]),
            f"frames.csv, stream {row['stream']}, {link}", row[f"{name}_u_s"], row["n"],
        )
        for row in latency.dicts()
        if row["stage"] == "total"
        for name in ("p50", "p99")
    }  # fmt: skip


def board_figures(latency: Table, settings: Settings) -> dict[str, Figure]:
    """Where the time of a head on a board went, main stream."""
    return {
        f"head_{row['stage']}_p50_s": Figure(
            row["p50_s"], "s", Evidence(row["evidence"]),
            f"frames.csv: {_BOARD_SOURCES[row['stage']]}; {settings.board}",
            row["p50_u_s"], row["n"],
        )
        for row in latency.dicts()
        if row["stream"] == MAIN and row["stage"] in _BOARD_SOURCES
    }  # fmt: skip


def throughput_figures(frames: Rows, settings: Settings) -> dict[str, Figure]:
    """Frames a second when pipelined, from the outcomes of the overlap stream."""
    ends = sorted(
        row["started_s"] + row["latency_s"]
        for row in frames
        if row["stream"] == OVERLAP and row["outcome"] in ANSWERED
    )
    if len(ends) < 3 or ends[-1] <= ends[0]:
        return {}
    gaps = np.diff(ends).tolist()
    gap_s, spread_s = mean(gaps)
    spread = None if spread_s is None else spread_s / gap_s**2
    unreal = settings.link or settings.board_emulated
    grade = Evidence.EMULATED if unreal else Evidence.MEASURED
    return {
        "throughput_overlap_hz": Figure(
            1 / gap_s, "Hz", grade, "outcomes a second, stages overlapping", spread, len(gaps)
        )
    }
