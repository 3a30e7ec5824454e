"""From codes that differ to a verdict: what the head computed, against what it should have.

Where the engine that the golden codes were made with is installed here, it runs the golden frame
again, so that real numbers are compared and not codes of a few bits; it also runs the frame as a
mistaken preprocessing would have prepared it, and looks which mistake gives these values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec
import numpy as np

from waistline.bundle.golden import read_frame
from waistline.bundle.store import Bundle
from waistline.errors import WaistlineError
from waistline.task.preprocess import input_channels
from waistline.task.spec import Preprocess
from waistline.tensors import TensorSpec, dequantize
from waistline.verification.codes import Coded, TensorCheck, compare_codes, taken_apart
from waistline.verification.diagnosis import INEXACT, Diagnosis, diagnose, explained, misordered
from waistline.verification.ends import EndChoice, HeadRun, LocalEnds
from waistline.verification.pairs import exact, other_kernels, reduced

_INPUT_EXPLAINS = 0.985


def open_reference(bundle: Bundle) -> LocalEnds | None:
    """Both ends by the engines that the golden codes are from; None where one is not here."""
    try:
        return LocalEnds(bundle, head=EndChoice(), tail=EndChoice())
    except WaistlineError:
        return None


def expected_values(
    bundle: Bundle, reference: LocalEnds | None, golden: bytes
) -> Sequence[np.ndarray] | None:
    """The golden waist before it was quantized; None unless ``reference`` reproduces its codes."""
    if reference is None:
        return None
    try:
        run = reference.run_head(read_frame(bundle))
    except WaistlineError:
        return None
    checks = compare_codes(bundle.cut.tensors, run.codes, golden)
    return None if any(check.failed for check in checks) else run.values


def judge(
    bundle: Bundle,
    run: HeadRun,
    golden: bytes,
    *,
    engine: Mapping[str, str],
    reference: Callable[[], LocalEnds | None] = lambda: None,
) -> list[TensorCheck]:
    """The checks of a head's run on the golden frame, each failed one with its likely cause.

    Args:
        bundle: it ran.
        run: what came of it.
        golden: codes.
        engine: what the head's slice says of itself.
        reference: gives what `open_reference` gave; called only where codes differ.
    """
    tensors = bundle.cut.tensors
    checks = compare_codes(tensors, run.codes, golden)
    if not any(check.failed for check in checks):
        return checks
    engine_of_golden = reference()
    own = engine_of_golden.place.head_engine if engine_of_golden else None
    if other_kernels(bundle, engine, own):
        checks = compare_codes(tensors, run.codes, golden, other_kernels=True)
    expected = expected_values(bundle, engine_of_golden, golden)
    found = _diagnoses(bundle, checks, run, golden, expected)
    unclear = any(one and one.kind in {"unrelated", "different"} for one in found)
    if unclear and engine_of_golden is not None and expected is not None:
        mistake = _mistaken_input(bundle, run, engine_of_golden, expected)
        found = [mistake if one and mistake else one for one in found]
    every_bit = exact(bundle)
    return [
        _verdict(check, one, reduced(engine), every_bit=every_bit) if one else check
        for check, one in zip(checks, found, strict=True)
    ]


def _diagnoses(
    bundle: Bundle,
    checks: Sequence[TensorCheck],
    run: HeadRun,
    golden: bytes,
    expected: Sequence[np.ndarray] | None,
) -> list[Diagnosis | None]:
    tensors = bundle.cut.tensors
    if run.values and (wrong := _codec_fault(bundle, run)):
        return [wrong if check.failed else None for check in checks]
    exact = expected is not None and len(run.values) == len(tensors)
    here, there = taken_apart(tensors, run.codes), taken_apart(tensors, golden)
    if exact and expected is not None:
        order = misordered(run.values, expected)
        if order:
            words = ", ".join(
                f"{tensors[k].tensor.name} holds {tensors[order.index(k)].tensor.name}"
                for k in order
                if order.index(k) != k
            )
            return [Diagnosis("tensors", words) if check.failed else None for check in checks]
    found: list[Diagnosis | None] = []
    for k, check in enumerate(checks):
        if not check.failed:
            found.append(None)
        elif exact and expected is not None:
            spec = tensors[k].tensor
            values, there_values = _real(spec, run.values[k]), _real(spec, expected[k])
            found.append(diagnose(spec, values, there_values, step=spec.scale or 0.0))
        else:
            found.append(_from_codes(here[k], there[k]))
    return found


def _codec_fault(bundle: Bundle, run: HeadRun) -> Diagnosis | None:
    """Whether the head's values give other codes here than it says they gave there."""
    codec = bundle.waist_codec()
    if codec is None or codec.codes(run.values) == run.codes:
        return None
    return Diagnosis("codec", f"its values give other codes with the {codec.implementation} here")


