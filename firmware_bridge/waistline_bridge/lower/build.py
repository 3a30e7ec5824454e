"""What both readers share: collecting the layers that the firmware has, refusing all others."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from waistline.blob import form
from waistline.blob.fixed import ADD_LEFT_SHIFT, scaled
from waistline.blob.form import (
    HIGHEST,
    LOWEST,
    Activation,
    Clamp,
    Int8Head,
    Int8s,
    Layer,
    Port,
    Rescale,
    Shape,
    Window,
)
from waistline.blob.pack import MAX_BIAS, MAX_DEPTH, folded_bias
from waistline.blob.sizes import MAX_PIXELS, MAX_ROWS
from waistline.tensors import TensorSpec
from waistline_bridge.lower.factors import mean_factor, mean_once, rescale_by
from waistline_bridge.lower.refuse import Unsupported
from waistline_bridge.lower.shapes import MAX_STEP, check_window, image_shape

MAX_PARTS = 4
"""Of a concatenation; more take several."""
Floats = NDArray[np.float32]
EVERY_CODE = np.arange(LOWEST, HIGHEST + 1, dtype=np.int64)


@dataclass(frozen=True)
class Weights:
    """Constant operand of a layer: codes, a scale for each output channel, integer bias.

    Attributes:
        codes: int8, in the order of the layer's own weights.
        scales: float32 (1,) or (out,).
        bias: int64 (out,), of scale input * weight.
    """

    codes: Int8s
    scales: NDArray[np.float32]
    bias: NDArray[np.int64]


class HeadBuilder:
    """Collects tensors and layers; every method refuses what no firmware layer computes."""

    def __init__(self) -> None:
        self.tensors: list[Activation] = []
        self.layers: list[Layer] = []

    def tensor(self, name: str, shape: Sequence[int], scale: float, zero_point: int) -> int:
        """A new activation; ``shape`` as in the model, NHWC, with its batch of 1."""
        if not (math.isfinite(scale) and float(np.float32(scale)) > 0):
            raise Unsupported(f"tensor {name!r} has the scale {scale}")
        if not LOWEST <= zero_point <= HIGHEST:
            raise Unsupported(f"tensor {name!r} has the zero point {zero_point}")
        made = Activation(name, image_shape(name, shape), float(np.float32(scale)), zero_point)
        self.tensors.append(made)
        return len(self.tensors) - 1

    def finish(
        self, inputs: Sequence[tuple[int, TensorSpec]], outputs: Sequence[tuple[int, TensorSpec]]
    ) -> Int8Head:
        return Int8Head(
            tuple(self.tensors),
            tuple(self.layers),
            tuple(Port(tensor, spec) for tensor, spec in inputs),
            tuple(Port(tensor, spec) for tensor, spec in outputs),
        )

    def conv(self, x: int, y: int, weights: Weights, window: Window, clamp: Clamp) -> None:
        """``weights.codes`` (out, kh, kw, in of a group); groups of one channel are depthwise."""
        source, made = self.tensors[x], self.tensors[y]
        if weights.codes.shape[3] == 1 and source.shape[2] > 1:
            each = replace(weights, codes=weights.codes[..., 0].transpose(1, 2, 0))
            return self.depthwise(x, y, each, window, clamp)
        check_window(source.shape, made.shape, window)
        out, _, _, depth = weights.codes.shape
        if depth != source.shape[2] or out != made.shape[2]:
            if depth and source.shape[2] % depth == 0 and depth != source.shape[2]:
                raise Unsupported(f"it has {source.shape[2] // depth} groups of {depth} channels")
            raise Unsupported(f"its weights {weights.codes.shape} do not fit its tensors")
        common = self._weighted(weights, x, y, 0)
        self.layers.append(form.Conv(made.name, (x,), y, window, *common, clamp))

    def depthwise(self, x: int, y: int, weights: Weights, window: Window, clamp: Clamp) -> None:
        """``weights.codes`` (kh, kw, out)."""
        source, made = self.tensors[x], self.tensors[y]
        check_window(source.shape, made.shape, window)
        out = weights.codes.shape[2]
        if out % source.shape[2] or out != made.shape[2]:
            raise Unsupported(f"its weights {weights.codes.shape} do not fit its tensors")
        if weights.codes.shape[0] > MAX_ROWS:
            raise Unsupported(f"its kernel has {weights.codes.shape[0]} rows, at most {MAX_ROWS}")
        if out // source.shape[2] > MAX_STEP:
            raise Unsupported(f"its depth multiplier is {out // source.shape[2]}")
        common = self._weighted(weights, x, y, 2)
        self.layers.append(form.Depthwise(made.name, (x,), y, window, *common, clamp))

    def dense(self, x: int, y: int, weights: Weights, clamp: Clamp) -> None:
        """``weights.codes`` (out, in)."""
        source, made = self.tensors[x], self.tensors[y]
        if weights.codes.shape != (made.size_bytes, source.size_bytes):
            raise Unsupported(
                f"its weights {weights.codes.shape} do not join {source.size_bytes} values to "
                f"{made.size_bytes}"
            )
        common = self._weighted(weights, x, y, 0)
        self.layers.append(form.Dense(made.name, (x,), y, *common, clamp))

    def _weighted(
        self, weights: Weights, x: int, y: int, channel_axis: int
    ) -> tuple[Int8s, NDArray[np.int32], Rescale]:
        """Weights, bias and factors, once no sum can leave 32 bits."""
        source, made = self.tensors[x], self.tensors[y]
        channels = len(weights.bias)
        depth = weights.codes.size // channels
        if depth > MAX_DEPTH:
            raise Unsupported(f"each output sums {depth} products, the firmware up to {MAX_DEPTH}")
        rows = np.moveaxis(weights.codes, channel_axis, 0)
        folded = folded_bias(weights.bias, rows, source.zero_point)
        if int(np.abs(folded).max()) > MAX_BIAS or int(np.abs(weights.bias).max()) > MAX_BIAS:
            raise Unsupported(f"a bias exceeds {MAX_BIAS} with the input's zero point folded in")
        rescale = rescale_by(
            [source.scale * float(scale) / made.scale for scale in weights.scales], channels
        )
        return np.ascontiguousarray(weights.codes), weights.bias.astype(np.int32), rescale

    def pool(self, x: int, y: int, window: Window, largest: bool, clamp: Clamp) -> None:
        source, made = self.tensors[x], self.tensors[y]
        check_window(source.shape, made.shape, window)
        if source.shape[2] != made.shape[2]:
            raise Unsupported("it changes the number of channels")
        self._same_scale(x, y)
        self.layers.append(form.Pool(made.name, (x,), y, window, largest, clamp))

    def window_sum(self, x: int, y: int, window: Window, rescale: Rescale, clamp: Clamp) -> None:
        """Sum of each channel's window, padding counted as zeros, times a factor: weights of 1."""
        channels = self.tensors[x].shape[2]
        codes = np.ones((*window.kernel, channels), np.int8)
        bias = np.zeros(channels, np.int64)
        self.depthwise(x, y, Weights(codes, np.ones(1, np.float32), bias), window, clamp)
        made = self.layers[-1]
        assert isinstance(made, form.Depthwise)
        pair = rescale.multiplier.repeat(channels), rescale.shift.repeat(channels)
        self.layers[-1] = replace(made, rescale=Rescale(*pair))

    def mean(self, x: int, y: int, clamp: Clamp, *, rounded_once: bool = False) -> None:
        """Mean of height and width; ``rounded_once``: to nearest, else as TFLite rounds it."""
        source, made = self.tensors[x], self.tensors[y]
        if made.size_bytes != source.shape[2]:
            raise Unsupported(f"it makes {made.shape} of {source.shape}")
        count = source.shape[0] * source.shape[1]
        if count > MAX_PIXELS:
            raise Unsupported(f"it is the mean of {count} pixels, the firmware takes {MAX_PIXELS}")
        make = mean_once if rounded_once else mean_factor
        factor = make(source.scale / made.scale, count)
        self.layers.append(form.Mean(made.name, (x,), y, factor, clamp))

    def rescale(self, x: int, y: int, clamp: Clamp) -> None:
        """The same values with another scale, zero point or clamp, rounded as TFLite does."""
        source, made = self.tensors[x], self.tensors[y]
        found = rescale_by([source.scale / made.scale], 1)
        factor = found.multiplier.astype(np.int64), found.shift.astype(np.int64)
        steps = scaled(EVERY_CODE - source.zero_point, *factor)
        self.lookup(x, y, np.clip(steps + made.zero_point, clamp.low, clamp.high))

    def leaky(self, x: int, y: int, alpha: float) -> None:
        """As `rescale`, but what is negative times ``alpha``: TFLite's LEAKY_RELU."""
        source, made = self.tensors[x], self.tensors[y]
        up, below = np.float32(source.scale), np.float32(source.scale) * np.float32(alpha)
        factors = [float(factor / np.float32(made.scale)) for factor in (up, below)]
        found = rescale_by(factors, 2)
        steps = EVERY_CODE - source.zero_point
        which = (steps < 0).astype(np.intp)
        multipliers, shifts = found.multiplier.astype(np.int64), found.shift.astype(np.int64)
        codes = scaled(steps, multipliers[which], shifts[which]) + made.zero_point
        self.lookup(x, y, np.clip(codes, LOWEST, HIGHEST))

    def rescale_exactly(self, x: int, y: int, clamp: Clamp) -> None:
        """As `rescale`, to nearest, ties to even, as ONNX Runtime does."""
        self.apply(x, y, lambda values: values, clamp)

    def apply(self, x: int, y: int, function: Callable[[Floats], Floats], clamp: Clamp) -> None:
        """A function of each real value, float32, to nearest, ties to even."""
        source, made = self.tensors[x], self.tensors[y]
        values = (EVERY_CODE - source.zero_point).astype(np.float32) * np.float32(source.scale)
        steps = np.rint(function(values) / np.float32(made.scale)) + made.zero_point
        self.lookup(x, y, np.clip(steps, clamp.low, clamp.high))

    def lookup(self, x: int, y: int, codes: NDArray[Any]) -> None:
        """``codes`` (256,), in the order of the input's codes."""
        source, made = self.tensors[x], self.tensors[y]
        if source.shape != made.shape:
            raise Unsupported(f"it makes {made.shape} of {source.shape}")
        self.layers.append(form.Lookup(made.name, (x,), y, codes.astype(np.int8)))

    def view(self, x: int, name: str, shape: Sequence[int]) -> int:
        """The tensor that is ``x`` in another shape; only shapes that need no layer.

        Returns:
            Its number: that of ``x``, whose elements stay where they are.
        """
        source, wanted = self.tensors[x], image_shape(name, shape)
        if math.prod(wanted) != source.size_bytes:
            raise Unsupported(f"{wanted} has not the elements of {source.shape}")
        if wanted in (source.shape, (1, 1, source.size_bytes)):
            return x
        if any(x in layer.inputs or x == layer.output for layer in self.layers):
            raise Unsupported(f"it makes {wanted} of {source.shape}; only flattening costs nothing")
        self.tensors[x] = replace(source, shape=wanted)
        return x

    def add(self, a: int, b: int, y: int, clamp: Clamp) -> None:
        first, second, made = self.tensors[a], self.tensors[b], self.tensors[y]
        if not first.shape == second.shape == made.shape:
            raise Unsupported(f"it adds {first.shape} and {second.shape}, not equal shapes")
        twice = 2 * max(first.scale, second.scale)
        factors = [
            first.scale / twice,
            second.scale / twice,
            twice / ((1 << ADD_LEFT_SHIFT) * made.scale),
        ]
        rescale = rescale_by(factors, 3)
        if rescale.shift.max() > 0:
            raise Unsupported(f"its output's scale {made.scale} is far below those of its inputs")
        self.layers.append(form.Add(made.name, (a, b), y, rescale, clamp))

    def concat(self, parts: Sequence[int], y: int) -> None:
        """Along the channels."""
        made = self.tensors[y]
        shapes = [self.tensors[part].shape for part in parts]
        if any(shape[:2] != made.shape[:2] for shape in shapes) or made.shape[2] != sum(
            shape[2] for shape in shapes
        ):
            raise Unsupported(f"it joins {shapes} to {made.shape}, not along the channels")
        for part in parts:
            self._same_scale(part, y)
        queue = list(parts)
        while len(queue) > MAX_PARTS:
            some, queue = queue[:MAX_PARTS], queue[MAX_PARTS:]
            depth = sum(self.tensors[part].shape[2] for part in some)
            name = f"{made.name}[:{depth}]"
            self.tensors.append(replace(made, name=name, shape=(*made.shape[:2], depth)))
            queue.insert(0, len(self.tensors) - 1)
            self.layers.append(form.Concat(name, tuple(some), queue[0]))
        self.layers.append(form.Concat(made.name, tuple(queue), y))

    def pad(self, x: int, y: int, before: Shape, after: Shape) -> None:
        """Height, width, channels; see `Pad`."""
        source, made = self.tensors[x], self.tensors[y]
        if any(not 0 <= size <= MAX_STEP for size in (*before, *after)):
            raise Unsupported(f"it pads by {before} and {after}")
        wanted = tuple(n + a + b for n, a, b in zip(source.shape, before, after, strict=True))
        if wanted != made.shape:
            raise Unsupported(f"its output is {made.shape}, not {wanted}")
        self._same_scale(x, y)
        self.layers.append(form.Pad(made.name, (x,), y, before))

    def _same_scale(self, x: int, y: int) -> None:
        source, made = self.tensors[x], self.tensors[y]
        if (source.scale, source.zero_point) != (made.scale, made.zero_point):
            raise Unsupported(
                f"{source.name!r} and {made.name!r} differ in scale or zero point, which it needs "
                "equal"
            )
