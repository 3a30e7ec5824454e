"""What the image coders of the sensor frame share: uint8 (H, W, C) with C = 1 or 3, by Pillow."""

from __future__ import annotations

import io
from collections.abc import Callable

from PIL import Image, ImageFile

from waistline.codec.coders.base import CodeShape, corrupt
from waistline.errors import ConfigError

_MODES = {1: "L", 3: "RGB"}

Opener = Callable[[io.BytesIO], ImageFile.ImageFile]


def frame_mode(coder: str, shape: CodeShape) -> tuple[str, tuple[int, int]]:
    """Pillow's mode and (width, height) of a frame.

    Raises:
        ConfigError: not the shape of a sensor frame.
    """
    if shape.bits != 8 or len(shape.shape) != 3 or shape.shape[2] not in _MODES:
        raise ConfigError(
            f"{coder} cannot code a tensor of shape {shape.shape}",
            cause=f"{coder} codes the sensor frame: uint8 (H, W, C) with C = 1 or 3",
            fix="use another entropy coder, such as zstd:1",
        )
    height, width, channels = shape.shape
    return _MODES[channels], (width, height)


def to_image(coder: str, packed: memoryview, shape: CodeShape) -> Image.Image:
    mode, size = frame_mode(coder, shape)
    return Image.frombytes(mode, size, packed)


def from_image(coder: str, opener: Opener, data: memoryview, shape: CodeShape) -> bytes:
    """Pixels of ``data``, whose announced size is compared before anything is decoded.

    ``opener`` is the format's own class: it reads the header only, tries no other format, and
    leaves out Pillow's guess at what a bomb is, which would refuse a large honest frame.
    """
    mode, size = frame_mode(coder, shape)
    try:
        image = opener(io.BytesIO(data))
        if image.size != size or image.mode != mode:
            raise corrupt(coder, f"{image.mode} {image.size}, expected {mode} {size}")
        return image.tobytes()
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError) as error:
        raise corrupt(coder, str(error)) from error
