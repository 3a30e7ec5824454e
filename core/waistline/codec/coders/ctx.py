"""Adaptive binary range coder in the context of neighbouring codes, 1 to 8 bits: for slow links.

0.5-0.9x the bytes of zlib level 6 at 1 to 4 bits, some 10 to 25 ns an element in C. Without the
compiled codec it runs in Python, with the same bytes, a hundred times slower.
"""

from __future__ import annotations

from waistline.codec import native
from waistline.codec.coders import _ctx_reference as reference
from waistline.codec.coders._planes import planes_of
from waistline.codec.coders.base import Coder, CodeShape, corrupt
from waistline.errors import ConfigError


class _Ctx:
    def __init__(self) -> None:
        self._library = native.library()
        self._shape: CodeShape | None = None

    def compress(self, packed: memoryview, shape: CodeShape) -> bytes | memoryview:
        self._prepare(shape)
        if self._native is None:
            return reference.encode(self._planes, packed)
        coded = self._native.encode(packed)
        return packed if coded is None else coded

    def decompress(self, data: memoryview, size_bytes: int, shape: CodeShape) -> bytes | memoryview:
        self._prepare(shape)
        coder = self._native
        packed = reference.decode(self._planes, data) if coder is None else coder.decode(data)
        if packed is None:
            raise corrupt("ctx", f"{len(data)} bytes are not a stream of {size_bytes} bytes")
        return packed

    def _prepare(self, shape: CodeShape) -> None:
        """Working memory for tensors of ``shape``, kept: a waist's tensor never changes it."""
        if shape == self._shape:
            return
        self._planes = planes = planes_of(shape)
        self._native = None
        if self._library is not None:
            self._native = native.CContext(
                self._library,
                (planes.planes, planes.rows, planes.columns),
                planes.interleaved,
                planes.bits,
            )
        self._shape = shape


def open_coder(argument: int | None) -> Coder:
    if argument is not None:
        raise ConfigError(
            f"ctx:{argument} is not a codec", cause="ctx takes no argument", fix="use ctx"
        )
    return _Ctx()
