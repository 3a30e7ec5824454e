"""CRC-32C (Castagnoli) of many rows at once, in NumPy.

JLS guards every chunk with it and no base dependency computes it. A long payload is cut into lanes
that advance side by side, then joined: appending n zero bytes to a message is a linear map on its
checksum, applied here as four table look-ups a word.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint32]
_POLYNOMIAL = np.uint32(0x82F63B78)
_ONES = np.uint32(0xFFFFFFFF)
_SHORT = 64


def _byte_table() -> Words:
    table: Words = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = (table >> np.uint32(1)) ^ (table & np.uint32(1)) * _POLYNOMIAL
    return table


_TABLE = _byte_table()
_INTEGERS: list[int] = _TABLE.tolist()


def _advance(state: Words, rows: NDArray[np.uint8]) -> Words:
    """Registers after each row's bytes; rows uint8 (n, m)."""
    for column in rows.T:
        state = _TABLE[(state ^ column) & 0xFF] ^ (state >> 8)
    return state


def rows_crc(rows: NDArray[np.uint8]) -> Words:
    """Checksum of each row; uint8 (n, m) -> uint32 (n,)."""
    start = np.full(len(rows), _ONES, np.uint32)
    return _advance(start, rows) ^ _ONES


@lru_cache(maxsize=40)
def _shift_tables(zeros: int) -> Words:
    """uint32 (4, 256): what ``zeros`` zero bytes do to each byte of a register; zeros = 2**k."""
    if zeros == 1:
        basis = np.uint32(1) << np.arange(32, dtype=np.uint32)
        moved = _TABLE[basis & 0xFF] ^ (basis >> 8)
    else:
        half = _shift_tables(zeros // 2)
        moved = _shifted(_shifted(np.uint32(1) << np.arange(32, dtype=np.uint32), half), half)
    tables = np.zeros((4, 256), np.uint32)
    index = np.arange(256)
    for byte in range(4):
        for bit in range(8):
            tables[byte] ^= np.where(index >> bit & 1, moved[byte * 8 + bit], np.uint32(0))
    return tables


def _shifted(state: Words, tables: Words) -> Words:
    moved: Words = (
        tables[0][state & 0xFF]
        ^ tables[1][state >> 8 & 0xFF]
        ^ tables[2][state >> 16 & 0xFF]
        ^ tables[3][state >> 24]
    )
    return moved


def crc32c(data: bytes | memoryview | NDArray[np.uint8]) -> int:
    """Checksum of one buffer."""
    view = np.frombuffer(data, np.uint8)
    register = np.full(1, _ONES, np.uint32)
    while len(view) >= _SHORT:
        # The register of A then B is that of A moved over |B| zeros, xor that of B begun at zero.
        power = len(view).bit_length() - 1
        piece, view = view[: 1 << power], view[1 << power :]
        register = _shifted(register, _shift_tables(1 << power)) ^ _piece(piece, power)
    last = int(register[0])
    for byte in view.tolist():
        last = _INTEGERS[(last ^ byte) & 0xFF] ^ (last >> 8)
    return last ^ 0xFFFF_FFFF


def _piece(piece: NDArray[np.uint8], power: int) -> Words:
    """Register after ``2**power`` bytes, begun at zero."""
    width = 1 << (power // 2)
    rows = piece.reshape(-1, width)
    lanes = _advance(np.zeros(len(rows), np.uint32), rows)
    while len(lanes) > 1:
        lanes = _shifted(lanes[0::2], _shift_tables(width)) ^ lanes[1::2]
        width *= 2
    return lanes
