"""WebP of the sensor frame, or of a waist's mosaic: ``webp`` without loss, ``webp:<q>`` lossy.

``webp:100`` is the best lossy quality, not lossless: lossy WebP stores limited-range luma (16 to
235), so no quality gives every gray value back. Gray is stored as RGB, the format has no other.
"""

from __future__ import annotations

import io
import struct

from PIL import features
from PIL.WebPImagePlugin import WebPImageFile

from waistline.codec.coders._image import from_image, mode_and_size, to_image
from waistline.codec.coders.base import Coder, CodeShape, checked_argument, corrupt
from waistline.errors import ConfigError

MAX_SIDE = 16_383
"""Of the format, in pixels."""
_HEADER = struct.Struct("<4sI4s4sI")
_LOSSY, _LOSSLESS = b"VP8 ", b"VP8L"
_SIDE_BITS = 14


class _Webp:
    def __init__(self, quality: int | None) -> None:
        self._quality = quality
        self._chunk = _LOSSLESS if quality is None else _LOSSY

    def compress(self, packed: memoryview, shape: CodeShape) -> bytes:
        target = io.BytesIO()
        image = to_image(packed, shape)
        if self._quality is None:
            image.save(target, "WEBP", lossless=True)
        else:
            image.save(target, "WEBP", quality=self._quality)
        return target.getvalue()

    def decompress(self, data: memoryview, size_bytes: int, shape: CodeShape) -> bytes:
        """Decode one picture; its size is read here, since Pillow allocates it on opening."""
        size = _announced_size(data, self._chunk)
        expected = mode_and_size(shape)[1]
        if size != expected:
            raise corrupt("webp", f"announces {size} pixels, expected {expected}")
        return from_image("webp", WebPImageFile, data, shape, "RGB")


def _announced_size(data: memoryview, chunk: bytes) -> tuple[int, int]:
    """(width, height) of a file that is one picture chunk and nothing else.

    RFC 9649, sections 2.4 to 2.6; RFC 6386, section 9.1 for the lossy header.
    """
    if len(data) < _HEADER.size + 10:
        raise corrupt("webp", f"{len(data)} bytes")
    riff, riff_bytes, kind, name, chunk_bytes = _HEADER.unpack_from(data)
    padded = chunk_bytes + chunk_bytes % 2
    if (riff, kind, name) != (b"RIFF", b"WEBP", chunk):
        raise corrupt("webp", f"no {chunk.decode().strip()} picture at its start")
    if riff_bytes != len(data) - 8 or padded != len(data) - _HEADER.size:
        raise corrupt("webp", f"{len(data)} bytes, announced were {riff_bytes + 8}")
    side = (1 << _SIDE_BITS) - 1
    if chunk == _LOSSY:
        width, height = struct.unpack_from("<HH", data, _HEADER.size + 6)
        return width & side, height & side
    (sides,) = struct.unpack_from("<I", data, _HEADER.size + 1)
    return (sides & side) + 1, (sides >> _SIDE_BITS & side) + 1


def open_coder(argument: int | None) -> Coder:
    if not features.check("webp"):
        raise ConfigError(
            "webp cannot be used here",
            cause="the installed Pillow was built without WebP",
            fix="pip install --force-reinstall --only-binary=:all: pillow",
        )
    if argument is None:
        return _Webp(None)
    return _Webp(checked_argument("webp", argument, 1, 100, 80, what="quality"))
