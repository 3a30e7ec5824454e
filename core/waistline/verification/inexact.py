"""Nearly the right values: computed in fewer bits, or in another order."""

from __future__ import annotations

import numpy as np

from waistline.verification.explanation import Diagnosis, Values

_ROUNDING, _F16, _BF16, _LARGEST = 2.0**-17, 2.0**-14, 2.0**-10, 2.0**-4
"""Errors relative to the tensor's standard deviation, where each kind begins; above: a fault."""
_SAME = 2 * _LARGEST
_UNTOUCHED = 1e-7
_SPREAD = 0.3
"""Rounding touches at least this share of the values that are not zero."""
_LOCAL_PEAK = 30.0
"""The largest rounding error is at most this many times the typical one."""
_ONE_STEP = 1.25
"""Codes off by one step, with ranges that moved a little."""


def close(here: Values, there: Values) -> Diagnosis | None:
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


def close_codes(here: Values, there: Values, step: float) -> Diagnosis | None:
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
