"""Weights and records in the layout of ``firmware/src/wl_nn.h``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

VERSION = 1
"""WL_NN_VERSION."""

MAX_DEPTH = 32768
MAX_BIAS = (1 << 29) - 1

Array = NDArray[Any]


def pack_conv(weights: Array) -> bytes:
    """Weights (out, ...) int8, flattened over (row, column, channel); also fully connected ones."""
    outputs = weights.shape[0]
    flat = weights.reshape(outputs, -1)
    depth = flat.shape[1]
    full = np.zeros((outputs + outputs % 2, depth + -depth % 4), np.int8)
    full[:outputs, :depth] = flat
    # (pair, channel of the pair, four, k0 k1 k2 k3) -> a0 b0 a2 b2 a1 b1 a3 b3
    blocks = full.reshape(-1, 2, full.shape[1] // 4, 2, 2)
    return blocks.transpose(0, 2, 4, 3, 1).tobytes()


def pack_depthwise(weights: Array) -> bytes:
    """Weights (rows, columns, channels) int8."""
    doubled = 2 * weights.transpose(2, 0, 1).astype("<i2")
    width = doubled.shape[2]
    if width == 3:
        doubled = doubled[:, :, [0, 1, 2, 1]]
    elif width % 2:
        doubled = np.pad(doubled, ((0, 0), (0, 0), (0, 1)))
    return np.ascontiguousarray(doubled).tobytes()


def pack_records(biases: Array, multipliers: Array, shifts: Array, *, even: bool) -> bytes:
    """Records (bias, multiplier, shift); ``even``: with one of zeros behind an odd number."""
    records = np.stack([biases, multipliers, shifts], 1).astype("<i4")
    if even and len(records) % 2:
        records = np.pad(records, ((0, 1), (0, 0)))
    return records.tobytes()


def folded_bias(bias: Array, weights: Array, in_zero: int) -> Array:
    """The bias (out,) less what the input's zero point adds; weights (out, ...)."""
    sums = weights.reshape(weights.shape[0], -1).astype(np.int64).sum(1)
    folded: Array = bias.astype(np.int64) - in_zero * sums
    return folded
