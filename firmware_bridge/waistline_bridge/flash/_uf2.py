"""UF2: blocks of 512 bytes, each of which says where it goes (github.com/microsoft/uf2)."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from waistline_bridge.flash._parts import Bad, Segment, joined

MAGIC = struct.pack("<II", 0x0A324655, 0x9E5D5157)
_MAGIC_END = 0x0AB16F30
_HEAD = struct.Struct("<8I")
BLOCK_BYTES, PAYLOAD_BYTES, _MOST_BYTES = 512, 256, 476
_NOT_MAIN_FLASH, _CONTAINER, _FAMILY = 0x1, 0x1000, 0x2000


def read(data: bytes) -> tuple[tuple[Segment, ...], frozenset[int]]:
    """What is written where, and the families it is for.

    Raises:
        Bad: a block is damaged, missing or there twice.
    """
    if not data or len(data) % BLOCK_BYTES:
        raise Bad(f"{len(data)} bytes are not whole blocks of {BLOCK_BYTES}")
    parts: list[Segment] = []
    families: set[int] = set()
    seen: dict[int, set[int]] = {}
    totals: dict[int, int] = {}
    for at in range(0, len(data), BLOCK_BYTES):
        flags, address, size, number, total, family = _block(data, at)
        if flags & _CONTAINER:
            raise Bad("it holds files, not an image")
        key = family if flags & _FAMILY else -1
        if key in totals and totals[key] != total:
            raise Bad(f"block {at // BLOCK_BYTES} counts {total} blocks, others {totals[key]}")
        totals[key] = total
        if number >= total or number in seen.setdefault(key, set()):
            raise Bad(f"block {number} of {total} is there twice, or there is no such block")
        seen[key].add(number)
        if key >= 0:
            families.add(family)
        if not flags & _NOT_MAIN_FLASH:
            body = at + _HEAD.size
            parts.append(Segment(address, data[body : body + size]))
    for key, total in totals.items():
        if len(seen[key]) != total:
            raise Bad(f"{len(seen[key])} of {total} blocks are there")
    return joined(parts), frozenset(families)


def _block(data: bytes, at: int) -> tuple[int, int, int, int, int, int]:
    """Flags, address, size, number, count and family of a block."""
    _, _, flags, address, size, number, total, family = _HEAD.unpack_from(data, at)
    (end,) = struct.unpack_from("<I", data, at + BLOCK_BYTES - 4)
    if data[at : at + 8] != MAGIC or end != _MAGIC_END or size > _MOST_BYTES:
        raise Bad(f"block {at // BLOCK_BYTES} is not one of UF2")
    return flags, address, size, number, total, family


def write(segments: Sequence[Segment], family: int) -> bytes:
    """Blocks of 256 bytes at addresses divisible by 256, which every bootloader takes.

    What a page lacks is filled with 0xFF, as erased flash has it.
    """
    pages = dict(_pages(segments))
    start, end = struct.unpack("<II", MAGIC), _MAGIC_END.to_bytes(4, "little")
    blocks = []
    for number, address in enumerate(sorted(pages)):
        head = _HEAD.pack(
            *start, _FAMILY, address, PAYLOAD_BYTES, number, len(pages), family
        )  # fmt: skip
        blocks.append(head + pages[address].ljust(_MOST_BYTES, b"\0") + end)
    return b"".join(blocks)


def _pages(segments: Sequence[Segment]) -> Iterator[tuple[int, bytes]]:
    """Address and bytes of each page touched; the last one of an address is whole."""
    pages: dict[int, bytearray] = {}
    for segment in segments:
        done = 0
        while done < len(segment.data):
            place = segment.address + done
            start = place - place % PAYLOAD_BYTES
            page = pages.setdefault(start, bytearray(b"\xff" * PAYLOAD_BYTES))
            count = min(start + PAYLOAD_BYTES - place, len(segment.data) - done)
            page[place - start : place - start + count] = segment.data[done : done + count]
            done += count
    for start, page in pages.items():
        yield start, bytes(page)
