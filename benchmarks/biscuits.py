"""What the biscuit detector reaches on frames never seen, in ONNX and in int8 TFLite.

    python benchmarks/biscuits.py [--frames N] [--json FILE]

Model, kind and metric are those a node and an edge use; the frames are the task's report set,
whose seeds neither training nor any choice has seen.
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples" / "biscuits"))

from measure import answers, per_class

from waistline.task.load import load_task

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "biscuits"
FILES = ("model.onnx", "model.int8.tflite")
FRAMES = 1000
GOAL = {"model.onnx": 0.94}
MAX_BYTES = {"model.onnx": 5_000_000}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=FRAMES)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    task = load_task(EXAMPLE / "task.toml")
    frames = list(islice(task.data("report"), chosen.frames))
    rows = []
    for name in FILES:
        figures = per_class(task, list(answers(EXAMPLE / name, task, frames)))
        size_bytes = (EXAMPLE / name).stat().st_size
        reached = figures["all"].value >= GOAL.get(name, 0.0)
        fits = size_bytes <= MAX_BYTES.get(name, size_bytes)
        scores = {kind: (row.value, row.standard_uncertainty) for kind, row in figures.items()}
        rows.append({"model": name, "size_bytes": size_bytes, "map50": scores,
                     "verdict": "reached" if reached and fits else "**missed**"})  # fmt: skip
    if chosen.json:
        chosen.json.write_text(json.dumps({"schema": 1, "frames": len(frames), "rows": rows}))
    print(report(rows, len(frames)))


def report(rows: list[dict], frames: int) -> str:
    names = list(rows[0]["map50"])
    lines = [
        "## Biscuit detector\n",
        f"mAP50 on {frames} report frames, +- one standard uncertainty (bootstrap over frames). "
        f"Goal for the ONNX model: >= {GOAL['model.onnx']} and at most 5 MB.\n",
        f"| model | bytes | {' | '.join(names)} | |",
        f"|{'---|' * (len(names) + 3)}",
    ]
    for row in rows:
        scores = " | ".join(f"{value:.3f} +- {u or 0:.3f}" for value, u in row["map50"].values())
        goal = row["verdict"] if row["model"] in GOAL else ""
        lines.append(f"| {row['model']} | {row['size_bytes']:,} | {scores} | {goal} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
