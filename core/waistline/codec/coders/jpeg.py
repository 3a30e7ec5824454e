"""JPEG of the sensor frame: lossy; the argument is Pillow's quality."""

from __future__ import annotations

import io

from PIL.JpegImagePlugin import JpegImageFile

from waistline.codec.coders._image import from_image, to_image
from waistline.codec.coders.base import Coder, CodeShape, checked_argument

_DEFAULT_QUALITY = 90


class _Jpeg:
    def __init__(self, quality: int) -> None:
        self._quality = quality

    def compress(self, packed: memoryview, shape: CodeShape) -> bytes:
        target = io.BytesIO()
        to_image(packed, shape).save(target, "JPEG", quality=self._quality)
        return target.getvalue()

    def decompress(self, data: memoryview, size_bytes: int, shape: CodeShape) -> bytes:
        return from_image("jpeg", JpegImageFile, data, shape)


def open_coder(argument: int | None) -> Coder:
    return _Jpeg(checked_argument("jpeg", argument, 1, 100, _DEFAULT_QUALITY, what="quality"))
