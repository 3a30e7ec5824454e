"""TFLite models written with the schema, float or int8, and running them in LiteRT."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from waistline.model import tflite_cut, tflite_graph
from waistline.model.graph import Frontier

OPS, OPTIONS, TYPES = schema.BuiltinOperator, schema.BuiltinOptions, schema.TensorType
RELU = schema.ActivationFunctionType.RELU
WEIGHT_SCALE = 0.01
INPUT_SCALE, INPUT_ZERO = 1 / 32, 3


class Net:
    """A model under construction; tensors are numbers.

    Weights are random. In an int8 net they have a scale per channel, and each layer's output scale
    spreads its codes over the type, so that a wrong cut cannot hide.
    """

    def __init__(self, *, quantized: bool = False, seed: int = 0) -> None:
        self.quantized = quantized
        self.random = np.random.default_rng(seed)
        self.graph = schema.SubGraphT(name="main", tensors=[], inputs=[], outputs=[], operators=[])
        self.model = schema.ModelT(version=3, description="made by the tests")
        self.model.operatorCodes = []
        self.model.subgraphs = [self.graph]
        self.model.buffers = [schema.BufferT()]

    def tensor(
        self,
        shape: Sequence[int],
        name: str | None = None,
        *,
        type_: int | None = None,
        data: np.ndarray | None = None,
        scale: float | Sequence[float] | None = None,
        zero_point: int = 0,
        axis: int = 0,
    ) -> int:
        """An activation of the net's own type, or whatever is asked for."""
        number = len(self.graph.tensors)
        own = TYPES.INT8 if self.quantized else TYPES.FLOAT32
        tensor = schema.TensorT(
            shape=list(shape), type=own if type_ is None else type_, name=name or f"t{number}"
        )
        if data is not None:
            tensor.buffer = len(self.model.buffers)
            content = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
            self.model.buffers.append(schema.BufferT(data=content))
        if scale is not None:
            scales = [scale] if isinstance(scale, float) else list(scale)
            tensor.quantization = schema.QuantizationParametersT(
                scale=scales, zeroPoint=[zero_point] * len(scales), quantizedDimension=axis
            )
        self.graph.tensors.append(tensor)
        return number

    def input(self, shape: Sequence[int], name: str = "x", **options: Any) -> int:
        if self.quantized:
            options = {"scale": INPUT_SCALE, "zero_point": INPUT_ZERO, **options}
        self.graph.inputs.append(self.tensor(shape, name, **options))
        return int(self.graph.inputs[-1])

    def op(
        self, code: int, inputs: Sequence[int], outputs: Sequence[int], options: Any = None, **more
    ) -> int:
        """Add an operator; returns its first output."""
        operator = schema.OperatorT(inputs=list(inputs), outputs=list(outputs), **more)
        found = [k for k, c in enumerate(self.model.operatorCodes) if c.builtinCode == code]
        if not found or code == OPS.CUSTOM:
            found = [len(self.model.operatorCodes)]
            self.model.operatorCodes.append(
                schema.OperatorCodeT(
                    deprecatedBuiltinCode=min(code, 127), builtinCode=code, version=1
                )
            )
        operator.opcodeIndex = found[0]
        if options is not None:
            operator.builtinOptionsType = getattr(OPTIONS, type(options).__name__[:-1])
            operator.builtinOptions = options
        self.graph.operators.append(operator)
        return int(outputs[0])

    def _scale(self, number: int) -> tuple[float, int]:
        quantization = self.graph.tensors[number].quantization
        if quantization is None:
            return 1.0, 0
        return float(quantization.scale[0]), int(quantization.zeroPoint[0])

    def _like(self, shape: Sequence[int], source: int, name: str | None = None) -> int:
        """An activation with the scale of another."""
        if not self.quantized:
            return self.tensor(shape, name)
        scale, zero_point = self._scale(source)
        return self.tensor(shape, name, scale=scale, zero_point=zero_point)

    def _made(self, shape: Sequence[int], scale: float, name: str | None, zero: int = 0) -> int:
        if not self.quantized:
            return self.tensor(shape, name)
        return self.tensor(shape, name, scale=scale, zero_point=zero)

    def _weights(
        self, source: int, shape: Sequence[int], fan: int, axis: int, *, per_channel: bool = True
    ) -> tuple[int, int, float]:
        """Weights, bias, and the scale of an output whose codes fill the type."""
        channels = shape[axis]
        if not self.quantized:
            values = self.random.standard_normal(shape).astype(np.float32) * math.sqrt(2 / fan)
            bias = self.random.standard_normal(channels).astype(np.float32) * np.float32(0.1)
            both = self.tensor(shape, data=values), self.tensor([channels], data=bias)
            return *both, 1.0
        codes = self.random.integers(-127, 128, shape).astype(np.int8)
        bias = self.random.integers(-2000, 2000, channels).astype(np.int32)
        spread = 1 + np.arange(channels) % 3 / 4 if per_channel else np.ones(1)
        scales = WEIGHT_SCALE * spread
        source_scale = self._scale(source)[0]
        weights = self.tensor(shape, data=codes, scale=scales.tolist(), axis=axis)
        biases = (scales * source_scale).tolist()
        added = self.tensor([channels], type_=TYPES.INT32, data=bias, scale=biases)
        return weights, added, source_scale * WEIGHT_SCALE * 73 * math.sqrt(fan)

    def conv(
        self, x: int, channels: int, kernel: int = 3, stride: int = 1, name: str | None = None
    ) -> int:
        n, h, w, c = self.graph.tensors[x].shape
        shape = [channels, kernel, kernel, c]
        weights, bias, scale = self._weights(x, shape, c * kernel**2, 0)
        out = self._made([n, -(-h // stride), -(-w // stride), channels], scale, name, -60)
        options = schema.Conv2DOptionsT(
            strideW=stride, strideH=stride, fusedActivationFunction=RELU
        )
        return self.op(OPS.CONV_2D, [x, weights, bias], [out], options)

    def depthwise(self, x: int, stride: int = 1, name: str | None = None) -> int:
        n, h, w, c = self.graph.tensors[x].shape
        weights, bias, scale = self._weights(x, [1, 3, 3, c], 9, 3)
        out = self._made([n, -(-h // stride), -(-w // stride), c], scale, name, -60)
        options = schema.DepthwiseConv2DOptionsT(
            strideW=stride, strideH=stride, depthMultiplier=1, fusedActivationFunction=RELU
        )
        return self.op(OPS.DEPTHWISE_CONV_2D, [x, weights, bias], [out], options)

    def add(self, a: int, b: int, name: str | None = None) -> int:
        scale = math.hypot(self._scale(a)[0], self._scale(b)[0])
        out = self._made(self.graph.tensors[a].shape, scale, name, -40)
        return self.op(OPS.ADD, [a, b], [out], schema.AddOptionsT())

    def concat(self, parts: Sequence[int], name: str | None = None) -> int:
        """Along the channels; int8 parts are requantized to the scale of the first."""
        equal = [parts[0]]
        for part in parts[1:]:
            if self.quantized and self._scale(part) != self._scale(parts[0]):
                out = self._like(self.graph.tensors[part].shape, parts[0])
                part = self.op(OPS.QUANTIZE, [part], [out], schema.QuantizeOptionsT())
            equal.append(part)
        shape = list(self.graph.tensors[parts[0]].shape)
        shape[-1] = sum(self.graph.tensors[part].shape[-1] for part in parts)
        out = self._like(shape, parts[0], name)
        return self.op(OPS.CONCATENATION, equal, [out], schema.ConcatenationOptionsT(axis=3))

    def pool(self, x: int, size: int, *, largest: bool = False, name: str | None = None) -> int:
        n, h, w, c = self.graph.tensors[x].shape
        out = self._like([n, h // size, w // size, c], x, name)
        options = schema.Pool2DOptionsT(
            padding=1, strideW=size, strideH=size, filterWidth=size, filterHeight=size
        )
        return self.op(OPS.MAX_POOL_2D if largest else OPS.AVERAGE_POOL_2D, [x], [out], options)

    def pad(self, x: int, name: str | None = None) -> int:
        n, h, w, c = self.graph.tensors[x].shape
        table = np.array([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32)
        sizes = self.tensor([4, 2], type_=TYPES.INT32, data=table)
        out = self._like([n, h + 2, w + 2, c], x, name)
        return self.op(OPS.PAD, [x, sizes], [out], schema.PadOptionsT())

    def reshape(self, x: int, shape: Sequence[int], name: str | None = None) -> int:
        table = self.tensor([len(shape)], type_=TYPES.INT32, data=np.array(shape, np.int32))
        out = self._like(shape, x, name)
        options = schema.ReshapeOptionsT(newShape=list(shape))
        return self.op(OPS.RESHAPE, [x, table], [out], options)

    def dense(self, x: int, units: int, name: str | None = None) -> int:
        width = self.graph.tensors[x].shape[-1]
        weights, bias, scale = self._weights(x, [units, width], width, 0, per_channel=False)
        out = self._made([1, units], scale, name)
        options = schema.FullyConnectedOptionsT()
        return self.op(OPS.FULLY_CONNECTED, [x, weights, bias], [out], options)

    def softmax(self, x: int, name: str | None = None) -> int:
        out = self._made(self.graph.tensors[x].shape, 1 / 256, name, -128)
        beta = 1 / (20 * self._scale(x)[0]) if self.quantized else 1.0  # so that it stays soft
        return self.op(OPS.SOFTMAX, [x], [out], schema.SoftmaxOptionsT(beta=beta))

    def finish(self, *outputs: int) -> bytes:
        self.graph.outputs = list(outputs)
        return packed(self.model)


def packed(model: Any) -> bytes:
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def unpacked(data: bytes) -> Any:
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(bytearray(data), 0))


def changed(data: bytes, change: Callable[[Any], object]) -> bytes:
    """A copy after ``change(ModelT)``."""
    model = unpacked(data)
    change(model)
    return packed(model)


def branched(*, quantized: bool = False, seed: int = 1) -> bytes:
    """Branches, a skip over a padded depthwise layer, two outputs; ends in a softmax."""
    net = Net(quantized=quantized, seed=seed)
    stem = net.conv(net.input([1, 12, 12, 3]), 8, stride=2, name="stem")
    left = net.conv(stem, 8, 1, name="left")
    right = net.depthwise(stem, name="right")
    joined = net.concat([left, right], name="joined")
    thin = net.conv(joined, 8, 1, name="thin")
    deep = net.add(thin, stem, name="sum")
    pooled = net.pool(net.pad(deep, "padded"), 2, largest=True, name="largest")
    flat = net.reshape(net.pool(pooled, 4, name="mean"), [1, 8], name="flat")
    logits = net.dense(flat, 5, name="logits")
    return net.finish(net.softmax(logits, "shares"), pooled)


def mobilenet(*, quantized: bool = False, size: int = 32, width: float = 0.125) -> bytes:
    """MobileNetV1: 28 layers with weights, average, softmax (Howard et al., arXiv:1704.04861)."""

    def channels(count: int) -> int:
        return max(8, round(count * width))

    net = Net(quantized=quantized, seed=2)
    x = net.conv(net.input([1, size, size, 3]), channels(32), stride=2, name="conv0")
    plan = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5]
    for k, (count, stride) in enumerate([*plan, (1024, 2), (1024, 1)], 1):
        x = net.conv(net.depthwise(x, stride, f"dw{k}"), channels(count), 1, name=f"conv{k}")
    _, height, _, last = net.graph.tensors[x].shape
    flat = net.reshape(net.pool(x, height, name="mean"), [1, last], name="flat")
    return net.finish(net.softmax(net.dense(flat, 10, name="logits"), "shares"))


def load(data: bytes, name: str = "small.tflite") -> tflite_graph.TfliteModel:
    return tflite_graph.from_bytes(data, Path(name))


def feeds_of(model: tflite_graph.TfliteModel, seed: int = 5) -> dict[str, np.ndarray]:
    """Random inputs that use the whole type."""
    random = np.random.default_rng(seed)
    return {
        spec.name: random.integers(-128, 128, spec.shape).astype(np.int8)
        if spec.dtype == "int8"
        else random.standard_normal(spec.shape).astype(spec.numpy_dtype)
        for spec in model.graph.inputs
    }


def run(data: bytes, feeds: dict[str, np.ndarray], *, plain: bool = True) -> dict[str, np.ndarray]:
    """Run a file on one thread; ``plain``: the built-in kernels, without XNNPACK."""
    kind = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES if plain else OpResolverType.AUTO
    engine = Interpreter(model_content=data, num_threads=1, experimental_op_resolver_type=kind)
    engine.allocate_tensors()
    for detail in engine.get_input_details():
        engine.set_tensor(detail["index"], feeds[detail["name"]])
    engine.invoke()
    return {item["name"]: engine.get_tensor(item["index"]) for item in engine.get_output_details()}


def run_cut(
    model: tflite_graph.TfliteModel,
    frontier: Frontier,
    feeds: dict[str, np.ndarray],
    *,
    plain: bool = True,
) -> dict[str, np.ndarray]:
    """Head, then tail; a tensor that only passes by is taken from where it was."""
    head, tail = tflite_cut.cut_model(model, frontier)
    known = dict(feeds)
    if head is not None:
        known |= run(head, feeds, plain=plain)
    if tail is not None:
        known |= run(tail, {name: known[name] for name in frontier.names}, plain=plain)
    return {spec.name: known[spec.name] for spec in model.graph.outputs}


def equal_cuts(model: tflite_graph.TfliteModel, data: bytes, *, plain: bool = True) -> list[int]:
    """The partition points at which head + tail give the bits of the whole."""
    feeds = feeds_of(model)
    whole = run(data, feeds, plain=plain)
    return [
        frontier.x
        for frontier in model.graph.frontiers
        if all(
            value.tobytes() == whole[name].tobytes()
            for name, value in run_cut(model, frontier, feeds, plain=plain).items()
        )
    ]
