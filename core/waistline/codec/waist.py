"""The waist of a cut as bytes: all its tensors, each quantized, packed and entropy coded.

On the wire, for each tensor in the bundle's order::

    u32   size of the payload in bytes; the top bit says that it is stored, not entropy coded
    f32.. ranges, where each frame has its own: lo of every channel, then hi of every channel
          (q1, q1h: minimum and maximum; q2, q2m: what 0 and 1 decode to)
    u8..  payload: the packed codes through the entropy coder, or as they are

Little-endian throughout. A payload that entropy coding does not make shorter is stored, so the
largest payload is known exactly.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from waistline import plugins
from waistline.codec import native
from waistline.codec.coders._mosaic import mosaic_of
from waistline.codec.coders.base import Coder, CodeShape
from waistline.codec.spec import IMAGE_CODERS
from waistline.codec.tensor_codec import TensorCodec, open_tensor_codec
from waistline.errors import CodecError, ConfigError
from waistline.tensors import WaistTensor

Array = NDArray[np.generic]

_LENGTH = struct.Struct("<I")
_STORED = 1 << 31
LENGTH_BYTES = _LENGTH.size
"""In front of each tensor's ranges and payload."""


@dataclass(frozen=True, slots=True)
class EncodedWaist:
    """What one frame sends.

    Attributes:
        payload: see the module's text.
        raw_len: packed bytes of all tensors before entropy coding.
    """

    payload: bytes
    raw_len: int


@dataclass(frozen=True, slots=True)
class _Entry:
    codec: TensorCodec
    coder: Coder
    shape: CodeShape


class WaistCodec:
    """Codec of all the tensors of a cut. One object serves one thread at a time.

    Attributes:
        raw_len: packed bytes of a frame, exact.
        max_payload_bytes: the longest payload `encode` can give and `decode` accepts.
        implementation: ``c`` or ``numpy``; both give the same bytes.

    Raises:
        BundleError, ConfigError: a tensor, codec or range that cannot be used.
        MissingExtra: an entropy coder whose package is not installed.
    """

    def __init__(self, tensors: Sequence[WaistTensor]) -> None:
        kernels = native.kernels()
        self.implementation = kernels.name
        self._entries = [_entry(open_tensor_codec(waist, kernels)) for waist in tensors]
        self.raw_len = sum(entry.codec.size_bytes for entry in self._entries)
        self.max_payload_bytes = sum(
            _LENGTH.size + entry.codec.range_bytes + entry.codec.size_bytes
            for entry in self._entries
        )

    def encode(self, arrays: Sequence[Array]) -> EncodedWaist:
        """Encode one frame; arrays in the bundle's order, any memory layout.

        Raises:
            CodecError: wrong number, shape or element type of arrays.
            NonFinite: NaN or infinity in a tensor whose codec quantizes.
        """
        parts: list[bytes | memoryview] = []
        for entry, array in zip(self._entries, self._counted(arrays), strict=True):
            ranges, packed = entry.codec.encode(array)
            coded = entry.coder.compress(packed, entry.shape)
            if len(coded) < len(packed):
                head = _LENGTH.pack(len(coded))
            else:
                head, coded = _LENGTH.pack(len(packed) | _STORED), packed
            # `coded` may be a view of scratch; no two tensors share one, so it lasts to the join.
            parts += (head, ranges, coded)
        return EncodedWaist(b"".join(parts), self.raw_len)

    def decode(self, payload: bytes | memoryview, raw_len: int) -> list[Array]:
        """Decode one frame into new arrays; ``payload`` is hostile.

        Raises:
            CodecError: anything but what `encode` makes: wrong lengths, bytes missing or left
                over, ranges that are not finite and ordered, damaged entropy coding.
        """
        cursor = self._opened(payload, raw_len)
        arrays = [entry.codec.decode(*_unpack(entry, cursor)) for entry in self._entries]
        cursor.finish()
        return arrays

    def packed(self, payload: bytes | memoryview, raw_len: int) -> bytes:
        """What `codes` gave for the frame that ``payload`` is of. Raises what `decode` raises."""
        cursor = self._opened(payload, raw_len)
        parts = [part for entry in self._entries for part in _unpack(entry, cursor)]
        cursor.finish()
        return b"".join(parts)

    def codes(self, arrays: Sequence[Array]) -> bytes:
        """Ranges (if the frame has them) and packed codes of each tensor, no entropy coding.

        This is what `verify` compares with the golden codes of a bundle.
        """
        parts: list[bytes | memoryview] = []
        for entry, array in zip(self._entries, self._counted(arrays), strict=True):
            parts += entry.codec.encode(array)
        return b"".join(parts)

    def decode_codes(self, codes: bytes) -> list[Array]:
        """The tensors of what `codes` gave.

        Raises:
            CodecError: wrong length or unusable ranges.
        """
        cursor = _Cursor(codes)
        arrays = [
            entry.codec.decode(
                cursor.take(entry.codec.range_bytes), cursor.take(entry.codec.size_bytes)
            )
            for entry in self._entries
        ]
        cursor.finish()
        return arrays

    def _opened(self, payload: bytes | memoryview, raw_len: int) -> _Cursor:
        if raw_len != self.raw_len:
            raise _refused(f"{raw_len} packed bytes announced, the bundle says {self.raw_len}")
        return _Cursor(payload)

    def _counted(self, arrays: Sequence[Array]) -> Sequence[Array]:
        if len(arrays) != len(self._entries):
            raise CodecError(
                f"the waist has {len(self._entries)} tensors",
                cause=f"got {len(arrays)}",
                fix="run the head that belongs to this bundle",
            )
        return arrays


