"""Zstandard: the default, 0.03-0.06x the CPU of zlib level 6 for about the same bytes.

Frames carry neither content size nor checksum nor dictionary id: the bundle knows the size and the
wire's CRC covers the payload.
"""

from __future__ import annotations

import zstandard

from waistline.codec.coders.base import Coder, CodeShape, checked_argument, corrupt

_DEFAULT_LEVEL = 1
_MAGIC = b"\x28\xb5\x2f\xfd"
_MIN_WINDOW_BYTES = 1 << 10
_LEVELS = (-50, zstandard.MAX_COMPRESSION_LEVEL)


class _Zstd:
    """A ZstdCompressor must not be used by two threads at once; neither must this."""

    def __init__(self, level: int) -> None:
        self._compressor = zstandard.ZstdCompressor(
            level=level, write_content_size=False, write_checksum=False, write_dict_id=False
        )
        self._decompressor = zstandard.ZstdDecompressor()

    def compress(self, packed: memoryview, shape: CodeShape) -> bytes:
        return self._compressor.compress(packed)

    def decompress(self, data: memoryview, size_bytes: int, shape: CodeShape) -> bytes:
        """Decode one frame.

        ``max_output_size`` caps only frames that do not state their size (those that do are
        allocated as announced), and the window is allocated as announced too: hence both are
        checked first.
        """
        if data[:4] != _MAGIC:
            raise corrupt("zstd", "no zstd frame at its start")
        try:
            header = zstandard.get_frame_parameters(data)
            known = header.content_size != zstandard.CONTENTSIZE_UNKNOWN
            if known and header.content_size != size_bytes:
                raise corrupt("zstd", f"announces {header.content_size} bytes, not {size_bytes}")
            if header.window_size > max(_MIN_WINDOW_BYTES, 2 * size_bytes):
                raise corrupt("zstd", f"announces a window of {header.window_size} bytes")
            packed = self._decompressor.decompress(
                data, max_output_size=size_bytes, allow_extra_data=False
            )
        except zstandard.ZstdError as error:
            raise corrupt("zstd", str(error)) from error
        if len(packed) != size_bytes:
            raise corrupt("zstd", f"{len(packed)} bytes, expected {size_bytes}")
        return packed


def open_coder(argument: int | None) -> Coder:
    return _Zstd(checked_argument("zstd", argument, *_LEVELS, _DEFAULT_LEVEL))
