"""The figures of ``waistline bench edge``: computed, tabled, kept in a run folder."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from waistline import __version__, provenance
from waistline.bench import ResolvedBench
from waistline.bundle.store import Bundle
from waistline.codec import native
from waistline.evidence import Evidence, Figure, mean
from waistline.run import Cell, Column, RunRecord, Table, new_run, table
from waistline_hostctl.bench_edge import Round, Setting, UnderTest
from waistline_hostctl.bench_edge_load import BUSY, REMOTE, Phase
from waistline_hostctl.bench_edge_peer import MAX_OPEN
from waistline_hostctl.console import grid, si
from waistline_hostctl.doctor import LIBRARIES
from waistline_hostctl.results import Result

GOODPUT_GOAL, FAIRNESS_GOAL = 0.90, 1.20
_SOURCE = "waistline bench edge"


class BenchEdgeResult(Result, frozen=True, kw_only=True, tag="bench edge"):
    """An edge was measured; ``goals`` says of each whether it was reached."""

    folder: str
    bundle: str
    bundle_id: str
    endpoint: str
    backend: str
    workers: int | None
    nodes: int
    overload: float
    figures: dict[str, Figure]
    outcomes: dict[str, int]
    goals: dict[str, bool]


def quantile(values: Sequence[float], q: float) -> float:
    """The value below which a share ``q`` lies; NaN of nothing."""
    ordered = sorted(values)
    return ordered[min(int(q * len(ordered)), len(ordered) - 1)] if ordered else float("nan")


def latencies(phase: Phase) -> list[float]:
    """Of all remote frames, seconds."""
    return [value for node in phase.nodes for value in node.latency_s]


def spread(phase: Phase) -> tuple[float, float]:
    """Most over least served node, and Jain's index, of the frames answered."""
    served = [node.ends[REMOTE] for node in phase.nodes]
    squares = sum(count * count for count in served)
    jain = sum(served) ** 2 / (len(served) * squares) if squares else 0.0
    return (max(served) / min(served) if min(served) else float("inf")), jain


def outcomes(rounds: Sequence[Round]) -> Counter[str]:
    """How the frames of all overload phases ended."""
    found: Counter[str] = Counter()
    for row in rounds:
        for node in row.overload.nodes:
            found.update(node.ends)
        if row.overload.unanswered:
            found["unanswered"] += row.overload.unanswered
    return found


def figures(rounds: Sequence[Round], evidence: Evidence) -> dict[str, Figure]:
    """Every figure as the mean over the rounds with its standard uncertainty."""

    def over(unit: str, pick: Callable[[Round], float | None]) -> Figure | None:
        values = [value for row in rounds if (value := pick(row)) is not None]
        if not values:
            return None
        middle, uncertainty = mean(values)
        return Figure(middle, unit, evidence, _SOURCE, uncertainty, len(values))

    picks: dict[str, tuple[str, Callable[[Round], float | None]]] = {
        "peak_goodput": ("frame/s", lambda row: row.peak.goodput_hz),
        "overload_goodput": ("frame/s", lambda row: row.overload.goodput_hz),
        "goodput_share": ("1", lambda row: row.overload.goodput_hz / row.peak.goodput_hz),
        "offered_share": ("1", lambda row: row.overload.offered_hz / row.peak.goodput_hz),
        "withheld_share": ("1", lambda row: row.overload.withheld_share),
        "fairness_most_over_least": ("1", lambda row: spread(row.overload)[0]),
        "fairness_jain": ("1", lambda row: spread(row.overload)[1]),
        "peak_latency_p50": ("s", lambda row: quantile(latencies(row.peak), 0.50)),
        "peak_latency_p99": ("s", lambda row: quantile(latencies(row.peak), 0.99)),
        "overload_latency_p50": ("s", lambda row: quantile(latencies(row.overload), 0.50)),
        "overload_latency_p99": ("s", lambda row: quantile(latencies(row.overload), 0.99)),
        "busy_latency_p99": ("s", lambda row: _busy_p99(row.overload)),
        "peak_edge_cpu": ("1", lambda row: _edge_share(row.peak)),
        "overload_edge_cpu": ("1", lambda row: _edge_share(row.overload)),
        "generator_cpu": ("1", lambda row: row.overload.cpu_s / row.overload.seconds),
        "generator_late_p99": ("s", lambda row: quantile(row.overload.late_s, 0.99)),
        "peak_waiting": ("1", lambda row: row.peak.waiting),
    }
    found = {name: over(*pick) for name, pick in picks.items()}
    return {name: figure for name, figure in found.items() if figure is not None}


