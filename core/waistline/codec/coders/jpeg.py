"""Baseline JPEG of the sensor frame, or of a waist's mosaic: lossy; the argument is the quality.

Huffman tables are made for each picture: 100 to 200 bytes less, which is a fifth of a small
mosaic, for up to twice the time. libjpeg then gives the picture out in one piece, into a buffer of
a byte a pixel that Pillow makes; a picture of noise at a quality of 92 to 94 is larger, and is
coded with the tables of the standard.
"""

from __future__ import annotations

import io
import re
import struct

from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from waistline.codec.coders._image import from_image, to_image
from waistline.codec.coders.base import Coder, CodeShape, checked_argument, corrupt

MAX_SIDE = 65_500
"""Of libjpeg (JPEG_MAX_DIMENSION), in pixels."""
_DEFAULT_QUALITY = 90
_START = b"\xff\xd8"
_BASELINE, _SCAN, _END = 0xC0, 0xDA, 0xD9
_SEGMENTS = frozenset({0xE0, 0xEE, 0xDB, 0xC4, 0xDD, _BASELINE, _SCAN})
"""JFIF, Adobe, quantization and Huffman tables, restart interval, and the two that must be there;
ITU-T T.81, table B.1."""
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7]", re.DOTALL)
"""Anything in a scan but a stuffed 0xFF or a restart."""


class _Jpeg:
    def __init__(self, quality: int) -> None:
        self._quality = quality

    def compress(self, packed: memoryview, shape: CodeShape) -> bytes:
        image = to_image(packed, shape)
        try:
            return self._saved(image, own_tables=True)
        except OSError:
            return self._saved(image, own_tables=False)

    def _saved(self, image: Image.Image, *, own_tables: bool) -> bytes:
        target = io.BytesIO()
        image.save(target, "JPEG", quality=self._quality, optimize=own_tables)
        return target.getvalue()

    def decompress(self, data: memoryview, size_bytes: int, shape: CodeShape) -> bytes:
        _check_structure(data)
        return from_image("jpeg", JpegImageFile, data, shape)


def _check_structure(data: memoryview) -> None:
    """Refuse all but one baseline scan that ends with the data.

    Each scan of a progressive picture costs a pass over all pixels and may be a few bytes long, so
    that a payload could keep an edge busy for minutes.
    """
    if data[:2] != _START:
        raise corrupt("jpeg", "no JPEG at its start")
    at, marker, frames = 2, 0, 0
    while marker != _SCAN:
        if at + 4 > len(data):
            raise corrupt("jpeg", "its header does not end")
        mark, marker, length = struct.unpack_from(">BBH", data, at)
        if mark != 0xFF or marker not in _SEGMENTS:
            raise corrupt("jpeg", f"segment {mark:02x}{marker:02x} is not of a baseline JPEG")
        frames += marker == _BASELINE
        at += 2 + length
    found = _MARKER.search(data, at)
    ends = found is not None and found.start() == len(data) - 2 and data[-1] == _END
    if frames != 1 or not ends:
        raise corrupt("jpeg", "not one scan that ends with the data")


def open_coder(argument: int | None) -> Coder:
    return _Jpeg(checked_argument("jpeg", argument, 1, 100, _DEFAULT_QUALITY, what="quality"))
