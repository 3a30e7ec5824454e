"""Payloads that are small and say, or become, something huge: one for every entropy coder."""

from __future__ import annotations

import functools
import io
import struct
import zlib

import zstandard
from PIL import Image

BOMB_BYTES = 64 << 20
_SIDE = 16_000
"""Pixels: within what the formats can say, 256 million of them."""
_SOF0 = b"\xff\xc0"


@functools.cache
def bombs(coder: str) -> tuple[bytes, ...]:
    """Coded payloads for ``coder``; () where it codes one byte as one byte at least."""
    makers = {
        "zstd": _zstd,
        "deflate": _deflate,
        "png": _png,
        "jpeg": _jpeg,
        "webp": _webp,
        "ctx": lambda: (bytes(1), b"\xff" * 64, bytes(4096)),
    }
    return makers[coder]() if coder in makers else ()


def payload_of(coded: bytes, range_bytes: int = 0) -> bytes:
    """``coded`` as the first tensor of a waist, with ranges of 0 and 1 that pass every check."""
    half = range_bytes // 8
    ranges = struct.pack(f"<{2 * half}f", *[0.0] * half, *[1.0] * half)
    return struct.pack("<I", len(coded)) + ranges + coded


def _zstd() -> tuple[bytes, ...]:
    """One that states its size, one that does not, and one that wants a window of 64 MiB."""
    zeros = bytes(BOMB_BYTES)
    stated = zstandard.ZstdCompressor(level=1).compress(zeros)
    silent = zstandard.ZstdCompressor(level=1, write_content_size=False).compress(zeros)
    wide = zstandard.ZstdCompressionParameters.from_level(
        1, window_log=26, write_content_size=False
    )
    window = zstandard.ZstdCompressor(compression_params=wide).compress(bytes(1 << 16))
    return stated, silent, window


def _deflate() -> tuple[bytes, ...]:
    coder = zlib.compressobj(9, zlib.DEFLATED, -15)
    whole = coder.compress(bytes(BOMB_BYTES)) + coder.flush()
    return whole, whole[:2000]


def _image(kind: str) -> bytes:
    target = io.BytesIO()
    Image.new("RGB", (16, 16)).save(target, kind)
    return target.getvalue()


def _png() -> tuple[bytes, ...]:
    """Huge dimensions; and honest ones with scan lines that go on for 64 MiB."""
    small = _image("PNG")
    head = b"IHDR" + struct.pack(">II", _SIDE, _SIDE) + small[24:29]
    lying = small[:12] + head + struct.pack(">I", zlib.crc32(head)) + small[33:]
    return lying, _png_of(32, 24, zlib.compress(bytes(BOMB_BYTES), 9)), _text_png()


def _png_of(width: int, height: int, data: bytes) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*each) for each in chunks)


def _text_png() -> bytes:
    """A compressed comment of 64 MiB."""
    text = b"a\0\0" + zlib.compress(bytes(BOMB_BYTES), 9)
    plain = _png_of(32, 24, zlib.compress(bytes((32 * 3 + 1) * 24)))
    return plain[:33] + _chunk(b"zTXt", text) + plain[33:]


def _chunk(name: bytes, data: bytes) -> bytes:
    body = name + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def _jpeg() -> tuple[bytes, ...]:
    small = bytearray(_image("JPEG"))
    at = small.index(_SOF0)
    struct.pack_into(">HH", small, at + 5, _SIDE, _SIDE)
    return (bytes(small),)


def _webp() -> tuple[bytes, ...]:
    """A canvas of 16,383 pixels square, lossless; and one in the extended format."""
    target = io.BytesIO()
    Image.new("RGB", (16, 16)).save(target, "WEBP", lossless=True)
    plain = bytearray(target.getvalue())
    at = plain.index(b"VP8L") + 9
    struct.pack_into("<I", plain, at, (0x3FFF << 14) | 0x3FFF)
    canvas = bytes(4) + (0x3FFE).to_bytes(3, "little") * 2
    extended = b"VP8X" + struct.pack("<I", len(canvas)) + canvas + target.getvalue()[12:]
    return bytes(plain), b"RIFF" + struct.pack("<I", len(extended) + 4) + b"WEBP" + extended
