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
        for _, kind, _, _, offset, size, link, _, _, _ in self._sections:
            if kind != _SYMTAB or link >= len(self._sections) or offset + size > len(self._data):
                continue
            strings, strings_bytes = self._sections[link][4:6]
            whole = size - size % _SYMBOL.size
            for name, value, _, _, _, section in _SYMBOL.iter_unpack(
                self._data[offset : offset + whole]
            ):
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
    parts = []
    for index in range(program_count):
        fields = _PROGRAM.unpack_from(data, programs + index * program_bytes)
        load, offset, _, address, size, memory, _, _ = fields
        if load != _LOAD or size == 0:
            continue
        if size > memory or offset + size > len(data):
            raise Bad(f"segment {index} goes past the end of the file")
        parts.append(Segment(address, data[offset : offset + size]))
    rows: list[tuple[int, ...]] = []
    table_end = sections + section_count * _SECTION.size
    if section_bytes == _SECTION.size and table_end <= len(data):
        table = data[sections:table_end]
        rows = list(_SECTION.iter_unpack(table))
    return Elf(joined(parts), _MACHINES.get(machine, ""), data, tuple(rows))
