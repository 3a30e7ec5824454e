"""Changed head blobs whose CRC is right again, and what the Python reader says of each.

A third of the changes are followed by a repair, that makes a shape, a count or a codec that was
changed fit together again, so that the checks behind the first one are reached and strange but
sound heads are run.
"""

from __future__ import annotations

import dataclasses
import random
import struct
import zlib
from collections.abc import Callable

import numpy as np

from waistline.blob import check, records
from waistline.blob.form import Conv, Dense, Depthwise, Int8s
from waistline.blob.interpret import run_head
from waistline.blob.layers import head_of
from waistline.blob.pack import pack_conv, pack_depthwise
from waistline.blob.records import Blob, BlobRefused, LayerRecord, WaistRecord, read_blob

_U16, _U32 = struct.Struct("<H"), struct.Struct("<I")
_NASTY = (0, 1, 2, 3, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFE, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFC,
          0xFFFFFFFF)  # fmt: skip
_STEPS = (-8, -4, -2, -1, 1, 2, 4, 8)

# Offset and bytes of the fields of each record; unused bytes are fields, too.
Fields = tuple[tuple[int, int], ...]
HEADER: Fields = (
    (0, 4), (4, 2), (6, 2), (8, 4), (16, 4), *((at, 2) for at in range(20, 32, 2)),
    *((at, 4) for at in range(32, 56, 4)),
)  # fmt: skip
TENSOR: Fields = ((0, 4), (4, 2), (6, 2), (8, 2), (10, 1), (11, 1))
LAYER: Fields = (
    (0, 1), (1, 1), *((at, 2) for at in range(2, 12, 2)), *((at, 1) for at in range(12, 24)),
    *((at, 4) for at in range(24, 64, 4)),
)  # fmt: skip
WAIST: Fields = (
    (0, 2), (2, 1), (3, 1), *((at, 4) for at in range(4, 20, 4)),
    *((at, 1) for at in range(20, 24)), (24, 4), (28, 4),
)  # fmt: skip
GOLDEN: Fields = ((0, 4), (4, 4))
_TABLES = ((20, 32, TENSOR, 12), (22, 36, LAYER, 64), (26, 40, WAIST, 32), (28, 44, GOLDEN, 8))


def changed(rng: random.Random, blob: bytes, arena_bytes: int) -> bytes:
    """``blob`` after one to four changes, sealed anew; ``arena_bytes``: of the device."""
    data = bytearray(blob)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        rng.choice(_CHANGES)(rng, data)
    made = sealed(rng, data)
    if rng.random() < 0.33:
        made = repaired(rng, made, arena_bytes)
    return made


def sealed(rng: random.Random, data: bytearray) -> bytes:
    """With the size and the CRC that it has; rarely without."""
    if len(data) >= records.HEADER.size:
        if rng.random() < 0.97:
            _U32.pack_into(data, 8, len(data))
        if rng.random() < 0.99:
            _U32.pack_into(data, 12, zlib.crc32(data[records.CRC_FROM :]))
    return bytes(data)


def _row(rng: random.Random, data: bytearray) -> tuple[int, Fields, int, int]:
    """(place, fields, bytes, place of the table) of a record that lies within, or the header."""
    count_at, table_at, fields, size = rng.choice(_TABLES)
    (count,), (table,) = _U16.unpack_from(data, count_at), _U32.unpack_from(data, table_at)
    row = rng.randrange(min(count, 300)) if count else 0
    if not count or table + (row + 1) * size > len(data) or rng.random() < 0.12:
        return 0, HEADER, records.HEADER.size, 0
    return table + row * size, fields, size, table


