"""What does cutting cost? Head + tail against the whole model, in the same engine.

MobileNetV2 (224 x 224, random weights) is cut at five places spread over its work, none of which
breaks a fusion (`waistline split MODEL --list` marks those that do); for contrast one that does is
measured too. One thread, nothing spins, no codec and no network. Each round times the whole model
and head + tail one right after the other, in turned order, so that both see the same machine; the
figure is the median of the rounds' ratios, with a 95 % bootstrap interval. It is judged by the
processor time of this process: one thread that never waits takes that long by the clock of a
machine of its own, and on a shared one the clock counts what others do. Both are given.

    python benchmarks/overhead.py [ENGINE..] [--rounds N] [--json FILE]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

import graphs
import msgspec
import numpy as np

from waistline.backends.base import Backend, BackendOptions, Slice, load_backend
from waistline.errors import WaistlineError
from waistline.evidence import Evidence, Figure
from waistline.model.graph import Frontier
from waistline.model.load import CutModel, load_model

GRAPH = "mobilenetv2"
ENGINES = ("onnxruntime", "openvino")
GOAL = 0.03
CUTS = 5
WARM_UP = 5
RESAMPLES, SEED = 4000, 20_261_121
QUANTILES = (2.5, 97.5)


def cuts_of(model: CutModel) -> list[Frontier]:
    """Cuts of one tensor spread over the work, and last the first that breaks a fusion."""
    graph = model.graph
    inner = [row for row in graph.frontiers if 1 < row.x < graph.last_x and len(row.tensors) == 1]
    whole = [row for row in inner if not row.breaks_fusion]
    total = graph.frontiers[-1].macs_before
    chosen = [
        min(whole, key=lambda row: abs(row.macs_before - total * (k + 1) / (CUTS + 1)))
        for k in range(CUTS)
    ]
    return [*chosen, next(row for row in inner if row.breaks_fusion)]


class Cut:
    """Both ways to the answer, opened side by side."""

    def __init__(self, backend: Backend, model: CutModel, frontier: Frontier) -> None:
        self._stack = ExitStack()
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        head, tail = model.write_slices(frontier, folder)
        self._names = list(frontier.names)
        self.whole = self._open(backend, model.path)
        self.head = self._open(backend, head, outputs=self._names)
        self.tail = self._open(backend, tail, inputs=self._names)
        rng = np.random.default_rng(SEED)
        self._inputs = [
            rng.standard_normal(spec.shape).astype(spec.numpy_dtype) for spec in model.graph.inputs
        ]

    def _open(self, backend: Backend, path: Path, **names: Any) -> Slice:
        piece = backend.open(path, **names)
        self._stack.callback(piece.close)
        return piece

    def run_whole(self) -> list[np.ndarray]:
        return self.whole.run(self._inputs)

    def run_both(self) -> list[np.ndarray]:
        return self.tail.run(self.head.run(self._inputs))

    def close(self) -> None:
        self._stack.close()


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock, and of this process's processor time."""
    wall, spent = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - spent


def measure(cut: Cut, rounds: int) -> tuple[np.ndarray, np.ndarray]:
    """Times of whole and head + tail, each (rounds, 2): wall, processor."""
    for _ in range(WARM_UP):
        cut.run_whole()
        cut.run_both()
    whole, both = [], []
    for k in range(rounds):
        if k % 2:
            both.append(timed(cut.run_both))
            whole.append(timed(cut.run_whole))
        else:
            whole.append(timed(cut.run_whole))
            both.append(timed(cut.run_both))
    return np.array(whole), np.array(both)


def bootstrap(ratios: np.ndarray) -> tuple[float, float, float]:
    """A 95 % interval of the median of paired ratios, and its standard error."""
    rng = np.random.default_rng(SEED)
    drawn = ratios[rng.integers(len(ratios), size=(RESAMPLES, len(ratios)))]
    medians = np.median(drawn, axis=1)
    low, high = np.percentile(medians, QUANTILES)
    return float(low), float(high), float(medians.std(ddof=1))


