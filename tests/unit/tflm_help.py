"""Random layers of every kind, as our kernels run them and as tflite-micro does.

Layers are written as TFLite models, one operator each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ctypes import byref
from typing import Any

import numpy as np
from firmware_kernels import (
    PATHS,
    Add,
    Area,
    Concat,
    Conv,
    Dense,
    Depthwise,
    Mean,
    Pad,
    Pool,
    Weighted,
    library,
    records_of,
    simple,
)
from oracle_help import Micro
from tflite_help import OPS, TYPES, Net, schema

from waistline.blob import fixed, pack

ACTIVATION = schema.ActivationFunctionType
CLAMPS = [ACTIVATION.NONE, ACTIVATION.RELU, ACTIVATION.RELU6, ACTIVATION.RELU_N1_TO_1]


def _clamp(kind: int, scale: float, zero: int) -> tuple[int, int]:
    """As TFLite derives it."""

    def code(value: float) -> int:
        return zero + int(np.rint(np.float32(value) / np.float32(scale)))

    low, high = {
        ACTIVATION.NONE: (None, None),
        ACTIVATION.RELU: (0.0, None),
        ACTIVATION.RELU6: (0.0, 6.0),
        ACTIVATION.RELU_N1_TO_1: (-1.0, 1.0),
    }[kind]
    return (
        -128 if low is None else max(-128, code(low)),
        127 if high is None else min(127, code(high)),
    )


def _zero(random) -> int:
    return int(random.choice([-128, 127, 0, int(random.integers(-128, 128))]))


def _scale(random, low: float, high: float) -> float:
    return float(np.float32(np.exp(random.uniform(np.log(low), np.log(high)))))


class Case:
    """A model under construction, with random activations."""

    def __init__(self, random) -> None:
        self.random = random
        self.net = Net(quantized=True)
        self.kind = int(random.choice(CLAMPS))

    def input(self, shape, *, like: tuple[float, int] | None = None) -> int:
        scale, zero = like or (_scale(self.random, 0.005, 0.1), _zero(self.random))
        return self.net.input([1, *shape], scale=scale, zero_point=zero)

    def output(self, shape, scale: float, zero: int) -> int:
        self.zero = zero
        self.low, self.high = _clamp(self.kind, scale, zero)
        return self.net.tensor([1, *shape], scale=scale, zero_point=zero)

    def weighted(self, x: int, weights: np.ndarray, axis: int, *, per_channel: bool = True):
        """Weights and bias tensors, an output scale that fills the type, and the constants."""
        random, count = self.random, weights.shape[axis]
        many = count if per_channel else 1
        scales = [_scale(random, 0.002, 0.02) for _ in range(many)]
        x_scale, zero = self.net._scale(x)
        bias = random.integers(-3000, 3000, count)
        biases = [float(np.float32(x_scale) * np.float32(s)) for s in scales]
        w = self.net.tensor(weights.shape, data=weights.astype(np.int8), scale=scales, axis=axis)
        b = self.net.tensor([count], type_=TYPES.INT32, data=bias.astype(np.int32), scale=biases)
        fan = weights.size / count
        spread = float(np.mean(scales)) * x_scale * 74 * 110 * np.sqrt(fan)
        # mostly what fills the type; sometimes so little or so much that shifts change side
        out_scale = np.float32(spread / 60 * random.choice([1, 1, 1, 0.05, 0.004, 40]))
        factors = [np.float64(np.float32(x_scale)) * np.float64(np.float32(s)) for s in scales]
        factors = [f / np.float64(out_scale) for f in factors] * (count if many == 1 else 1)
        pairs = np.array([fixed.multiplier_of(float(f)) for f in factors], np.int64)
        by_output = np.moveaxis(weights, axis, 0)
        folded = pack.folded_bias(bias, by_output, zero)
        return w, b, float(out_scale), (folded, *pairs.T)


def _both(layer: Weighted, x: np.ndarray) -> list[np.ndarray]:
    return [layer.run(path, x) for path in PATHS]


def _direction(random, size: int, kernel: int, stride: int, same: bool) -> tuple[int, int]:
    """Output size and padding before it."""
    if not same:
        return (size - kernel) // stride + 1, 0
    out = -(-size // stride)
    return out, max((out - 1) * stride + kernel - size, 0) // 2


def _window(random, limit: int):
    h, w = (int(n) for n in random.integers(1, limit, 2))
    kh, kw = (int(random.choice([1, 2, 3, 3, 4, 5])) for _ in range(2))
    if random.random() < 0.4:
        kh = kw = 3
    sh, sw = (int(random.choice([1, 1, 2, 3])) for _ in range(2))
    same = bool(random.random() < 0.6) or kh > h or kw > w
    (oh, top), (ow, left) = (
        _direction(random, size, k, s, same) for size, k, s in ((h, kh, sh), (w, kw, sw))
    )
    return (h, w), (oh, ow), (kh, kw, sh, sw, top, left), int(not same)


def conv(random):
    case = Case(random)
    (h, w), (oh, ow), window, padding = _window(random, 28)
    if random.random() < 0.3:
        window, oh, ow = (1, 1, 1, 1, 0, 0), h, w
    c, o = int(random.choice([1, 2, 3, 4, 7, 8, 16, 24, 33])), int(random.integers(1, 34))
    x = case.input([h, w, c])
    weights = random.integers(-127, 128, (o, *window[:2], c))
    wt, bt, scale, constants = case.weighted(x, weights, 0)
    zero = _zero(random)
    out = case.output([oh, ow, o], scale, zero)
    options = schema.Conv2DOptionsT(
        strideH=window[2], strideW=window[3], padding=padding, fusedActivationFunction=case.kind
    )
    case.net.op(OPS.CONV_2D, [x, wt, bt], [out], options)
    p = Conv(h, w, c, oh, ow, o, *window, case.net._scale(x)[1], zero, case.low, case.high)
    records = pack.pack_records(*constants, even=True)
    layer = Weighted("conv2d", p, pack.pack_conv(weights), records, oh * ow * o)
    codes = random.integers(-128, 128, (1, h, w, c))
    return case.net.finish(out), [codes], _both(layer, codes)


def depthwise(random):
    case = Case(random)
    (h, w), (oh, ow), window, padding = _window(random, 28)
    c, m = int(random.integers(1, 26)), int(random.choice([1, 1, 1, 2, 3]))
    x = case.input([h, w, c])
    weights = random.integers(-127, 128, (1, *window[:2], c * m))
    wt, bt, scale, constants = case.weighted(x, weights, 3)
    zero = _zero(random)
    out = case.output([oh, ow, c * m], scale, zero)
    options = schema.DepthwiseConv2DOptionsT(
        strideH=window[2],
        strideW=window[3],
        padding=padding,
        depthMultiplier=m,
        fusedActivationFunction=case.kind,
    )
    case.net.op(OPS.DEPTHWISE_CONV_2D, [x, wt, bt], [out], options)
    p = Depthwise(h, w, c, oh, ow, m, *window, case.net._scale(x)[1], zero, case.low, case.high)
    records = pack.pack_records(*constants, even=False)
    layer = Weighted("depthwise", p, pack.pack_depthwise(weights[0]), records, oh * ow * c * m)
    codes = random.integers(-128, 128, (1, h, w, c))
    return case.net.finish(out), [codes], _both(layer, codes)


def dense(random):
    case = Case(random)
    inputs, outputs = int(random.integers(1, 700)), int(random.integers(1, 300))
    x = case.input([1, 1, inputs])
    weights = random.integers(-127, 128, (outputs, inputs))
    wt, bt, scale, constants = case.weighted(x, weights, 0, per_channel=False)
    zero = _zero(random)
    out = case.output([outputs], scale, zero)
    options = schema.FullyConnectedOptionsT(fusedActivationFunction=case.kind)
    case.net.op(OPS.FULLY_CONNECTED, [x, wt, bt], [out], options)
    p = Dense(inputs, outputs, zero, case.low, case.high)
    records = pack.pack_records(*constants, even=True)
    layer = Weighted("dense", p, pack.pack_conv(weights), records, outputs)
    codes = random.integers(-128, 128, (1, 1, 1, inputs))
    return case.net.finish(out), [codes], _both(layer, codes)


def pool(random):
    case = Case(random)
    (h, w), (oh, ow), window, padding = _window(random, 24)
    c, largest = int(random.integers(1, 30)), bool(random.integers(2))
    if random.random() < 0.2:  # global
        window, oh, ow, padding = (h, w, 1, 1, 0, 0), 1, 1, 1
    like = (_scale(random, 0.005, 0.1), _zero(random))
    x = case.input([h, w, c], like=like)
    out = case.output([oh, ow, c], *like)
    options = schema.Pool2DOptionsT(
        filterHeight=window[0],
        filterWidth=window[1],
        strideH=window[2],
        strideW=window[3],
        padding=padding,
        fusedActivationFunction=case.kind,
    )
    case.net.op(OPS.MAX_POOL_2D if largest else OPS.AVERAGE_POOL_2D, [x], [out], options)
    p = Pool(h, w, c, oh, ow, *window, case.low, case.high)
    name = "max_pool" if largest else "average_pool"
    codes = random.integers(-128, 128, (1, h, w, c))
    found = [simple(path, "pool", p, oh * ow * c, codes, name=name) for path in PATHS]
    return case.net.finish(out), [codes], found


def mean(random):
    case = Case(random)
    case.kind = ACTIVATION.NONE
    h, w, c = (int(n) for n in random.integers(1, 24, 3))
    x = case.input([h, w, c])
    x_scale, x_zero = case.net._scale(x)
    scale, zero = float(np.float32(x_scale * random.uniform(0.1, 1.5))), _zero(random)
    out = case.output([1, 1, c], scale, zero)
    axes = case.net.tensor([2], type_=TYPES.INT32, data=np.array([1, 2], np.int32))
    case.net.op(OPS.MEAN, [x, axes], [out], schema.ReducerOptionsT(keepDims=True))
    multiplier, shift = fixed.multiplier_of(x_scale / scale)
    bits = min((h * w).bit_length() - 1, 31 + shift)
    records = records_of(-x_zero * h * w, (multiplier << bits) // (h * w), shift - bits)
    p = Mean(h * w, c, zero, case.low, case.high, records)
    codes = random.integers(-128, 128, (1, h, w, c))
    found = [simple(path, "mean", p, c, codes) for path in PATHS]
    return case.net.finish(out), [codes], found


def add(random):
    case = Case(random)
    shape = [int(n) for n in random.integers(1, 24, 3)]
    inputs = [case.input(shape) for _ in range(2)]
    sides = [case.net._scale(x) for x in inputs]
    scale = float(np.float32(np.hypot(sides[0][0], sides[1][0]) * random.uniform(0.3, 2)))
    zero = _zero(random)
    out = case.output(shape, scale, zero)
    options = schema.AddOptionsT(fusedActivationFunction=case.kind)
    case.net.op(OPS.ADD, inputs, [out], options)
    twice = 2 * max(sides[0][0], sides[1][0])
    factors = [sides[0][0] / twice, sides[1][0] / twice, twice / ((1 << 20) * scale)]
    multipliers, shifts = zip(*(fixed.multiplier_of(f) for f in factors), strict=True)
    records = records_of([sides[0][1], sides[1][1], zero], multipliers, shifts)
    size = int(np.prod(shape))
    codes = [random.integers(-128, 128, (1, *shape)) for _ in range(2)]
    p = Add(size, case.low, case.high, records)
    return case.net.finish(out), codes, [simple(path, "add", p, size, *codes) for path in PATHS]


def pad(random):
    case = Case(random)
    case.kind = ACTIVATION.NONE
    shape = [int(n) for n in random.integers(1, 14, 3)]
    before, after = random.integers(0, 4, (2, 3))
    like = (_scale(random, 0.005, 0.1), _zero(random))
    x = case.input(shape, like=like)
    made = [int(n) for n in shape + before + after]
    out = case.output(made, *like)
    table = np.array([[0, 0], *zip(before, after, strict=True)], np.int32)
    sizes = case.net.tensor([4, 2], type_=TYPES.INT32, data=table)
    case.net.op(OPS.PAD, [x, sizes], [out], schema.PadOptionsT())
    p = Pad(*shape, *made, *(int(n) for n in before), like[1])
    codes = random.integers(-128, 128, (1, *shape))
    found = [simple(path, "pad", p, int(np.prod(made)), codes) for path in PATHS]
    return case.net.finish(out), [codes], found


def concat(random):
    case = Case(random)
    case.kind = ACTIVATION.NONE
    h, w = (int(n) for n in random.integers(1, 16, 2))
    widths = [int(n) for n in random.integers(1, 20, int(random.integers(2, 4)))]
    like = (_scale(random, 0.005, 0.1), _zero(random))
    inputs = [case.input([h, w, c], like=like) for c in widths]
    out = case.output([h, w, sum(widths)], *like)
    case.net.op(OPS.CONCATENATION, inputs, [out], schema.ConcatenationOptionsT(axis=3))
    codes = [random.integers(-128, 128, (1, h, w, c)) for c in widths]
    found = []
    for path in PATHS:
        made, offset = Area(h * w * sum(widths)), 0
        for part in codes:
            into = Area(part.size)
            into.bytes[:] = part.astype(np.int8).view(np.uint8).ravel()
            p = Concat(h * w, part.shape[3], sum(widths), offset)
            assert library(path).wl_concat_valid(byref(p)) == 1
            library(path).wl_concat(byref(p), into.address, made.address)
            offset += part.shape[3]
        found.append(made.bytes.view(np.int8))
    return case.net.finish(out), codes, found


KINDS = (conv, depthwise, dense, pool, mean, add, pad, concat)
"""random -> (model, inputs, outputs by each of PATHS)."""


def differing(
    oracle: Micro, random: np.random.Generator, makers: Sequence[Callable[..., Any]], outputs: int
) -> tuple[int, int, set[str]]:
    """(compared, different, by which kinds) of at least so many outputs, each by both paths."""
    compared, different, guilty = 0, 0, set()
    while compared < outputs:
        for maker in makers:
            model, inputs, both = maker(random)
            (wanted,) = oracle(model, inputs)
            for path, found in zip(PATHS, both, strict=True):
                assert found.size == wanted.size, maker.__name__
                wrong = int((found != wanted).sum())
                different += wrong
                if wrong:
                    guilty.add(f"{maker.__name__} ({path})")
            compared += wanted.size
    return compared, different, guilty
