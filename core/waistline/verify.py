"""Whether a backend on this machine reproduces a bundle's golden codes and answer.

The head's codes are compared with the golden codes; the tail is then given the golden codes, so
that a fault of one end is not blamed on the other. Another processor or another fusion rounds
differently: a float head may move codes by one step, a fault moves them further or moves many.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from waistline.backends.base import AUTO, BackendOptions, load_backend
from waistline.bundle.golden import read_frame
from waistline.bundle.store import Bundle, load_bundle
from waistline.codec import native
from waistline.codec.pack import unpack
from waistline.codec.spec import parse_spec
from waistline.codec.tensor_codec import open_tensor_codec
from waistline.errors import VerificationFailed
from waistline.stages import HeadStages, TailStages, open_ends
from waistline.tensors import WaistTensor

ALLOWED_SHARE = 1e-3
"""Share of a float head's codes that may differ, each by one step; of an int8 head's none."""
RANGE_TOLERANCE = 1e-5
"""Ranges found in the frame may differ by this share of their span."""
FLOAT_TOLERANCE = 1e-3
"""Unquantized values may differ by this share of the tensor's standard deviation."""
AGREES = 1.0


class TensorCheck(msgspec.Struct, frozen=True):
    """One waist tensor against its golden codes.

    Attributes:
        name: of the tensor.
        codes: compared.
        different: of them not equal.
        largest_step: largest difference of two codes; 0 for unquantized tensors.
        verdict: ``identical``, ``rounding`` (allowed), ``quantization`` (single steps, but more
            than allowed) or ``fault``.
        cause: what was seen, "" when identical.
    """

    name: str
    codes: int
    different: int
    largest_step: int
    verdict: str
    cause: str = ""


class VerifyReport(msgspec.Struct, frozen=True):
    """The outcome of `verify`.

    Attributes:
        bundle_id: of the bundle.
        backend: name of the backend.
        engine: what ran the slices, as the slices report it.
        codec: implementation of the codec, ``c`` or ``numpy``; ``none`` at x = N.
        tensors: one check a waist tensor; empty at x = N.
        answer_identical: byte for byte.
        answer_agrees: 0..1, as the answer's kind compares.
        reasons: why it failed; empty when it passed.
    """

    bundle_id: str
    backend: str
    engine: dict[str, str]
    codec: str
    tensors: tuple[TensorCheck, ...]
    answer_identical: bool
    answer_agrees: float
    reasons: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.reasons

    def raise_if_failed(self) -> None:
        """Raise what a caller that only wants a yes needs.

        Raises:
            VerificationFailed: the report is not ok.
        """
        if self.reasons:
            raise VerificationFailed(
                f"backend {self.backend} does not reproduce bundle {self.bundle_id[:12]}",
                cause="; ".join(self.reasons),
                fix="check the engine's precision options, or split again on this machine",
            )


def verify(
    bundle: Bundle | str | Path,
    *,
    backend: str = AUTO,
    options: BackendOptions | None = None,
) -> VerifyReport:
    """Run the golden frame through both ends of ``bundle``.

    Args:
        bundle: a bundle, or the path of one.
        backend: a plug-in of `waistline.backends`, or ``auto``.
        options: for the backend; None for what the node and the edge use by default.

    Raises:
        BundleError: the bundle is damaged or was edited.
        BackendError: the engine refuses a slice or fails.
    """
    opened = bundle if isinstance(bundle, Bundle) else load_bundle(bundle)
    engine = load_backend(backend, opened.manifest.stages[0].format, options)
    with open_ends(engine, opened) as (head, tail):
        checks, answer = _compare(opened, head, tail)
        info = head.engine or tail.engine
        implementation = head.codec_implementation
    golden_answer = opened.read(opened.manifest.golden.answer)
    kind = opened.answer_kind
    same = answer == golden_answer
    agrees = 1.0 if same else kind.agrees(kind.unpack(answer), kind.unpack(golden_answer))
    reasons = [f"{check.name}: {check.cause}" for check in checks if _failed(check)]
    if agrees < AGREES:
        reasons.append(
            "fault in the tail: from the golden codes it answers "
            f"{kind.describe(kind.unpack(answer))}, expected "
            f"{kind.describe(kind.unpack(golden_answer))}"
        )
    return VerifyReport(
        opened.id, backend, info, implementation, tuple(checks), same, agrees, tuple(reasons)
    )


