"""One waist tensor: from array to ranges and packed codes, and back.

`open_tensor_codec` picks the class for the quantizer. All of them keep one scratch buffer for the
packed codes, so one object serves one thread at a time, and what `encode` returns is valid until
the next call.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from waistline.codec.kernels import Buffer, Floats, Kernels, Rule
from waistline.codec.pack import packed_size, padding_is_zero
from waistline.codec.quantizers import ranges_are_sound
from waistline.codec.spec import CodecSpec, parse_spec
from waistline.codec.tables import i8_tables
from waistline.errors import CodecError, ConfigError, NonFinite
from waistline.tensors import StaticRanges, TensorSpec, WaistTensor, check_spec

_FLOATS = frozenset({"float16", "float32", "float64"})
_BYTES = frozenset({"int8", "uint8"})
_CTX_BITS = 8
_FLOAT = np.dtype(np.float32)
_WIRE_FLOAT = np.dtype("<f4")


class TensorCodec(ABC):
    """Quantizer and packer of one tensor.

    Attributes:
        tensor: what `encode` takes and `decode` gives.
        spec: the parsed codec.
        bits: width of one element in the packed bytes.
        size_bytes: exact size of the packed bytes.
        range_bytes: exact size of the ranges that each frame carries.
    """

    range_bytes = 0

    def __init__(self, tensor: TensorSpec, spec: CodecSpec, bits: int) -> None:
        self.tensor = tensor
        self.spec = spec
        self.bits = bits
        self.size_bytes = packed_size(tensor.elements, bits)
        self._scratch = np.empty(self.size_bytes, np.uint8)
        self._packed = self._scratch.data
        self._dtype, self._shape = tensor.numpy_dtype, tensor.shape
        self._name = f"waist tensor {tensor.name!r}"

    @abstractmethod
    def encode(self, array: NDArray[np.generic]) -> tuple[Buffer, memoryview]:
        """Ranges as on the wire, and the packed codes; valid until the next call.

        Raises:
            CodecError: wrong shape or element type.
            NonFinite: NaN or infinity where the codec quantizes.
        """

    @abstractmethod
    def decode(self, ranges: Buffer, packed: Buffer) -> NDArray[np.generic]:
        """The tensor, in a new array; both have their exact sizes, their content is hostile.

        Raises:
            CodecError: ranges or codes that no encoder makes.
        """

    def _checked(self, array: NDArray[np.generic]) -> NDArray[np.generic]:
        """``array`` in C order and aligned, which C relies on."""
        if array.shape != self._shape or array.dtype != self._dtype:
            raise CodecError(
                f"{self._name} cannot be encoded",
                cause=f"got {array.dtype} {array.shape}, the bundle says "
                f"{self.tensor.dtype} {self.tensor.shape}",
                fix="run the head that belongs to this bundle",
            )
        flags = array.flags
        return array if flags.c_contiguous and flags.aligned else array.copy()

    def _floats(self, array: NDArray[np.generic]) -> Floats:
        checked = self._checked(array)
        return checked if self._dtype == _FLOAT else _cast(checked, _FLOAT)  # type: ignore[return-value]

    def _new(self) -> Floats:
        return np.empty(self._shape, _FLOAT)

    def _as_tensor(self, values: Floats) -> NDArray[np.generic]:
        return values if self._dtype == _FLOAT else _cast(values, self._dtype)

    def _check_padding(self, packed: Buffer) -> None:
        if not padding_is_zero(packed, self.tensor.elements, self.bits):
            raise self._refused("the bits behind its last code are not zero")

    def _nonfinite(self, array: NDArray[np.generic]) -> NonFinite:
        with np.errstate(over="ignore"):
            values = np.asarray(array, np.float32)
        nans = int(np.isnan(values).sum())
        return NonFinite(
            f"{self._name} cannot be quantized",
            cause=f"{nans} NaN and {int(np.isinf(values).sum())} infinite of {values.size} values",
            fix="look at the head's input, or send this tensor with f32, f16 or raw",
        )

    def _refused(self, cause: str) -> CodecError:
        return CodecError(
            f"{self._name} does not decode",
            cause=cause,
            fix="check that node and edge run the same release and bundle",
        )


class Identity(TensorCodec):
    """``f32``, ``f16``, ``raw``: elements as little-endian bytes; NaN and infinity pass."""

    def __init__(self, tensor: TensorSpec, spec: CodecSpec) -> None:
        stored = tensor.numpy_dtype
        if spec.quantizer != "raw":
            stored = np.dtype("float32" if spec.quantizer == "f32" else "float16")
        super().__init__(tensor, spec, 8 * stored.itemsize)
        self._stored = stored.newbyteorder("<")

    def encode(self, array: NDArray[np.generic]) -> tuple[Buffer, memoryview]:
        stored = _cast(self._checked(array), self._stored)
        return b"", stored.reshape(-1).view(np.uint8).data

    def decode(self, ranges: Buffer, packed: Buffer) -> NDArray[np.generic]:
        if self.tensor.dtype == "bool" and np.frombuffer(packed, np.uint8).max() > 1:
            raise self._refused("a truth value that is neither 0 nor 1")
        stored = np.frombuffer(packed, self._stored).reshape(self._shape)
        return _cast(stored, self._dtype, copy=True)


class Uniform(TensorCodec):
    """``affine``, ``q1``, ``q1h``: equal steps over a range, static or found in each frame."""

    def __init__(self, waist: WaistTensor, spec: CodecSpec, kernels: Kernels) -> None:
        assert spec.bits is not None
        super().__init__(waist.tensor, spec, spec.bits)
        view = _grid_shape(waist.tensor, spec)
        limits = static_ranges(waist, spec, view[1])
        if limits is None:
            self.range_bytes = 2 * view[1] * _WIRE_FLOAT.itemsize
        ranges = np.empty(self.range_bytes, np.uint8)
        self._ranges = ranges.data
        rule: Rule = spec.quantizer  # type: ignore[assignment]
        found = kernels.uniform(rule, spec.bits, view, limits, ranges, self._scratch)
        assert found is not None  # `static_ranges` lets no unsound limits through
        self._arithmetic = found

    def encode(self, array: NDArray[np.generic]) -> tuple[Buffer, memoryview]:
        if not self._arithmetic.encode(self._floats(array)):
            raise self._nonfinite(array)
        return self._ranges, self._packed

    def decode(self, ranges: Buffer, packed: Buffer) -> NDArray[np.generic]:
        self._check_padding(packed)
        values = self._new()
        if not self._arithmetic.decode(ranges, packed, values):
            raise self._refused("a range that is not finite or not ordered")
        return self._as_tensor(values)


class OneBit(TensorCodec):
    """``q2``, ``q2m``: above or below the mean; the two decoded values travel with each frame."""

    range_bytes = 2 * _WIRE_FLOAT.itemsize

    def __init__(self, tensor: TensorSpec, spec: CodecSpec, kernels: Kernels) -> None:
        super().__init__(tensor, spec, 1)
        self._kernels = kernels
        self._conditional = spec.quantizer == "q2m"

    def encode(self, array: NDArray[np.generic]) -> tuple[Buffer, memoryview]:
        x = self._floats(array)
        values = self._kernels.encode_q2(x, self._conditional, self._scratch)
        if values is None:
            raise self._nonfinite(array)
        return values.astype(_WIRE_FLOAT, copy=False).tobytes(), self._packed

    def decode(self, ranges: Buffer, packed: Buffer) -> NDArray[np.generic]:
        self._check_padding(packed)
        values = np.frombuffer(ranges, _WIRE_FLOAT).astype(np.float32)
        if not np.isfinite(values).all():
            raise self._refused("decode values that are not finite")
        out = self._new()
        self._kernels.decode_q2(np.frombuffer(packed, np.uint8), values, out)
        return self._as_tensor(out)


class Table(TensorCodec):
    """``i8``: an 8-bit tensor; at b=8 its own bytes, else through a 256-entry table."""

    def __init__(self, waist: WaistTensor, spec: CodecSpec, kernels: Kernels) -> None:
        assert spec.bits is not None
        super().__init__(waist.tensor, spec, spec.bits)
        self._kernels = kernels
        limits = static_ranges(waist, spec, 1)
        self.tables = None if self.bits == 8 else i8_tables(waist.tensor.dtype, self.bits, limits)

    def encode(self, array: NDArray[np.generic]) -> tuple[Buffer, memoryview]:
        q = self._checked(array).reshape(-1).view(np.uint8)
        if self.tables is None:
            return b"", q.data
        self._kernels.encode_table(q, self.tables[0], self.bits, self._scratch)
        return b"", self._packed

    def decode(self, ranges: Buffer, packed: Buffer) -> NDArray[np.generic]:
        self._check_padding(packed)
        out = np.empty(self.tensor.elements, np.uint8)
        codes = np.frombuffer(packed, np.uint8)
        if self.tables is None:
            out[:] = codes
        else:
            self._kernels.decode_table(codes, self.tables[1], self.bits, out)
        return out.view(self.tensor.numpy_dtype).reshape(self.tensor.shape)


def _cast(array: NDArray[np.generic], dtype: np.dtype[Any], *, copy: bool = False) -> NDArray[Any]:
    """``array`` as ``dtype``; what is too large becomes infinite."""
    with np.errstate(over="ignore"):
        return array.astype(dtype, copy=copy)


def _grid_shape(tensor: TensorSpec, spec: CodecSpec) -> tuple[int, int, int]:
    """(outer, channels, inner); per channel without a channel axis is per tensor."""
    axis = tensor.channel_axis
    if spec.per != "channel" or axis is None:
        return 1, 1, tensor.elements
    return math.prod(tensor.shape[:axis]), tensor.shape[axis], math.prod(tensor.shape[axis + 1 :])


def static_ranges(
    waist: WaistTensor, spec: CodecSpec, channels: int
) -> tuple[Floats, Floats] | None:
    """Clip limits, checked, float32 (channels,) each; None for a dynamic codec.

    Raises:
        ConfigError: missing where the codec needs them, there where it has none, of another
            number, not finite in float32, or not ordered.
    """
    if waist.ranges is None and not spec.needs_calibration:
        return None
    found = waist.ranges or StaticRanges((), ())
    with np.errstate(over="ignore"):
        lo, hi = np.array(found.lo, np.float32), np.array(found.hi, np.float32)
    problem = ""
    if waist.ranges is None:
        problem = f"clip={spec.clip} needs limits found on calibration data, and there are none"
    elif not spec.needs_calibration:
        problem = f"{spec} takes no limits, and there are some"
    elif lo.shape != (channels,) or hi.shape != (channels,):
        problem = f"{lo.size} lower and {hi.size} upper limits for {channels} channel(s)"
    elif not ranges_are_sound(lo, hi):
        problem = "a limit is not finite, or a lower one is above its upper one"
    if problem:
        raise ConfigError(
            f"waist tensor {waist.tensor.name!r} has no usable clip limits",
            cause=problem,
            fix="split with a task that has calibration data, or leave clip= out",
        )
    return lo, hi


def _width(tensor: TensorSpec, spec: CodecSpec) -> int:
    """Bits of one element in the packed bytes."""
    if spec.bits is not None:
        return spec.bits
    return {"f32": 32, "f16": 16}.get(spec.quantizer, 8 * tensor.numpy_dtype.itemsize)


def open_tensor_codec(waist: WaistTensor, kernels: Kernels) -> TensorCodec:
    """The codec of one waist tensor.

    Raises:
        BundleError: a shape or element type that cannot be honest.
        ConfigError: a codec that does not fit the tensor.
    """
    tensor = check_spec(waist.tensor)
    spec = parse_spec(waist.codec)
    problem = ""
    if spec.codes_frame:
        if tensor.dtype != "uint8" or len(tensor.shape) != 3 or tensor.shape[2] not in (1, 3):
            problem = f"{spec} codes the sensor frame: uint8 (H, W, C) with C = 1 or 3"
    elif spec.quantizer == "i8":
        if tensor.dtype not in _BYTES:
            problem = "i8 codes tensors that are 8-bit already"
    elif spec.quantizer != "raw" and tensor.dtype not in _FLOATS:
        problem = f"{spec.quantizer} codes float tensors"
    if spec.coder == "ctx" and not problem and _width(tensor, spec) > _CTX_BITS:
        problem = f"ctx codes widths up to {_CTX_BITS} bits, not {_width(tensor, spec)}"
    if problem:
        raise ConfigError(
            f"codec {spec} does not fit waist tensor {tensor.name!r}",
            cause=f"it is {tensor.dtype} {tensor.shape}; {problem}",
            fix=f"--codec '{tensor.name}=raw|zstd:1'",
        )
    match spec.quantizer:
        case "raw" | "f32" | "f16":
            return Identity(tensor, spec)
        case "q2" | "q2m":
            return OneBit(tensor, spec, kernels)
        case "i8":
            return Table(waist, spec, kernels)
        case _:
            return Uniform(waist, spec, kernels)
