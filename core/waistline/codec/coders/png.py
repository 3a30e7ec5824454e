"""PNG of the sensor frame: lossless, read by everything."""

from __future__ import annotations

import io

from PIL.PngImagePlugin import PngImageFile

from waistline.codec.coders._image import from_image, to_image
from waistline.codec.coders.base import Coder, CodeShape
from waistline.errors import ConfigError


class _Png:
    def compress(self, packed: memoryview, shape: CodeShape) -> bytes:
        target = io.BytesIO()
        to_image(packed, shape).save(target, "PNG")
        return target.getvalue()

    def decompress(self, data: memoryview, size_bytes: int, shape: CodeShape) -> bytes:
        return from_image("png", PngImageFile, data, shape)


def open_coder(argument: int | None) -> Coder:
    if argument is not None:
        raise ConfigError(
            f"png:{argument} is not a codec",
            cause="png is lossless",
            fix="use png, or jpeg:90 or webp:80, which lose little",
        )
    return _Png()