class _Cursor:
    """Takes parts off the front; never past the end."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._data = memoryview(data)
        self._at = 0

    def take(self, size_bytes: int) -> memoryview:
        end = self._at + size_bytes
        if end > len(self._data):
            raise _refused(f"{len(self._data)} bytes, {end - len(self._data)} too few")
        part = self._data[self._at : end]
        self._at = end
        return part

    def finish(self) -> None:
        if self._at != len(self._data):
            raise _refused(f"{len(self._data) - self._at} bytes follow its end")


def _unpack(entry: _Entry, cursor: _Cursor) -> tuple[memoryview, bytes | memoryview]:
    """A tensor's ranges and packed codes."""
    exact = entry.codec.size_bytes
    (word,) = _LENGTH.unpack(cursor.take(_LENGTH.size))
    length, stored = word & ~_STORED, bool(word & _STORED)
    if (length != exact) if stored else (length >= exact):
        raise _refused(f"{length} payload bytes for a tensor of {exact} packed bytes")
    ranges = cursor.take(entry.codec.range_bytes)
    payload = cursor.take(length)
    packed = payload if stored else entry.coder.decompress(payload, exact, entry.shape)
    if len(packed) != exact:
        raise _refused(f"{len(packed)} packed bytes, the bundle says {exact}")
    return ranges, packed


def code_shape(codec: TensorCodec) -> CodeShape:
    """What the packed bytes of ``codec`` mean to its entropy coder."""
    tensor, spec = codec.tensor, codec.spec
    signed = spec.quantizer == "i8" and codec.bits == 8 and tensor.dtype == "int8"
    return CodeShape(
        tensor.shape, tensor.channel_axis, codec.bits, frame=spec.codes_frame, signed=signed
    )


def open_entropy_coder(codec: TensorCodec) -> Coder:
    """The coder that the spec of ``codec`` names.

    Raises:
        ConfigError: it does not take this argument, or no tensor of this size.
        MissingExtra: its package is not installed.
    """
    spec = codec.spec
    module = plugins.load("waistline.codec.coders", spec.coder)
    if spec.coder in IMAGE_CODERS:
        _check_picture(codec, getattr(module, "MAX_SIDE", None))
    coder: Coder = module.open_coder(spec.coder_argument)
    return coder


def _check_picture(codec: TensorCodec, limit: int | None) -> None:
    shape = code_shape(codec)
    width, height = shape.shape[1::-1] if shape.frame else mosaic_of(shape).size
    if limit is not None and max(width, height) > limit:
        raise ConfigError(
            f"codec {codec.spec} does not fit waist tensor {codec.tensor.name!r}",
            cause=f"its picture has {width} x {height} pixels, {codec.spec.coder} takes {limit} "
            "a side",
            fix="use zstd:1 or ctx instead",
        )


def _entry(codec: TensorCodec) -> _Entry:
    return _Entry(codec, open_entropy_coder(codec), code_shape(codec))


def _refused(cause: str) -> CodecError:
    return CodecError(
        "the payload of a frame does not decode",
        cause=cause,
        fix="check that node and edge run the same release and bundle",
    )
