"""What the shipped detector reaches on frames never seen, and what their pictures weigh.

    python examples/biscuits/measure.py [--model FILE] [--data report] [--frames N]

The model runs in the engine of its format, boxes are made and scored by the task's own kind and
metric.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from waistline.backends.base import AUTO, load_backend
from waistline.bundle.cuts import fitted
from waistline.evidence import Figure, mean
from waistline.frame import SensorFrame
from waistline.model.load import load_model
from waistline.stages import make_answer, model_input
from waistline.task.boxes import Boxes
from waistline.task.load import Task, load_task

HERE = Path(__file__).resolve().parent
CODERS = {
    "PNG": {"format": "PNG", "optimize": True},
    "JPEG q=90": {"format": "JPEG", "quality": 90},
    "JPEG q=75": {"format": "JPEG", "quality": 75},
    "JPEG q=50": {"format": "JPEG", "quality": 50},
    "WebP q=75": {"format": "WEBP", "quality": 75, "method": 4},
}
"""Pillow's names; JPEG with its 4:2:0 chroma."""
Pairs = list[tuple[Boxes, Boxes]]


def answers(
    model: Path, task: Task, frames: Iterable[SensorFrame]
) -> Iterator[tuple[Boxes, Boxes]]:
    """What the uncut model, ONNX or TFLite, says of each frame, and the truth."""
    kind = task.open_kind()
    graph = load_model(model).graph
    preprocess = fitted(graph.name, graph.inputs, task.preprocess)
    assert preprocess is not None
    whole = load_backend(AUTO, graph.format).open(
        model,
        inputs=[spec.name for spec in graph.inputs],
        outputs=[spec.name for spec in graph.outputs],
    )
    try:
        for frame in frames:
            outputs = whole.run([model_input(preprocess, graph.inputs[0], frame.arrays[0])])
            answer = make_answer(kind, graph.outputs, outputs, preprocess)
            yield kind.unpack(answer), frame.label
    finally:
        whole.close()


def per_class(task: Task, pairs: Pairs) -> dict[str, Figure]:
    """The task's metric over all classes, and over each as if there were no other."""
    metric = task.open_metric()
    figures = {"all": metric.score(pairs)}
    for index, name in enumerate(task.answer.options["classes"]):
        figures[name] = metric.score([(_only(a, index), _only(b, index)) for a, b in pairs])
    return figures


def _only(boxes: Boxes, index: int) -> Boxes:
    chosen = boxes.classes == index
    return Boxes(boxes.corners[chosen], boxes.classes[chosen], boxes.scores[chosen])


def picture_bytes(frames: Iterable[np.ndarray]) -> dict[str, tuple[float, float | None]]:
    """Mean bytes of a picture by coder, with the standard error."""
    sizes: dict[str, list[int]] = {name: [] for name in CODERS}
    for frame in frames:
        picture = Image.fromarray(frame)
        for name, options in CODERS.items():
            stream = io.BytesIO()
            picture.save(stream, **options)
            sizes[name].append(stream.tell())
    return {name: mean(values) for name, values in sizes.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=HERE / "model.onnx")
    parser.add_argument("--task", type=Path, default=HERE / "task.toml")
    parser.add_argument("--data", default="report", help="a data set of the task")
    parser.add_argument("--frames", type=int, help="only the first so many")
    options = parser.parse_args()
    task = load_task(options.task)
    frames = list(islice(task.data(options.data), options.frames))
    pairs = list(answers(options.model, task, frames))
    print(f"mAP50 over {len(frames)} {options.data} frames, with standard uncertainty:")
    for name, figure in per_class(task, pairs).items():
        print(f"  {name:8} {figure.value:.4f} +- {figure.standard_uncertainty or 0.0:.4f}")
    print(f"a frame of {frames[0].arrays[0].nbytes} bytes:")
    for name, (size_bytes, spread) in picture_bytes(f.arrays[0] for f in frames).items():
        print(f"  {name:10} {size_bytes:8.0f} +- {spread or 0.0:.0f} bytes")


if __name__ == "__main__":
    main()
