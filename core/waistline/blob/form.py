"""The intermediate form of a head: int8 layers on NHWC tensors, whatever format they came from.

A tensor is (h, w, c) without its batch, int8, with one scale and zero point. Layers stand in an
order in which they can run. Arithmetic: `waistline.blob.fixed`. Accumulators are int32; biases
here are those of the model, the input's zero point is folded in when the blob is written.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from waistline.tensors import TensorSpec

Int8s = NDArray[np.int8]
Int32s = NDArray[np.int32]
Shape = tuple[int, int, int]
Pair = tuple[int, int]

LOWEST, HIGHEST = -128, 127


@dataclass(frozen=True)
class Activation:
    """A tensor between layers: ``value = scale * (q - zero_point)``; the scale is a float32."""

    name: str
    shape: Shape
    scale: float
    zero_point: int

    @property
    def size_bytes(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Window:
    """Where a kernel looks, (height, width) each.

    Taps in the padding count as real zeros, in pools not at all.

    Attributes:
        before: padding on top and left.
        after: padding at the bottom and right.
    """

    kernel: Pair
    stride: Pair = (1, 1)
    before: Pair = (0, 0)
    after: Pair = (0, 0)

    def lengths(self, size: Pair) -> Pair:
        """Height and width of what it makes of an input."""
        high, wide = (
            (n + a + b - k) // s + 1
            for n, k, s, a, b in zip(
                size, self.kernel, self.stride, self.before, self.after, strict=True
            )
        )
        return high, wide


@dataclass(frozen=True)
class Rescale:
    """Factors as q31 multipliers and shifts (positive: left), one a channel or one for all."""

    multiplier: Int32s
    shift: Int8s


@dataclass(frozen=True)
class Clamp:
    """Limits of the output's codes, from a fused activation."""

    low: int = LOWEST
    high: int = HIGHEST


@dataclass(frozen=True)
class Layer:
    """What all layers have: a name for people, and the numbers of its tensors."""

    name: str
    inputs: tuple[int, ...]
    output: int


@dataclass(frozen=True)
class _Convolution(Layer):
    """Weights that a window moves over the input, bias (out,)."""

    window: Window
    weights: Int8s
    bias: Int32s
    rescale: Rescale
    clamp: Clamp


@dataclass(frozen=True)
class Conv(_Convolution):
    """Weights (out, kh, kw, in)."""


@dataclass(frozen=True)
class Depthwise(_Convolution):
    """Weights (kh, kw, out), out = in * depth multiplier; output k reads channel k // multiplier.

    Weights of 1 make a sum, and with a factor a mean.
    """


@dataclass(frozen=True)
class Dense(Layer):
    """Weights (out, in) on the input's elements in their order, bias (out,)."""

    weights: Int8s
    bias: Int32s
    rescale: Rescale
    clamp: Clamp


@dataclass(frozen=True)
class Pool(Layer):
    """Largest, or mean of the taps inside the input; both ends have the same scale."""

    window: Window
    largest: bool
    clamp: Clamp


@dataclass(frozen=True)
class Mean(Layer):
    """Of height and width, with the count divided into the one factor."""

    rescale: Rescale
    clamp: Clamp


@dataclass(frozen=True)
class Lookup(Layer):
    """Codes (256,) by ``code + 128``: another scale, or any function of one code."""

    table: Int8s


@dataclass(frozen=True)
class Add(Layer):
    """Both inputs shifted left by 20 and brought to a common scale; factors of in, in, out."""

    rescale: Rescale
    clamp: Clamp


@dataclass(frozen=True)
class Concat(Layer):
    """Side by side along the channels, all with one scale."""


@dataclass(frozen=True)
class Pad(Layer):
    """Real zeros around; those before: (top, left, front), the others follow from the output."""

    before: Shape


@dataclass(frozen=True)
class Port:
    """A tensor that enters or leaves the head, and how it is shown outside."""

    tensor: int
    spec: TensorSpec


@dataclass(frozen=True)
class Int8Head:
    """A whole head: inputs that a layer reads, outputs that a layer makes.

    An input of the model that only crosses the cut is not here: whoever has it sends it.
    """

    tensors: tuple[Activation, ...]
    layers: tuple[Layer, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
