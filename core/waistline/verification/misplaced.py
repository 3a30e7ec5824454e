"""The right values in the wrong places, or on another scale."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from waistline.tensors import TensorSpec
from waistline.verification.explanation import Diagnosis, Values, better, explained
from waistline.verification.permuted import permutation

_SORTED = 0.999
"""How much being equal when sorted counts for: less than the order that was shuffled."""
_NAMED_SCALES = (
    (255.0, "not divided by 255"), (1 / 255.0, "divided by 255 once more"),
    (127.5, "0..255 where -1..1 is meant"), (2.0, "-1..1 where 0..1 is meant"),
    (0.5, "0..1 where -1..1 is meant"), (-1.0, "with the other sign"),
)  # fmt: skip


def signedness(
    spec: TensorSpec, here: Values, there: Values, plain: float, step: float
) -> Diagnosis | None:
    """A quantized tensor whose bytes were read with the other sign: off by 128 steps, wrapped."""
    if spec.scale is None:
        return None
    turned = np.where(here - 128 * spec.scale < _lowest(spec), here + 128 * spec.scale,
                      here - 128 * spec.scale)  # fmt: skip
    quality = explained(turned, there)
    if not better(quality, plain):
        return None
    seen = f"turning the highest bit of every byte explains {quality:.2%}"
    return Diagnosis("signedness", seen, {"explains": quality})


def _lowest(spec: TensorSpec) -> float:
    assert spec.scale is not None
    return spec.scale * (float(np.iinfo(spec.dtype).min) - (spec.zero_point or 0) - 0.5)


def scaled(
    spec: TensorSpec, here: Values, there: Values, plain: float, step: float
) -> Diagnosis | None:
    """``here = a * there + b``, for all or channel by channel."""
    fits = [("", *regression(here.reshape(1, -1), there.reshape(1, -1)))]
    axis = spec.channel_axis
    if axis is not None and 1 < spec.shape[axis] <= here.size // 16:
        by_channel = (np.moveaxis(array, axis, 0).reshape(spec.shape[axis], -1)
                      for array in (here, there))  # fmt: skip
        fits.append(("channel by channel ", *regression(*by_channel)))
    for how, factors, offsets, quality in fits:
        if not better(quality, plain):
            continue
        factor, offset = float(np.median(factors)), float(np.median(offsets))
        return Diagnosis(
            "scaled",
            f"{how}{factor:.4g} times the expected value {'+' if offset >= 0 else '-'} "
            f"{abs(offset):.3g}{_named(factor)}; that explains {quality:.2%}",
            {"factor": factor, "offset": offset, "explains": quality},
        )
    return None


def regression(here: Values, there: Values) -> tuple[Values, Values, float]:
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


def rearranged(
    spec: TensorSpec, here: Values, there: Values, plain: float, step: float
) -> Diagnosis | None:
    best, quality = None, plain
    for kind, how, mended, expected in rearrangements(spec, here, there):
        found = explained(mended, expected)
        if found > quality and better(found, plain):
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


def permuted(
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
    if not better(quality, plain):
        return None
    moved = np.flatnonzero(order != np.arange(order.size))
    some = ", ".join(f"{order[channel]} holds {channel}" for channel in moved[:3])
    return Diagnosis(
        "channels",
        f"{moved.size} of {order.size} are in other places, such as {some}; "
        f"putting them back explains {quality:.2%}",
        {"moved": float(moved.size), "explains": quality},
    )


def shuffled(
    spec: TensorSpec, here: Values, there: Values, plain: float, step: float
) -> Diagnosis | None:
    """The same numbers in another order; only exact values can tell."""
    if step > 0.0 or here.size < 8:
        return None
    gap = np.abs(np.sort(here, axis=None) - np.sort(there, axis=None)).max()
    if np.unique(there).size < here.size // 4 or gap > 1e-4 * there.std():
        return None
    return Diagnosis("shuffled", "sorted, they are equal", {"explains": _SORTED})