def _busy_p99(phase: Phase) -> float | None:
    values = [value for node in phase.nodes for value in node.busy_s]
    return quantile(values, 0.99) if values else None


def _edge_share(phase: Phase) -> float | None:
    return None if phase.edge_cpu_s is None else phase.edge_cpu_s / phase.seconds


def goals(found: dict[str, Figure], ends: Counter[str], rounds: Sequence[Round]) -> dict[str, bool]:
    """What an edge under overload owes, and whether it did."""
    wrong = sum(node.wrong for row in rounds for node in (*row.peak.nodes, *row.overload.nodes))
    return {
        "goodput_share": found["goodput_share"].value >= GOODPUT_GOAL,
        "busy_typed": set(ends) <= {REMOTE, BUSY} and not any(r.peak.unanswered for r in rounds),
        "fairness": found["fairness_most_over_least"].value <= FAIRNESS_GOAL,
        "answers_right": wrong == 0,
    }


def shown(result: BenchEdgeResult, setting: Setting) -> str:
    """For people."""
    value = {name: figure.value for name, figure in result.figures.items()}
    met = {name: "reached" if ok else "MISSED" for name, ok in result.goals.items()}
    workers = f", {result.workers} workers" if result.workers else ""
    ends = ", ".join(f"{count} {name}" for name, count in sorted(result.outcomes.items()))

    def cores(name: str) -> str:
        return f"{value[name]:.2f} cores" if name in value else "-"

    rows = [
        ("goodput", f"{value['peak_goodput']:.0f} /s", f"{value['overload_goodput']:.0f} /s"),
        ("latency p50", si(value["peak_latency_p50"], "s"), si(value["overload_latency_p50"], "s")),
        ("latency p99", si(value["peak_latency_p99"], "s"), si(value["overload_latency_p99"], "s")),
        ("edge", cores("peak_edge_cpu"), cores("overload_edge_cpu")),
    ]
    return "\n".join(
        [
            f"edge      {result.endpoint}, {result.backend or 'engine unknown'}{workers}",
            f"load      {setting.nodes} nodes, {setting.rounds} rounds of {setting.seconds:g} s at "
            f"peak and {setting.seconds:g} s at {value['offered_share']:.2f} x that",
            "",
            grid(("", "peak", f"{setting.overload:g} x overload"), rows),
            "",
            f"goodput   {value['goodput_share']:.3f} of peak, goal >= {GOODPUT_GOAL:.2f}: "
            f"{met['goodput_share']}",
            f"fairness  most / least served node {value['fairness_most_over_least']:.3f}, goal <= "
            f"{FAIRNESS_GOAL:.2f}: {met['fairness']}; Jain {value['fairness_jain']:.4f}",
            f"ends      {ends}; all typed: {met['busy_typed']}; answers: {met['answers_right']}",
            f"          {value['withheld_share']:.1%} of the frames were held back at nodes with "
            f"{MAX_OPEN} unanswered ones",
            f"generator {value['generator_cpu']:.2f} of one core, sent within "
            f"{si(value['generator_late_p99'], 's')} (p99); at peak {value['peak_waiting']:.1f} "
            "requests waited at the edge",
        ]
    )


