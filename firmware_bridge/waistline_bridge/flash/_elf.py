"""ELF: loadable segments by physical address, the machine, absolute symbols.

Layout: System V gABI, 32-bit little-endian only, which is what microcontrollers have.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from waistline_bridge.flash._parts import Bad, Segment, joined

MAGIC = b"\x7fELF"
_HEAD = struct.Struct("<16sHHIIIIIHHHHHH")
_PROGRAM = struct.Struct("<8I")
_SECTION = struct.Struct("<10I")
_SYMBOL = struct.Struct("<IIIBBH")
_MACHINES = {40: "arm", 94: "xtensa", 243: "riscv"}
_EXECUTABLE, _LOAD, _SYMTAB, _ABSOLUTE = 2, 1, 2, 0xFFF1
_MAX_PROGRAMS = 256
_MAX_SYMBOLS = 1 << 18
"""A linked program of ours has a few hundred; a file may count as many as it has bytes."""


@dataclass(frozen=True, slots=True)
class Elf:
    """An executable. ``machine`` is "" for one that is not known."""

    segments: tuple[Segment, ...]
    machine: str
    _data: bytes
    _sections: tuple[tuple[int, ...], ...]

    def symbol(self, name: str) -> int | None:
        """Value of an absolute symbol; None: there is none."""
        wanted = name.encode() + b"\0"
        for value, section, at in self._symbols():
            if section == _ABSOLUTE and self._data.startswith(wanted, at):
                return value
        return None

    def _symbols(self) -> Iterator[tuple[int, int, int]]:
        """Value, section and place of the name of each symbol."""
        # The gABI has one symbol table in a file: many could be made of the same bytes.
        table = next((row for row in self._sections if row[1] == _SYMTAB), None)
        if table is None:
            return
        offset, size, link = table[4:7]
        if link >= len(self._sections) or offset + size > len(self._data):
            return
        strings, strings_bytes = self._sections[link][4:6]
        count = min(size // _SYMBOL.size, _MAX_SYMBOLS)
        found = _SYMBOL.iter_unpack(self._data[offset : offset + count * _SYMBOL.size])
        for name, value, _, _, _, section in found:
            if name < strings_bytes:
                yield value, section, strings + name


def read(data: bytes) -> Elf:
    """Parse a file.

    Raises:
        Bad: damaged, not an executable, or not for a 32-bit little-endian processor.
    """
    if len(data) < _HEAD.size:
        raise Bad("the ELF header is cut off")
    head = _HEAD.unpack_from(data)
    (identity, kind, machine, _, _, programs, sections, _, _, *sizes) = head
    if identity[4:6] != b"\x01\x01":
        raise Bad("it is not for a 32-bit little-endian processor")
    if kind != _EXECUTABLE:
        raise Bad(f"it is of ELF type {kind}, not an executable")
    program_bytes, program_count, section_bytes, section_count, _ = sizes
    if program_bytes != _PROGRAM.size or not 0 < program_count <= _MAX_PROGRAMS:
        raise Bad(f"{program_count} program headers of {program_bytes} bytes")
    if programs + program_count * program_bytes > len(data):
        raise Bad("the program headers are cut off")
    parts: list[Segment] = []
    left = len(data)
    for index in range(program_count):
        fields = _PROGRAM.unpack_from(data, programs + index * program_bytes)
        load, offset, _, address, size, memory, _, _ = fields
        if load != _LOAD or size == 0:
            continue
        if size > memory or offset + size > len(data):
            raise Bad(f"segment {index} goes past the end of the file")
        left -= size
        if left < 0:
            raise Bad("its segments together are longer than the file")
        parts.append(Segment(address, data[offset : offset + size]))
    rows: list[tuple[int, ...]] = []
    table_end = sections + section_count * _SECTION.size
    if section_bytes == _SECTION.size and table_end <= len(data):
        table = data[sections:table_end]
        rows = list(_SECTION.iter_unpack(table))
    return Elf(joined(parts), _MACHINES.get(machine, ""), data, tuple(rows))
