"""What every picture of a trace needs, whoever draws it: units, and what is too narrow to see."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

from waistline.trace.base import Gap, TraceSpec
from waistline.trace.budget import has_power

_TIMES = ((2e-3, 1e-6, "µs"), (2.0, 1e-3, "ms"), (600.0, 1.0, "s"), (36000.0, 60.0, "min"))
_PREFIXES = ((1.0, ""), (1e3, "m"), (1e6, "µ"), (1e9, "n"))


def drawn(spec: TraceSpec) -> str:
    """The signal a picture shows: power where there is one, else the first."""
    return "power" if has_power(spec) else spec.floats[0]


def time_unit(duration_s: float) -> tuple[float, str]:
    """(seconds, name) of the unit for an axis of that length."""
    for limit_s, unit_s, name in _TIMES:
        if duration_s < limit_s:
            return unit_s, name
    return 3600.0, "h"


def prefix(*values: ArrayLike) -> tuple[float, str]:
    """(factor, prefix) that keep the largest value, whatever is finite, from 1 to 1000."""
    largest = max(map(_largest, values), default=0.0)
    for factor, name in _PREFIXES:
        if largest * factor >= 1 or largest == 0:
            return factor, name
    return 1.0, ""


def _largest(values: ArrayLike) -> float:
    row = np.asarray(values, np.float64)
    return float(np.max(np.abs(row), initial=0.0, where=np.isfinite(row)))


def visible(gaps: Iterable[Gap], start: float, stop: float, columns: int) -> list[Gap]:
    """Gaps in view; those closer than a column as one, for there are only so many."""
    near = (stop - start) / columns
    merged: list[Gap] = []
    for gap in gaps:
        if gap.end < start or gap.first > stop:
            continue
        if merged and gap.first - merged[-1].end < near:
            merged[-1] = _merged(merged[-1], gap)
        else:
            merged.append(gap)
    return merged


def _merged(one: Gap, other: Gap) -> Gap:
    """Both and what lies between; of unknown size where either is."""
    count = max(one.end, other.end) - one.first
    low = None if one.resolved and other.resolved else -1
    return Gap(one.first, count, one.kind, low)