_ROUNDS = (
    Column("round", "integer"),
    Column("phase", "text", meaning="peak or overload"),
    Column("seconds", "number", "s", "measured"),
    Column("offered", "number", "frame/s", "sent, or held back at a node"),
    Column("withheld_share", "number", "1", "of the offered frames: held back at a node"),
    Column("goodput", "number", "frame/s", "answered"),
    Column("busy", "integer", "frame", "refused as dropped(busy)"),
    Column("other", "integer", "frame", "ended otherwise, or not at all"),
    Column("latency_p50_s", "number", "s", "of answered frames"),
    Column("latency_p99_s", "number", "s", "of answered frames"),
    Column("edge_cpu_s", "number", "s", "processor time of the edge"),
    Column("generator_cpu_s", "number", "s", "processor time of the generator"),
)
_NODES = (
    Column("round", "integer"),
    Column("phase", "text", meaning="peak or overload"),
    Column("node", "integer"),
    Column("sent", "integer", "frame"),
    Column("remote", "integer", "frame", "answered"),
    Column("busy", "integer", "frame", "refused as dropped(busy)"),
)


def tables(rounds: Sequence[Round]) -> list[Table]:
    """One row a phase, and one row a node and phase."""
    by_phase: list[list[Cell]] = []
    by_node: list[list[Cell]] = []
    for number, row in enumerate(rounds, 1):
        for name, phase in (("peak", row.peak), ("overload", row.overload)):
            busy = phase.total(BUSY)
            every = sum(sum(node.ends.values()) for node in phase.nodes) + phase.unanswered
            spent = latencies(phase)
            by_phase.append(
                [
                    *(number, name, phase.seconds, phase.offered_hz, phase.withheld_share),
                    *(phase.goodput_hz, busy),
                    every - busy - phase.total(REMOTE),
                    *(quantile(spent, 0.50), quantile(spent, 0.99)),
                    *(phase.edge_cpu_s, phase.cpu_s),
                ]
            )
            by_node += [
                [number, name, k, node.sent, node.ends[REMOTE], node.ends[BUSY]]
                for k, node in enumerate(phase.nodes)
            ]
    return [table("rounds", _ROUNDS, by_phase), table("nodes", _NODES, by_node)]


def evaluate(
    rounds: Sequence[Round],
    setting: Setting,
    edge: UnderTest,
    bundle: Bundle,
    bench: ResolvedBench,
    runs: Path,
) -> BenchEdgeResult:
    """Compute everything and write the run folder.

    Raises:
        ConfigError: the folder cannot be written.
    """
    # An engine that sleeps is an emulated one, whatever else is real.
    sleeps = bundle.tail is not None and bundle.tail.format == "fake"
    evidence = Evidence.EMULATED if sleeps else Evidence.MEASURED
    found, ends = figures(rounds, evidence), outcomes(rounds)
    verdicts = goals(found, ends, rounds)
    folder = new_run(runs, "bench-edge")
    for each in tables(rounds):
        folder.write_table(each)
    settings: dict[str, Any] = {
        "title": "Edge under overload",
        **msgspec.to_builtins(setting),
        "edge": msgspec.to_builtins(edge),
        "outcomes": dict(sorted(ends.items())),
        "goals": verdicts,
    }
    folder.finish(
        RunRecord(
            name="bench-edge",
            started_utc=folder.started.isoformat(timespec="seconds"),
            ended_utc=datetime.now(UTC).isoformat(timespec="seconds"),
            command=("waistline", *sys.argv[1:]),
            version=__version__,
            commit=provenance.commit(),
            seeds={},
            inputs={str(bundle.path): bundle.id},
            libraries=provenance.libraries(LIBRARIES),
            machine=provenance.machine(),
            threads={"edge": bench.bench.edge.threads, "edge workers": edge.workers or 0},
            bench=bench,
            codec="c" if native.available() else "numpy",
            evidence={name: figure.evidence.value for name, figure in found.items()},
            settings=settings,
            figures=found,
            tables=folder.tables,
        )
    )
    return BenchEdgeResult(
        folder=str(folder.path),
        bundle=bundle.path.name,
        bundle_id=bundle.id,
        endpoint=edge.endpoint,
        backend=edge.backend,
        workers=edge.workers,
        nodes=setting.nodes,
        overload=setting.overload,
        figures=found,
        outcomes=dict(sorted(ends.items())),
        goals=verdicts,
    )
