"""Which channel holds which, from the correlation of every channel with every other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MAX_PAIRS = 1 << 22
_MIN_VALUES = 8
_ALIKE = 0.02
"""A channel stays where it is unless another fits it better by this much of correlation."""
_MATCHED = 0.8
"""Correlation from which a channel counts as found again."""
_MIN_FOUND = 0.8
"""Share of the channels that must be found again."""


def permutation(here: NDArray[np.float64], there: NDArray[np.float64]) -> NDArray[np.int64] | None:
    """``order`` such that ``here[order]`` resembles ``there``, or None where none is found.

    Args:
        here: (channels, values of each).
        there: likewise.
    """
    channels, values = there.shape
    if channels < 2 or channels * channels > _MAX_PAIRS or values < _MIN_VALUES:
        return None
    alive = there.std(axis=1) > 1e-6 * there.std()
    match = _standard(there) @ _standard(here).T / values
    own = np.diagonal(match)
    order = np.where(own >= match.max(axis=1) - _ALIKE, np.arange(channels), match.argmax(axis=1))
    order = _one_each(np.where(alive, order, -1), match)
    found = order >= 0
    if np.count_nonzero(found) < max(2, _MIN_FOUND * np.count_nonzero(alive)):
        return None
    if np.array_equal(order[found], np.flatnonzero(found)):
        return None
    return _filled(order, found)


def _one_each(order: NDArray[np.int64], match: NDArray[np.float64]) -> NDArray[np.int64]:
    """Give no place twice: of those that want one, the better fit keeps it, the next looks on."""
    result = np.full_like(order, -1)
    free = np.ones(order.size, bool)
    wanting = np.flatnonzero(order >= 0)
    by_fit = wanting[np.argsort(-match[wanting, order[wanting]], kind="stable")]
    for channel in by_fit:
        place = int(order[channel])
        if not free[place]:
            place = int(np.where(free, match[channel], -np.inf).argmax())
        if match[channel, place] >= _MATCHED:
            result[channel], free[place] = place, False
    return result


def _filled(order: NDArray[np.int64], found: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Channels that were not found take the places that are left: their own where it is free."""
    result = np.where(found, order, -1)
    left = sorted(set(range(order.size)) - set(result[found].tolist()))
    for channel in np.flatnonzero(~found):
        place = int(channel) if int(channel) in left else left[0]
        left.remove(place)
        result[channel] = place
    return result


def _standard(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = rows - rows.mean(axis=1, keepdims=True)
    spread = centred.std(axis=1, keepdims=True)
    standard: NDArray[np.float64] = np.divide(
        centred, spread, out=np.zeros_like(centred), where=spread > 0
    )
    return standard
