"""Real factors and limits as the firmware's integers, rounded as TFLite's own kernels do."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from waistline.blob.fixed import MAX_SHIFT, Q31_ONE, multiplier_of
from waistline.blob.form import HIGHEST, LOWEST, Activation, Clamp, Rescale
from waistline_bridge.lower.refuse import Unsupported


def rescale_by(factors: Sequence[float], count: int) -> Rescale:
    """The factors as integers; a single one stands for ``count``."""
    try:
        pairs = [multiplier_of(factor) for factor in factors]
    except ValueError as error:
        raise Unsupported(f"its scales cannot be: {error}") from error
    if len(pairs) == 1:
        pairs *= count
    if len(pairs) != count:
        raise Unsupported(f"it has {len(pairs)} scales for {count} channels")
    multipliers, shifts = zip(*pairs, strict=True)
    return Rescale(np.array(multipliers, np.int32), np.array(shifts, np.int8))


def mean_factor(ratio: float, count: int) -> Rescale:
    """TFLite's: the count divided into the multiplier, as many bits of it as fit."""
    found = rescale_by([ratio], 1)
    multiplier, shift = int(found.multiplier[0]), int(found.shift[0])
    more = min(count.bit_length() - 1, MAX_SHIFT + 1 + shift)
    return _one_factor((multiplier << more) // count, shift - more)


def mean_once(ratio: float, count: int) -> Rescale:
    """A multiplier without a right shift, so that only the product is rounded."""
    factor = ratio / count
    if factor >= 0.5:
        return rescale_by([factor], 1)
    return _one_factor(math.floor(factor * Q31_ONE + 0.5), 0)


def _one_factor(multiplier: int, shift: int) -> Rescale:
    return Rescale(np.array([multiplier], np.int32), np.array([shift], np.int8))


def clamp_between(made: Activation, low: float | None, high: float | None) -> Clamp:
    """The codes of real limits, as TFLite rounds them: in float32, ties away from zero."""
    ends = []
    for limit, end in ((low, LOWEST), (high, HIGHEST)):
        if limit is None:
            ends.append(end)
            continue
        steps = float(np.float32(limit) / np.float32(made.scale))
        code = made.zero_point + math.copysign(math.floor(abs(steps) + 0.5), steps)
        ends.append(int(min(max(code, LOWEST), HIGHEST)))
    if ends[0] > ends[1]:
        raise Unsupported(f"its limits {low} and {high} leave no code")
    return Clamp(*ends)
