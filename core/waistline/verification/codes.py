"""Comparing what a head made with the golden codes, and how much may differ."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np

from waistline.codec import native
from waistline.codec.pack import unpack
from waistline.codec.tensor_codec import TensorCodec, open_tensor_codec
from waistline.tensors import WaistTensor

ALLOWED_SHARE = 1e-3
"""Share of a float head's codes that may differ, each by one step; of an integer head's none."""
RANGE_TOLERANCE = 1e-5
"""Ranges found in the frame may differ by this share of their span."""
KERNEL_STEPS, KERNEL_RMS = 16, 1 / 16
"""Other kernels for 8-bit integers than the golden codes are from round elsewhere, and layers add
that up: limits of one element in 255ths of the range, and of the rms in standard deviations."""
FLOAT_TOLERANCE = 1e-3
"""Unquantized values may differ by this share of the tensor's standard deviation."""


class TensorCheck(msgspec.Struct, frozen=True):
    """One waist tensor against its golden codes.

    Attributes:
        name: of the tensor.
        codes: compared.
        different: of them not equal.
        largest_step: largest difference of two codes; 0 for unquantized tensors.
        verdict: ``identical``, ``rounding`` (allowed), ``quantization`` (a head that computes the
            same less exactly than allowed), ``reduced`` (the same, and the engine says so itself:
            allowed), ``kernels`` (8-bit integers that other kernels rounded: allowed) or ``fault``.
        cause: what was seen, "" when identical.
        looks_like: a key of `waistline.verification.diagnosis.KINDS`, "" where none was sought.
        allowed: the limit that was applied, in words.
    """

    name: str
    codes: int
    different: int
    largest_step: int
    verdict: str
    cause: str = ""
    looks_like: str = ""
    allowed: str = ""

    @property
    def failed(self) -> bool:
        return self.verdict in {"quantization", "fault"}


@dataclass(frozen=True, slots=True)
class Coded:
    """One tensor of a frame as `WaistCodec.codes` gave it.

    Attributes:
        ranges: of the frame; b"" for static ones.
        packed: uint8.
        codec: opens both.
    """

    ranges: bytes
    packed: np.ndarray
    codec: TensorCodec

    @property
    def codes(self) -> np.ndarray:
        """One int16 an element; for quantizers of at most 8 bits."""
        return unpack(self.packed, self.codec.tensor.elements, self.codec.bits).astype(np.int16)

    @property
    def values(self) -> np.ndarray:
        """What the tail receives."""
        return self.codec.decode(self.ranges, self.packed.tobytes())


def allowed_codes(count: int) -> int:
    """How many of ``count`` float codes may be off by one: `ALLOWED_SHARE`, and always one.

    A value that rounding moves over the edge of a step is as likely in a waist of 100 codes as
    elsewhere (docs/decisions/0008-verify-verdicts.md).
    """
    return max(1, int(ALLOWED_SHARE * count))


def taken_apart(tensors: tuple[WaistTensor, ...], codes: bytes) -> list[Coded]:
    """Each tensor's part of a result of `WaistCodec.codes`."""
    kernels = native.kernels()
    parts, offset = [], 0
    for waist in tensors:
        codec = open_tensor_codec(waist, kernels)
        middle = offset + codec.range_bytes
        end = middle + codec.size_bytes
        packed = np.frombuffer(codes[middle:end], np.uint8)
        parts.append(Coded(codes[offset:middle], packed, codec))
        offset = end
    return parts


def compare_codes(
    tensors: tuple[WaistTensor, ...], codes: bytes, golden: bytes, *, other_kernels: bool = False
) -> list[TensorCheck]:
    """Compare two results of `WaistCodec.codes` of one bundle, tensor by tensor.

    Args:
        tensors: of the waist.
        codes: of the head that is verified.
        golden: what they should be.
        other_kernels: integers were computed by others than the golden ones, see `KERNEL_STEPS`.
    """
    pairs = zip(taken_apart(tensors, codes), taken_apart(tensors, golden), strict=True)
    return [compare_tensor(here, there, other_kernels) for here, there in pairs]


