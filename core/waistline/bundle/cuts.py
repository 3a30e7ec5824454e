"""The cuts of a model as a table, and how a task fits a model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec
import numpy as np
from msgspec.structs import replace

from waistline.bundle.check import FRAME
from waistline.codec.waist import WaistCodec
from waistline.errors import ConfigError
from waistline.evidence import Evidence, Figure, mean
from waistline.model.graph import Frontier
from waistline.model.load import CutModel
from waistline.task.data.base import spread
from waistline.task.kinds.base import load_kind
from waistline.task.load import Task
from waistline.task.preprocess import input_shape
from waistline.task.spec import AnswerSpec, Preprocess
from waistline.tensors import TensorSpec, WaistTensor, takes_floats

PACKED_BITS = 4
"""Code width that the table assumes for float tensors."""
_OTHER: dict[str, Literal["NCHW", "NHWC"]] = {"NCHW": "NHWC", "NHWC": "NCHW"}
FRAME_CODECS = ("raw|none", "png", "jpeg:90", "jpeg:75", "jpeg:50", "webp:80", "webp:50")
"""Ways to send the picture itself that every comparison holds."""
GOOD_PICTURES = ("png", "jpeg:90")
"""Those that hardly ever change an answer; what a waist has to beat."""
_MAX_FRAMES = 64
"""Frames behind the mean size of a coded sensor frame."""


class CutRow(msgspec.Struct, frozen=True):
    """One partition point.

    Attributes:
        x: 0: the sensor frame (only with a task that preprocesses), N: the answer.
        tensors: the waist, uncoded.
        after: name of the last layer before the cut.
        size_bytes: of the waist as the model has it.
        packed_bytes: float tensors at `PACKED_BITS`, others as they are, no entropy coding; at
            x = N the longest packed answer, at x = 0 the mean PNG.
        macs_before: multiply-accumulates on the node.
        macs_share: the same as a share of the model's, 0..1.
        parameters_before: weights on the node (elements).
        breaks_fusion: why an engine runs the slices slower than the whole, "" if it does not.
        frame_bytes: at x = 0 the mean size of a coded frame by codec spec; counted.
    """

    x: int
    tensors: tuple[TensorSpec, ...]
    after: str
    size_bytes: int
    packed_bytes: int
    macs_before: int
    macs_share: float
    parameters_before: int
    breaks_fusion: str = ""
    frame_bytes: dict[str, Figure] = {}

    @property
    def picture_bytes(self) -> float:
        """At x = 0: the mean frame as the smaller of `GOOD_PICTURES`, as it is without data."""
        found = [self.frame_bytes[name].value for name in GOOD_PICTURES if name in self.frame_bytes]
        return min(found, default=float(self.size_bytes))


def list_cuts(model: CutModel, task: Task | None = None) -> list[CutRow]:
    """Every partition point of ``model``, x ascending.

    Raises:
        ConfigError: the task does not fit the model, or its data cannot be used.
    """
    graph = model.graph
    preprocess = fitted(graph.name, graph.inputs, None if task is None else task.preprocess)
    rows = [] if task is None or preprocess is None else [_frame_row(task, preprocess)]
    total_macs = graph.frontiers[-1].macs_before
    answer_bytes = load_kind(answer_spec(graph.outputs, task)).max_bytes
    for frontier in graph.frontiers:
        last = frontier.x == graph.last_x
        rows.append(
            CutRow(
                x=frontier.x,
                tensors=frontier.tensors,
                after=frontier.after,
                size_bytes=frontier.size_bytes,
                packed_bytes=answer_bytes if last else _packed(frontier),
                macs_before=frontier.macs_before,
                macs_share=frontier.macs_before / total_macs if total_macs else 0.0,
                parameters_before=frontier.parameters_before,
                breaks_fusion=frontier.breaks_fusion,
            )
        )
    return rows


def pick_default_cut(rows: Sequence[CutRow]) -> CutRow:
    """The earliest cut with a head and a tail whose packed waist is below the picture.

    That is the least work on the node that saves bytes. Where no waist does (the picture itself is
    cheaper everywhere), it is the cut with the smallest waist.

    Raises:
        ConfigError: the model has no cut with both a head and a tail.
    """
    between = [row for row in rows if 1 < row.x < rows[-1].x]
    if not between:
        raise ConfigError(
            "the model has no cut with a head and a tail",
            cause=f"its partition points are 0 to {rows[-1].x}",
            fix="choose --cut 0, 1 or the last",
        )
    limit = rows[0].picture_bytes if rows[0].x == 0 else 0.0
    cheaper = [row for row in between if row.packed_bytes < limit and not row.breaks_fusion]
    return cheaper[0] if cheaper else min(between, key=lambda row: row.packed_bytes)


def fitted(
    name: str, inputs: Sequence[TensorSpec], preprocess: Preprocess | None
) -> Preprocess | None:
    """The preprocessing with the order of axes that the model takes.

    One task file serves an ONNX model (NCHW) and the TFLite model made from it (NHWC).

    Raises:
        ConfigError: it does not make the model's input in either order; says what is made and what
            the model takes.
    """
    if preprocess is None:
        return None
    orders = [preprocess, replace(preprocess, layout=_OTHER[preprocess.layout])]
    takes = [spec.shape for spec in inputs if takes_floats(spec)]
    for order in orders:
        if takes == [input_shape(order)] and len(inputs) == 1:
            return order
    shown = ", ".join(f"{spec.dtype} {spec.shape}" for spec in inputs)
    raise ConfigError(
        f"the task does not fit {name}",
        cause=f"its preprocessing makes float32 {input_shape(preprocess)}, the model takes {shown}",
        fix="mend size, color and layout in [preprocess] of the task file",
    )


def frame_tensor(model_name: str, preprocess: Preprocess | None) -> TensorSpec:
    """The waist at x = 0.

    Raises:
        ConfigError: there is no preprocessing, so there is no frame.
    """
    if preprocess is None:
        raise ConfigError(
            f"partition point 0 of {model_name} needs a task",
            cause="the sensor frame and its preprocessing are unknown",
            fix="give --task FILE with [preprocess], or --cut 1 to send the model's input",
        )
    return TensorSpec(FRAME, "uint8", tuple(preprocess.frame_shape), "any", 2)


def answer_spec(made: Sequence[TensorSpec], task: Task | None) -> AnswerSpec:
    """The task's answer; without one, or where it leaves them out, the raw outputs ``made``."""
    outputs = {"outputs": [msgspec.to_builtins(spec) for spec in made]}
    if task is None:
        return AnswerSpec("tensors", outputs)
    if task.answer.kind == "tensors" and not task.answer.options:
        return AnswerSpec("tensors", outputs)
    return task.answer