def _failed(check: TensorCheck) -> bool:
    return check.verdict in {"quantization", "fault"}


def _compare(bundle: Bundle, head: HeadStages, tail: TailStages) -> tuple[list[TensorCheck], bytes]:
    """Checks of the head's codes, and the answer."""
    waist = head.head(head.preprocess(read_frame(bundle)))
    codec = bundle.waist_codec()
    if codec is None:
        return [], head.encode(waist).payload
    golden = bundle.read(bundle.manifest.golden.codes)
    tensors = codec.decode_codes(golden)
    checks = compare_codes(bundle.cut.tensors, codec.codes(waist), golden)
    return checks, tail.postprocess(tail.tail(tail.preprocess(tensors)))


def compare_codes(
    tensors: tuple[WaistTensor, ...], codes: bytes, golden: bytes
) -> list[TensorCheck]:
    """Compare two results of `WaistCodec.codes` of one bundle, tensor by tensor."""
    checks, offset = [], 0
    kernels = native.kernels()
    for waist in tensors:
        codec = open_tensor_codec(waist, kernels)
        middle = offset + codec.range_bytes
        end = middle + codec.size_bytes
        here, there = (
            (data[offset:middle], np.frombuffer(data[middle:end], np.uint8))
            for data in (codes, golden)
        )
        checks.append(_check_tensor(waist, codec.bits, here, there))
        offset = end
    return checks


_Coded = tuple[bytes, np.ndarray]
"""Range bytes, and packed codes as uint8."""


def _check_tensor(waist: WaistTensor, bits: int, here: _Coded, there: _Coded) -> TensorCheck:
    spec, tensor = parse_spec(waist.codec), waist.tensor
    count = tensor.elements
    if here[0] == there[0] and np.array_equal(here[1], there[1]):
        return TensorCheck(tensor.name, count, 0, 0, "identical")
    if tensor.numpy_dtype.kind != "f":
        different = int(np.count_nonzero(here[1] != there[1]))
        cause = f"fault in the head: {different} bytes of an integer tensor differ, none may"
        return TensorCheck(tensor.name, count, different, 0, "fault", cause)
    if spec.quantizer in {"f32", "f16", "raw"}:
        stored = {"f32": "<f4", "f16": "<f2"}.get(spec.quantizer)
        dtype = np.dtype(stored) if stored else tensor.numpy_dtype.newbyteorder("<")
        return _check_values(tensor.name, here[1].view(dtype), there[1].view(dtype))
    drift = _range_drift(here[0], there[0])
    if not drift <= RANGE_TOLERANCE:
        cause = f"fault in the head: its ranges differ by {drift:.2g} of their span"
        return TensorCheck(tensor.name, count, count, 0, "fault", cause)
    steps = np.abs(unpack(here[1], count, bits).astype(np.int16) - unpack(there[1], count, bits))
    return _check_steps(tensor.name, steps)


def _check_steps(name: str, steps: np.ndarray) -> TensorCheck:
    count, different, largest = steps.size, int(np.count_nonzero(steps)), int(steps.max())
    seen = f"{different} of {count} codes differ, by at most {largest}"
    if largest > 1:
        return TensorCheck(name, count, different, largest, "fault", f"fault in the head: {seen}")
    if different > ALLOWED_SHARE * count:
        cause = f"quantization differs: {seen}, allowed are {ALLOWED_SHARE:.1%}"
        return TensorCheck(name, count, different, largest, "quantization", cause)
    return TensorCheck(name, count, different, largest, "rounding", seen)


def _check_values(name: str, here: np.ndarray, there: np.ndarray) -> TensorCheck:
    values, expected = here.astype(np.float64), there.astype(np.float64)
    different = int(np.count_nonzero(here != there))
    if not np.array_equal(np.isfinite(values), np.isfinite(expected)):
        cause = "fault in the head: NaN or infinity in other places"
        return TensorCheck(name, here.size, different, 0, "fault", cause)
    finite = np.isfinite(expected)
    gap = float(np.abs(values - expected)[finite].max(initial=0.0))
    spread = float(expected[finite].std()) if finite.any() else 0.0
    seen = f"{different} of {here.size} values differ, by at most {gap:.2g}"
    if gap <= FLOAT_TOLERANCE * spread:
        return TensorCheck(name, here.size, different, 0, "rounding", seen)
    cause = f"fault in the head: {seen} at a standard deviation of {spread:.2g}"
    return TensorCheck(name, here.size, different, 0, "fault", cause)


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