def row_of(engine: str, model: CutModel, frontier: Frontier, cut: Cut, rounds: int) -> dict:
    whole, both = measure(cut, rounds)
    ratios = both / whole - 1
    low, high, error = bootstrap(ratios[:, 0])
    middle, cpu_middle = (float(value) for value in np.median(ratios, axis=0))
    cpu = bootstrap(ratios[:, 1])
    equal = all(
        a.tobytes() == b.tobytes() for a, b in zip(cut.run_whole(), cut.run_both(), strict=True)
    )
    source = f"benchmarks/overhead.py, {GRAPH}, {rounds} paired rounds"
    return {
        "engine": engine,
        "x": frontier.x,
        "waist": ", ".join(frontier.names),
        "waist_bytes": frontier.size_bytes,
        "work_before": frontier.macs_before / model.graph.frontiers[-1].macs_before,
        "breaks_fusion": frontier.breaks_fusion,
        "whole_s": float(np.median(whole[:, 0])),
        "overhead": Figure(middle, "1", Evidence.MEASURED, source, error, rounds),
        "low": low,
        "high": high,
        "cpu_overhead": Figure(cpu_middle, "1", Evidence.MEASURED, source, cpu[2], rounds),
        "cpu_low": cpu[0],
        "cpu_high": cpu[1],
        "bitwise": equal,
        "reached": None if frontier.breaks_fusion else cpu_middle <= GOAL,
    }


def measure_engine(engine: str, model: CutModel, rounds: int) -> list[dict[str, Any]]:
    backend = load_backend(engine, model.graph.format, BackendOptions(threads=1))
    rows = []
    for frontier in cuts_of(model):
        cut = Cut(backend, model, frontier)
        try:
            rows.append(row_of(engine, model, frontier, cut, rounds))
        finally:
            cut.close()
        print(f"{engine} x={frontier.x}", file=sys.stderr, flush=True)
    return rows


def markdown(result: dict[str, Any]) -> str:
    lines = [
        "## Cost of cutting\n",
        f"{GRAPH}, head + tail against the whole model in the same engine, one thread, no "
        f"spinning, no codec: median of {result['rounds_each']} paired rounds, 95 % bootstrap "
        f"interval. Goal: <= {100 * GOAL:g} % of processor time at cuts that break no fusion (one "
        "thread that never waits takes that long by the clock of an idle machine). Load average "
        f"meanwhile: {result['load']:.1f}.\n",
        *(f"- {name}: not run here: {why}" for name, why in result["skipped"].items()),
        "| engine | x | waist | KiB | work before | whole (ms) | by the clock | 95 % "
        "| processor time | 95 % | bits equal | goal |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        verdict = {None: f"none: cuts {row['breaks_fusion']}", True: "yes", False: "MISSED"}
        lines.append(
            f"| {row['engine']} | {row['x']} | {row['waist']} | {row['waist_bytes'] / 1024:.0f} "
            f"| {100 * row['work_before']:.0f} % | {1e3 * row['whole_s']:.1f} "
            f"| {100 * row['overhead'].value:+.1f} % "
            f"| {100 * row['low']:+.1f} .. {100 * row['high']:+.1f} "
            f"| {100 * row['cpu_overhead'].value:+.1f} % "
            f"| {100 * row['cpu_low']:+.1f} .. {100 * row['cpu_high']:+.1f} "
            f"| {'yes' if row['bitwise'] else 'no'} | {verdict[row['reached']]} |"
        )
    return "\n".join(lines)


def run(engines: Sequence[str], rounds: int) -> dict[str, Any]:
    model = load_model(graphs.graph_path(GRAPH))
    rows: list[dict[str, Any]] = []
    skipped = {}
    for engine in engines:
        try:
            rows += measure_engine(engine, model, rounds)
        except WaistlineError as error:
            skipped[engine] = str(error)
    return {
        "benchmark": "overhead",
        "version": 1,
        "graph": GRAPH,
        "rounds_each": rounds,
        "load": os.getloadavg()[1],
        "rows": rows,
        "skipped": skipped,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("engines", nargs="*", metavar="ENGINE", help=f"of: {', '.join(ENGINES)}")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    result = run(options.engines or ENGINES, options.rounds)
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1))
    print(markdown(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
