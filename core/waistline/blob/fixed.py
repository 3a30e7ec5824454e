"""The firmware's integer arithmetic in NumPy: TFLite's, with double rounding.

A real factor is a q31 multiplier m and a shift s, worth ``m / 2**31 * 2**s``. `scaled` rounds the
high half of a 32 x 32 product, then the right shift: the two roundings of gemmlowp, which
tflite-micro and CMSIS-NN have and LiteRT's XNNPACK has not. ``firmware/src/wl_nn.h`` is its twin.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
"""Values that fit 32 bits, held in 64 so that products do not overflow."""

Q31_ONE = 1 << 31
MAX_SHIFT = 30
MIN_SHIFT = -31
ADD_LEFT_SHIFT = 20
"""Of both inputs of an addition, so that their common scale keeps its bits."""


def multiplier_of(factor: float) -> tuple[int, int]:
    """The q31 multiplier and shift of a factor of at least 0; (0, 0) for one below 2**-32.

    Raises:
        ValueError: not finite, negative, or 2**30 and more.
    """
    if not (math.isfinite(factor) and factor >= 0):
        raise ValueError(f"the factor {factor} is not a number of at least 0")
    mantissa, shift = math.frexp(factor)
    multiplier = math.floor(mantissa * Q31_ONE + 0.5)
    if multiplier == Q31_ONE:
        multiplier //= 2
        shift += 1
    if shift < MIN_SHIFT:
        return 0, 0
    if shift > MAX_SHIFT:
        raise ValueError(f"the factor {factor} is 2**{MAX_SHIFT} or more")
    return multiplier, shift


def wrapped(x: Ints) -> Ints:
    """As a 32-bit register holds it."""
    return ((x + Q31_ONE) & 0xFFFFFFFF) - Q31_ONE


def doubling_high(a: Ints, b: Ints) -> Ints:
    """``2ab / 2**32`` rounded half up, which for b >= 0 is gemmlowp's truncated division."""
    return (a * b + (1 << 30)) >> 31


def rounding_shift(x: Ints, bits: Ints) -> Ints:
    """``x / 2**bits`` to nearest, ties away from zero."""
    mask = (np.int64(1) << bits) - 1
    return (x >> bits) + ((x & mask) > (mask >> 1) + (x < 0))


def scaled(x: Ints, multiplier: Ints, shift: Ints) -> Ints:
    """X times the factor; a left shift comes before the product and wraps at 32 bits."""
    left, right = np.maximum(shift, 0), np.maximum(-shift, 0)
    return rounding_shift(doubling_high(wrapped(x << left), multiplier), right)


def to_nearest(total: Ints, count: Ints) -> Ints:
    """``total / count`` to nearest, ties away from zero: the mean of a pooling window."""
    size = (np.abs(total) + count // 2) // count
    return np.where(total < 0, -size, size)
