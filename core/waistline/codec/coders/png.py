"""PNG of the sensor frame: lossless, read by everything."""

from __future__ import annotations

import io
import struct

from PIL.PngImagePlugin import PngImageFile

from waistline.codec.coders._image import from_image, to_image
from waistline.codec.coders.base import Coder, CodeShape, corrupt
from waistline.errors import ConfigError

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHUNK = struct.Struct(">I4s")
_CRC_BYTES = 4


class _Png:
    def compress(self, packed: memoryview, shape: CodeShape) -> bytes:
        target = io.BytesIO()
        to_image(packed, shape).save(target, "PNG")
        return target.getvalue()

    def decompress(self, data: memoryview, size_bytes: int, shape: CodeShape) -> bytes:
        _check_structure(data)
        return from_image("png", PngImageFile, data, shape)


def _check_structure(data: memoryview) -> None:
    """Refuse all but header, pixels and end, which ends the data.

    Text, profiles and animations are inflated on opening, up to 64 MiB of them.
    """
    if data[: len(_SIGNATURE)] != _SIGNATURE:
        raise corrupt("png", "no PNG at its start")
    at, name = len(_SIGNATURE), b""
    while name != b"IEND":
        if at + _CHUNK.size > len(data):
            raise corrupt("png", "it has no end")
        length, name = _CHUNK.unpack_from(data, at)
        if name not in {b"IHDR", b"IDAT", b"IEND"}:
            raise corrupt("png", f"a chunk {name!r}")
        at += _CHUNK.size + length + _CRC_BYTES
    if at != len(data):
        raise corrupt("png", f"{len(data)} bytes, {at} announced")


def open_coder(argument: int | None) -> Coder:
    if argument is not None:
        raise ConfigError(
            f"png:{argument} is not a codec",
            cause="png is lossless",
            fix="use png, or jpeg:90 or webp:80, which lose little",
        )
    return _Png()
