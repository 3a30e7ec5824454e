"""Sound head blobs to begin with: a few random layers of every kind, one or two inputs and waists.

Small, so that a sanitizer has run one in a millisecond. The same seed gives the same blob.
"""

from __future__ import annotations

import numpy as np

from waistline.blob import form
from waistline.blob.fixed import multiplier_of
from waistline.blob.form import Activation, Clamp, Int8Head, Layer, Port, Rescale, Window
from waistline.tensors import TensorSpec, WaistTensor
from waistline_bridge.lower.assemble import LoweredHead, assemble

MAX_LAYERS = 5
CODECS = (
    "raw|none",
    "raw|ctx",
    *(f"i8:b={b}|{coder}" for b in range(1, 9) for coder in ("none", "ctx")),
)
"""Everything the firmware offers."""


class HeadMaker:
    """Adds layers to a head; ``self.open``: tensors that a layer may read."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.tensors: list[Activation] = []
        self.layers: list[Layer] = []
        self.open: list[int] = []

    def some(self, low: int, high: int) -> int:
        """Of low .. high."""
        return int(self.random.integers(low, high + 1))

    def tensor(self, shape: tuple[int, int, int], like: int | None = None) -> int:
        zero = self.some(-128, 127) if like is None else self.tensors[like].zero_point
        self.tensors.append(Activation(f"t{len(self.tensors)}", shape, 0.05, zero))
        self.open.append(len(self.tensors) - 1)
        return len(self.tensors) - 1

    def rescale(self, count: int, spread: float) -> Rescale:
        factors = np.exp(self.random.normal(np.log(spread), 1.0, count))
        pairs = np.array([multiplier_of(float(factor)) for factor in factors])
        return Rescale(pairs[:, 0].astype(np.int32), pairs[:, 1].astype(np.int8))

    def clamp(self) -> Clamp:
        if self.random.random() < 0.7:
            return Clamp()
        low, high = sorted(self.random.integers(-128, 128, 2).tolist())
        return Clamp(low, high)

    def window(self, x: int, limit: int = 5) -> Window:
        shape = self.tensors[x].shape
        kernel = self.some(1, min(limit, shape[0] + 2)), self.some(1, min(limit, shape[1] + 2))
        stride = self.some(1, 3), self.some(1, 3)
        before = self.some(0, kernel[0] - 1), self.some(0, kernel[1] - 1)
        after = tuple(
            max(k - n - a, 0) + self.some(0, 1) * (k > 1)
            for k, n, a in zip(kernel, shape, before, strict=False)
        )
        return Window(
            kernel, stride, before, (min(after[0], kernel[0] - 1), min(after[1], kernel[1] - 1))
        )

    def add_layer(self, x: int) -> bool:
        """One more layer that reads tensor ``x``; False where this kind does not take it."""
        kinds = (self._conv, self._depthwise, self._pool, self._mean, self._lookup,
                 self._pad, self._add, self._concat, self._dense)  # fmt: skip
        made = kinds[self.some(0, len(kinds) - 1)](x)
        if made is None:
            return False
        self.layers.append(made)
        return True

    def _ends(self, inputs: tuple[int, ...], out: int) -> tuple[str, tuple[int, ...], int]:
        return f"layer {len(self.layers)}", inputs, out

    def _windowed(
        self, x: int, channels: int, window: Window, like: int | None = None
    ) -> int | None:
        high, wide = window.lengths(self.tensors[x].shape[:2])
        if high < 1 or wide < 1:
            return None
        return self.tensor((high, wide, channels), like)

    def _weights(self, shape: tuple[int, ...]) -> np.ndarray:
        return self.random.integers(-127, 128, shape).astype(np.int8)

    def _bias(self, count: int) -> np.ndarray:
        return self.random.integers(-3000, 3000, count).astype(np.int32)

    def _conv(self, x: int) -> Layer | None:
        window, channels = self.window(x), self.some(1, 9)
        shape = (channels, *window.kernel, self.tensors[x].shape[2])
        out = self._windowed(x, channels, window)
        if out is None:
            return None
        rescale = self.rescale(channels, 60 / (74 * 74 * float(np.prod(shape[1:])) ** 0.5))
        return form.Conv(*self._ends((x,), out), window, self._weights(shape), self._bias(channels),
                         rescale, self.clamp())  # fmt: skip

    def _depthwise(self, x: int) -> Layer | None:
        window = self.window(x)
        channels = self.tensors[x].shape[2] * self.some(1, 3)
        out = self._windowed(x, channels, window)
        if out is None:
            return None
        ends, weights = self._ends((x,), out), self._weights((*window.kernel, channels))
        rescale = self.rescale(channels, 0.004)
        return form.Depthwise(*ends, window, weights, self._bias(channels), rescale, self.clamp())

    def _dense(self, x: int) -> Layer | None:
        inputs, units = self.tensors[x].size_bytes, self.some(1, 20)
        if inputs > 600:
            return None
        out = self.tensor((1, 1, units))
        ends, weights = self._ends((x,), out), self._weights((units, inputs))
        bias, rescale = self._bias(units), self.rescale(units, 60 / (74 * 74 * inputs**0.5))
        return form.Dense(*ends, weights, bias, rescale, self.clamp())

    def _pool(self, x: int) -> Layer | None:
        window = self.window(x)
        out = self._windowed(x, self.tensors[x].shape[2], window, like=x)
        if out is None:
            return None
        return form.Pool(*self._ends((x,), out), window, bool(self.some(0, 1)), self.clamp())

    def _mean(self, x: int) -> Layer | None:
        h, w, c = self.tensors[x].shape
        return form.Mean(
            *self._ends((x,), self.tensor((1, 1, c))), self.rescale(1, 1 / (h * w)), self.clamp()
        )

    def _lookup(self, x: int) -> Layer | None:
        table = self.random.integers(-128, 128, 256).astype(np.int8)
        return form.Lookup(*self._ends((x,), self.tensor(self.tensors[x].shape)), table)

    def _pad(self, x: int) -> Layer | None:
        before = self.some(0, 2), self.some(0, 2), self.some(0, 1)
        h, w, c = (
            n + a + self.some(0, 1) for n, a in zip(self.tensors[x].shape, before, strict=True)
        )
        return form.Pad(*self._ends((x,), self.tensor((h, w, c), like=x)), before)

    def _add(self, x: int) -> Layer | None:
        shape = self.tensors[x].shape
        others = [k for k in self.open if self.tensors[k].shape == shape]
        other = others[self.some(0, len(others) - 1)]
        sides = self.rescale(2, 0.2)
        shift = np.minimum(sides.shift, 0)
        last = multiplier_of(float(np.exp(self.random.normal(0, 0.5))) * 2 / (1 << 20))
        rescale = Rescale(
            np.append(sides.multiplier, last[0]).astype(np.int32),
            np.append(shift, last[1]).astype(np.int8),
        )
        return form.Add(*self._ends((x, other), self.tensor(shape)), rescale, self.clamp())

    def _concat(self, x: int) -> Layer | None:
        high, wide, _ = self.tensors[x].shape
        same = [k for k in self.open if self.tensors[k].shape[:2] == (high, wide)]
        picked = [x, *(same[self.some(0, len(same) - 1)] for _ in range(self.some(0, 3)))]
        width = sum(self.tensors[k].shape[2] for k in picked)
        return form.Concat(*self._ends(tuple(picked), self.tensor((high, wide, width), like=x)))

    def port(self, k: int) -> Port:
        tensor = self.tensors[k]
        return Port(k, TensorSpec(tensor.name, "int8", (1, *tensor.shape), "NHWC", 3,
                                  tensor.scale, tensor.zero_point))  # fmt: skip


def random_head(seed: int) -> Int8Head:
    """A head of 0 to `MAX_LAYERS` layers; its waist is the last tensor, and sometimes another."""
    maker = HeadMaker(seed)
    shape = maker.some(1, 9), maker.some(1, 9), maker.some(1, 7)
    inputs = [maker.tensor(shape) for _ in range(maker.some(1, 2))]
    wanted = maker.some(1, MAX_LAYERS)
    for _ in range(4 * wanted):
        if len(maker.layers) < wanted:
            maker.add_layer(maker.open[-1] if maker.random.random() < 0.7 else
                            maker.open[maker.some(0, len(maker.open) - 1)])  # fmt: skip
    outputs = [len(maker.tensors) - 1]
    if maker.random.random() < 0.3:
        outputs = sorted({*outputs, maker.some(len(inputs) - 1, len(maker.tensors) - 1)})
    return Int8Head(
        tuple(maker.tensors),
        tuple(maker.layers),
        tuple(map(maker.port, inputs)),
        tuple(map(maker.port, outputs)),
    )


def random_blob(seed: int) -> LoweredHead:
    """A head with codecs of the firmware and a golden frame."""
    head = random_head(seed)
    random = np.random.default_rng(seed)
    waist = [WaistTensor(port.spec, str(random.choice(CODECS))) for port in head.outputs]
    frame = [random.integers(-128, 128, port.spec.shape).astype(np.int8) for port in head.inputs]
    return assemble(head, waist, [frame] if random.random() < 0.7 else [])