def _field(rng: random.Random, data: bytearray) -> None:
    place, fields, size, _ = _row(rng, data)
    at, width = rng.choice(fields)
    old = int.from_bytes(data[place + at : place + at + width], "little")
    pick = rng.random()
    if pick < 0.35:
        new = old + rng.choice(_STEPS)
    elif pick < 0.6:
        new = rng.choice(_NASTY)
    elif pick < 0.8:  # the same field of a neighbour, or another field
        other = place + rng.choice((-size, size)) if rng.random() < 0.6 else place
        from_at = other + (at if other != place else rng.choice(fields)[0])
        new = int.from_bytes(data[max(from_at, 0) : max(from_at, 0) + width], "little")
    elif pick < 0.9:
        new = rng.choice((old * 2, old // 2, ~old, old * 4))
    else:
        new = rng.getrandbits(8 * width) >> rng.randrange(8 * width)
    data[place + at : place + at + width] = (new % (1 << 8 * width)).to_bytes(width, "little")


def _swap_fields(rng: random.Random, data: bytearray) -> None:
    place, fields, _, _ = _row(rng, data)
    at, width = rng.choice(fields)
    other, _ = rng.choice([field for field in fields if field[1] == width])
    a, b = slice(place + at, place + at + width), slice(place + other, place + other + width)
    data[a], data[b] = data[b], data[a]


def _swap_rows(rng: random.Random, data: bytearray) -> None:
    place, _, size, table = _row(rng, data)
    other = max(place - size, table)
    a, b = slice(place, place + size), slice(other, other + size)
    data[b] = data[a]
    if rng.random() < 0.6:
        data[a] = data[b]


def _bytes_behind(rng: random.Random, data: bytearray) -> None:
    """Weights, records, tables of codes."""
    at = rng.randrange(records.HEADER.size, len(data) + 1)
    size = rng.choice((1, 4, 4, 12, 64))
    word = rng.choice((rng.randbytes(4), _U32.pack(rng.choice(_NASTY))))
    piece = (word * 16)[:size]
    data[at : at + size] = piece[: max(0, len(data) - at)]


def _resize(rng: random.Random, data: bytearray) -> None:
    if rng.random() < 0.5:
        del data[max(0, len(data) - rng.choice((1, 4, 8, 100))) :]
    else:
        data += rng.randbytes(rng.choice((1, 4, 8, 100)))
    if len(data) < records.HEADER.size and rng.random() < 0.9:
        data += bytes(records.HEADER.size - len(data))


_CHANGES: tuple[Callable[[random.Random, bytearray], None], ...] = (
    *(_field,) * 12, _swap_fields, _swap_fields, _swap_rows, _bytes_behind, _bytes_behind, _resize,
)  # fmt: skip


def repaired(rng: random.Random, data: bytes, arena_bytes: int) -> bytes:
    """Every tensor and scratch in a place of its own, sections of the size the layers ask for."""
    try:
        blob = read_blob(data)
    except BlobRefused:
        return data
    arena = _Arena()
    tensors = tuple(
        dataclasses.replace(row, offset=arena.place(row.size_bytes), odd=False)
        for row in blob.tensors
    )
    blob = dataclasses.replace(blob, tensors=tensors)
    behind = bytearray(data[_tables_end(blob) :])
    layers = tuple(_repaired_layer(rng, blob, row, behind, arena) for row in blob.layers)
    waists = tuple(_repaired_waist(rng, blob, row, behind, arena) for row in blob.waists)
    sizes = [
        4 + check.packed_bytes(tensors[row.tensor % len(tensors)].size_bytes, row.bits)
        for row in waists
    ]
    output = (arena.place(sum(sizes)), sum(sizes))
    made = dataclasses.replace(
        blob, layers=layers, waists=waists, output=output, arena_bytes=max(arena.end, 1)
    )
    if made.arena_bytes > 8 * arena_bytes:
        return data
    return records.write_blob(made, bytes(behind))


def _tables_end(blob: Blob) -> int:
    return records.tables_bytes(
        len(blob.tensors), len(blob.layers), len(blob.waists), len(blob.goldens)
    )


class _Arena:
    def __init__(self) -> None:
        self.end = 0

    def place(self, size_bytes: int) -> int:
        at = self.end
        self.end = records.aligned(at + min(size_bytes, 1 << 26))
        return at


def _put(blob: Blob, behind: bytearray, content: bytes) -> tuple[int, int]:
    """Behind all else; the tables are written packed, so their end is known."""
    if not content:
        return 0, 0
    behind += bytes(-(len(behind) + _tables_end(blob)) % records.ALIGN)
    behind += content
    return _tables_end(blob) + len(behind) - len(content), len(content)


def _repaired_layer(
    rng: random.Random, blob: Blob, row: LayerRecord, behind: bytearray, arena: _Arena
) -> LayerRecord:
    tensors = [blob.tensors[number % len(blob.tensors)] for number in (*row.inputs, row.output)]
    if row.op not in check._RULES or not row.inputs:
        return row
    needed = 2 if row.op == records.ADD else len(tensors) - 1
    if len(tensors) - 1 < needed or not all(tensor.size_bytes for tensor in tensors):
        return row
    sizes = check._RULES[row.op](row, tensors[:-1], tensors[-1])
    if sizes is None or max(sizes.weights, sizes.params) > 1 << 14:
        return row
    found = {"scratch": (arena.place(sizes.scratch), sizes.scratch)} if sizes.scratch else {}
    if sizes.weights != row.weights[1]:
        found["weights"] = _put(blob, behind, rng.randbytes(sizes.weights))
    if sizes.params != row.params[1]:
        parts = [_record(rng, row.op) for _ in range(sizes.params // 12)]
        found["params"] = _put(blob, behind, b"".join(parts))
    return dataclasses.replace(row, odd=False, **found)


def _record(rng: random.Random, op: int) -> bytes:
    if op == records.ADD:
        return struct.pack("<3i", rng.randint(-128, 127), rng.getrandbits(31), rng.randint(-31, 0))
    shift = rng.choice((-31, -10, -8, -6, 0, 5, 30))
    return struct.pack(
        "<3i", rng.randint(-(1 << 29) + 1, (1 << 29) - 1), rng.getrandbits(31), shift
    )


def _repaired_waist(
    rng: random.Random, blob: Blob, row: WaistRecord, behind: bytearray, arena: _Arena
) -> WaistRecord:
    tensor = blob.tensors[row.tensor % len(blob.tensors)]
    bits = row.bits if 1 <= row.bits <= 8 else 8
    table = row.table
    if bits < 8 or table:
        codes = bytes(value >> 8 - bits for value in rng.randbytes(256))
        table = _put(blob, behind, codes)[0]
    planes = (tensor.channels, tensor.height, tensor.width)
    if rng.random() < 0.2:
        planes = (1, 1, tensor.size_bytes)
    scratch = check.waist_scratch(bits, row.coder % 2, planes[2])
    place = (arena.place(scratch), scratch) if scratch else (0, 0)
    return WaistRecord(row.tensor % len(blob.tensors), bits, row.coder % 2, table, *planes,
                       row.interleaved, place)  # fmt: skip


def verdict(data: bytes, arena_bytes: int) -> tuple[int, int, Blob | None]:
    """(reason, record, blob) by the Python reader; reason 0: a device takes it."""
    try:
        blob = check.check_blob(read_blob(data, arena_bytes), arena_bytes)
    except BlobRefused as refusal:
        return int(refusal.reason), refusal.record, None
    return 0, 0, blob


def driver_input(blob: Blob, seed: int) -> list[Int8s]:
    """What device.c feeds it."""
    places = np.arange(1, blob.input_bytes + 1, dtype=np.uint64)
    codes = (places * np.uint64(seed | 1) & np.uint64(0xFFFFFFFF)) * np.uint64(0x9E3779B1)
    raw = (codes & np.uint64(0xFFFFFFFF)) >> np.uint64(24)
    flat = raw.astype(np.uint8).view(np.int8)
    inputs, at = [], 0
    for tensor in blob.tensors[: blob.inputs]:
        inputs.append(flat[at : at + tensor.size_bytes].reshape(1, *tensor.shape))
        at += tensor.size_bytes
    return inputs


def expected_tensors(blob: Blob, seed: int) -> bytes | None:
    """What the NumPy interpreter makes of the driver's input.

    None: the blob has weights or records that no lowering writes, and promises no numbers.
    """
    head = head_of(blob)
    for layer, row in zip(head.layers, blob.layers, strict=True):
        if isinstance(layer, Conv | Dense | Depthwise):
            pack = pack_depthwise if isinstance(layer, Depthwise) else pack_conv
            if pack(layer.weights) != blob.section(row.weights):
                return None
        count = len(layer.bias) if isinstance(layer, Conv | Dense | Depthwise) else None
        if not _plain_records(blob, row, count):
            return None
    found = run_head(head, driver_input(blob, seed))
    return b"".join(np.ascontiguousarray(tensor).tobytes() for tensor in found)


def _plain_records(blob: Blob, row: LayerRecord, count: int | None) -> bool:
    """The zero points of the tensors, where records name them."""
    if row.op not in (records.MEAN, records.ADD):
        return True
    found = np.frombuffer(blob.section(row.params), "<i4").reshape(-1, 3)[:count]
    tensors = [blob.tensors[number] for number in (*row.inputs, row.output)]
    zeros = [tensor.zero_point for tensor in tensors]
    if row.op == records.MEAN:
        zeros = [-zeros[0] * tensors[0].height * tensors[0].width]
    return found[:, 0].tolist() == zeros
