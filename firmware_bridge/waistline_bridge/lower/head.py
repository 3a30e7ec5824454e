"""Reading a head of either format, and calibration frames as a head takes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from waistline.blob.form import Int8Head
from waistline.errors import CodecError
from waistline.frame import SensorFrame
from waistline.model.load import load_model
from waistline.task.preprocess import apply
from waistline.task.spec import Preprocess
from waistline.tensors import TensorSpec


def lower_head(path: str | Path) -> Int8Head:
    """The layers of an int8 head: a ``.tflite`` or a quantized ``.onnx`` file, by its content.

    Raises:
        ModelError: it cannot be read, or the firmware cannot run it; names the node and why.
        MissingExtra: the package that reads its format is not installed.
    """
    model = load_model(path)
    if model.graph.format == "tflite":
        from waistline.model.tflite_graph import TfliteModel
        from waistline_bridge.lower.tflite import lower_tflite

        assert isinstance(model, TfliteModel)
        return lower_tflite(model)
    from waistline.model.onnx_graph import OnnxModel
    from waistline_bridge.lower.qdq import lower_qdq

    assert isinstance(model, OnnxModel)
    return lower_qdq(model)


def calibration_feeds(
    frames: Iterable[SensorFrame], inputs: Sequence[TensorSpec], preprocess: Preprocess | None
) -> Iterator[dict[str, NDArray[np.generic]]]:
    """What `waistline_bridge.lower.quantize.quantize_head` takes, from a task's data.

    Args:
        frames: such as ``task.data("calibration", inputs)``.
        inputs: of the float model, in its order.
        preprocess: the task's; None: the frames are the model's inputs.

    Raises:
        CodecError: a frame does not fit the task or the model.
    """
    for frame in frames:
        arrays = frame.arrays if preprocess is None else (apply(preprocess, frame.arrays[0]),)
        wanted = [(spec.numpy_dtype, spec.shape) for spec in inputs]
        got = [(array.dtype, array.shape) for array in arrays]
        if wanted != got:
            raise CodecError(
                f"frame {frame.name or frame.index} does not fit the model's inputs",
                cause=f"it is {got}, the model takes {wanted}",
            )
        yield {spec.name: array for spec, array in zip(inputs, arrays, strict=True)}
