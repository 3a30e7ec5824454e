"""Codes of 1..8 bits as an LSB-first stream.

Code k fills the bits k*b .. k*b + b - 1, where bit i of the stream is bit i % 8 of
byte i // 8. The last byte is padded with zeros.

Eight codes make ``b`` whole bytes. They are merged pairwise inside 16, 32 and 64-bit words, so
that every width runs at the speed of array arithmetic.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.uint8]
_Words = NDArray[Any]
_WORDS = (np.dtype("<u2"), np.dtype("<u4"), np.dtype("<u8"))


def packed_size(count: int, bits: int) -> int:
    """Bytes that ``count`` codes of ``bits`` bits fill."""
    return (count * bits + 7) // 8


def pack(codes: Codes, bits: int, out: Codes) -> None:
    """Pack ``codes`` (uint8, any shape, each below 2**bits) into ``out`` (uint8, exact size).

    ``codes`` may be overwritten.
    """
    flat = codes.reshape(-1)
    if bits == 8:
        out[:] = flat
        return
    if bits == 1:
        out[:] = np.packbits(flat, bitorder="little")
        return
    whole = flat.size // 8 * 8
    _pack_eights(flat[:whole], bits, out[: whole // 8 * bits])
    if whole < flat.size:
        last = np.zeros(8, np.uint8)
        last[: flat.size - whole] = flat[whole:]
        rest = np.empty(bits, np.uint8)
        _pack_eights(last, bits, rest)
        out[whole // 8 * bits :] = rest[: out.size - whole // 8 * bits]


def _pack_eights(codes: Codes, bits: int, out: Codes) -> None:
    words: _Words = codes
    width = bits
    for dtype in _WORDS:
        words = words.view(dtype)
        half = 4 * dtype.itemsize
        upper = words >> dtype.type(half - width)
        if 2 * width > half:  # else what is shifted out of the lower code falls off its end
            upper &= dtype.type(((1 << width) - 1) << width)
            words = words & dtype.type((1 << width) - 1)
        upper |= words
        upper &= dtype.type((1 << 2 * width) - 1)
        words = upper
        width *= 2
        if width == 8:
            out[:] = words
            return
    out.reshape(-1, bits)[:] = words.view(np.uint8).reshape(-1, 8)[:, :bits]


def unpack(packed: Codes, count: int, bits: int) -> Codes:
    """``count`` codes from ``packed`` (uint8, exact size); a new array unless ``bits`` is 8."""
    if bits == 8:
        return packed[:count]
    if bits == 1:
        return np.unpackbits(packed, count=count, bitorder="little")
    groups = -(-count // 8)
    if packed.size < groups * bits:
        packed = np.concatenate([packed, np.zeros(groups * bits - packed.size, np.uint8)])
    words, width = _widest(packed, groups, bits)
    while width > bits:
        width //= 2
        half = 4 * words.dtype.itemsize
        scalar = words.dtype.type
        upper = words << scalar(half - width)
        if 2 * width > half:  # the upper code would lie in its own way
            upper &= scalar(((1 << width) - 1) << half)
            words &= scalar((1 << width) - 1)
        upper |= words
        upper &= scalar(((1 << width) - 1) * ((1 << half) + 1))
        words = upper.view(f"<u{half // 8}")
    return words.view(np.uint8)[:count]


def _widest(packed: Codes, groups: int, bits: int) -> tuple[_Words, int]:
    """The stream in words whose lower ``width`` bits hold codes, and that width."""
    if bits == 4:
        return packed.astype("<u2"), 8
    if bits == 2:
        return packed.astype("<u4"), 8
    wide = np.zeros((groups, 8), np.uint8)
    wide[:, :bits] = packed.reshape(groups, bits)
    return wide.reshape(-1).view("<u8"), 8 * bits


def padding_is_zero(packed: bytes | memoryview, count: int, bits: int) -> bool:
    """Whether the bits behind the last code are zero, as `pack` leaves them."""
    used = count * bits % 8
    return used == 0 or int(packed[-1]) >> used == 0
