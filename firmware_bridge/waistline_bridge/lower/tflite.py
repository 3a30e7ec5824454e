"""Reading an int8 TFLite head into the intermediate form.

Factors are computed from the file's float32 scales in the order of TFLite's own kernels
(``kernel_util.cc``, ``quantization_util.cc``), so that the integers are theirs to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from waistline.blob.form import Clamp, Int8Head, Pair, Window
from waistline.model.tflite_file import TYPE_NAMES, schema
from waistline.model.tflite_graph import TfliteModel, load_tflite
from waistline.model.tflite_layers import shown
from waistline.tensors import TensorSpec
from waistline_bridge.lower.build import HeadBuilder, Weights
from waistline_bridge.lower.factors import clamp_between
from waistline_bridge.lower.refuse import NoLayer, Unsupported, refusal

_SAME = schema.Padding.SAME
_ACTIVATIONS: dict[int, tuple[float | None, float | None]] = {
    schema.ActivationFunctionType.NONE: (None, None),
    schema.ActivationFunctionType.RELU: (0.0, None),
    schema.ActivationFunctionType.RELU_N1_TO_1: (-1.0, 1.0),
    schema.ActivationFunctionType.RELU6: (0.0, 6.0),
}


def read_tflite(path: str | Path) -> Int8Head:
    """The layers of a TFLite file.

    Raises:
        ModelError: not a TFLite model, or one the firmware cannot run; names the node and why.
    """
    return lower_tflite(load_tflite(path))


def lower_tflite(model: TfliteModel) -> Int8Head:
    """As `read_tflite`, from a model that was read."""
    return _Reader(model).read()


class _Reader:
    def __init__(self, model: TfliteModel) -> None:
        self._model = model
        self._file = model.file
        self._tensors = model.file.graph.tensors
        self._build = HeadBuilder()
        self._numbers: dict[int, int] = {}

    def read(self) -> Int8Head:
        graph = self._file.graph
        ends = self._ends()
        for k in self._model.index.kept:
            operator = graph.operators[k]
            kind = self._file.operators[operator.opcodeIndex]
            try:
                rule = _RULES.get(kind)
                if rule is None:
                    raise NoLayer(kind)
                rule(self, operator)
            except Unsupported as error:
                node = f"{self._tensors[operator.outputs[0]].name!r}, {shown(self._file, k)}"
                raise refusal(node, self._name, str(error)) from error
        inputs, outputs = ([(self._numbers[number], spec) for number, spec in end] for end in ends)
        return self._build.finish(inputs, outputs)

    @property
    def _name(self) -> str:
        return self._model.path.name

    def _ends(self) -> tuple[list[tuple[int, TensorSpec]], list[tuple[int, TensorSpec]]]:
        graph, described = self._file.graph, self._model.graph
        read = {number for k in self._model.index.kept for number in graph.operators[k].inputs}
        for number in (number for number in graph.inputs if number in read):
            try:
                self._activation(number)
            except Unsupported as error:
                node = f"the input {self._tensors[number].name!r}"
                raise refusal(node, self._name, str(error)) from error
        inputs = zip(graph.inputs, described.inputs, strict=True)
        outputs = zip(graph.outputs, described.outputs, strict=True)
        return (
            [(number, spec) for number, spec in inputs if number in read],
            [(number, spec) for number, spec in outputs if number not in graph.inputs],
        )

    def _activation(self, number: int) -> int:
        """The builder's number of a tensor that is no constant."""
        if number in self._numbers:
            return self._numbers[number]
        tensor = self._tensors[number]
        if number in self._model.index.constants:
            raise Unsupported(f"tensor {tensor.name!r} is a constant where a layer's output goes")
        if (kind := TYPE_NAMES.get(tensor.type, "")) != "int8":
            raise Unsupported(f"tensor {tensor.name!r} is {kind}, not int8")
        if tensor.name in self._model.graph.unsized:
            raise Unsupported(self._model.graph.unsized[tensor.name])
        scales, zero_points = self._quantization(number)
        if len(scales) != 1:
            raise Unsupported(f"tensor {tensor.name!r} has {len(scales)} scales, not one")
        made = self._build.tensor(tensor.name, tensor.shape, float(scales[0]), int(zero_points[0]))
        self._numbers[number] = made
        return made

    def _quantization(self, number: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        tensor = self._tensors[number]
        found = tensor.quantization
        scales = np.zeros(0) if found is None or found.scale is None else np.asarray(found.scale)
        if not scales.size:
            raise Unsupported(f"tensor {tensor.name!r} has no scale")
        zero = found.zeroPoint
        zeros = np.zeros(scales.size) if zero is None or not len(zero) else np.asarray(zero)
        if zeros.size != scales.size:
            raise Unsupported(
                f"tensor {tensor.name!r} has {scales.size} scales, {zeros.size} zeros"
            )
        return scales.astype(np.float32), zeros.astype(np.int64)

    def _constant(self, number: int, dtype: str) -> NDArray[Any]:
        """The content of a constant tensor, in its shape."""
        tensor = self._tensors[number]
        kind = TYPE_NAMES.get(tensor.type, "")
        if number not in self._model.index.constants or number in self._model.index.producer:
            raise Unsupported(f"tensor {tensor.name!r} is computed, not a constant of the file")
        if kind != dtype:
            raise Unsupported(f"constant {tensor.name!r} is {kind}, not {dtype}")
        content = self._file.weights[tensor.buffer]
        wanted = np.dtype(dtype).newbyteorder("<")
        if content.nbytes != math.prod(tensor.shape) * wanted.itemsize:
            raise Unsupported(f"constant {tensor.name!r} has {content.nbytes} bytes")
        values = np.frombuffer(content.tobytes(), wanted).reshape(tensor.shape)
        return values.astype(dtype)

    def _weights(self, operator: Any, axis: int, shape: Callable[[Any], Any]) -> Weights:
        """Weights of input 1 reordered by ``shape``, the bias of input 2; ``axis``: of channels."""
        number = _input(operator, 1)
        codes = self._constant(number, "int8")
        scales, zeros = self._quantization(number)
        tensor = self._tensors[number]
        if zeros.any():
            raise Unsupported(f"its weights {tensor.name!r} have the zero point {zeros.max()}")
        if scales.size > 1 and tensor.quantization.quantizedDimension != axis:
            where = tensor.quantization.quantizedDimension
            raise Unsupported(f"its weights have a scale per slice of axis {where}, not {axis}")
        if not (np.isfinite(scales).all() and (scales > 0).all()):
            raise Unsupported(f"its weights {tensor.name!r} have a scale that is not positive")
        if len(codes.shape) <= axis:
            raise Unsupported(f"its weights {tensor.name!r} have the shape {codes.shape}")
        count = codes.shape[axis]
        if scales.size not in (1, count):
            raise Unsupported(f"its weights have {scales.size} scales for {count} channels")
        bias = np.zeros(count, np.int64)
        if len(operator.inputs) > 2 and operator.inputs[2] >= 0:
            bias = self._constant(operator.inputs[2], "int32").astype(np.int64).reshape(-1)
        if bias.size != count:
            raise Unsupported(f"its bias has {bias.size} values for {count} channels")
        return Weights(shape(codes), scales, bias)

    def _clamp(self, operator: Any, y: int) -> Clamp:
        kind = getattr(operator.builtinOptions, "fusedActivationFunction", 0)
        if kind not in _ACTIVATIONS:
            raise Unsupported(f"its activation (number {kind}) is not a clamp")
        return clamp_between(self._build.tensors[y], *_ACTIVATIONS[kind])

    def _window(self, x: int, kernel: Pair, options: Any) -> Window:
        stride = options.strideH, options.strideW
        dilation = getattr(options, "dilationHFactor", 1), getattr(options, "dilationWFactor", 1)
        if dilation != (1, 1):
            raise Unsupported(f"it is dilated by {dilation}; the firmware has no dilated windows")
        if min(*stride, *kernel) < 1:
            raise Unsupported(f"its kernel is {kernel}, its stride {stride}")
        before, after = [0, 0], [0, 0]
        if options.padding == _SAME:
            for axis in (0, 1):
                size = self._build.tensors[x].shape[axis]
                steps = -(-size // stride[axis]) - 1
                total = max(steps * stride[axis] + kernel[axis] - size, 0)
                before[axis], after[axis] = total // 2, total - total // 2
        return Window(kernel, stride, (before[0], before[1]), (after[0], after[1]))

    def conv(self, operator: Any) -> None:
        x, y = self._activation(_input(operator, 0)), self._activation(operator.outputs[0])
        weights = self._weights(operator, 0, lambda codes: codes)
        if weights.codes.ndim != 4:
            raise Unsupported(f"its weights have {weights.codes.ndim} axes")
        kernel = weights.codes.shape[1], weights.codes.shape[2]
        window = self._window(x, kernel, _options(operator, schema.Conv2DOptionsT))
        self._build.conv(x, y, weights, window, self._clamp(operator, y))

    def depthwise(self, operator: Any) -> None:
        x, y = self._activation(_input(operator, 0)), self._activation(operator.outputs[0])
        weights = self._weights(operator, 3, _first)
        kernel = weights.codes.shape[0], weights.codes.shape[1]
        window = self._window(x, kernel, _options(operator, schema.DepthwiseConv2DOptionsT))
        self._build.depthwise(x, y, weights, window, self._clamp(operator, y))

    def dense(self, operator: Any) -> None:
        x, y = self._activation(_input(operator, 0)), self._activation(operator.outputs[0])
        if getattr(operator.builtinOptions, "weightsFormat", 0):
            raise Unsupported("its weights are shuffled for another processor")
        weights = self._weights(operator, 0, lambda codes: codes)
        self._build.dense(x, y, weights, self._clamp(operator, y))

    def pool(self, operator: Any) -> None:
        x, y = self._activation(_input(operator, 0)), self._activation(operator.outputs[0])
        options = _options(operator, schema.Pool2DOptionsT)
        window = self._window(x, (options.filterHeight, options.filterWidth), options)
        largest = self._file.operators[operator.opcodeIndex] == "MAX_POOL_2D"
        self._build.pool(x, y, window, largest, self._clamp(operator, y))

    def mean(self, operator: Any) -> None:
        x, y = self._activation(_input(operator, 0)), self._activation(operator.outputs[0])
        rank = len(self._tensors[operator.inputs[0]].shape)
        axes = {int(axis) % rank for axis in self._constant(_input(operator, 1), "int32").flat}
        if rank != 4 or axes != {1, 2}:
            raise Unsupported(f"it is a mean over the axes {sorted(axes)}, not height and width")
        self._build.mean(x, y, Clamp())

    def add(self, operator: Any) -> None:
        a, b = (self._activation(_input(operator, k)) for k in (0, 1))
        y = self._activation(operator.outputs[0])
        self._build.add(a, b, y, self._clamp(operator, y))

    def concat(self, operator: Any) -> None:
        parts = [self._activation(number) for number in operator.inputs]
        y = self._activation(operator.outputs[0])
        rank = len(self._tensors[operator.outputs[0]].shape)
        axis = _options(operator, schema.ConcatenationOptionsT).axis % rank
        if self._clamp(operator, y) != Clamp():
            raise Unsupported("it has an activation")
        if axis != rank - 1:
            raise Unsupported(f"it joins along axis {axis}, not along the channels")
        self._build.concat(parts, y)

    def pad(self, operator: Any) -> None:
        x, y = self._activation(_input(operator, 0)), self._activation(operator.outputs[0])
        table = self._constant(_input(operator, 1), "int32")
        rank = len(self._tensors[operator.inputs[0]].shape)
        if table.shape != (rank, 2) or table[0].any():
            raise Unsupported(f"it pads by {table.tolist()}")
        rows = np.zeros((3, 2), np.int64)
        rows[4 - rank :] = table[1:]
        (top, bottom), (left, right), (front, back) = rows.tolist()
        self._build.pad(x, y, (top, left, front), (bottom, right, back))

    def relu(self, operator: Any) -> None:
        x, y = self._activation(_input(operator, 0)), self._activation(operator.outputs[0])
        kind = self._file.operators[operator.opcodeIndex]
        limits = _ACTIVATIONS[getattr(schema.ActivationFunctionType, kind)]
        self._build.rescale(x, y, clamp_between(self._build.tensors[y], *limits))

    def leaky(self, operator: Any) -> None:
        x, y = self._activation(_input(operator, 0)), self._activation(operator.outputs[0])
        self._build.leaky(x, y, _options(operator, schema.LeakyReluOptionsT).alpha)

    def quantize(self, operator: Any) -> None:
        x, y = self._activation(_input(operator, 0)), self._activation(operator.outputs[0])
        self._build.rescale(x, y, Clamp())

    def reshape(self, operator: Any) -> None:
        x, number = self._activation(_input(operator, 0)), operator.outputs[0]
        if self._scales(operator.inputs[0]) != self._scales(number):
            raise Unsupported("it changes the scale")
        tensor = self._tensors[number]
        self._numbers[number] = self._build.view(x, tensor.name, tensor.shape)

    def _scales(self, number: int) -> tuple[list[float], list[int]]:
        scales, zeros = self._quantization(number)
        return scales.tolist(), zeros.tolist()


def _first(codes: Any) -> Any:
    if codes.ndim != 4 or codes.shape[0] != 1:
        raise Unsupported(f"its weights have the shape {codes.shape}")
    return codes[0]


def _input(operator: Any, k: int) -> int:
    if len(operator.inputs) <= k or operator.inputs[k] < 0:
        raise Unsupported(f"it has no input {k}")
    return int(operator.inputs[k])


def _options(operator: Any, kind: type) -> Any:
    if not isinstance(operator.builtinOptions, kind):
        raise Unsupported(f"it has no {kind.__name__.removesuffix('T')}")
    return operator.builtinOptions


_RULES: dict[str, Callable[[_Reader, Any], None]] = {
    "CONV_2D": _Reader.conv,
    "DEPTHWISE_CONV_2D": _Reader.depthwise,
    "FULLY_CONNECTED": _Reader.dense,
    "MAX_POOL_2D": _Reader.pool,
    "AVERAGE_POOL_2D": _Reader.pool,
    "MEAN": _Reader.mean,
    "ADD": _Reader.add,
    "CONCATENATION": _Reader.concat,
    "PAD": _Reader.pad,
    "RELU": _Reader.relu,
    "RELU6": _Reader.relu,
    "RELU_N1_TO_1": _Reader.relu,
    "LEAKY_RELU": _Reader.leaky,
    "QUANTIZE": _Reader.quantize,
    "RESHAPE": _Reader.reshape,
    "SQUEEZE": _Reader.reshape,
}
