"""Small int8 TFLite nets: each operator alone and all together, odd shapes, clamps, scales."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from tflite_help import OPS, TYPES, Net, schema

ACTS = schema.ActivationFunctionType
VALID, SAME = schema.Padding.VALID, schema.Padding.SAME


class Int8Net(Net):
    """A net whose every choice can be made."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(quantized=True, seed=seed)

    def shape(self, x: int) -> list[int]:
        return list(self.graph.tensors[x].shape)

    def act(self, shape: Sequence[int], scale: float, zero: int, name: str | None = None) -> int:
        return self.tensor(shape, name, scale=scale, zero_point=zero)

    def windowed(
        self,
        x: int,
        channels: int,
        kernel: tuple[int, int],
        stride: tuple[int, int] = (1, 1),
        padding: int = SAME,
        act: int = ACTS.NONE,
        *,
        depthwise: bool = False,
        per_channel: bool = True,
        zero: int = -7,
    ) -> int:
        """A convolution; ``channels``: of the output."""
        n, h, w, c = self.shape(x)
        depth = 1 if depthwise else c
        shape = [1, *kernel, channels] if depthwise else [channels, *kernel, c]
        fan = depth * math.prod(kernel)
        axis = 3 if depthwise else 0
        weights, added, scale = self._weights(x, shape, fan, axis, per_channel=per_channel)
        size = [_length(*args, padding) for args in zip((h, w), kernel, stride, strict=True)]
        out = self.act([n, *size, channels], scale, zero)
        common = {
            "padding": padding,
            "strideH": stride[0],
            "strideW": stride[1],
            "fusedActivationFunction": act,
        }
        inputs = [x, weights, added]
        if depthwise:
            options = schema.DepthwiseConv2DOptionsT(depthMultiplier=channels // c, **common)
            return self.op(OPS.DEPTHWISE_CONV_2D, inputs, [out], options)
        return self.op(OPS.CONV_2D, inputs, [out], schema.Conv2DOptionsT(**common))

    def pooled(
        self,
        x: int,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        padding: int,
        act: int = ACTS.NONE,
        *,
        largest: bool,
    ) -> int:
        n, h, w, c = self.shape(x)
        size = [_length(*args, padding) for args in zip((h, w), kernel, stride, strict=True)]
        out = self._like([n, *size, c], x)
        options = schema.Pool2DOptionsT(
            padding=padding,
            strideH=stride[0],
            strideW=stride[1],
            filterHeight=kernel[0],
            filterWidth=kernel[1],
            fusedActivationFunction=act,
        )
        return self.op(OPS.MAX_POOL_2D if largest else OPS.AVERAGE_POOL_2D, [x], [out], options)

    def mean(self, x: int, ratio: float, zero: int, *, keep: bool = True) -> int:
        n, _, _, c = self.shape(x)
        axes = self.tensor([2], type_=TYPES.INT32, data=np.array([1, 2], np.int32))
        shape = [n, 1, 1, c] if keep else [n, c]
        out = self.act(shape, self._scale(x)[0] * ratio, zero)
        return self.op(OPS.MEAN, [x, axes], [out], schema.ReducerOptionsT(keepDims=keep))

    def summed(self, a: int, b: int, act: int, zero: int) -> int:
        out = self.act(self.shape(a), math.hypot(self._scale(a)[0], self._scale(b)[0]), zero)
        return self.op(OPS.ADD, [a, b], [out], schema.AddOptionsT(fusedActivationFunction=act))

    def padded(self, x: int, sizes: Sequence[tuple[int, int]]) -> int:
        table = np.array([[0, 0], *sizes], np.int32)
        number = self.tensor([4, 2], type_=TYPES.INT32, data=table)
        shape = [n + a + b for n, (a, b) in zip(self.shape(x), table.tolist(), strict=True)]
        return self.op(OPS.PAD, [x, number], [self._like(shape, x)], schema.PadOptionsT())

    def single(self, code: int, x: int, ratio: float, zero: int, options: Any = None) -> int:
        """An operator on single codes: RELU and its like, QUANTIZE."""
        out = self.act(self.shape(x), self._scale(x)[0] * ratio, zero)
        return self.op(code, [x], [out], options)

    def leaky(self, x: int, ratio: float, zero: int, alpha: float) -> int:
        options = schema.LeakyReluOptionsT(alpha=alpha)
        return self.single(OPS.LEAKY_RELU, x, ratio, zero, options)

    def joined(self, parts: Sequence[int]) -> int:
        shape = self.shape(parts[0])
        shape[-1] = sum(self.shape(part)[-1] for part in parts)
        options = schema.ConcatenationOptionsT(axis=3)
        return self.op(OPS.CONCATENATION, parts, [self._like(shape, parts[0])], options)

    def connected(self, x: int, units: int, act: int, *, per_channel: bool) -> int:
        width = math.prod(self.shape(x))
        weights, bias, scale = self._weights(x, [units, width], width, 0, per_channel=per_channel)
        out = self.act([1, units], scale, 11)
        options = schema.FullyConnectedOptionsT(fusedActivationFunction=act)
        return self.op(OPS.FULLY_CONNECTED, [x, weights, bias], [out], options)


def _length(size: int, kernel: int, stride: int, padding: int) -> int:
    return -(-size // stride) if padding == SAME else (size - kernel) // stride + 1


def _one(build: Callable[[Int8Net, int], int], shape: Sequence[int] = (1, 11, 9, 6)) -> bytes:
    net = Int8Net(seed=len(shape) + shape[-1])
    return net.finish(build(net, net.input(list(shape))))


NETS: dict[str, Callable[[], bytes]] = {
    "conv": lambda: _one(lambda n, x: n.windowed(x, 5, (3, 3))),
    "conv strided": lambda: _one(lambda n, x: n.windowed(x, 8, (3, 2), (2, 3), VALID, ACTS.RELU)),
    "conv same strided": lambda: _one(
        lambda n, x: n.windowed(x, 7, (5, 3), (2, 2), act=ACTS.RELU6)
    ),
    "conv per tensor": lambda: _one(lambda n, x: n.windowed(x, 4, (3, 3), per_channel=False)),
    "conv of one row": lambda: _one(lambda n, x: n.windowed(x, 4, (1, 4))),
    "conv of one channel": lambda: _one(lambda n, x: n.windowed(x, 9, (3, 3)), (1, 8, 8, 1)),
    "pointwise": lambda: _one(lambda n, x: n.windowed(x, 17, (1, 1), act=ACTS.RELU_N1_TO_1)),
    "pointwise strided": lambda: _one(lambda n, x: n.windowed(x, 4, (1, 1), (2, 2))),
    "depthwise": lambda: _one(lambda n, x: n.windowed(x, 6, (3, 3), depthwise=True)),
    "depthwise strided": lambda: _one(
        lambda n, x: n.windowed(x, 6, (3, 3), (2, 2), act=ACTS.RELU, depthwise=True)
    ),
    "depthwise multiplied": lambda: _one(
        lambda n, x: n.windowed(x, 18, (5, 4), (1, 2), VALID, depthwise=True)
    ),
    "grouped by one": lambda: _one(lambda n, x: _grouped(n, x)),
    "largest": lambda: _one(lambda n, x: n.pooled(x, (3, 2), (2, 2), SAME, largest=True)),
    "largest clamped": lambda: _one(
        lambda n, x: n.pooled(x, (2, 2), (2, 2), VALID, ACTS.RELU, largest=True)
    ),
    "average": lambda: _one(lambda n, x: n.pooled(x, (3, 3), (1, 2), SAME, largest=False)),
    "average clamped": lambda: _one(
        lambda n, x: n.pooled(x, (2, 3), (2, 1), VALID, ACTS.RELU6, largest=False)
    ),
    "mean": lambda: _one(lambda n, x: n.mean(x, 0.37, 5)),
    "mean upwards": lambda: _one(lambda n, x: n.mean(x, 1.6, -20, keep=False)),
    "add": lambda: _one(lambda n, x: n.summed(x, n.windowed(x, 6, (1, 1)), ACTS.NONE, -3)),
    "add clamped": lambda: _one(lambda n, x: n.summed(n.windowed(x, 6, (3, 3)), x, ACTS.RELU, 9)),
    "pad": lambda: _one(lambda n, x: n.padded(x, [(1, 2), (0, 3), (0, 0)])),
    "pad channels": lambda: _one(lambda n, x: n.padded(x, [(0, 0), (2, 0), (1, 3)])),
    "relu": lambda: _one(lambda n, x: n.single(OPS.RELU, x, 0.7, -128)),
    "relu6": lambda: _one(lambda n, x: n.single(OPS.RELU6, x, 1.0, 3)),
    "leaky": lambda: _one(lambda n, x: n.leaky(x, 0.83, -77, 0.1)),
    "leaky up": lambda: _one(lambda n, x: n.leaky(x, 0.31, 5, 0.37)),
    "quantize": lambda: _one(lambda n, x: n.single(OPS.QUANTIZE, x, 1.31, -40)),
    "quantize up": lambda: _one(lambda n, x: n.single(OPS.QUANTIZE, x, 0.4, 17)),
    "concat": lambda: _one(lambda n, x: n.joined([x, _twin(n, x, 3), x])),
    "concat of six": lambda: _one(
        lambda n, x: n.joined([x, *[_twin(n, x, k) for k in (1, 2, 5)], x, x])
    ),
    "dense": lambda: _one(lambda n, x: n.connected(x, 13, ACTS.NONE, per_channel=False)),
    "dense per channel": lambda: _one(
        lambda n, x: n.connected(n.reshape(x, [1, 594]), 6, ACTS.RELU, per_channel=True)
    ),
    "everything": lambda: everything(),
}
"""By name; two of one seed differ by their shape."""
DENSE = frozenset({"dense", "dense per channel", "everything"})
"""Where LiteRT's reference rounds once and tflite-micro twice."""


def _grouped(net: Int8Net, x: int) -> int:
    """A convolution in groups of one channel, as converters write some depthwise ones."""
    out = net.windowed(x, 12, (3, 3), depthwise=True)
    operator = net.graph.operators[-1]
    weights = net.graph.tensors[operator.inputs[1]]
    data = net.model.buffers[weights.buffer]
    codes = np.asarray(data.data).view(np.int8).reshape(weights.shape)
    data.data = np.ascontiguousarray(codes.transpose(3, 1, 2, 0)).view(np.uint8).reshape(-1)
    weights.shape = [12, 3, 3, 1]
    weights.quantization.quantizedDimension = 0
    conv = schema.Conv2DOptionsT(strideW=1, strideH=1)
    net.graph.operators.pop()
    net.graph.tensors[out].name = "grouped"
    return net.op(OPS.CONV_2D, operator.inputs, [out], conv)


def _twin(net: Int8Net, x: int, channels: int) -> int:
    """A convolution with the scale of its input, to be joined with it."""
    made = net.windowed(x, channels, (1, 1))
    return net.op(OPS.QUANTIZE, [made], [net._like(net.shape(made), x)])


def everything(seed: int = 3) -> bytes:
    """All operators in one graph with two outputs."""
    net = Int8Net(seed)
    x = net.input([1, 15, 14, 3])
    stem = net.windowed(x, 8, (3, 3), (2, 2), act=ACTS.RELU)
    wide = net.windowed(
        net.padded(stem, [(1, 1), (2, 0), (0, 0)]),
        16,
        (3, 3),
        padding=VALID,
        depthwise=True,
        act=ACTS.RELU6,
    )
    thin = net.windowed(wide, 8, (1, 1))
    low = net.pooled(stem, (3, 3), (1, 1), SAME, largest=False)
    crop = net.windowed(low, 8, (1, 1))
    both = net.summed(crop, net.windowed(stem, 8, (3, 3)), ACTS.RELU, -100)
    joined = net.joined([both, _twin(net, both, 5), both])
    small = net.pooled(joined, (2, 2), (2, 2), VALID, largest=True)
    flat = net.mean(small, 0.5, -30, keep=False)
    return net.finish(net.connected(flat, 10, ACTS.NONE, per_channel=False), thin)


def reference(data: bytes, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every tensor, by LiteRT's reference kernels (never XNNPACK, never the optimised ones)."""
    engine = Interpreter(
        model_content=data,
        num_threads=1,
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=True,
    )
    engine.allocate_tensors()
    for detail in engine.get_input_details():
        engine.set_tensor(detail["index"], feeds[detail["name"]])
    engine.invoke()
    named = [item for item in engine.get_tensor_details() if item["name"]]
    return {item["name"]: engine.get_tensor(item["index"]) for item in named}
