"""Do the engines agree? The example's answers by every backend, whole and cut, in pairs.

Each backend that can run here runs the example on the report images, whole, and as head or tail
beside the others at three cuts, without a codec between them, so that only the engines differ. The
float model is compared with onnxruntime's whole model; the int8 one with LiteRT's, because two
engines can only differ in how they compute the same codes, and its top-1 with onnxruntime's float.
The backend ncs2 runs its worker on the CPU; the stick itself computes in f16 and is not here.

    python benchmarks/engines.py [--frames N] [--ncs2-python FILE] [--json FILE]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from waistline import plugins, toolenv
from waistline.backends.base import PACKAGE, Backend, BackendOptions, Slice, load_backend
from waistline.errors import WaistlineError
from waistline.evidence import Evidence, Figure
from waistline.model.graph import Frontier
from waistline.model.load import CutModel, load_model
from waistline.task.load import load_task
from waistline.task.preprocess import apply
from waistline.tensors import dequantize, quantize

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "fashion"
MODELS = {"onnx": EXAMPLE / "model.onnx", "tflite": EXAMPLE / "model.int8.tflite"}
HOME = {"onnx": "onnxruntime", "tflite": "litert"}
GOALS = {"onnx": 0.99, "tflite": 0.985}
SHARES = (0.25, 0.5, 0.75)
"""Of the model's work that is done at a cut."""


@dataclass
class Engines:
    """The backends that run here, and why the others do not."""

    options: dict[str, dict[str, str]]
    opened: dict[tuple[str, str], Backend] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def find(self, kind: str, model: Path) -> list[str]:
        """Backends that open ``model``, its own engine first."""
        found = []
        for name in plugins.names(PACKAGE):
            try:
                options = BackendOptions(extra=self.options.get(name, {}))
                backend = load_backend(name, kind, options)
                if kind not in backend.formats:
                    continue
                backend.open(model).close()
            except WaistlineError as error:
                self.skipped[name] = str(error).replace(f"{model.parent}/", "")
            else:
                self.opened[kind, name] = backend
                found.append(name)
        return sorted(found, key=lambda name: (name != HOME[kind], name))


def images(limit: int) -> Iterator[np.ndarray]:
    """Preprocessed report images, float32 (1, 1, 28, 28)."""
    task = load_task(EXAMPLE / "task.toml")
    for frame in task.data("report"):
        if frame.index >= limit:
            return
        yield apply(task.preprocess, frame.arrays[0])


