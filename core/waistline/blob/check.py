"""Whether a blob would read or write where it must not: PROTOCOL.md section 5, "Checks".

The same rules, in the same order and with the same reason numbers, as ``wl_blob_check`` and
``wl_layer_check`` of the firmware, so that what passes here passes on a board.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from waistline.blob import records
from waistline.blob.fixed import MAX_SHIFT, MIN_SHIFT
from waistline.blob.form import Window
from waistline.blob.pack import MAX_BIAS, MAX_DEPTH
from waistline.blob.records import (
    HEADER,
    Blob,
    BlobRefused,
    LayerRecord,
    Reason,
    TensorRecord,
)
from waistline.blob.sizes import (
    ADD_SIZES,
    LOOKUP_SIZES,
    MAX_PIXELS,
    MAX_ROWS,
    MEAN_SIZES,
    NOTHING,
    KernelSizes,
    conv_sizes,
    dense_sizes,
    depthwise_sizes,
)

_NEVER, _INPUT = -2, -1
_FULL = (-128, 127)
_CTX_NODES = (80, 272, 496, 1008, 784, 1040, 1552, 2576)
"""waist_ctx_nodes(1 .. 8), core/c/waist.h."""


def check_blob(blob: Blob, arena_bytes: int | None = None) -> Blob:
    """Give the blob back if a board with this arena takes it.

    Args:
        blob: what `read_blob` gave.
        arena_bytes: of the board; None: any.

    Raises:
        BlobRefused: the first rule it breaks, with the number of the record.
    """
    _need(arena_bytes is None or blob.arena_bytes <= arena_bytes, Reason.ARENA, 0)
    _check_tensors(blob)
    _Layers(blob).check()
    _check_waists(blob)
    for k, golden in enumerate(blob.goldens):
        _need(_in_blob(blob, (golden.input, blob.input_bytes), 1), Reason.GOLDEN, k)
    return blob


def _need(holds: bool, reason: Reason, record: int) -> None:
    if not holds:
        name = f"{reason.name.lower()} {record} (reason {reason.value})"
        raise BlobRefused(f"a board refuses it: {name}", reason, record)


def _in_blob(blob: Blob, where: tuple[int, int], alignment: int) -> bool:
    at, size = where
    return at % alignment == 0 and HEADER.size <= at and at + size <= len(blob.data)


def _overlap(a: tuple[int, int], b: tuple[int, int]) -> bool:
    return a[1] > 0 and b[1] > 0 and a[0] < b[0] + b[1] and b[0] < a[0] + a[1]


def _range(tensor: TensorRecord) -> tuple[int, int]:
    return tensor.offset, tensor.size_bytes


def _check_tensors(blob: Blob) -> None:
    for k, tensor in enumerate(blob.tensors):
        size = tensor.size_bytes
        fits = size > 0 and tensor.offset % 4 == 0 and tensor.offset + size <= blob.arena_bytes
        _need(fits and not tensor.odd, Reason.TENSOR, k)
    _need(blob.input_bytes <= blob.arena_bytes, Reason.TENSOR, len(blob.tensors))
    for k in range(blob.inputs):
        for other in blob.tensors[:k]:
            _need(not _overlap(_range(blob.tensors[k]), _range(other)), Reason.OVERLAP, k)


def _births(blob: Blob) -> list[int]:
    """The layer that first writes each tensor."""
    born = [_INPUT if k < blob.inputs else _NEVER for k in range(len(blob.tensors))]
    for k, layer in enumerate(blob.layers):
        if born[layer.output] == _NEVER:
            born[layer.output] = k
    return born


def _deaths(blob: Blob) -> list[int]:
    """The last layer that reads each tensor; behind all of them for a waist tensor."""
    dies = [_NEVER] * len(blob.tensors)
    for k, layer in enumerate(blob.layers):
        for tensor in layer.inputs:
            dies[tensor] = k
    for waist in blob.waists:
        if waist.tensor < len(dies):
            dies[waist.tensor] = len(blob.layers)
    return dies


class _Layers:
    def __init__(self, blob: Blob) -> None:
        self._blob = blob
        for k, layer in enumerate(blob.layers):
            known = records.CONV <= layer.op <= records.LOOKUP
            tensors = (*layer.inputs, layer.output)
            _need(known and not layer.odd and max(tensors) < len(blob.tensors), Reason.LAYER, k)
        self._born, self._dies = _births(blob), _deaths(blob)

    def check(self) -> None:
        for k, layer in enumerate(self._blob.layers):
            for tensor in layer.inputs:
                _need(_INPUT <= self._born[tensor] < k, Reason.ORDER, k)
            _need(self._born[layer.output] == k, Reason.TWICE, k)
            self._ranges(k, layer)
            self._kernel(k, layer)
            self._overlaps(k, layer)

    def _ranges(self, k: int, layer: LayerRecord) -> None:
        _need(layer.clamp[0] <= layer.clamp[1], Reason.CLAMP, k)
        for where in (layer.weights, layer.params):
            held = _in_blob(self._blob, where, 8) if where[1] else where[0] == 0
            _need(held, Reason.WEIGHTS, k)
        at, size = layer.scratch
        _need(at % 8 == 0 and at + size <= self._blob.arena_bytes, Reason.SCRATCH, k)

    def _kernel(self, k: int, layer: LayerRecord) -> None:
        windowed = layer.op in (records.CONV, records.DEPTHWISE, *_POOLS)
        padded = windowed or layer.op == records.PAD
        _need(windowed or not any((*layer.kernel, *layer.stride)), Reason.LAYER, k)
        _need(padded or not any(layer.before[:2]), Reason.LAYER, k)
        _need(layer.op == records.PAD or not layer.before[2], Reason.LAYER, k)
        count = {records.ADD: 2, records.CONCAT: len(layer.inputs)}.get(layer.op, 1)
        _need(len(layer.inputs) == count, Reason.LAYER, k)
        if layer.op in (records.CONCAT, records.PAD, records.LOOKUP):
            _need(layer.clamp == _FULL, Reason.CLAMP, k)
        made = self._blob.tensors[layer.output]
        sources = [self._blob.tensors[number] for number in layer.inputs]
        sizes = _RULES[layer.op](layer, sources, made)
        _need(sizes is not None, Reason.SHAPE, k)
        assert sizes is not None
        exact = layer.weights[1] == sizes.weights and layer.params[1] == sizes.params
        _need(exact and self._records_hold(layer), Reason.WEIGHTS, k)
        _need(layer.scratch[1] >= sizes.scratch, Reason.SCRATCH, k)

    def _records_hold(self, layer: LayerRecord) -> bool:
        found = np.frombuffer(self._blob.section(layer.params), "<i4").reshape(-1, 3)
        bias, multiplier, shift = found.T.astype(np.int64)
        if (np.abs(bias) > MAX_BIAS).any() or (multiplier < 0).any():
            return False
        if ((shift < MIN_SHIFT) | (shift > MAX_SHIFT)).any():
            return False
        if layer.op == records.ADD:  # zero points are codes, factors are below 1
            return bool(((bias >= -128) & (bias <= 127) & (shift <= 0)).all())
        return True

    def _overlaps(self, k: int, layer: LayerRecord) -> None:
        out = _range(self._blob.tensors[layer.output])
        _need(not _overlap(out, layer.scratch), Reason.OVERLAP, k)
        for number, tensor in enumerate(self._blob.tensors):
            lives = self._born[number] != _NEVER and self._born[number] < k <= self._dies[number]
            touched = _overlap(out, _range(tensor)) or _overlap(layer.scratch, _range(tensor))
            _need(not (lives and touched), Reason.OVERLAP, k)


_POOLS = (records.MAX_POOL, records.AVERAGE_POOL)
_Rule = Callable[[LayerRecord, list[TensorRecord], TensorRecord], KernelSizes | None]


def _windows_hold(layer: LayerRecord, source: TensorRecord, made: TensorRecord) -> bool:
    """``wl_windows_valid`` of both axes."""
    return all(
        kernel > 0 and stride > 0 and pad < kernel and (out - 1) * stride < size + pad
        for size, out, kernel, stride, pad in zip(
            source.shape[:2],
            made.shape[:2],
            layer.kernel,
            layer.stride,
            layer.before[:2],
            strict=True,
        )
    )


def _conv(layer: LayerRecord, x: list[TensorRecord], y: TensorRecord) -> KernelSizes | None:
    if not _windows_hold(layer, x[0], y) or math.prod(layer.kernel) * x[0].channels > MAX_DEPTH:
        return None
    return conv_sizes(x[0].shape, y.shape, Window(layer.kernel, layer.stride))


def _depthwise(layer: LayerRecord, x: list[TensorRecord], y: TensorRecord) -> KernelSizes | None:
    multiplier, left = divmod(y.channels, x[0].channels)
    if left or not 1 <= multiplier <= 255 or not _windows_hold(layer, x[0], y):
        return None
    if layer.kernel[0] > MAX_ROWS:
        return None
    return depthwise_sizes(x[0].shape, y.shape, Window(layer.kernel, layer.stride))


def _dense(layer: LayerRecord, x: list[TensorRecord], y: TensorRecord) -> KernelSizes | None:
    if x[0].size_bytes > MAX_DEPTH or (y.height, y.width) != (1, 1):
        return None
    return dense_sizes(x[0].size_bytes, y.channels)


def _pool(layer: LayerRecord, x: list[TensorRecord], y: TensorRecord) -> KernelSizes | None:
    return NOTHING if x[0].channels == y.channels and _windows_hold(layer, x[0], y) else None


def _add(layer: LayerRecord, x: list[TensorRecord], y: TensorRecord) -> KernelSizes | None:
    return ADD_SIZES if x[0].shape == x[1].shape == y.shape else None


def _concat(layer: LayerRecord, x: list[TensorRecord], y: TensorRecord) -> KernelSizes | None:
    same = all(part.shape[:2] == y.shape[:2] for part in x)
    return NOTHING if same and sum(part.channels for part in x) == y.channels else None


def _pad(layer: LayerRecord, x: list[TensorRecord], y: TensorRecord) -> KernelSizes | None:
    sizes = zip(x[0].shape, layer.before, y.shape, strict=True)
    return NOTHING if all(size + before <= made for size, before, made in sizes) else None


def _mean(layer: LayerRecord, x: list[TensorRecord], y: TensorRecord) -> KernelSizes | None:
    fits = x[0].height * x[0].width <= MAX_PIXELS
    return MEAN_SIZES if fits and y.shape == (1, 1, x[0].channels) else None


def _lookup(layer: LayerRecord, x: list[TensorRecord], y: TensorRecord) -> KernelSizes | None:
    return LOOKUP_SIZES if x[0].shape == y.shape else None


_RULES: dict[int, _Rule] = {
    records.CONV: _conv,
    records.DEPTHWISE: _depthwise,
    records.DENSE: _dense,
    records.MAX_POOL: _pool,
    records.AVERAGE_POOL: _pool,
    records.ADD: _add,
    records.CONCAT: _concat,
    records.PAD: _pad,
    records.MEAN: _mean,
    records.LOOKUP: _lookup,
}


def packed_bytes(count: int, bits: int) -> int:
    return (count * bits + 7) // 8


def waist_scratch(bits: int, coder: int, columns: int) -> int:
    """Scratch that coding one waist tensor takes."""
    if coder == records.CODERS.index("none"):
        return 0
    return 4 * _CTX_NODES[bits - 1] + columns


def _check_waists(blob: Blob) -> None:
    born = _births(blob)
    total = 0
    for k, waist in enumerate(blob.waists):
        known = waist.tensor < len(born) and born[waist.tensor] != _NEVER
        _need(known, Reason.WAIST, k)
        count = blob.tensors[waist.tensor].size_bytes
        coded = 1 <= waist.bits <= 8 and waist.coder < len(records.CODERS)
        _need(coded and not waist.odd, Reason.CODES, k)
        _need(waist.planes * waist.rows * waist.columns == count, Reason.CODES, k)
        if waist.table == 0:
            _need(waist.bits == 8, Reason.CODES, k)
        else:
            _need(_in_blob(blob, (waist.table, 256), 1), Reason.CODES, k)
            top = max(blob.section((waist.table, 256)))
            _need(top >> waist.bits == 0, Reason.CODES, k)
        total += 4 + packed_bytes(count, waist.bits)
    at, size = blob.output
    _need(size == total and at + size <= blob.arena_bytes, Reason.OUTPUT, 0)
    for k, waist in enumerate(blob.waists):
        at, size = waist.scratch
        needed = waist_scratch(waist.bits, waist.coder, waist.columns)
        fits = at % 4 == 0 and at + size <= blob.arena_bytes and size >= needed
        _need(fits, Reason.WAIST_SCRATCH, k)
        _need(not _overlap(waist.scratch, blob.output), Reason.OUTPUT, k)
        for other in blob.waists:
            where = _range(blob.tensors[other.tensor])
            clear = not _overlap(waist.scratch, where) and not _overlap(blob.output, where)
            _need(clear, Reason.OUTPUT, k)
