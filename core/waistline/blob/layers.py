"""From a blob back to the head it computes: what a board does with it, without the board.

Names and scales are not in a blob; tensors are called by their numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from waistline.blob import form, records
from waistline.blob.check import check_blob
from waistline.blob.form import (
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
from waistline.blob.pack import folded_bias
from waistline.blob.records import Blob, LayerRecord
from waistline.blob.sizes import rounded
from waistline.tensors import TensorSpec


def head_of(blob: Blob) -> Int8Head:
    """The layers of a blob.

    Raises:
        BundleError: no board takes it.
    """
    check_blob(blob)
    tensors = tuple(
        Activation(f"tensor {k}", item.shape, 1.0, item.zero_point)
        for k, item in enumerate(blob.tensors)
    )
    return Int8Head(
        tensors=tensors,
        layers=tuple(_layer(blob, k, layer) for k, layer in enumerate(blob.layers)),
        inputs=tuple(_port(tensors, k) for k in range(blob.inputs)),
        outputs=tuple(_port(tensors, waist.tensor) for waist in blob.waists),
    )


def _port(tensors: Sequence[Activation], k: int) -> Port:
    tensor = tensors[k]
    return Port(k, TensorSpec(tensor.name, "int8", (1, *tensor.shape), "NHWC", 3))


def _layer(blob: Blob, k: int, record: LayerRecord) -> Layer:
    source = blob.tensors[record.inputs[0]]
    made = blob.tensors[record.output]
    end = f"layer {k}", record.inputs, record.output
    clamp = Clamp(*record.clamp)
    window = _window(record, source.shape, made.shape)
    if record.op == records.CONV:
        shape = made.channels, *record.kernel, source.channels
        weights = _matrix(blob, record, made.channels, int(np.prod(shape[1:]))).reshape(shape)
        return form.Conv(*end, window, weights, *_records(blob, record, weights, source), clamp)
    if record.op == records.DENSE:
        weights = _matrix(blob, record, made.channels, source.size_bytes)
        return form.Dense(*end, weights, *_records(blob, record, weights, source), clamp)
    if record.op == records.DEPTHWISE:
        rows = _depthwise(blob, record, made.channels)
        bias = _records(blob, record, rows, source)
        return form.Depthwise(*end, window, rows.transpose(1, 2, 0), *bias, clamp)
    if record.op in (records.MAX_POOL, records.AVERAGE_POOL):
        return form.Pool(*end, window, record.op == records.MAX_POOL, clamp)
    if record.op == records.ADD:
        return form.Add(*end, _factors(blob, record), clamp)
    if record.op == records.MEAN:
        return form.Mean(*end, _factors(blob, record), clamp)
    if record.op == records.PAD:
        return form.Pad(*end, record.before)
    if record.op == records.LOOKUP:
        return form.Lookup(*end, np.frombuffer(blob.section(record.weights), np.int8))
    return form.Concat(*end)


def _window(record: LayerRecord, source: Shape, made: Shape) -> Window:
    """With the padding behind, as the output's size asks for it."""
    if not record.kernel[0]:
        return Window((1, 1))
    axes = zip(source, made, record.kernel, record.stride, record.before, strict=False)
    after = [max((out - 1) * s + k - n - a, 0) for n, out, k, s, a in axes]
    before = record.before[0], record.before[1]
    return Window(record.kernel, record.stride, before, (after[0], after[1]))


def _matrix(blob: Blob, record: LayerRecord, outputs: int, depth: int) -> Int8s:
    """The reverse of `waistline.blob.pack.pack_conv`: (out, depth)."""
    raw = np.frombuffer(blob.section(record.weights), np.int8)
    blocks = raw.reshape(-1, rounded(depth, 4) // 4, 2, 2, 2).transpose(0, 4, 1, 3, 2)
    return blocks.reshape(-1, rounded(depth, 4))[:outputs, :depth].copy()


def _depthwise(blob: Blob, record: LayerRecord, channels: int) -> Int8s:
    """The reverse of `waistline.blob.pack.pack_depthwise`, (channels, rows, columns)."""
    raw = np.frombuffer(blob.section(record.weights), "<i2")
    rows = raw.reshape(channels, record.kernel[0], -1)[:, :, : record.kernel[1]]
    return (rows // 2).astype(np.int8)


def _factors(blob: Blob, record: LayerRecord, count: int | None = None) -> Rescale:
    found = np.frombuffer(blob.section(record.params), "<i4").reshape(-1, 3)[:count]
    return Rescale(found[:, 1].astype(np.int32), found[:, 2].astype(np.int8))


def _records(
    blob: Blob, record: LayerRecord, weights: Int8s, source: records.TensorRecord
) -> tuple[NDArray[np.int32], Rescale]:
    """The bias as it was before the zero point was folded in, and the factors."""
    count = len(weights)
    found = np.frombuffer(blob.section(record.params), "<i4").reshape(-1, 3)[:count, 0]
    bias = folded_bias(found, weights, -source.zero_point)
    return bias.astype(np.int32), _factors(blob, record, count)
