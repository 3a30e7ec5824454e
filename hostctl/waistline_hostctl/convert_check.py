"""How far a converted model says what the model it was made from says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from waistline.backends.base import AUTO, Slice, load_backend
from waistline.bundle.cuts import answer_spec, fitted
from waistline.evidence import Evidence, Figure, mean
from waistline.frame import SensorFrame
from waistline.model.graph import ModelGraph
from waistline.model.load import CutModel
from waistline.stages import model_input
from waistline.task.kinds.base import load_kind
from waistline.task.load import Task
from waistline.task.preprocess import check_frame
from waistline.tensors import TensorSpec, dequantize, quantize

_IMAGE_RANK = 4


def inputs_of(graph: ModelGraph, task: Task | None, frame: SensorFrame) -> list[np.ndarray]:
    """A frame as a model takes it, preprocessed where the task says how."""
    preprocess = fitted(graph.name, graph.inputs, None if task is None else task.preprocess)
    if preprocess is None:
        return [_as(spec, array) for spec, array in zip(graph.inputs, frame.arrays, strict=True)]
    image = check_frame(preprocess, frame.arrays[0], frame.name or str(frame.index))
    return [model_input(preprocess, graph.inputs[0], image)]


def _as(spec: TensorSpec, array: np.ndarray) -> np.ndarray:
    """An array of the ONNX model for the converted one: axes turned, quantized."""
    if array.shape != spec.shape and array.ndim == _IMAGE_RANK:
        array = array.transpose(0, 2, 3, 1)
    return quantize(spec, np.ascontiguousarray(array))


def real_outputs(specs: Sequence[TensorSpec], outputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Real values, images as (1, C, H, W)."""
    real = []
    for spec, output in zip(specs, outputs, strict=True):
        values = dequantize(spec, output)
        nhwc = spec.layout == "NHWC" and values.ndim == _IMAGE_RANK
        real.append(values.transpose(0, 3, 1, 2) if nhwc else values)
    return real


def compare(
    model: CutModel, made: CutModel, task: Task | None, frames: Iterable[SensorFrame], source: str
) -> dict[str, Figure]:
    """``agreement`` (where the task's answers can be compared), ``max_difference`` and
    ``noise_ratio``: the root mean square of the difference over that of the outputs.

    Args:
        model: the original.
        made: the converted one, with the same names and order of outputs.
        task: for preprocessing and answers.
        frames: as the task's data has them; without a task, the original's inputs.
        source: where the frames are from.
    """  # noqa: D205
    answer = answer_spec(model.graph.outputs, task)
    kind = load_kind(answer)
    preprocess = fitted(
        model.graph.name, model.graph.inputs, None if task is None else task.preprocess
    )
    worst, noise, power = 0.0, 0.0, 0.0
    agreements: list[float] = []
    count = 0
    with ExitStack() as opened:
        slices = [_open(part) for part in (model, made)]
        for part in slices:
            opened.callback(part.close)
        for frame in frames:
            count += 1
            reference, got = (
                real_outputs(part.graph.outputs, slice_.run(inputs_of(part.graph, task, frame)))
                for part, slice_ in zip((model, made), slices, strict=True)
            )
            for ours, theirs in zip(got, reference, strict=True):
                difference = np.abs(ours.astype(np.float64) - theirs)
                worst = max(worst, float(difference.max()))
                noise += float((difference**2).sum())
                power += float((theirs.astype(np.float64) ** 2).sum())
            if not kind.raw:
                answers = [kind.postprocess(outs, preprocess) for outs in (got, reference)]
                agreements.append(kind.agrees(*answers))
    figures = {}
    measured = Evidence.MEASURED
    if agreements:
        share, spread = mean(agreements)
        figures["agreement"] = Figure(share, "1", measured, source, spread, len(agreements))
    figures["max_difference"] = Figure(worst, "1", measured, source, None, count)
    ratio = (noise / power) ** 0.5 if power else 0.0
    figures["noise_ratio"] = Figure(ratio, "1", measured, source, None, count)
    return figures


def _open(model: CutModel) -> Slice:
    graph = model.graph
    return load_backend(AUTO, graph.format).open(
        Path(model.path),
        inputs=[spec.name for spec in graph.inputs],
        outputs=[spec.name for spec in graph.outputs],
    )
