"""What is mutated: sound waists of every entropy coder that is there, and a second way to decode.

A codec decodes in C where it can; `Reference` does the same with NumPy, the entropy decoders of
other libraries and a parser of its own, so that a wrong tensor has nowhere to hide.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import zstandard
from PIL import Image

from waistline import plugins
from waistline.codec.coders import _ctx_reference
from waistline.codec.coders.base import CodeShape
from waistline.codec.quantizers import NumpyKernels
from waistline.codec.spec import parse_spec
from waistline.codec.tensor_codec import TensorCodec, open_tensor_codec
from waistline.codec.waist import WaistCodec
from waistline.errors import WaistlineError
from waistline.tensors import StaticRanges, TensorSpec, WaistTensor

SOUND = 4
"""Sound frames of each case."""
_STORED = 1 << 31
_PLANES = TensorSpec("planes", "float32", (1, 8, 9, 7), "NCHW", 1)
_PIXELS = TensorSpec("pixels", "float32", (1, 9, 7, 8), "NHWC", 3)
_LINE = TensorSpec("line", "float32", (1, 33), "NC", None)
_WIDE = TensorSpec("wide", "float32", (1, 8, 24, 32), "NCHW", 1)
_HALF = TensorSpec("half", "float16", (1, 4, 5, 6), "NCHW", 1)
_BYTES = TensorSpec("bytes", "int8", (1, 6, 5, 5), "NCHW", 1)
_COUNTS = TensorSpec("counts", "int64", (1, 17))
_FRAME = TensorSpec("frame", "uint8", (24, 32, 3), "any", None)
_EIGHT = StaticRanges((0.0,) * 8, tuple(1.0 + k / 4 for k in range(8)))
_ONE = StaticRanges((-1.0,), (3.0,))
_QUANTIZERS: tuple[tuple[TensorSpec, str, StaticRanges | None], ...] = (
    (_PLANES, "affine:b=4,clip=minmax,per=channel", _EIGHT),
    (_PIXELS, "affine:b=8", None),
    (_PIXELS, "affine:b=3,per=channel", None),
    (_WIDE, "affine:b=8,clip=minmax", _ONE),
    (_PLANES, "q1:b=4", None),
    (_LINE, "q1h:b=5", None),
    (_LINE, "q2m", None),
    (_HALF, "affine:b=6,clip=mse", _ONE),
    (_BYTES, "i8:b=8", None),
    (_BYTES, "i8:b=5,clip=minmax", StaticRanges((-100.0,), (90.0,))),
)
_LOSSLESS: tuple[tuple[TensorSpec, str], ...] = ((_LINE, "f32"), (_PLANES, "f16"), (_COUNTS, "raw"))


@dataclass(frozen=True)
class Sound:
    """A frame as a node sends it, and the tensors that it stands for."""

    payload: bytes
    arrays: tuple[np.ndarray, ...]


class Case:
    """A waist with its codec, its reference and some sound frames."""

    def __init__(self, name: str, waist: tuple[WaistTensor, ...]) -> None:
        self.name = name
        self.waist = waist
        self.codec = WaistCodec(waist)
        self.reference = Reference(waist)
        self.sounds = tuple(self._sound(seed) for seed in range(SOUND))

    def _sound(self, seed: int) -> Sound:
        rng = np.random.default_rng(seed)
        payload = self.codec.encode([_array(rng, each.tensor) for each in self.waist]).payload
        return Sound(payload, tuple(self.codec.decode(payload, self.codec.raw_len)))

    @property
    def quantized(self) -> tuple[bool, ...]:
        """By tensor: whether it can hold no NaN and no infinity."""
        return tuple(
            parse_spec(each.codec).quantizer not in ("f32", "f16", "raw") for each in self.waist
        )


def _array(rng: np.random.Generator, spec: TensorSpec) -> np.ndarray:
    """Smooth and mostly zero, so that every coder finds something to do."""
    kind = spec.numpy_dtype
    values = np.maximum(rng.standard_normal(spec.shape).cumsum(-1), 0.0)
    if kind.kind == "f":
        return values.astype(kind)
    return np.clip(values * 16, 0, 127).astype(kind)


def all_cases() -> list[Case]:
    """For every coder every kind of tensor that it takes; and waists of several tensors."""
    return list(_cases())


def _cases() -> Iterator[Case]:
    for coder in plugins.names("waistline.codec.coders"):
        for spec, quantizer, ranges in _QUANTIZERS:
            yield from _case(spec, f"{quantizer}|{coder}", ranges)
        for spec, quantizer in _LOSSLESS:
            yield from _case(spec, f"{quantizer}|{coder}", None)
        yield from _case(_FRAME, f"raw|{coder}", None)
    three = tuple(
        WaistTensor(spec, str(parse_spec(codec)), ranges)
        for spec, codec, ranges in (
            (_PLANES, "affine:b=4,clip=minmax,per=channel|ctx", _EIGHT),
            (_LINE, "q1:b=4|deflate", None),
            (_COUNTS, "raw|zstd:1", None),
        )
    )
    yield Case("three tensors", three)


def _case(spec: TensorSpec, codec: str, ranges: StaticRanges | None) -> Iterator[Case]:
    try:
        text = str(parse_spec(codec))
        yield Case(f"{spec.name} {text}", (WaistTensor(spec, text, ranges),))
    except WaistlineError:
        return  # a coder for other tensors


class Reference:
    """Decodes what a codec accepted, by other means."""

    def __init__(self, waist: tuple[WaistTensor, ...]) -> None:
        kernels = NumpyKernels()
        self._codecs = [open_tensor_codec(each, kernels) for each in waist]
        self._again = WaistCodec(waist)
        """For coders that nobody else can read: at least the same twice."""

    @property
    def first(self) -> TensorCodec:
        """Of the first tensor of the waist."""
        return self._codecs[0]

    def decode(self, payload: bytes) -> list[np.ndarray]:
        """The tensors; raises whatever it likes for a payload that no codec should accept."""
        at = 0
        arrays = []
        for codec in self._codecs:
            (word,) = struct.unpack_from("<I", payload, at)
            start = at + 4 + codec.range_bytes
            end = start + (word & ~_STORED)
            ranges, coded = payload[at + 4 : start], payload[start:end]
            if len(ranges) != codec.range_bytes or end > len(payload):
                raise ValueError("it reaches past the end")
            shape = CodeShape(codec.tensor.shape, codec.tensor.channel_axis, codec.bits)
            if word & _STORED:
                packed = coded
            elif codec.spec.coder in _ENTROPY:
                packed = _ENTROPY[codec.spec.coder](coded, shape)
            else:
                return list(self._again.decode(payload, self._again.raw_len))
            if len(packed) != codec.size_bytes:
                raise ValueError(f"{len(packed)} packed bytes instead of {codec.size_bytes}")
            arrays.append(codec.decode(ranges, packed))
            at = end
        if at != len(payload):
            raise ValueError("bytes follow its end")
        return arrays


def _from_ctx(coded: bytes, shape: CodeShape) -> bytes:
    from waistline.codec.coders.ctx import planes_of

    packed = _ctx_reference.decode(planes_of(shape), memoryview(coded))
    if packed is None:
        raise ValueError("no stream of the context coder")
    return packed


def _from_image(coded: bytes, shape: CodeShape) -> bytes:
    with Image.open(io.BytesIO(coded)) as image:
        if image.size != (shape.shape[1], shape.shape[0]):
            raise ValueError(f"an image of {image.size}")
        return image.tobytes()


def _from_zstd(coded: bytes, shape: CodeShape) -> bytes:
    with zstandard.ZstdDecompressor().stream_reader(coded) as reader:
        return reader.read(shape.size_bytes + 1)


_ENTROPY: dict[str, Callable[[bytes, CodeShape], bytes]] = {
    "deflate": lambda coded, shape: zlib.decompress(coded, -15),
    "zstd": _from_zstd,
    "ctx": _from_ctx,
    "png": _from_image,
}
"""Lossless ones. What a lossy coder gives for a damaged picture is its own business."""
