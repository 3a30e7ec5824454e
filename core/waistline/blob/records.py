"""The blob's records as bytes: PROTOCOL.md section 5, and ``firmware/src/wl_blob.h``.

`read_blob` takes hostile bytes and gives the records; `waistline.blob.check` holds them
against each other as the firmware does.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from enum import IntEnum

from waistline.blob.pack import VERSION as KERNELS
from waistline.errors import BundleError

MAGIC = 0x31424C57
VERSION = 2
ALIGN = 8
MAX_COUNT = 256
MAX_INPUTS = 4
NO_TENSOR = 0xFFFF
ID_BYTES = 8
HEADER = struct.Struct("<IHHIIIHHHHHHIIIIII8s")
TENSOR = struct.Struct("<IHHHbB")
LAYER = struct.Struct("<BBHHHHHBBBBBBB3xbbIIIIII16x")
WAIST = struct.Struct("<HBBIIIIB3xII")
GOLDEN = struct.Struct("<II")
CRC_FROM = 16

CONV, DEPTHWISE, DENSE, MAX_POOL, AVERAGE_POOL, ADD, CONCAT, PAD, MEAN, LOOKUP = range(1, 11)
CODERS = ("none", "ctx")


class Reason(IntEnum):
    """Why a blob is refused: numbers of PROTOCOL.md; a board refuses with the same."""

    HEADER = 1
    COUNTS = 2
    TABLES = 3
    ARENA = 4
    TENSOR = 5
    LAYER = 6
    ORDER = 7
    TWICE = 8
    SHAPE = 9
    CLAMP = 10
    WEIGHTS = 11
    SCRATCH = 12
    OVERLAP = 13
    WAIST = 14
    CODES = 15
    WAIST_SCRATCH = 16
    OUTPUT = 17
    GOLDEN = 18
    CRC = 19


class BlobRefused(BundleError):
    """Bytes that no board would take.

    Attributes:
        reason: the first rule they break.
        record: number of the tensor, layer, waist or golden that breaks it.
    """

    def __init__(self, cause: str, reason: Reason, record: int = 0) -> None:
        super().__init__(
            "these bytes are not a head blob",
            cause=cause,
            fix="lower the head again: waistline split MODEL --backend mcu",
        )
        self.reason, self.record = reason, record


@dataclass(frozen=True)
class TensorRecord:
    """A tensor in the arena; ``odd``: bytes are set that must be zero, as in other records."""

    offset: int
    height: int
    width: int
    channels: int
    zero_point: int
    odd: bool = False

    @property
    def size_bytes(self) -> int:
        return self.height * self.width * self.channels

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.height, self.width, self.channels


@dataclass(frozen=True)
class LayerRecord:
    """A layer; ranges are (offset, bytes), of the blob or (scratch) of the arena."""

    op: int
    inputs: tuple[int, ...]
    output: int
    kernel: tuple[int, int] = (0, 0)
    stride: tuple[int, int] = (0, 0)
    before: tuple[int, int, int] = (0, 0, 0)
    clamp: tuple[int, int] = (-128, 127)
    weights: tuple[int, int] = (0, 0)
    params: tuple[int, int] = (0, 0)
    scratch: tuple[int, int] = (0, 0)
    odd: bool = False


@dataclass(frozen=True)
class WaistRecord:
    """How a waist tensor is coded; ``table`` 0: its own bytes."""

    tensor: int
    bits: int
    coder: int
    table: int
    planes: int
    rows: int
    columns: int
    interleaved: bool
    scratch: tuple[int, int] = (0, 0)
    odd: bool = False


@dataclass(frozen=True)
class GoldenRecord:
    """Offset of input bytes, CRC-32 of the output."""

    input: int
    crc: int


@dataclass(frozen=True)
class Blob:
    """A blob's parts; ``data`` is all of it once it was written or read.

    Attributes:
        arena_bytes: of the buffer it runs in.
        inputs: how many of the first tensors are inputs.
        output: arena range of the encoded waist.
        id: of the head.
    """

    arena_bytes: int
    inputs: int
    tensors: tuple[TensorRecord, ...]
    layers: tuple[LayerRecord, ...]
    waists: tuple[WaistRecord, ...]
    goldens: tuple[GoldenRecord, ...]
    output: tuple[int, int]
    id: bytes
    data: bytes = field(default=b"", repr=False)

    @property
    def input_bytes(self) -> int:
        return sum(tensor.size_bytes for tensor in self.tensors[: self.inputs])

    def section(self, where: tuple[int, int]) -> memoryview:
        """Bytes of a range of the blob that was checked."""
        return memoryview(self.data)[where[0] : where[0] + where[1]]


def tables_bytes(tensors: int, layers: int, waists: int, goldens: int) -> int:
    """Header and tables; what lies behind begins there."""
    counts = ((tensors, TENSOR), (layers, LAYER), (waists, WAIST), (goldens, GOLDEN))
    return aligned(HEADER.size + sum(count * kind.size for count, kind in counts))


def aligned(offset: int, alignment: int = ALIGN) -> int:
    return -(-offset // alignment) * alignment


def write_blob(blob: Blob, behind: bytes) -> bytes:
    """The bytes of a blob; ``behind``: what follows the tables, where its records say."""
    parts = [
        [_tensor_bytes(item) for item in blob.tensors],
        [_layer_bytes(item) for item in blob.layers],
        [_waist_bytes(item) for item in blob.waists],
        [GOLDEN.pack(item.input, item.crc) for item in blob.goldens],
    ]
    offsets, at = [], HEADER.size
    for part in parts:
        offsets.append(at)
        at += sum(map(len, part))
    tables = b"".join(b"".join(part) for part in parts)
    tables += bytes(tables_bytes(*map(len, parts)) - HEADER.size - len(tables))
    size = HEADER.size + len(tables) + len(behind)
    counts = len(blob.tensors), len(blob.layers), blob.inputs, len(blob.waists), len(blob.goldens)
    fields = [blob.arena_bytes, *counts, 0, *offsets, *blob.output, blob.id]
    rest = HEADER.pack(MAGIC, VERSION, KERNELS, size, 0, *fields)[CRC_FROM:] + tables + behind
    head = HEADER.pack(MAGIC, VERSION, KERNELS, size, zlib.crc32(rest), *fields)
    return head[:CRC_FROM] + rest


def _tensor_bytes(t: TensorRecord) -> bytes:
    return TENSOR.pack(t.offset, t.height, t.width, t.channels, t.zero_point, 0)


def _layer_bytes(layer: LayerRecord) -> bytes:
    inputs = [*layer.inputs, *[NO_TENSOR] * (MAX_INPUTS - len(layer.inputs))]
    window = (*layer.kernel, *layer.stride, *layer.before)
    ranges = (*layer.weights, *layer.params, *layer.scratch)
    return LAYER.pack(
        layer.op, len(layer.inputs), layer.output, *inputs, *window, *layer.clamp, *ranges
    )


def _waist_bytes(w: WaistRecord) -> bytes:
    shape = w.planes, w.rows, w.columns, w.interleaved
    return WAIST.pack(w.tensor, w.bits, w.coder, w.table, *shape, *w.scratch)


def read_blob(data: bytes, arena_bytes: int | None = None) -> Blob:
    """The records of a blob; only its header, its tables' places and its CRC are checked.

    Args:
        data: hostile bytes.
        arena_bytes: of the board; None: any.

    Raises:
        BlobRefused: not a blob of this version, damaged, or its tables lie outside it.
    """
    if len(data) < HEADER.size:
        raise BlobRefused(f"it has {len(data)} bytes, a header has {HEADER.size}", Reason.HEADER)
    magic, version, kernels, size, crc, arena, *rest = HEADER.unpack_from(data)
    if magic != MAGIC:
        raise BlobRefused(f"it begins with {data[:4]!r}", Reason.HEADER)
    if (version, kernels) != (VERSION, KERNELS):
        raise BlobRefused(
            f"it is of version {version}.{kernels}, this is {VERSION}.{KERNELS}", Reason.HEADER
        )
    tensors, layers, inputs, waists, goldens, zero = rest[:6]
    _check_counts(tensors, layers, inputs, waists, goldens, zero)
    if size != len(data):
        raise BlobRefused(f"it says {size} bytes and has {len(data)}", Reason.TABLES)
    tables = [
        _table(data, kind, offset, count)
        for kind, offset, count in zip(
            (TENSOR, LAYER, WAIST, GOLDEN),
            rest[6:10],
            (tensors, layers, waists, goldens),
            strict=True,
        )
    ]
    if arena_bytes is not None and arena > arena_bytes:
        raise BlobRefused(f"it takes an arena of {arena} bytes of {arena_bytes}", Reason.ARENA)
    if zlib.crc32(data[CRC_FROM:]) != crc:
        raise BlobRefused("its CRC differs", Reason.CRC)
    return Blob(
        arena_bytes=arena,
        inputs=inputs,
        tensors=tuple(map(_tensor, tables[0])),
        layers=tuple(map(_layer, tables[1])),
        waists=tuple(map(_waist, tables[2])),
        goldens=tuple(map(_golden, tables[3])),
        output=(rest[10], rest[11]),
        id=rest[12],
        data=data,
    )


def _check_counts(
    tensors: int, layers: int, inputs: int, waists: int, goldens: int, zero: int
) -> None:
    if zero or not (1 <= tensors <= MAX_COUNT and 1 <= inputs <= tensors):
        raise BlobRefused(f"it counts {tensors} tensors, {inputs} inputs", Reason.COUNTS)
    if not (layers <= MAX_COUNT and 1 <= waists <= MAX_COUNT and goldens <= MAX_COUNT):
        counts = f"{layers} layers, {waists} waist tensors, {goldens} goldens"
        raise BlobRefused(f"it counts {counts}", Reason.COUNTS)


def _table(data: bytes, kind: struct.Struct, offset: int, count: int) -> list[memoryview]:
    if offset % 4 or offset < HEADER.size or offset + count * kind.size > len(data):
        raise BlobRefused(
            f"a table of {count} records at {offset} lies outside its {len(data)} bytes",
            Reason.TABLES,
        )
    view = memoryview(data)[offset : offset + count * kind.size]
    return [view[k : k + kind.size] for k in range(0, len(view), kind.size)]


def _tensor(row: memoryview) -> TensorRecord:
    offset, height, width, channels, zero_point, zero = TENSOR.unpack(row)
    return TensorRecord(offset, height, width, channels, zero_point, zero != 0)


def _layer(row: memoryview) -> LayerRecord:
    op, count, output, *rest = LAYER.unpack(row)
    inputs = rest[:MAX_INPUTS]
    odd = any(row[19:22]) or any(row[48:]) or not 1 <= count <= MAX_INPUTS
    return LayerRecord(
        op=op,
        inputs=tuple(inputs[:count]),
        output=output,
        kernel=(rest[4], rest[5]),
        stride=(rest[6], rest[7]),
        before=(rest[8], rest[9], rest[10]),
        clamp=(rest[11], rest[12]),
        weights=(rest[13], rest[14]),
        params=(rest[15], rest[16]),
        scratch=(rest[17], rest[18]),
        odd=odd or any(number != NO_TENSOR for number in inputs[count:]),
    )


def _waist(row: memoryview) -> WaistRecord:
    tensor, bits, coder, table, planes, rows, columns, interleaved, *scratch = WAIST.unpack(row)
    shape = planes, rows, columns, bool(interleaved)
    odd = any(row[21:24]) or interleaved > 1
    return WaistRecord(tensor, bits, coder, table, *shape, (scratch[0], scratch[1]), odd)


def _golden(row: memoryview) -> GoldenRecord:
    place, crc = GOLDEN.unpack(row)
    return GoldenRecord(place, crc)