def _packed(frontier: Frontier) -> int:
    return sum(
        -(-spec.elements * PACKED_BITS // 8) if spec.numpy_dtype.kind == "f" else spec.size_bytes
        for spec in frontier.tensors
    )


def _frame_row(task: Task, preprocess: Preprocess) -> CutRow:
    tensor = frame_tensor(task.path.name, preprocess)
    sizes: dict[str, Figure] = {}
    if task.has_data("calibration"):
        data = task.data("calibration")
        places = spread(len(data), _MAX_FRAMES)
        frames = (frame.arrays[0] for place, frame in enumerate(data) if place in places)
        sizes = _coded_sizes(tensor, frames)
    packed = round(sizes["png"].value) if sizes else tensor.size_bytes
    return CutRow(0, (tensor,), "", tensor.size_bytes, packed, 0, 0.0, 0, "", sizes)


def _coded_sizes(tensor: TensorSpec, frames: Iterable[np.ndarray]) -> dict[str, Figure]:
    """Mean payload of a frame by codec, with its standard uncertainty."""
    coders = {spec: WaistCodec([WaistTensor(tensor, spec)]) for spec in FRAME_CODECS}
    sizes: dict[str, list[int]] = {spec: [] for spec in FRAME_CODECS}
    for frame in frames:
        for spec, coder in coders.items():
            sizes[spec].append(len(coder.encode([frame]).payload))
    return {spec: _mean_bytes(spec, values) for spec, values in sizes.items()}


def _mean_bytes(spec: str, values: Sequence[int]) -> Figure:
    size_bytes, spread = mean(values)
    source = f"mean payload of {len(values)} calibration frames as {spec}"
    return Figure(size_bytes, "byte", Evidence.MEASURED, source, spread, len(values))