def inputs_of(model: CutModel, frames: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The frames as the model takes them."""
    spec = model.graph.inputs[0]
    turned = frames
    if spec.layout == "NHWC":
        turned = [np.ascontiguousarray(frame.transpose(0, 2, 3, 1)) for frame in frames]
    return [quantize(spec, frame) for frame in turned]


def run_whole(piece: Slice, frames: Sequence[np.ndarray]) -> np.ndarray:
    """The first output of each frame, (n, classes), in the model's own type."""
    return np.concatenate([piece.run([frame])[0].reshape(1, -1) for frame in frames])


def run_pair(
    head: Slice, tail: Slice, names: Sequence[str], frames: Sequence[np.ndarray]
) -> np.ndarray:
    """As `run_whole`, with two slices; a tensor that the head does not make is its input."""
    made = [spec.name for spec in head.outputs]
    rows = []
    for frame in frames:
        known = {head.inputs[0].name: frame}
        known |= dict(zip(made, head.run([frame]), strict=True))
        rows.append(tail.run([known[name] for name in names])[0].reshape(1, -1))
    return np.concatenate(rows)


def cuts_of(model: CutModel) -> list[Frontier]:
    """The cuts nearest to the wanted shares of the work, without those that break a fusion."""
    graph = model.graph
    inner = [row for row in graph.frontiers if 1 < row.x < graph.last_x and not row.breaks_fusion]
    total = graph.frontiers[-1].macs_before
    chosen = [min(inner, key=lambda row: abs(row.macs_before - s * total)) for s in SHARES]
    return list({row.x: row for row in chosen}.values())


def compare(
    kind: str, got: np.ndarray, wanted: np.ndarray, labels: np.ndarray, spec: Any
) -> dict[str, Any]:
    """One row's figures; ``wanted`` are the answers of the format's own engine, whole."""
    real, right = dequantize(spec, got), dequantize(spec, wanted)
    same = got.argmax(axis=1) == labels
    share, count = float(same.mean()), len(same)
    source = f"benchmarks/engines.py, examples/fashion, {count} report images"
    return {
        "agreement": Figure(
            share, "1", Evidence.MEASURED, source, (share * (1 - share) / count) ** 0.5, count
        ),
        "max_over_std": float(np.abs(real - right).max() / right.std()),
        "bitwise": float((got == wanted).all(axis=1).mean()),
        "reached": share >= GOALS[kind],
    }


def rows_of(
    kind: str, engines: Engines, frames: Sequence[np.ndarray], labels: np.ndarray | None
) -> tuple[list[dict[str, Any]], np.ndarray]:
    """All rows of one model, and the top-1 of its own engine's whole model."""
    path = MODELS[kind]
    names = engines.find(kind, path)
    model = load_model(path)
    given, spec = inputs_of(model, frames), model.graph.outputs[0]
    rows: list[dict[str, Any]] = []
    wanted: np.ndarray | None = None

    def add(x: int | None, waist: str, head: str, tail: str, got: np.ndarray) -> None:
        against = got if wanted is None else wanted
        top = against.argmax(axis=1) if labels is None else labels
        row = {"model": path.name, "x": x, "waist": waist, "head": head, "tail": tail}
        rows.append(row | compare(kind, got, against, top, spec))
        print(f"{path.name} x={x} {head} + {tail}", file=sys.stderr, flush=True)

    for name in names:
        piece = engines.opened[kind, name].open(path)
        got = run_whole(piece, given)
        piece.close()
        add(None, "", name, "", got)
        wanted = got if wanted is None else wanted
    for frontier in cuts_of(model):
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            head_path, tail_path = model.write_slices(frontier, Path(folder))
            heads, tails = {}, {}
            for name in names:
                backend = engines.opened[kind, name]
                heads[name] = backend.open(head_path)
                tails[name] = backend.open(tail_path, inputs=list(frontier.names))
                stack.callback(heads[name].close)
                stack.callback(tails[name].close)
            for head, tail in pairs(names):
                got = run_pair(heads[head], tails[tail], frontier.names, given)
                add(frontier.x, ", ".join(frontier.names), head, tail, got)
    return rows, wanted.argmax(axis=1) if wanted is not None else np.empty(0)


def pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """Each engine with itself, and as head and as tail beside the format's own."""
    first, others = names[0], names[1:]
    mixed = [(name, first) for name in others] + [(first, name) for name in others]
    return [(first, first), *mixed, *((name, name) for name in others)]


def markdown(result: dict[str, Any]) -> str:
    lines = [
        "## Engines against each other\n",
        f"`examples/fashion`, {result['images']:,} report images, no codec between head and tail, "
        "one thread. Agreement: top-1 equal to onnxruntime's uncut float model (goal: >= 99 %, "
        "int8 >= 98.5 %), +- one standard error. Largest difference of an output in standard "
        "deviations of all outputs, and images whose outputs are equal bit for bit: against the "
        "uncut model of the same file in its own engine (onnxruntime, LiteRT).\n",
        *(f"- {name}: {text}" for name, text in result["engines"].items()),
        *(f"- {name}: not run here: {why}" for name, why in result["skipped"].items()),
        "\n| model | x | waist | head | tail | top-1 agreement | max diff / std | bitwise |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        figure: Figure = row["agreement"]
        missed = "" if row["reached"] else " MISSED"
        lines.append(
            f"| {row['model']} | {row['x'] or 'whole'} | {row['waist'] or '-'} | {row['head']} "
            f"| {row['tail'] or '-'} | {100 * figure.value:.1f} % "
            f"+- {100 * (figure.standard_uncertainty or 0):.1f}{missed} "
            f"| {row['max_over_std']:.1e} | {100 * row['bitwise']:.1f} % |"
        )
    return "\n".join(lines)


def ncs2_python(chosen: str) -> str:
    """The interpreter of the worker: chosen, of the tool environment, or this one."""
    if chosen:
        return chosen
    ready = toolenv.tool_state("ncs2").state == "ready"
    return str(toolenv.tool_python("ncs2")) if ready else sys.executable


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=1000, help="at most this many images")
    parser.add_argument("--ncs2-python", default="", metavar="FILE", help="for the ncs2 worker")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    python = ncs2_python(options.ncs2_python)
    engines = Engines({"ncs2": {"device": "CPU", "python": python}})
    frames = list(images(options.frames))
    rows, labels = rows_of("onnx", engines, frames, None)
    if MODELS["tflite"].exists():
        rows += rows_of("tflite", engines, frames, labels)[0]
    told = {}
    for (kind, name), backend in engines.opened.items():
        piece = backend.open(MODELS[kind])
        info = piece.info()
        piece.close()
        told[name] = f"{info['engine']} {info['version']}, {info['device']}, {info['precision']}"
    result = {
        "benchmark": "engines",
        "version": 1,
        "images": len(frames),
        "engines": told,
        "skipped": {name: why for name, why in engines.skipped.items() if name not in told},
        "rows": rows,
    }
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1))
    print(markdown(result))
    return 0 if all(row["reached"] for row in rows) else 5


if __name__ == "__main__":
    sys.exit(main())
