"""What the image coders share: a frame or a waist as a picture, and back.

The sensor frame is uint8 (H, W, C) with C = 1 or 3, which `waistline.codec.tensor_codec` has
checked; a waist is the gray mosaic of its channels (`_mosaic`).
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFile

from waistline.codec.coders._mosaic import mosaic_of
from waistline.codec.coders.base import CodeShape, corrupt

_MODES = {1: "L", 3: "RGB"}

Opener = Callable[[io.BytesIO], ImageFile.ImageFile]


def to_image(packed: memoryview, shape: CodeShape) -> Image.Image:
    mode, size = mode_and_size(shape)
    if shape.frame:
        return Image.frombytes(mode, size, packed)
    return Image.fromarray(mosaic_of(shape).picture(packed))


def mode_and_size(shape: CodeShape) -> tuple[str, tuple[int, int]]:
    """Pillow's mode and (width, height)."""
    if not shape.frame:
        return "L", mosaic_of(shape).size
    height, width, channels = shape.shape
    return _MODES[channels], (width, height)


def from_image(
    coder: str, opener: Opener, data: memoryview, shape: CodeShape, stored_mode: str = ""
) -> bytes:
    """Codes or pixels of ``data``, whose announced size is compared before anything is decoded.

    ``opener`` is the format's own class: it reads the header only, tries no other format, and
    leaves out Pillow's guess at what a bomb is, which would refuse a large honest frame.
    ``stored_mode``: the one mode in which the format holds every picture, if there is one.

    Raises:
        CodecError: not a picture of this size.
    """
    mode, size = mode_and_size(shape)
    expected = stored_mode or mode
    try:
        image: Image.Image = opener(io.BytesIO(data))
        if image.size != size or image.mode != expected:
            raise corrupt(coder, f"{image.mode} {image.size}, expected {expected} {size}")
        if mode != expected:
            image = image.convert(mode)
        if shape.frame:
            return image.tobytes()
        return mosaic_of(shape).codes(np.asarray(image))
    except (OSError, SyntaxError, ValueError, EOFError, LookupError, struct.error) as error:
        raise corrupt(coder, str(error)) from error
