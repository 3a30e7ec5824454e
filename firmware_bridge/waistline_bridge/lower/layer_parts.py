"""What one layer is in a blob: its operator and window, its weights and records, their sizes."""

from __future__ import annotations

from typing import Any

import numpy as np

from waistline.blob import form, records
from waistline.blob.form import Int8Head, Layer, Rescale
from waistline.blob.pack import folded_bias, pack_conv, pack_depthwise, pack_records
from waistline.blob.sizes import NOTHING, KernelSizes, conv_sizes, dense_sizes, depthwise_sizes


def sizes_of(head: Int8Head, layer: Layer) -> KernelSizes:
    source, made = head.tensors[layer.inputs[0]].shape, head.tensors[layer.output]
    if isinstance(layer, form.Conv):
        return conv_sizes(source, made.shape, layer.window)
    if isinstance(layer, form.Depthwise):
        return depthwise_sizes(source, made.shape, layer.window)
    if isinstance(layer, form.Dense):
        return dense_sizes(layer.weights.shape[1], layer.weights.shape[0])
    return NOTHING


_OPS: dict[type[Layer], int] = {
    form.Conv: records.CONV,
    form.Depthwise: records.DEPTHWISE,
    form.Dense: records.DENSE,
    form.Add: records.ADD,
    form.Concat: records.CONCAT,
    form.Pad: records.PAD,
    form.Mean: records.MEAN,
    form.Lookup: records.LOOKUP,
}


def fields_of(layer: Layer) -> dict[str, Any]:
    """Operator, window and clamp."""
    fields: dict[str, Any] = {}
    if isinstance(layer, form.Pool):
        fields["op"] = records.MAX_POOL if layer.largest else records.AVERAGE_POOL
    else:
        fields["op"] = _OPS[type(layer)]
    if isinstance(layer, form.Conv | form.Depthwise | form.Pool):
        window = layer.window
        fields |= {"kernel": window.kernel, "stride": window.stride, "before": (*window.before, 0)}
    if isinstance(layer, form.Pad):
        fields["before"] = layer.before
    if not isinstance(layer, form.Concat | form.Pad | form.Lookup):
        fields["clamp"] = (layer.clamp.low, layer.clamp.high)  # type: ignore[attr-defined]
    return fields


def packed(head: Int8Head, layer: Layer) -> tuple[bytes, bytes]:
    """Weights and records."""
    zero = head.tensors[layer.inputs[0]].zero_point
    if isinstance(layer, form.Conv | form.Dense):
        bias = folded_bias(layer.bias, layer.weights, zero)
        return pack_conv(layer.weights), _records(bias, layer.rescale, even=True)
    if isinstance(layer, form.Depthwise):
        bias = folded_bias(layer.bias, layer.weights.transpose(2, 0, 1), zero)
        return pack_depthwise(layer.weights), _records(bias, layer.rescale, even=False)
    if isinstance(layer, form.Mean):
        h, w, _ = head.tensors[layer.inputs[0]].shape
        return b"", _records(np.array([-zero * h * w]), layer.rescale, even=False)
    if isinstance(layer, form.Add):
        zeros = [head.tensors[number].zero_point for number in (*layer.inputs, layer.output)]
        return b"", _records(np.array(zeros), layer.rescale, even=False)
    return (layer.table.tobytes(), b"") if isinstance(layer, form.Lookup) else (b"", b"")


def _records(bias: Any, rescale: Rescale, *, even: bool) -> bytes:
    return pack_records(bias, rescale.multiplier, rescale.shift, even=even)
