"""Is head + tail the whole .tflite model? Cut at every frontier, run both parts in LiteRT, compare.

    python benchmarks/cuts_tflite.py [--json FILE]

Models written with the schema (branches, and MobileNetV1 with its 28 layers) and the examples that
a converter made, float and int8. Each is compared bit for bit with the whole model on the same
kernels: LiteRT's built-in ones, and XNNPACK, its default. Cutting is timed alone, from a model that
was read to the bytes of both slices: processor time of one thread, because machines are shared.
Exit status 5 when a cut is not bitwise equal, or a model of 28 layers takes longer than the goal.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "unit"))

from tflite_help import branched, equal_cuts, load, mobilenet

from waistline.model import tflite_cut

ROOT = Path(__file__).resolve().parents[1]
GOAL_S = 0.2
TIMED = "mobilenetv1 224 float"
MODELS = {
    "branched float": lambda: branched(),
    "branched int8": lambda: branched(quantized=True),
    "mobilenetv1 64 float": lambda: mobilenet(size=64, width=0.5),
    "mobilenetv1 64 int8": lambda: mobilenet(size=64, width=0.5, quantized=True),
    TIMED: lambda: mobilenet(size=224, width=1.0),
    "mobilenetv1 224 int8": lambda: mobilenet(size=224, width=1.0, quantized=True),
}


@dataclass
class Row:
    """What one model gave."""

    model: str
    size_bytes: int
    layers: int
    frontiers: int
    widest: int
    read_s: float
    cut_median_s: float
    cut_worst_s: float
    equal_plain: int
    equal_xnnpack: int

    @property
    def passed(self) -> bool:
        return self.equal_plain == self.equal_xnnpack == self.frontiers


def measure(name: str, data: bytes) -> Row:
    start = time.process_time()
    model = load(data, f"{name}.tflite")
    read_s = time.process_time() - start
    times = []
    for frontier in model.graph.frontiers:
        start = time.process_time()
        tflite_cut.cut_model(model, frontier)
        times.append(time.process_time() - start)
    return Row(
        model=name,
        size_bytes=len(data),
        layers=len(model.graph.layers),
        frontiers=len(model.graph.frontiers),
        widest=max(len(frontier.tensors) for frontier in model.graph.frontiers),
        read_s=read_s,
        cut_median_s=statistics.median(times),
        cut_worst_s=max(times),
        equal_plain=len(equal_cuts(model, data, plain=True)),
        equal_xnnpack=len(equal_cuts(model, data, plain=False)),
    )


def table(rows: list[Row]) -> str:
    lines = [
        "| model | kB | layers | frontiers | widest | read (ms) | cut, median (ms) "
        "| cut, worst (ms) | bitwise equal, built-in | bitwise equal, XNNPACK |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r.model} | {r.size_bytes / 1e3:.0f} | {r.layers} | {r.frontiers} | {r.widest} "
        f"| {r.read_s * 1e3:.0f} | {r.cut_median_s * 1e3:.0f} | {r.cut_worst_s * 1e3:.0f} "
        f"| {r.equal_plain}/{r.frontiers} | {r.equal_xnnpack}/{r.frontiers} |"
        for r in rows
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare head + tail with the whole model.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows here")
    options = parser.parse_args()
    rows = [measure(name, make()) for name, make in MODELS.items()]
    for path in sorted((ROOT / "examples").glob("*/*.tflite")):
        rows.append(measure(f"{path.parent.name}/{path.name}", path.read_bytes()))
    runtime = metadata.version("ai-edge-litert")
    timed = next(row for row in rows if row.model == TIMED)
    fast = timed.cut_worst_s <= GOAL_S
    print("## TFLite: head and tail against the whole model\n")
    print(f"Every frontier, LiteRT {runtime}, one thread, random inputs over the whole type.\n")
    print(table(rows))
    cuts = sum(row.frontiers for row in rows)
    equal = sum(row.equal_plain + row.equal_xnnpack for row in rows)
    verdict = "reached" if fast else "missed"
    print(f"\n{equal} of {2 * cuts} cuts are bitwise equal (goal: all). {TIMED}, 28 layers with")
    print(f"weights: {timed.cut_worst_s:.3f} s of processor time for the slowest cut")
    print(f"(goal {GOAL_S} s: {verdict}).")
    if options.json:
        report = {
            "schema": 1,
            "benchmark": "cuts_tflite",
            "ai_edge_litert": runtime,
            "machine": platform.machine(),
            "threads": 1,
            "rows": [asdict(row) for row in rows],
        }
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0 if fast and all(row.passed for row in rows) else 5


if __name__ == "__main__":
    sys.exit(main())
