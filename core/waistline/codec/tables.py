"""Code tables of a waist that is already 8-bit: built on the host, so that an MCU needs no float.

The arithmetic is that of ``affine`` on the elements themselves, q. A real value is
scale*(q - zero_point), and rounding to equal steps gives the same codes before and after such a
map, so scale and zero point are not needed, and limits are in units of q.
"""

from __future__ import annotations

import numpy as np

from waistline.codec.kernels import Floats
from waistline.codec.pack import Codes, pack, packed_size, unpack
from waistline.codec.quantizers import NumpyKernels
from waistline.tensors import DTYPES


def i8_tables(dtype: str, bits: int, limits: tuple[Floats, Floats] | None) -> tuple[Codes, Codes]:
    """The table of codes (256, indexed by the element's byte) and its inverse (2**bits).

    Args:
        dtype: ``int8`` or ``uint8``.
        bits: width of a code.
        limits: float32 (1,) each, in units of q; None: all that the type can hold.

    Decoded elements are rounded to nearest, ties to even.
    """
    kind = np.dtype(DTYPES[dtype])
    ends = np.iinfo(dtype)
    lo, hi = limits or (np.array([ends.min], np.float32), np.array([ends.max], np.float32))
    grid = NumpyKernels().grid("affine", bits, lo, hi)
    assert grid is not None, "limits are checked by the caller"
    every = np.arange(256, dtype=np.uint8)
    packed = np.empty(packed_size(256, bits), np.uint8)
    grid.encode(every.view(kind).astype(np.float32)[None, None], packed, within=False)
    table = unpack(packed, 256, bits)
    levels = np.empty((1, 1, 1 << bits), np.float32)
    packed = np.empty(packed_size(1 << bits, bits), np.uint8)
    pack(every[: 1 << bits].copy(), bits, packed)
    grid.decode(packed, levels)
    inverse = np.clip(np.rint(levels.reshape(-1)), ends.min, ends.max)
    return table.copy(), inverse.astype(kind).view(np.uint8)
