"""Multiply-accumulates of a TFLite operator, from shapes alone; counted as in ONNX models.

Convolutions and matrix products count, element-wise operators and pooling do not. Shapes of
weights: tensorflow/lite/schema/schema.fbs and the kernels' own comments.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from waistline.model.tflite_file import TfliteFile

Shape = tuple[int, ...]


def count_macs(file: TfliteFile, operator: Any) -> int:
    """MACs of one run; 0 for operators that have none, or whose tensors are not those expected."""
    rule = _RULES.get(file.operators[operator.opcodeIndex])
    if rule is None:
        return 0
    tensors = file.graph.tensors
    inputs = [tuple(tensors[t].shape) if t >= 0 else () for t in operator.inputs]
    output = tuple(tensors[operator.outputs[0]].shape)
    try:
        return rule(inputs, output, operator.builtinOptions)
    except (IndexError, AttributeError):  # fewer tensors, axes or options than the operator has
        return 0


def _conv(inputs: list[Shape], output: Shape, options: Any) -> int:
    return math.prod(output) * math.prod(inputs[1][1:])  # (out, h, w, in of a group)


def _depthwise(inputs: list[Shape], output: Shape, options: Any) -> int:
    return math.prod(output) * math.prod(inputs[1][1:3])  # (1, h, w, out)


def _fully_connected(inputs: list[Shape], output: Shape, options: Any) -> int:
    return math.prod(output) * inputs[1][-1]  # (out, in)


def _transposed(inputs: list[Shape], output: Shape, options: Any) -> int:
    weights = inputs[1]  # (out, h, w, in); each input element is used once per (out, h, w)
    return math.prod(inputs[2]) * math.prod(weights[:-1])


def _conv_3d(inputs: list[Shape], output: Shape, options: Any) -> int:
    return math.prod(output) * math.prod(inputs[1][:-1])  # (d, h, w, in, out)


def _transposed_3d(inputs: list[Shape], output: Shape, options: Any) -> int:
    return math.prod(inputs[2]) * math.prod(inputs[1][:-1])  # (d, h, w, out, in)


def _batch_matmul(inputs: list[Shape], output: Shape, options: Any) -> int:
    return math.prod(output) * inputs[0][-2 if options.adjX else -1]


_RULES: dict[str, Callable[[list[Shape], Shape, Any], int]] = {
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _fully_connected,
    "TRANSPOSE_CONV": _transposed,
    "CONV_3D": _conv_3d,
    "CONV_3D_TRANSPOSE": _transposed_3d,
    "BATCH_MATMUL": _batch_matmul,
}
