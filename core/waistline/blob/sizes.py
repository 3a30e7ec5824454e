"""Bytes of weights, records and scratch that each kernel takes: ``wl_nn_conv.c`` and its like.

Part of the version of the kernels; a test compares them with the compiled ones.
"""

from __future__ import annotations

from dataclasses import dataclass

from waistline.blob.form import Shape, Window

RECORD_BYTES = 12
TABLE_BYTES = 256
MAX_ROWS = 32
"""Of a depthwise kernel (WL_NN_MAX_ROWS)."""
MAX_PIXELS = 1 << 22
"""Of a mean."""


@dataclass(frozen=True)
class KernelSizes:
    """What one layer points to, in bytes."""

    weights: int = 0
    params: int = 0
    scratch: int = 0


def conv_sizes(source: Shape, made: Shape, window: Window) -> KernelSizes:
    depth = rounded(window.kernel[0] * window.kernel[1] * source[2], 4)
    records = rounded(made[2], 2)
    scratch = 8 * depth if source[2] % 4 == 0 else 9 * depth + 4
    return KernelSizes(records * depth, RECORD_BYTES * records, scratch)


def depthwise_sizes(source: Shape, made: Shape, window: Window) -> KernelSizes:
    reach = rounded(window.kernel[1], 2)
    if window.kernel[1] == 3 and window.stride[1] <= 2:
        cells = rounded(made[1], 2) * window.stride[1] + 2
    else:
        cells = rounded((made[1] - 1) * window.stride[1] + reach, 2)
    weights = 2 * made[2] * window.kernel[0] * reach
    return KernelSizes(weights, RECORD_BYTES * made[2], 8 * window.kernel[0] * cells)


def dense_sizes(inputs: int, outputs: int) -> KernelSizes:
    records = rounded(outputs, 2)
    return KernelSizes(records * rounded(inputs, 4), RECORD_BYTES * records, 2 * rounded(inputs, 4))


MEAN_SIZES = KernelSizes(params=RECORD_BYTES)
ADD_SIZES = KernelSizes(params=3 * RECORD_BYTES)
LOOKUP_SIZES = KernelSizes(weights=TABLE_BYTES)
NOTHING = KernelSizes()


def rounded(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple
