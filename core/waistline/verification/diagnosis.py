"""What a head that answers differently has probably done, from statistics of its values.

Pure functions of arrays. Each explanation must explain: the share of the variance that it leaves
unexplained has to be small, and a quarter at most of what is left without it. So a head that is
merely less exact is not called transposed, and a wrong model is not called anything.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from waistline.tensors import TensorSpec
from waistline.verification.explanation import (
    EXPLAINS,
    INEXACT,
    KINDS,
    Diagnosis,
    Values,
    explained,
)
from waistline.verification.inexact import close, close_codes
from waistline.verification.misplaced import (
    permuted,
    rearranged,
    regression,
    scaled,
    shuffled,
    signedness,
)

__all__ = ["INEXACT", "KINDS", "Diagnosis", "diagnose", "explained", "misordered"]

_UNRELATED = 0.25
_LOCAL, _LOCAL_SHARE = 0.05, 0.05


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
    inexact = close_codes(here, there, step) if step else close(here, there)
    if inexact:
        return inexact
    sought = (signedness, scaled, rearranged, permuted, shuffled)
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


def _local(here: Values, there: Values) -> Diagnosis | None:
    """Right nearly everywhere."""
    errors = np.abs(here - there)
    wrong = errors > _LOCAL * float(there.std())
    count = int(np.count_nonzero(wrong))
    if not 0 < count <= max(1, _LOCAL_SHARE * errors.size):
        return None
    where = f"{count} of {errors.size} values are off by more than {_LOCAL:.0%} of the deviation"
    return Diagnosis("local", where, {"values": float(count)})


def _unexplained(here: Values, there: Values, plain: float) -> Diagnosis:
    fit = max(regression(here.reshape(1, -1), there.reshape(1, -1))[2], 0.0)
    seen = f"its values explain {fit:.1%} of the variance at best"
    evidence = {"explains": fit, "as_it_is": plain}
    return Diagnosis("unrelated" if fit < _UNRELATED else "different", seen, evidence)


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
        if order[-1] < 0 or fits[order[-1]] < EXPLAINS:
            return None
    trivial = order == list(range(len(order)))
    return None if trivial or len(set(order)) != len(order) else order
