"""What the image coders of the sensor frame share.

The frame is uint8 (H, W, C) with C = 1 or 3, which `waistline.codec.tensor_codec` has checked.
"""

from __future__ import annotations

import io
from collections.abc import Callable

from PIL import Image, ImageFile

from waistline.codec.coders.base import CodeShape, corrupt

_MODES = {1: "L", 3: "RGB"}

Opener = Callable[[io.BytesIO], ImageFile.ImageFile]


def to_image(packed: memoryview, shape: CodeShape) -> Image.Image:
    mode, size = _mode_and_size(shape)
    return Image.frombytes(mode, size, packed)


def _mode_and_size(shape: CodeShape) -> tuple[str, tuple[int, int]]:
    """Pillow's mode and (width, height)."""
    height, width, channels = shape.shape
    return _MODES[channels], (width, height)


def from_image(coder: str, opener: Opener, data: memoryview, shape: CodeShape) -> bytes:
    """Pixels of ``data``, whose announced size is compared before anything is decoded.

    ``opener`` is the format's own class: it reads the header only, tries no other format, and
    leaves out Pillow's guess at what a bomb is, which would refuse a large honest frame.
    """
    mode, size = _mode_and_size(shape)
    try:
        image = opener(io.BytesIO(data))
        if image.size != size or image.mode != mode:
            raise corrupt(coder, f"{image.mode} {image.size}, expected {mode} {size}")
        return image.tobytes()
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError) as error:
        raise corrupt(coder, str(error)) from error