def _from_codes(here: Coded, there: Coded) -> Diagnosis:
    """What codes alone tell."""
    spec = there.codec.tensor
    values, expected = (_real(spec, one.values) for one in (here, there))
    return diagnose(spec, values, expected, step=step_size(there))


def step_size(coded: Coded) -> float:
    """The quantizer's largest step in this frame, in the tensor's unit; 0 when it has none."""
    spec, bits = coded.codec.tensor, coded.codec.bits
    if coded.codec.spec.quantizer in {"f32", "f16", "raw"} or bits >= 16:
        return 0.0
    if spec.scale is not None:
        return float(spec.scale) * 2.0 ** (8 - bits)
    values = np.unique(np.asarray(coded.values, np.float64))
    return float(values[-1] - values[0]) / max((1 << bits) - 1, 1)


def _real(spec: TensorSpec, array: np.ndarray) -> np.ndarray:
    return np.asarray(dequantize(spec, array), np.float64)


def _verdict(
    check: TensorCheck, found: Diagnosis, precision: str, *, every_bit: bool
) -> TensorCheck:
    verdict = "fault"
    if found.kind == "rounding" and not every_bit:
        verdict = "rounding"
    elif found.kind in INEXACT and not every_bit:
        verdict = "reduced" if precision else "quantization"
    begins = {
        "fault": "fault in the head: ",
        "quantization": "quantization differs: ",
        "reduced": f"the engine computes in {precision}: ",
    }.get(verdict, "")
    text = f"{begins}{check.cause}; {found.text}"
    return msgspec.structs.replace(check, verdict=verdict, cause=text, looks_like=found.kind)


def _mistaken_input(
    bundle: Bundle, run: HeadRun, reference: LocalEnds, expected: Sequence[np.ndarray]
) -> Diagnosis | None:
    """The mistake of preprocessing that gives what the head gave, if one does."""
    preprocess = bundle.manifest.preprocess
    if preprocess is None or bundle.cut.partition_point <= 1 or not run.values:
        return None
    (spec,) = bundle.manifest.model_inputs
    (given,) = reference.preprocess(read_frame(bundle))
    # It has to explain more than no mistake at all.
    plain = _least_explained(run.values, expected)
    best, quality = "", max(_INPUT_EXPLAINS, 1.0 - (1.0 - plain) / 4)
    for words, mistaken in input_mistakes(spec, preprocess, given):
        made = reference.run_inputs([mistaken]).values
        fits = _least_explained(run.values, made)
        if fits > quality:
            best, quality = words, fits
    if not best:
        return None
    return Diagnosis(
        "input",
        f"the frame {best} gives its values: {quality:.2%} explained",
        {"explains": quality},
    )


def _least_explained(values: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> float:
    return min(
        explained(np.asarray(here, np.float64), np.asarray(there, np.float64))
        for here, there in zip(values, expected, strict=True)
    )


def input_mistakes(
    spec: TensorSpec, preprocess: Preprocess, given: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
    """(in words, the model's input) for each way in which preprocessing goes wrong most often."""
    last = preprocess.layout == "NHWC"
    rows, columns, channels = (1, 2, 3) if last else (2, 3, 1)
    if spec.scale is None and spec.dtype == "float32":
        yield from _mistaken_scales(preprocess, given, channels)
    elif spec.scale is not None:
        yield "with its bytes' sign turned", (given.view(np.uint8) ^ 0x80).view(given.dtype)
    if input_channels(preprocess) == 3:
        yield "in BGR order", np.flip(given, channels)
    yield "mirrored", np.flip(given, columns)
    yield "upside down", np.flip(given, rows)
    if given.shape[rows] == given.shape[columns]:
        yield "with height and width swapped", given.swapaxes(rows, columns)
    order = (0, 3, 1, 2) if last else (0, 2, 3, 1)
    yield "in the other layout", given.transpose(order).reshape(given.shape)


def _mistaken_scales(
    preprocess: Preprocess, given: np.ndarray, channels: int
) -> Iterator[tuple[str, np.ndarray]]:
    shape = [1] * given.ndim
    shape[channels] = -1
    mean, std = (
        np.asarray(values, np.float32).reshape(shape if len(values) > 1 else 1)
        for values in (preprocess.mean, preprocess.std)
    )
    scaled = given * std + mean
    pixels = scaled / np.float32(preprocess.scale)
    named = [
        ("as pixels 0..255", pixels),
        ("scaled to 0..1 only", pixels / np.float32(255)),
        ("scaled to -1..1", pixels / np.float32(127.5) - np.float32(1)),
        ("without mean and std", scaled),
        ("inverted", ((255 - pixels) * np.float32(preprocess.scale) - mean) / std),
        ("all black", (0 * pixels - mean) / std),
    ]
    for words, array in named:
        mistaken = np.ascontiguousarray(array, np.float32)
        if not np.allclose(mistaken, given):
            yield words, mistaken
