"""Running a head in NumPy with the firmware's integers, bit for bit.

The reference the firmware is tested against, and what `waistline verify` judges a board by on a
machine without one. Arithmetic: `waistline.blob.fixed`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from waistline.blob import form
from waistline.blob.fixed import ADD_LEFT_SHIFT, Ints, scaled, to_nearest
from waistline.blob.form import LOWEST, Activation, Clamp, Int8Head, Int8s, Layer, Rescale, Window
from waistline.errors import CodecError


def run_head(head: Int8Head, inputs: Sequence[Int8s]) -> list[Int8s]:
    """Waist tensors from input tensors, in the shapes of their ports.

    Raises:
        CodecError: the inputs are not those of the head.
    """
    tensors = dict(every_tensor(head, inputs))
    return [tensors[port.tensor].reshape(port.spec.shape) for port in head.outputs]


def every_tensor(head: Int8Head, inputs: Sequence[Int8s]) -> Iterator[tuple[int, Int8s]]:
    """(number, int8 (h, w, c)) of the inputs and then of each layer's output, as they are made."""
    wanted = [port.spec.shape for port in head.inputs]
    if [array.shape for array in inputs] != wanted or any(a.dtype != np.int8 for a in inputs):
        raise CodecError(
            "these are not the inputs of the head",
            cause=f"{[(str(a.dtype), a.shape) for a in inputs]}, it takes int8 {wanted}",
        )
    known: dict[int, Int8s] = {}
    for port, array in zip(head.inputs, inputs, strict=True):
        known[port.tensor] = array.reshape(head.tensors[port.tensor].shape)
        yield port.tensor, known[port.tensor]
    for layer in head.layers:
        known[layer.output] = run_layer(head, layer, [known[k] for k in layer.inputs])
        yield layer.output, known[layer.output]


def run_layer(head: Int8Head, layer: Layer, inputs: Sequence[Int8s]) -> Int8s:
    """One layer on int8 (h, w, c) tensors."""
    zeros = [head.tensors[k].zero_point for k in layer.inputs]
    return _RULES[type(layer)](layer, inputs, zeros, head.tensors[layer.output])


def _finished(sums: Ints, rescale: Rescale, zero_point: int, clamp: Clamp) -> Int8s:
    factors = rescale.multiplier.astype(np.int64), rescale.shift.astype(np.int64)
    return _clamped(scaled(sums, *factors) + zero_point, clamp)


def _clamped(codes: Ints, clamp: Clamp) -> Int8s:
    return np.clip(codes, clamp.low, clamp.high).astype(np.int8)


def _taps(x: Any, window: Window, fill: int, made: Activation) -> Any:
    """(out h, out w, c, kernel h, kernel w) of an (h, w, c) tensor.

    A blob may ask for fewer outputs than the windows would give.
    """
    edges = [*zip(window.before, window.after, strict=True), (0, 0)]
    padded = np.pad(x, edges, constant_values=fill)
    views = sliding_window_view(padded, window.kernel, axis=(0, 1))
    rows, columns = window.stride
    return views[::rows, ::columns][: made.shape[0], : made.shape[1]]


def _conv(layer: form.Conv, inputs: Sequence[Int8s], zeros: Sequence[int], made: Any) -> Int8s:
    taps = _taps(inputs[0].astype(np.int64) - zeros[0], layer.window, 0, made)
    flat = taps.transpose(0, 1, 3, 4, 2).reshape(*taps.shape[:2], -1)
    weights = layer.weights.reshape(layer.weights.shape[0], -1)
    sums = _product(flat, weights) + layer.bias
    return _finished(sums, layer.rescale, made.zero_point, layer.clamp)


def _product(a: Any, weights: Int8s) -> Ints:
    """Exact: in float64, whose 53 bits hold every sum, and which is fast."""
    sums: Ints = np.rint(a.astype(np.float64) @ weights.T.astype(np.float64)).astype(np.int64)
    return sums


def _depthwise(
    layer: form.Depthwise, inputs: Sequence[Int8s], zeros: Sequence[int], made: Any
) -> Int8s:
    taps = _taps(inputs[0].astype(np.int64) - zeros[0], layer.window, 0, made)
    multiplier = layer.weights.shape[2] // taps.shape[2]
    weights = layer.weights.transpose(2, 0, 1).astype(np.int64)
    sums = (taps.repeat(multiplier, axis=2) * weights).sum(axis=(3, 4)) + layer.bias
    return _finished(sums, layer.rescale, made.zero_point, layer.clamp)


def _dense(layer: form.Dense, inputs: Sequence[Int8s], zeros: Sequence[int], made: Any) -> Int8s:
    sums = _product(inputs[0].reshape(1, 1, -1).astype(np.int64) - zeros[0], layer.weights)
    return _finished(sums + layer.bias, layer.rescale, made.zero_point, layer.clamp)


def _pool(layer: form.Pool, inputs: Sequence[Int8s], zeros: Sequence[int], made: Any) -> Int8s:
    if layer.largest:
        taps = _taps(inputs[0], layer.window, LOWEST, made)
        return _clamped(taps.max(axis=(3, 4)).astype(np.int64), layer.clamp)
    total = _taps(inputs[0].astype(np.int64), layer.window, 0, made).sum(axis=(3, 4))
    inside = np.ones((*inputs[0].shape[:2], 1), np.int64)
    count = _taps(inside, layer.window, 0, made).sum(axis=(3, 4))
    return _clamped(to_nearest(total, count), layer.clamp)


def _mean(layer: form.Mean, inputs: Sequence[Int8s], zeros: Sequence[int], made: Any) -> Int8s:
    total = (inputs[0].astype(np.int64) - zeros[0]).sum(axis=(0, 1), keepdims=True)
    return _finished(total, layer.rescale, made.zero_point, layer.clamp)


def _lookup(layer: form.Lookup, inputs: Sequence[Int8s], zeros: Sequence[int], made: Any) -> Int8s:
    return layer.table[inputs[0].astype(np.int64) - LOWEST]


def _add(layer: form.Add, inputs: Sequence[Int8s], zeros: Sequence[int], made: Any) -> Int8s:
    factors = layer.rescale.multiplier.astype(np.int64), layer.rescale.shift.astype(np.int64)
    both = [
        scaled(
            (x.astype(np.int64) - zero) << ADD_LEFT_SHIFT,
            factors[0][k : k + 1],
            factors[1][k : k + 1],
        )
        for k, (x, zero) in enumerate(zip(inputs, zeros, strict=True))
    ]
    last = Rescale(layer.rescale.multiplier[2:], layer.rescale.shift[2:])
    return _finished(both[0] + both[1], last, made.zero_point, layer.clamp)


def _concat(layer: form.Concat, inputs: Sequence[Int8s], zeros: Sequence[int], made: Any) -> Int8s:
    return np.concatenate(inputs, axis=2)


def _pad(layer: form.Pad, inputs: Sequence[Int8s], zeros: Sequence[int], made: Any) -> Int8s:
    sizes = zip(inputs[0].shape, layer.before, made.shape, strict=True)
    edges = [(before, out - n - before) for n, before, out in sizes]
    return np.pad(inputs[0], edges, constant_values=made.zero_point)


_RULES: dict[type[Layer], Callable[[Any, Sequence[Int8s], Sequence[int], Any], Int8s]] = {
    form.Conv: _conv,
    form.Depthwise: _depthwise,
    form.Dense: _dense,
    form.Pool: _pool,
    form.Mean: _mean,
    form.Lookup: _lookup,
    form.Add: _add,
    form.Concat: _concat,
    form.Pad: _pad,
}
