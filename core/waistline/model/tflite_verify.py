"""Is a .tflite file a FlatBuffer that can be unpacked safely?

The generated readers trust every offset and length, so the tables this program reads are walked
first: each must lie inside the file, and all references together may not name more than the file
could hold once, or a few kilobytes would unpack to gigabytes. Options of operators differ by
operator; of them only the table itself is checked here, and what they hold after unpacking.
FlatBuffer layout: https://flatbuffers.dev/internals/
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_U16 = struct.Struct("<H")
_U32 = struct.Struct("<I")
_I32 = struct.Struct("<i")

IDENTIFIER = b"TFL3"
_ROOT_BYTES = 8
"""Offset of the root table, then the identifier."""
_MAX_DEPTH = 8


class Malformed(Exception):
    """What is wrong with the file, in words."""


@dataclass(frozen=True)
class Refused:
    """A field that no model which can be cut uses; ``why`` says what it would mean."""

    why: str


@dataclass(frozen=True)
class Vector:
    """Of scalars, or of tables where ``table`` names one; ``width`` is bytes an element."""

    width: int
    table: str = ""


@dataclass(frozen=True)
class Ref:
    """Of one table; "" for options, whose fields are not known here."""

    table: str = ""


STRING = Vector(1)
IGNORED = None
"""A field that is never read."""

Field = int | Vector | Ref | Refused | None

_SPARSE = Refused("a sparse tensor")
_ELSEWHERE = Refused("weights stored in another file")

TABLES: dict[str, tuple[Field, ...]] = {
    "Model": (
        4,
        Vector(4, "OperatorCode"),
        Vector(4, "SubGraph"),
        STRING,
        Vector(4, "Buffer"),
        IGNORED,
        Vector(4, "Metadata"),
        IGNORED,
        _ELSEWHERE,
        _ELSEWHERE,
    ),
    "OperatorCode": (1, STRING, 4, 4),
    "SubGraph": (Vector(4, "Tensor"), Vector(4), Vector(4), Vector(4, "Operator"), STRING, 4),
    "Tensor": (
        Vector(4),
        1,
        4,
        STRING,
        Ref("Quantization"),
        1,
        _SPARSE,
        Vector(4),
        1,
        Refused("a variant tensor"),
        _ELSEWHERE,
    ),
    "Quantization": (
        Vector(4),
        Vector(4),
        Vector(4),
        Vector(8),
        IGNORED,
        Refused("custom quantization"),
        4,
    ),
    "Operator": (
        4,
        Vector(4),
        Vector(4),
        1,
        Ref(),
        Vector(1),
        1,
        Vector(1),
        Vector(4),
        8,
        8,
        1,
        Ref(),
        4,
    ),
    "Buffer": (Vector(1), 8, 8),
    "Metadata": (STRING, 4),
}
"""Fields by table in the order of the schema (version 3), scalars by their size in bytes."""


def verify(data: bytes) -> None:
    """Check every table, vector and string that the reader will follow.

    Raises:
        Malformed: something lies outside the file, is shared too often, or cannot be cut.
    """
    if len(data) < _ROOT_BYTES:
        raise Malformed(f"it has {len(data)} bytes")
    if data[4:8] != IDENTIFIER:
        raise Malformed(f"bytes 4 to 7 are {data[4:8]!r}, not {IDENTIFIER!r}")
    try:
        _Walk(data).table(_U32.unpack_from(data)[0], "Model", 0)
    except struct.error as error:
        raise Malformed("an offset points outside the file") from error


class _Walk:
    """One pass over a file, with what may still be referred to."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._tables_left = len(data) // 4 + 1
        self._bytes_left = 2 * len(data)

    def table(self, at: int, name: str, depth: int) -> None:
        fields = TABLES[name] if name else None
        self._tables_left -= 1
        if self._tables_left < 0 or depth > _MAX_DEPTH:
            raise Malformed("its tables refer to each other more often than a model's do")
        for slot, offset in self._slots(at):
            if fields is None:
                continue
            if slot >= len(fields):
                raise Malformed(
                    f"a {name} has field {slot}, newer than the {len(fields)} known ones"
                )
            self._field(at + offset, fields[slot], depth)

    def _slots(self, at: int) -> list[tuple[int, int]]:
        """(field number, offset) of the fields that are there; both tables lie in the file."""
        data = self._data
        vtable = at - _I32.unpack_from(data, at)[0]
        if at < 0 or not 0 <= vtable <= len(data) - 4:
            raise Malformed("a table points outside the file")
        vtable_bytes, table_bytes = struct.unpack_from("<HH", data, vtable)
        if vtable_bytes < 4 or vtable_bytes % 2 or vtable + vtable_bytes > len(data):
            raise Malformed(f"a table of fields says it has {vtable_bytes} bytes")
        if table_bytes < 4 or at + table_bytes > len(data):
            raise Malformed(f"a table says it has {table_bytes} bytes")
        offsets = struct.unpack_from(f"<{vtable_bytes // 2 - 2}H", data, vtable + 4)
        if offsets and max(offsets) >= table_bytes:
            raise Malformed("a field lies outside its table")
        return [(slot, offset) for slot, offset in enumerate(offsets) if offset]

    def _field(self, at: int, field: Field, depth: int) -> None:
        if isinstance(field, Refused):
            # Writers that keep defaults leave an empty reference or a zero here.
            if _U32.unpack_from(self._data, at)[0]:
                raise Malformed(f"it has {field.why}")
        elif isinstance(field, int):
            if at + field > len(self._data):
                raise Malformed("a field lies outside the file")
        elif isinstance(field, Ref):
            self.table(at + _U32.unpack_from(self._data, at)[0], field.table, depth + 1)
        elif isinstance(field, Vector):
            self._vector(at + _U32.unpack_from(self._data, at)[0], field, depth)

    def _vector(self, at: int, field: Vector, depth: int) -> None:
        length: int = _U32.unpack_from(self._data, at)[0]
        size = length * field.width
        self._bytes_left -= size
        if at + 4 + size > len(self._data):
            raise Malformed(f"a list says it has {length} elements, more than the file holds")
        if self._bytes_left < 0:
            raise Malformed("its lists lie over each other")
        if field.table:
            start = at + 4
            for place, offset in enumerate(struct.unpack_from(f"<{length}I", self._data, start)):
                self.table(start + 4 * place + offset, field.table, depth + 1)
