"""Operators of the QDQ reader: attributes and operands of each, weights laid out anew."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from waistline.blob.form import Clamp, Pair, Window
from waistline_bridge.lower.build import Weights
from waistline_bridge.lower.factors import rescale_by
from waistline_bridge.lower.qdq import QdqReader
from waistline_bridge.lower.qdq_values import Pending, Quantized, Value, attribute, stored_shape
from waistline_bridge.lower.refuse import Unsupported

_BIAS_TOLERANCE = 1e-5
"""Relative; within it a stored bias has the scale of input times weight."""


def _conv(reader: QdqReader, node: Any) -> None:
    x = reader.image(node.input[0])
    found = reader.constants.quantized(node.input[1], "INT8")
    if found.codes.ndim != 4:
        raise Unsupported(f"its weights have {found.codes.ndim} axes, not 4")
    if found.axis not in (None, 0):
        raise Unsupported(f"its weights have a scale per slice of axis {found.axis}, not 0")
    group, depth = attribute(node, "group", 1), found.codes.shape[1]
    if group * depth != reader.build.tensors[x].shape[2]:
        raise Unsupported(f"{group} groups of {depth} channels do not fit its input")
    kernel = found.codes.shape[2], found.codes.shape[3]
    window = _window(reader, node, x, kernel)
    weights = _weights(reader, node, x, found, found.codes.transpose(0, 2, 3, 1))
    reader.promise(
        node.output[0],
        Pending(lambda y, clamp: reader.build.conv(x, y, weights, window, clamp)),
    )


def _weights(reader: QdqReader, node: Any, x: int, found: Quantized, codes: Any) -> Weights:
    """With the bias of input 2 in units of input scale times weight scale."""
    count = codes.shape[0]
    bias = np.zeros(count, np.int64)
    if len(node.input) > 2 and node.input[2]:
        bias = _bias(reader, node.input[2], reader.build.tensors[x].scale, found.scales)
    if bias.shape != (count,):
        raise Unsupported(f"its bias has the shape {bias.shape} for {count} channels")
    return Weights(np.ascontiguousarray(codes), found.scales, bias)


def _bias(reader: QdqReader, name: str, scale: float, scales: Any) -> Any:
    steps = scale * scales.astype(np.float64)
    try:
        found = reader.constants.quantized(name, "INT32")
    except Unsupported:
        found = None
    if found is not None:
        same = np.abs(found.scales / steps - 1) < _BIAS_TOLERANCE
        if same.all() and found.codes.ndim == 1:
            return found.codes.astype(np.int64)
    real = reader.constants.real(name)
    if not np.isfinite(real).all():
        raise Unsupported("its bias is not finite")
    bias = np.rint(np.clip(real.reshape(-1) / steps, -(2.0**40), 2.0**40)).astype(np.int64)
    return bias


def _gemm(reader: QdqReader, node: Any) -> None:
    factors = attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0)
    if factors != (1.0, 1.0) or attribute(node, "transA", 0):
        raise Unsupported("it scales or transposes an operand")
    _dense(reader, node, outputs_at=0 if attribute(node, "transB", 0) else 1)


def _matmul(reader: QdqReader, node: Any) -> None:
    _dense(reader, node, outputs_at=1)


def _dense(reader: QdqReader, node: Any, outputs_at: int) -> None:
    x = reader.value(node.input[0])
    found = reader.constants.quantized(node.input[1], "INT8")
    if found.codes.ndim != 2 or len(stored_shape(reader.model, node.input[0])) != 2:
        raise Unsupported("it does not multiply a vector by a matrix")
    if found.axis not in (None, outputs_at):
        raise Unsupported(f"its weights have a scale per slice of axis {found.axis}")
    codes = found.codes if outputs_at == 0 else found.codes.T
    if x.mixed is not None:
        if codes.shape[1] != math.prod(x.mixed):
            raise Unsupported(f"its weights have the shape {codes.shape}")
        codes = codes.reshape(-1, *x.mixed).transpose(0, 2, 3, 1).reshape(codes.shape)
    weights = _weights(reader, node, x.tensor, found, codes)
    reader.promise(
        node.output[0],
        Pending(lambda y, clamp: reader.build.dense(x.tensor, y, weights, clamp)),
    )


def _window(reader: QdqReader, node: Any, x: int, kernel: Pair) -> Window:
    """The window; padding at the bottom and right is what the output's size asks for."""
    if list(attribute(node, "kernel_shape", kernel)) != list(kernel):
        raise Unsupported("its kernel_shape is not that of its weights")
    strides = _pair(attribute(node, "strides", [1, 1]))
    dilations = _pair(attribute(node, "dilations", [1, 1]))
    if dilations != (1, 1):
        raise Unsupported(f"it is dilated by {dilations}; the firmware has no dilated windows")
    if min(*strides, *kernel) < 1:
        raise Unsupported(f"its kernel is {kernel}, its stride {strides}")
    pads = list(attribute(node, "pads", [0, 0, 0, 0]))
    mode = attribute(node, "auto_pad", b"NOTSET").decode()
    if len(pads) != 4:
        raise Unsupported(f"its pads are {pads}")
    if mode.startswith("SAME"):
        for axis in (0, 1):
            size = reader.build.tensors[x].shape[axis]
            steps = -(-size // strides[axis]) - 1
            total = max(steps * strides[axis] + kernel[axis] - size, 0)
            less = total // 2
            pads[axis], pads[axis + 2] = (
                (less, total - less) if mode == "SAME_UPPER" else (total - less, less)
            )
    elif mode == "VALID":
        pads = [0, 0, 0, 0]
    if attribute(node, "ceil_mode", 0):
        raise Unsupported("it rounds its output's size up (ceil_mode)")
    return Window(kernel, strides, (pads[0], pads[1]), (pads[2], pads[3]))


def _pair(values: Any) -> Pair:
    if len(values) != 2:
        raise Unsupported(f"it has {len(values)} spatial axes, not 2")
    return int(values[0]), int(values[1])


def _max_pool(reader: QdqReader, node: Any) -> None:
    x = reader.image(node.input[0])
    if len(node.output) > 1 and node.output[1]:
        raise Unsupported("it gives the places of its maxima")
    window = _window(reader, node, x, _pair(attribute(node, "kernel_shape", [])))
    reader.promise(
        node.output[0],
        Pending(lambda y, clamp: reader.build.pool(x, y, window, True, clamp), like=x),
    )


def _average_pool(reader: QdqReader, node: Any) -> None:
    x = reader.image(node.input[0])
    window = _window(reader, node, x, _pair(attribute(node, "kernel_shape", [])))
    padded = any((*window.before, *window.after))
    if padded and not attribute(node, "count_include_pad", 0):
        reader.promise(
            node.output[0],
            Pending(lambda y, clamp: reader.build.pool(x, y, window, False, clamp), like=x),
        )
        return

    def make(y: int, clamp: Clamp) -> None:
        source, made = reader.build.tensors[x], reader.build.tensors[y]
        if not padded and (source.scale, source.zero_point) == (made.scale, made.zero_point):
            reader.build.pool(x, y, window, False, clamp)
            return
        factor = source.scale / made.scale / math.prod(window.kernel)
        reader.build.window_sum(x, y, window, rescale_by([factor], 1), clamp)

    reader.promise(node.output[0], Pending(make))


def _global_pool(reader: QdqReader, node: Any) -> None:
    x = reader.image(node.input[0])
    reader.promise(
        node.output[0], Pending(lambda y, clamp: reader.build.mean(x, y, clamp, rounded_once=True))
    )


def _mean(reader: QdqReader, node: Any) -> None:
    x = reader.image(node.input[0])
    axes = attribute(node, "axes", None)
    if axes is None and len(node.input) > 1 and node.input[1]:
        axes = reader.constants.array(node.input[1], "INT64").tolist()
    rank = len(stored_shape(reader.model, node.input[0]))
    if axes is None or rank != 4 or {axis % 4 for axis in axes} != {2, 3}:
        raise Unsupported(f"it is a mean over the axes {axes}, not height and width")
    reader.promise(
        node.output[0], Pending(lambda y, clamp: reader.build.mean(x, y, clamp, rounded_once=True))
    )


def _add(reader: QdqReader, node: Any) -> None:
    a, b = (reader.value(name) for name in node.input)
    if a.mixed != b.mixed:
        raise Unsupported("its operands lie in different orders")
    reader.promise(
        node.output[0],
        Pending(lambda y, clamp: reader.build.add(a.tensor, b.tensor, y, clamp), mixed=a.mixed),
    )


def _concat(reader: QdqReader, node: Any) -> None:
    parts = [reader.image(name) for name in node.input]
    rank = len(stored_shape(reader.model, node.output[0]))
    axis = attribute(node, "axis", 0)
    if axis % rank != 1:
        raise Unsupported(f"it joins along axis {axis}, not along the channels")

    def make(y: int, clamp: Clamp) -> None:
        build, made = reader.build, reader.build.tensors[y]
        equal = []
        for part in parts:
            source = build.tensors[part]
            if (source.scale, source.zero_point) != (made.scale, made.zero_point):
                name = f"{source.name}:for:{made.name}"
                own = build.tensor(name, (1, *source.shape), made.scale, made.zero_point)
                build.rescale_exactly(part, own, Clamp())
                part = own
            equal.append(part)
        build.concat(equal, y)

    reader.promise(node.output[0], Pending(make, clamps=False))


def _pad(reader: QdqReader, node: Any) -> None:
    x = reader.image(node.input[0])
    if attribute(node, "mode", b"constant") != b"constant":
        raise Unsupported("it does not pad with zeros")
    if len(node.input) > 3 and node.input[3]:
        raise Unsupported("it pads chosen axes")
    if len(node.input) > 2 and node.input[2] and reader.constants.real(node.input[2]).any():
        raise Unsupported("it does not pad with zeros")
    pads = reader.constants.array(node.input[1], "INT64").tolist()
    if len(pads) != 8 or pads[0] or pads[4]:
        raise Unsupported(f"it pads by {pads}")
    before, after = (pads[2], pads[3], pads[1]), (pads[6], pads[7], pads[5])
    reader.promise(
        node.output[0],
        Pending(lambda y, clamp: reader.build.pad(x, y, before, after), like=x, clamps=False),
    )


def _relu(reader: QdqReader, node: Any) -> None:
    reader.limit(node.input[0], node.output[0], 0.0, None)


def _clip(reader: QdqReader, node: Any) -> None:
    limits = [attribute(node, "min", None), attribute(node, "max", None)]
    for k, name in enumerate(node.input[1:]):
        if name:
            limits[k] = float(reader.constants.real(name).reshape(-1)[0])
    reader.limit(node.input[0], node.output[0], limits[0], limits[1])


def _leaky(reader: QdqReader, node: Any) -> None:
    x, alpha = reader.value(node.input[0]), np.float32(attribute(node, "alpha", 0.01))

    def make(y: int, clamp: Clamp) -> None:
        reader.build.apply(x.tensor, y, lambda v: np.where(v < 0, alpha * v, v), clamp)

    reader.promise(node.output[0], Pending(make, mixed=x.mixed))


def _view(reader: QdqReader, node: Any) -> None:
    """Flatten, Reshape, Squeeze, Unsqueeze: what leaves every element in its place."""
    x = reader.value(node.input[0])
    before = stored_shape(reader.model, node.input[0])
    after = stored_shape(reader.model, node.output[0])
    if before == after:
        reader.alias(node.output[0], x)
        return
    h, w, c = reader.build.tensors[x.tensor].shape
    orders_agree = h * w == 1 or c == 1
    if len(after) == 4 and not (orders_agree and (after[3] == 1 or after[1:3] == (1, 1))):
        raise Unsupported(f"it makes {after} of {before}; only flattening costs nothing")
    reader.build.view(x.tensor, node.output[0], after)
    mixed = x.mixed if x.mixed is not None else None if orders_agree else (c, h, w)
    reader.alias(node.output[0], Value(x.tensor, mixed))


def _identity(reader: QdqReader, node: Any) -> None:
    reader.alias(node.output[0], reader.value(node.input[0]))


RULES: dict[str, Callable[[QdqReader, Any], None]] = {
    "Conv": _conv,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global_pool,
    "ReduceMean": _mean,
    "Add": _add,
    "Concat": _concat,
    "Pad": _pad,
    "Relu": _relu,
    "Clip": _clip,
    "LeakyRelu": _leaky,
    "Flatten": _view,
    "Reshape": _view,
    "Squeeze": _view,
    "Unsqueeze": _view,
    "Identity": _identity,
    "Dropout": _identity,
}
