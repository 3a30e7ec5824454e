"""Cutting a model of any kind for a microcontroller: an int8 head, and a tail that takes its waist.

A float ONNX model is cut first, then its head is quantized; one that is int8 already, ONNX in QDQ
form or TFLite, is cut as it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from waistline.blob.form import Int8Head
from waistline.errors import ModelError
from waistline.model.graph import Frontier, ModelGraph
from waistline.model.load import CutModel
from waistline.tensors import TensorSpec
from waistline_bridge.lower.head import lower_head

if TYPE_CHECKING:
    from waistline_bridge.lower.quantize import Feeds

FIRST_X = 2
"""The earliest partition point with a head."""
_QUANTIZING = frozenset({"QuantizeLinear", "DequantizeLinear"})


@dataclass(frozen=True, slots=True)
class LoweredCut:
    """Both sides of a cut.

    Attributes:
        head: its outputs in the order of the cut.
        tail: the file that takes what crosses; None at x = N.
        inputs: of the model: int8 where the head reads them, else as the model has them.
        outputs: the waist, at x = N the answers: made by the head, or inputs that cross the cut.
    """

    head: Int8Head
    tail: Path | None
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @property
    def taken(self) -> tuple[TensorSpec, ...]:
        """By the head."""
        return tuple(port.spec for port in self.head.inputs)

    @property
    def made(self) -> tuple[TensorSpec, ...]:
        """By the head."""
        return tuple(port.spec for port in self.head.outputs)


def is_quantized(graph: ModelGraph) -> bool:
    """Whether a model brings its own int8 tensors."""
    return graph.format != "onnx" or any(layer.operator in _QUANTIZING for layer in graph.layers)


def lower_cut(
    model: CutModel, frontier: Frontier, folder: Path, feeds: Iterable[Feeds]
) -> LoweredCut:
    """Cut ``model``, lower its head, and write the tail into ``folder``.

    Args:
        model: float ONNX, QDQ ONNX or TFLite.
        frontier: with x from `FIRST_X` on.
        folder: takes the slices, and what is made on the way.
        feeds: calibration frames as a float model takes them; not asked for by others.

    Raises:
        ModelError: the firmware cannot run the head (names the node and why), or the model cannot
            be cut or quantized.
        ConfigError: no frames for a float head.
    """
    check_head(model.graph, frontier.x)
    if model.graph.format == "tflite":
        _check_int8(model.graph, frontier)
    source, tail = model.write_slices(frontier, folder)
    assert source is not None
    if not is_quantized(model.graph):
        from waistline_bridge.lower.quantize import quantize_head

        quantized = folder / "head.int8.onnx"
        quantize_head(source, feeds, quantized)
        source = quantized
    head = lower_head(source)
    made = {port.spec.name: port for port in head.outputs}
    head = replace(head, outputs=tuple(made[name] for name in frontier.names if name in made))
    known = {spec.name: spec for spec in model.graph.inputs}
    known |= {port.spec.name: port.spec for port in (*head.inputs, *head.outputs)}
    inputs = tuple(known[spec.name] for spec in model.graph.inputs)
    outputs = tuple(known[name] for name in frontier.names)
    if tail is not None and model.graph.format == "onnx":
        from waistline_bridge.lower.tail import write_int8_tail

        taking = folder / "tail.int8.onnx"
        write_int8_tail(tail, [spec for spec in outputs if spec.scale is not None], taking)
        tail = taking
    return LoweredCut(head, tail, inputs, outputs)


def check_head(graph: ModelGraph, x: int) -> None:
    """Refuse a partition point where the board would have nothing to run.

    Raises:
        ModelError: naming the first that has a head.
    """
    if x < FIRST_X:
        what = "sensor frame" if x == 0 else "model's input"
        raise ModelError(
            f"partition point {x} of {graph.name} gives a microcontroller nothing to run",
            cause=f"the waist is the {what}, and a board runs the head before it",
            fix=f"choose --cut {FIRST_X} to {graph.last_x} "
            "(waistline split MODEL --backend mcu --list)",
        )


def _check_int8(graph: ModelGraph, frontier: Frontier) -> None:
    read = [spec for spec in graph.inputs if spec.name not in frontier.names]
    wide = next((spec for spec in read if spec.dtype != "int8"), None)
    if wide is not None:
        raise ModelError(
            f"{graph.name} is not an int8 TFLite model",
            cause=f"its input {wide.name!r} is {wide.dtype}; only float ONNX heads are quantized",
            fix="give the ONNX model it was made from, or what 'waistline convert --int8' makes",
        )
