"""Shapes and windows that the firmware takes."""

from __future__ import annotations

from collections.abc import Sequence

from waistline.blob.form import Shape, Window
from waistline_bridge.lower.refuse import Unsupported

MAX_AXIS = 65535
MAX_STEP = 255
"""Longest axis of a tensor, largest kernel, stride and padding: PROTOCOL.md section 5."""
_IMAGE_RANK = 4


def image_shape(name: str, shape: Sequence[int]) -> Shape:
    """(h, w, c) of a tensor with a batch of 1 and up to three further axes."""
    if len(shape) > _IMAGE_RANK or len(shape) < 2:
        raise Unsupported(f"tensor {name!r} has {len(shape)} axes, not 2 to 4")
    if shape[0] != 1:
        raise Unsupported(f"tensor {name!r} has a batch of {shape[0]}")
    if not all(1 <= axis <= MAX_AXIS for axis in shape):
        raise Unsupported(f"tensor {name!r} has the shape {tuple(shape)}")
    h, w, c = (1,) * (_IMAGE_RANK - len(shape)) + tuple(shape[1:])
    return h, w, c


def check_window(source: Shape, made: Shape, window: Window) -> None:
    """Refuse what the kernels do not take: see ``wl_windows_valid``."""
    sizes = *window.kernel, *window.stride
    pads = *window.before, *window.after
    if min(sizes) < 1 or max(sizes) > MAX_STEP or min(pads) < 0 or max(pads) > MAX_STEP:
        raise Unsupported(f"kernels, strides and padding go up to {MAX_STEP}: {window}")
    size = source[0], source[1]
    if window.lengths(size) != made[:2]:
        raise Unsupported(f"its output is {made}, its window gives {window.lengths(size)}")
    for n, out, k, s, a in zip(
        size, made[:2], window.kernel, window.stride, window.before, strict=True
    ):
        if a >= k or (out - 1) * s >= n + a:
            raise Unsupported(f"a window lies wholly in the padding: {window}")