def compare_tensor(here: Coded, there: Coded, other_kernels: bool = False) -> TensorCheck:
    """Compare one tensor; ``there`` is what it should be."""
    codec = there.codec
    tensor, quantizer = codec.tensor, codec.spec.quantizer
    if here.ranges == there.ranges and np.array_equal(here.packed, there.packed):
        return TensorCheck(tensor.name, tensor.elements, 0, 0, "identical")
    if tensor.numpy_dtype.kind != "f":
        return _compare_integers(here, there, other_kernels)
    if quantizer in {"f32", "f16", "raw"}:
        return _compare_floats(here, there)
    count = tensor.elements
    drift = _range_drift(here.ranges, there.ranges)
    steps = np.abs(here.codes - there.codes)
    different, largest = int(np.count_nonzero(steps)), int(steps.max())
    limit = allowed_codes(count)
    words = f"{limit} of {count} codes by 1"
    if not drift <= RANGE_TOLERANCE:
        seen = f"its ranges differ by {drift:.2g} of their span"
        return TensorCheck(tensor.name, count, different, largest, "fault", seen, "", words)
    seen = f"{different} of {count} codes differ, by at most {largest}"
    verdict = "fault" if largest > 1 else "quantization" if different > limit else "rounding"
    return TensorCheck(tensor.name, count, different, largest, verdict, seen, "", words)


def _compare_integers(here: Coded, there: Coded, other_kernels: bool) -> TensorCheck:
    """The same kernels give the same integers; others round elsewhere, within a limit."""
    tensor, bits = there.codec.tensor, there.codec.bits
    if bits < 8 * tensor.numpy_dtype.itemsize:
        one, other = (np.asarray(part.codes, np.float64) for part in (here, there))
    else:
        dtype = tensor.numpy_dtype.newbyteorder("<")
        one, other = (part.packed.view(dtype).astype(np.float64) for part in (here, there))
    steps = np.abs(one - other)
    different, largest = int(np.count_nonzero(steps)), int(min(steps.max(), 2**31))
    seen = f"{different} of {tensor.elements} integers differ, by at most {largest}"
    verdict, words = "fault", "none: integers"
    if other_kernels and tensor.scale is not None and bits <= 8:
        most = max(1, KERNEL_STEPS >> (8 - bits))
        words = f"{most} by other kernels, and {KERNEL_RMS:g} of the standard deviation as rms"
        rms = float(np.sqrt(np.square(steps).mean()))
        if largest <= most and rms <= KERNEL_RMS * float(other.std()):
            verdict, seen = (
                "kernels",
                f"{seen}, rms {rms / float(other.std()):.3f} of the deviation",
            )
    return TensorCheck(tensor.name, tensor.elements, different, largest, verdict, seen, "", words)


def _compare_floats(here: Coded, there: Coded) -> TensorCheck:
    tensor, quantizer = there.codec.tensor, there.codec.spec.quantizer
    stored = {"f32": "<f4", "f16": "<f2"}.get(quantizer)
    dtype = np.dtype(stored) if stored else tensor.numpy_dtype.newbyteorder("<")
    one, other = here.packed.view(dtype), there.packed.view(dtype)
    values, expected = one.astype(np.float64), other.astype(np.float64)
    different = int(np.count_nonzero(one != other))
    words = f"{FLOAT_TOLERANCE:g} of the standard deviation"
    finite = np.isfinite(expected)
    if not np.array_equal(np.isfinite(values), finite) or not np.array_equal(
        values[~finite], expected[~finite], equal_nan=True
    ):
        cause = "NaN or infinity in other places"
        return TensorCheck(tensor.name, one.size, different, 0, "fault", cause, "", words)
    gap = float(np.abs(values[finite] - expected[finite]).max(initial=0.0))
    spread = float(expected[finite].std()) if finite.any() else 0.0
    seen = (
        f"{different} of {one.size} values differ, by at most {gap:.2g} "
        f"at a standard deviation of {spread:.2g}"
    )
    verdict = "rounding" if gap <= FLOAT_TOLERANCE * spread else "fault"
    return TensorCheck(tensor.name, one.size, different, 0, verdict, seen, "", words)


def _range_drift(here: bytes, there: bytes) -> float:
    """Largest difference of two ranges as a share of the golden span, channel by channel."""
    if here == there:
        return 0.0
    values, expected = (
        np.frombuffer(data, "<f4").astype(np.float64).reshape(2, -1) for data in (here, there)
    )
    span = np.abs(expected[1] - expected[0])
    gap = np.abs(values - expected).max(axis=0)
    scale = np.where(span > 0, span, np.maximum(np.abs(expected[1]), np.finfo(np.float32).tiny))
    return float((gap / scale).max())
