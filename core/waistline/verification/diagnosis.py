"""What a head that answers differently has probably done, from statistics of its values.

Pure functions of arrays. Each explanation must explain: the share of the variance that it leaves
unexplained has to be small, and a quarter at most of what is left without it. So a head that is
merely less exact is not called transposed, and a wrong model is not called anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from waistline.tensors import TensorSpec
from waistline.verification.permuted import permutation

Values = NDArray[np.float64]

KINDS = {
    "rounding": "the same values up to float32 rounding",
    "f16": "computed with 11 significant bits (float16)",
    "bf16": "computed with 8 significant bits (bfloat16)",
    "int8": "computed with 8-bit integers",
    "inexact": "computed less exactly",
    "local": "wrong in a few places only",
    "nonfinite": "NaN or infinity",
    "constant": "the same value everywhere",
    "scaled": "another scale or offset",
    "signedness": "signed and unsigned 8-bit mixed up",
    "layout": "another order of the axes",
    "moved": "shifted or mirrored",
    "channels": "channels in another order",
    "shuffled": "the right values in other places",
    "input": "another input",
    "codec": "the codec is at fault, not the head",
    "tensors": "waist tensors in another order",
    "unrelated": "no relation: another model, or other weights",
    "different": "related, but not explained",
}
"""What `Diagnosis.kind` may be, in words."""
INEXACT = frozenset({"rounding", "f16", "bf16", "int8", "inexact"})
"""The head computes the right thing, less exactly; everything else is a fault."""

_EXPLAINS = 0.9
"""Least share of the variance that an explanation must explain."""
_BETTER = 0.25
"""Most of the unexplained rest that it may leave, of what is left without it."""
_UNRELATED = 0.25
_ROUNDING, _F16, _BF16, _LARGEST = 2.0**-17, 2.0**-14, 2.0**-10, 2.0**-4
"""Errors relative to the tensor's standard deviation, where each kind begins; above: a fault."""
_SAME = 2 * _LARGEST
_UNTOUCHED = 1e-7
_SPREAD = 0.3
"""Rounding touches at least this share of the values that are not zero."""
_LOCAL_PEAK = 30.0
"""The largest rounding error is at most this many times the typical one."""
_LOCAL, _LOCAL_SHARE = 0.05, 0.05
_SORTED = 0.999
"""How much being equal when sorted counts for: less than the order that was shuffled."""
_ONE_STEP = 1.25
"""Codes off by one step, with ranges that moved a little."""
_NAMED_SCALES = (
    (255.0, "not divided by 255"), (1 / 255.0, "divided by 255 once more"),
    (127.5, "0..255 where -1..1 is meant"), (2.0, "-1..1 where 0..1 is meant"),
    (0.5, "0..1 where -1..1 is meant"), (-1.0, "with the other sign"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The explanation that fits best.

    Attributes:
        kind: a key of `KINDS`.
        seen: the fact that speaks for it, in words.
        evidence: the numbers behind it.
    """

    kind: str
    seen: str
    evidence: dict[str, float] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return f"looks like: {KINDS[self.kind]} ({self.seen})"


def explained(values: Values, expected: Values) -> float:
    """Share of the variance of ``expected`` that ``values`` explain as they are, at best 1.

    Negative when the mean would explain more. NaN in neither.
    """
    spread = float(np.square(expected - expected.mean()).sum())
    rest = float(np.square(values - expected).sum())
    if spread <= 0.0:
        return 1.0 if rest == 0.0 else -np.inf
    return 1.0 - rest / spread


def diagnose(
    spec: TensorSpec, values: np.ndarray, expected: np.ndarray, *, step: float = 0.0
) -> Diagnosis:
    """Explain why ``values`` are not ``expected``.

    Args:
        spec: of the tensor; says what the axes mean.
        values: what the head made, of the spec's shape, real numbers.
        expected: what it should have made.
        step: size of a quantization step that either went through; 0: both are exact.
    """
    here = np.asarray(values, np.float64).reshape(spec.shape)
    there = np.asarray(expected, np.float64).reshape(spec.shape)
    degenerate = _degenerate(here, there)
    if degenerate:
        return degenerate
    plain = explained(here, there)
    close = _close_codes(here, there, step) if step else _close(here, there)
    if close:
        return close
    sought = (_signedness, _scaled, _rearranged, _permuted, _shuffled)
    found = [one for seek in sought if (one := seek(spec, here, there, plain, step))]
    if found:
        return max(found, key=lambda one: one.evidence["explains"])
    return _local(here, there) or _unexplained(here, there, plain)


def _degenerate(here: Values, there: Values) -> Diagnosis | None:
    bad = int(np.count_nonzero(~np.isfinite(here)))
    if bad or not np.isfinite(there).all():
        return Diagnosis("nonfinite", f"{bad} of {here.size} values", {"values": bad})
    if here.size > 1 and np.ptp(here) == 0.0 and np.ptp(there) > 0.0:
        return Diagnosis("constant", f"{here.flat[0]:g}", {"value": float(here.flat[0])})
    return None


def _close(here: Values, there: Values) -> Diagnosis | None:
    """Nearly the same, both exact: rounding of some width, or a few wrong values."""
    errors = np.abs(here - there)
    scale = float(there.std())
    typical = float(np.sqrt(np.square(errors).mean()))
    if typical == 0.0:
        return Diagnosis("rounding", "the values are equal")
    if typical >= _SAME * scale:
        return None
    # Zeros stay zero in any format, so they tell nothing.
    moved, filled = (int(np.count_nonzero(a)) for a in (errors > _UNTOUCHED * scale, there))
    touched = moved / max(filled, 1)
    evidence = {"relative_error": typical / scale, "touched": touched}
    seen = f"errors of {typical / scale:.1e} of the standard deviation"
    if typical < _ROUNDING * scale:
        return Diagnosis("rounding", seen, evidence)
    if touched < _SPREAD or errors.max() > _LOCAL_PEAK * typical:
        return None
    if grid := coarse_grid(here, there):
        kind, why = grid
        return Diagnosis(kind, f"{why}, {seen}", evidence)
    return _by_size(typical / scale, seen, evidence)


def _close_codes(here: Values, there: Values, step: float) -> Diagnosis | None:
    """Nearly the same, seen through codes: from how many moved by one step.

    A small error of mean size e moves a code by one step with a probability of e / step.
    """
    errors = np.abs(here - there)
    scale = float(there.std())
    if scale == 0.0:
        return None
    relative = float(errors.mean()) / scale
    evidence = {"relative_error": relative, "largest_steps": float(errors.max()) / step}
    seen = f"errors of about {relative:.1e} of the standard deviation"
    by_one = errors.max() <= _ONE_STEP * step
    touched = np.count_nonzero(errors > step / 2) / errors.size
    if relative >= _LARGEST or (not by_one and touched < _SPREAD / 3):
        return None
    return _by_size(relative, seen, evidence)


def _by_size(relative: float, seen: str, evidence: dict[str, float]) -> Diagnosis | None:
    if relative >= _LARGEST:
        return None
    kinds = ((_F16, "inexact", ""), (_BF16, "f16", ", as that makes"),
             (_LARGEST / 2, "bf16", ", as that makes"))  # fmt: skip
    for limit, kind, words in kinds:
        if relative < limit:
            return Diagnosis(kind, seen + words, evidence)
    return Diagnosis("inexact", f"{seen}, as 8-bit integers make", evidence)


def _local(here: Values, there: Values) -> Diagnosis | None:
    """Right nearly everywhere."""
    errors = np.abs(here - there)
    wrong = errors > _LOCAL * float(there.std())
    count = int(np.count_nonzero(wrong))
    if not 0 < count <= max(1, _LOCAL_SHARE * errors.size):
        return None
    where = f"{count} of {errors.size} values are off by more than {_LOCAL:.0%} of the deviation"
    return Diagnosis("local", where, {"values": float(count)})


def coarse_grid(here: Values, there: Values) -> tuple[str, str] | None:
    """The number format that all of ``here`` and not all of ``there`` fit into, and how it shows.

    By chance a float32 fits into bfloat16 once in 65,536 times.
    """
    kept = here[here != 0.0]
    if kept.size < 8:
        return None
    for kind, lost_bits in (("bf16", 16), ("f16", 13)):
        if _fit(kept, lost_bits) and not _fit(there, lost_bits):
            return kind, f"all {here.size} values have at most {24 - lost_bits} significant bits"
    levels, expected = np.unique(here).size, np.unique(there).size
    if levels <= 256 and expected > 4 * levels:
        return "int8", f"only {levels} different values where {expected} are expected"
    return None


def _fit(values: Values, lost_bits: int) -> bool:
    """Whether float32 ``values`` have zeros in the lowest ``lost_bits`` of their significands."""
    words = values.astype(np.float32).reshape(-1).view(np.uint32)
    return not np.any(words & np.uint32((1 << lost_bits) - 1))


def _signedness(
    spec: TensorSpec, here: Values, there: Values, plain: float, step: float
) -> Diagnosis | None:
    """A quantized tensor whose bytes were read with the other sign: off by 128 steps, wrapped."""
    if spec.scale is None:
        return None
    turned = np.where(here - 128 * spec.scale < _lowest(spec), here + 128 * spec.scale,
                      here - 128 * spec.scale)  # fmt: skip
    quality = explained(turned, there)
    if not _better(quality, plain):
        return None
    seen = f"turning the highest bit of every byte explains {quality:.2%}"
    return Diagnosis("signedness", seen, {"explains": quality})


def _lowest(spec: TensorSpec) -> float:
    assert spec.scale is not None
    return spec.scale * (float(np.iinfo(spec.dtype).min) - (spec.zero_point or 0) - 0.5)


def _scaled(
    spec: TensorSpec, here: Values, there: Values, plain: float, step: float
) -> Diagnosis | None:
    """``here = a * there + b``, for all or channel by channel."""
    fits = [("", *_regression(here.reshape(1, -1), there.reshape(1, -1)))]
    axis = spec.channel_axis
    if axis is not None and 1 < spec.shape[axis] <= here.size // 16:
        by_channel = (np.moveaxis(array, axis, 0).reshape(spec.shape[axis], -1)
                      for array in (here, there))  # fmt: skip
        fits.append(("channel by channel ", *_regression(*by_channel)))
    for how, factors, offsets, quality in fits:
        if not _better(quality, plain):
            continue
        factor, offset = float(np.median(factors)), float(np.median(offsets))
        return Diagnosis(
            "scaled",
            f"{how}{factor:.4g} times the expected value {'+' if offset >= 0 else '-'} "
            f"{abs(offset):.3g}{_named(factor)}; that explains {quality:.2%}",
            {"factor": factor, "offset": offset, "explains": quality},
        )
    return None


def _regression(here: Values, there: Values) -> tuple[Values, Values, float]:
    """Per row the factor and offset of ``here`` against ``there``, and what they explain."""
    x = there - there.mean(axis=1, keepdims=True)
    y = here - here.mean(axis=1, keepdims=True)
    power = np.square(x).sum(axis=1)
    factors = np.divide((x * y).sum(axis=1), power, out=np.zeros_like(power), where=power > 0)
    offsets = here.mean(axis=1) - factors * there.mean(axis=1)
    spread = float(np.square(y).sum())
    rest = float(np.square(y - factors[:, None] * x).sum())
    return factors, offsets, 1.0 - rest / spread if spread > 0 else 0.0


def _named(factor: float) -> str:
    near = next((name for scale, name in _NAMED_SCALES if abs(factor / scale - 1) < 0.02), "")
    return near and f", {near}"


def _rearranged(
    spec: TensorSpec, here: Values, there: Values, plain: float, step: float
) -> Diagnosis | None:
    best, quality = None, plain
    for kind, how, mended, expected in rearrangements(spec, here, there):
        found = explained(mended, expected)
        if found > quality and _better(found, plain):
            best, quality = (kind, how), found
    if best is None:
        return None
    return Diagnosis(best[0], f"{best[1]} explains {quality:.2%}", {"explains": quality})


def rearrangements(
    spec: TensorSpec, here: Values, there: Values
) -> Iterator[tuple[str, str, Values, Values]]:
    """(kind, in words, ``here`` mended, the part of ``there`` to compare it with)."""
    if len(spec.shape) != 4 or spec.channel_axis not in (1, 3):
        return
    last = spec.channel_axis == 3
    other = [spec.shape[0], spec.shape[3], *spec.shape[1:3]] if last else [
        spec.shape[0], *spec.shape[2:], spec.shape[1]]  # fmt: skip
    order = (0, 2, 3, 1) if last else (0, 3, 1, 2)
    ours, theirs = ("NHWC", "NCHW") if last else ("NCHW", "NHWC")
    yield (
        "layout",
        f"reading it as {theirs}, not {ours},",
        here.reshape(other).transpose(order),
        there,
    )
    rows, columns = (1, 2) if last else (2, 3)
    if spec.shape[rows] == spec.shape[columns]:
        yield "layout", "swapping height and width", here.swapaxes(rows, columns), there
    yield "moved", "turning it upside down", np.flip(here, rows), there
    yield "moved", "mirroring it", np.flip(here, columns), there
    yield "moved", "turning it by 180 degrees", np.flip(here, (rows, columns)), there
    for axis, name in ((rows, "row"), (columns, "column")):
        for distance in (1, 2):
            if spec.shape[axis] <= 2 * distance + 1:
                continue
            words = f"{distance} {name}{'s' if distance > 1 else ''}"
            front = _part(there, axis, 0, -distance), _part(there, axis, distance, None)
            mended = _part(here, axis, distance, None), _part(here, axis, 0, -distance)
            yield "moved", f"shifting it back by {words}", mended[0], front[0]
            yield "moved", f"shifting it on by {words}", mended[1], front[1]


def _part(array: Values, axis: int, start: int, stop: int | None) -> Values:
    index: list[slice] = [slice(None)] * array.ndim
    index[axis] = slice(start, stop)
    return array[tuple(index)]


def _permuted(
    spec: TensorSpec, here: Values, there: Values, plain: float, step: float
) -> Diagnosis | None:
    axis = spec.channel_axis
    if axis is None:
        return None
    rows_here, rows_there = (
        np.moveaxis(array, axis, 0).reshape(spec.shape[axis], -1) for array in (here, there)
    )
    order = permutation(rows_here, rows_there)
    if order is None:
        return None
    quality = explained(rows_here[order], rows_there)
    if not _better(quality, plain):
        return None
    moved = np.flatnonzero(order != np.arange(order.size))
    some = ", ".join(f"{channel} holds {order[channel]}" for channel in np.argsort(order)[:0])
    some = ", ".join(f"{order[channel]} holds {channel}" for channel in moved[:3])
    return Diagnosis(
        "channels",
        f"{moved.size} of {order.size} are in other places, such as {some}; "
        f"putting them back explains {quality:.2%}",
        {"moved": float(moved.size), "explains": quality},
    )


def _shuffled(
    spec: TensorSpec, here: Values, there: Values, plain: float, step: float
) -> Diagnosis | None:
    """The same numbers in another order; only exact values can tell."""
    if step > 0.0 or here.size < 8:
        return None
    gap = np.abs(np.sort(here, axis=None) - np.sort(there, axis=None)).max()
    if np.unique(there).size < here.size // 4 or gap > 1e-4 * there.std():
        return None
    return Diagnosis("shuffled", "sorted, they are equal", {"explains": _SORTED})


def _unexplained(here: Values, there: Values, plain: float) -> Diagnosis:
    fit = max(_regression(here.reshape(1, -1), there.reshape(1, -1))[2], 0.0)
    seen = f"its values explain {fit:.1%} of the variance at best"
    evidence = {"explains": fit, "as_it_is": plain}
    return Diagnosis("unrelated" if fit < _UNRELATED else "different", seen, evidence)


def _better(quality: float, plain: float) -> bool:
    return quality >= _EXPLAINS and 1.0 - quality <= _BETTER * (1.0 - plain)


def misordered(values: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> list[int] | None:
    """For each expected tensor the one that holds it, when that is another order; else None."""
    order = []
    for there in expected:
        same_shape = [k for k, here in enumerate(values) if here.shape == there.shape]
        fits = {
            k: explained(np.asarray(values[k], np.float64), np.asarray(there, np.float64))
            for k in same_shape
        }
        order.append(max(fits, key=lambda k: fits[k], default=-1))
        if order[-1] < 0 or fits[order[-1]] < _EXPLAINS:
            return None
    trivial = order == list(range(len(order)))
    return None if trivial or len(set(order)) != len(order) else order
