"""What is said about a tensor that crosses a process, and how big it is."""

from __future__ import annotations

import math
from typing import Literal

import msgspec
import numpy as np

from waistline.errors import BundleError

DTYPES = {
    "float32": np.float32,
    "float16": np.float16,
    "float64": np.float64,
    "int8": np.int8,
    "uint8": np.uint8,
    "int16": np.int16,
    "uint16": np.uint16,
    "int32": np.int32,
    "int64": np.int64,
    "bool": np.bool_,
}
"""Element types that may cross a cut, by the name stored in a bundle."""

_NUMPY = {name: np.dtype(kind) for name, kind in DTYPES.items()}

MAX_TENSOR_BYTES = 1 << 28
"""Larger tensors are refused before anything is allocated (256 MiB: 20 times VGG16's widest)."""

MAX_RANK = 8

_QUANTIZED = frozenset({"int8", "uint8"})
_MIN_SCALE, _MAX_SCALE = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)

Layout = Literal["NCHW", "NHWC", "NC", "any"]

NHWC_BY_RANK: dict[int, tuple[Layout, int | None]] = {4: ("NHWC", 3), 2: ("NC", None)}
"""Layout and channel axis by rank where the format has channels last. A vector has no channels:
one range for each of its elements would cost more than they do."""


class TensorSpec(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Name, element type and fixed shape of a tensor.

    Attributes:
        name: as in the model file.
        dtype: a key of `DTYPES`.
        shape: fixed; scalars are ``()``. Batch, where there is one, is 1.
        layout: order of the axes, "any" when it has no meaning.
        channel_axis: axis a per-channel codec works along; None: the tensor has no channels.
        scale, zero_point: of a quantized 8-bit tensor, ``value = scale * (q - zero_point)``; None:
            its elements are what they are.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    layout: Layout = "any"
    channel_axis: int | None = None
    scale: float | None = None
    zero_point: int | None = None

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def numpy_dtype(self) -> np.dtype[np.generic]:
        return _NUMPY[self.dtype]

    @property
    def size_bytes(self) -> int:
        return self.elements * self.numpy_dtype.itemsize

    @property
    def channels(self) -> int:
        """Length of the channel axis; 1 without one."""
        return 1 if self.channel_axis is None else self.shape[self.channel_axis]


class StaticRanges(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Clip limits found on calibration data: float32 values, one pair, or one pair a channel."""

    lo: tuple[float, ...]
    hi: tuple[float, ...]


class WaistTensor(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One tensor of the waist and how it is coded.

    Attributes:
        tensor: what the head hands over and the tail receives.
        codec: canonical codec spec, see `waistline.codec.spec`.
        ranges: clip limits of a static codec; None for a dynamic one.
    """

    tensor: TensorSpec
    codec: str
    ranges: StaticRanges | None = None


def quantize(spec: TensorSpec, values: np.ndarray) -> np.ndarray:
    """Float values as ``spec`` holds them: divided by the scale, rounded half to even, clipped.

    Args:
        spec: a quantized tensor, or any other, whose element type they are then cast to.
        values: float32, of the spec's shape.
    """
    if spec.scale is None:
        return values.astype(spec.numpy_dtype, copy=False)
    ends = np.iinfo(spec.dtype)
    with np.errstate(over="ignore"):  # infinity is clipped as any large value is
        codes = np.rint(values / np.float32(spec.scale)) + np.float32(spec.zero_point or 0)
    return np.clip(codes, ends.min, ends.max).astype(spec.numpy_dtype)


def dequantize(spec: TensorSpec, elements: np.ndarray) -> np.ndarray:
    """The real values of a quantized tensor, float32; any other is returned as it is.

    Infinite where a scale is so large that float32 ends; who needs numbers refuses that.
    """
    if spec.scale is None:
        return elements
    codes = elements.astype(np.float32) - np.float32(spec.zero_point or 0)
    with np.errstate(over="ignore"):
        return codes * np.float32(spec.scale)


def takes_floats(spec: TensorSpec) -> bool:
    """Whether `quantize` can fill it with float32 values: float32 itself, or quantized 8-bit."""
    return spec.dtype == "float32" or spec.scale is not None


def check_spec(spec: TensorSpec) -> TensorSpec:
    """Refuse a spec whose numbers cannot be honest; what a bundle holds is hostile until here.

    Raises:
        BundleError: unknown dtype, negative or absurd shape, channel axis out of range.
    """
    problem = ""
    if spec.dtype not in DTYPES:
        problem = f"element type {spec.dtype!r} is not one of {', '.join(DTYPES)}"
    elif len(spec.shape) > MAX_RANK or any(axis < 1 for axis in spec.shape):
        problem = f"shape {spec.shape} has an axis below 1 or more than {MAX_RANK} axes"
    elif spec.size_bytes > MAX_TENSOR_BYTES:
        problem = f"{spec.size_bytes} bytes is over the limit of {MAX_TENSOR_BYTES}"
    elif spec.channel_axis is not None and not 0 <= spec.channel_axis < len(spec.shape):
        problem = f"channel axis {spec.channel_axis} is outside shape {spec.shape}"
    elif (spec.scale is None) != (spec.zero_point is None):
        problem = "it has a scale or a zero point, not both"
    elif spec.scale is not None:
        problem = _quantization_problem(spec, spec.scale)
    if problem:
        raise BundleError(
            f"tensor {spec.name!r} of the bundle cannot be used",
            cause=problem,
            fix="write the bundle again with 'waistline split'",
        )
    return spec


def _quantization_problem(spec: TensorSpec, scale: float) -> str:
    """What is wrong with a scale and zero point, "" if nothing."""
    if spec.dtype not in _QUANTIZED:
        return f"it is {spec.dtype} and has a scale, which only 8-bit tensors have"
    if not _MIN_SCALE <= scale <= _MAX_SCALE:
        return f"scale {scale} is not a positive float32"
    ends = np.iinfo(spec.dtype)
    if spec.zero_point is None or not ends.min <= spec.zero_point <= ends.max:
        return f"zero point {spec.zero_point} is no {spec.dtype}"
    return ""
