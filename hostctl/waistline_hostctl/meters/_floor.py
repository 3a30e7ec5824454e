"""The arrival-time floor: how early samples can be read at all.

Sample ``i`` cannot be read before it was taken. With times in samples, the *lateness* of a read is
``y - i``: the host's time ``y`` less the id of the last sample read. Its lower envelope, the floor,
is constant but for the drift between the two clocks; everything above it is delay on the way. Lost
samples make ids too low and lift the floor by exactly as many samples.
"""

from __future__ import annotations

import itertools
import math
from collections import deque

import numpy as np

WINDOW_S = 0.2
PARTS = 4
"""Parts of a window whose floors must agree."""
_HISTORY = 200
_SLOPE_MAX = 5e-4
_DRIFT = 2e-4
"""What two free-running crystals and a clock being steered may differ by, unmeasured."""
_AGREE = 16.0
_LEAST = 4.0
"""Samples: packets, the time between a read and its time stamp."""


class Floor:
    """Lower envelope of lateness over host time, both in samples.

    Attributes:
        ready: a whole window was seen whose parts agree, since the last `reset`.
        quiet_since: host time at which the first such window began.
    """

    def __init__(self, window: float) -> None:
        self._part = window / PARTS
        self._minima: deque[tuple[int, float, float]] = deque(maxlen=_HISTORY)
        self._anchor = (0.0, 0.0)
        self._slope = 0.0
        self._slope_error = _DRIFT
        self._spread = _LEAST
        self.ready = False
        self.quiet_since = 0.0

    def reset(self) -> None:
        """Forget where the floor is, but not the drift."""
        self._minima.clear()
        self.ready = False

    @property
    def level(self) -> float:
        """The lowest read of the newest part."""
        return self._minima[-1][2] if self._minima else 0.0

    @property
    def newest(self) -> float:
        """Host time of the newest read that counts."""
        return self._minima[-1][1] if self._minima else 0.0

    def at(self, time: float) -> float:
        """Where the floor is expected at a host time."""
        start, level = self._anchor
        return level + self._slope * (time - start)

    def uncertainty(self, time: float) -> float:
        """Samples by which `at` may be off: how much windows differ, and drift since the newest."""
        return self._spread + self._slope_error * max(0.0, time - self.newest)

    def add(self, time: float, lateness: float) -> None:
        """Take a read whose id is certain."""
        index = int(time // self._part)
        if not self._minima or self._minima[-1][0] != index:
            self._minima.append((index, time, lateness))
            self._fit()
            return
        _, at, least = self._minima[-1]
        if lateness - least < self._slope * (time - at):
            self._minima[-1] = (index, time, lateness)

    def move(self, step: float) -> None:
        """Expect the floor ``step`` higher than hitherto."""
        self._anchor = (self._anchor[0], self._anchor[1] + step)
        self._minima = deque(
            ((index, time, level + step) for index, time, level in self._minima), maxlen=_HISTORY
        )

    def _fit(self) -> None:
        times = np.array([time for _, time, _ in self._minima])
        levels = np.array([level for _, _, level in self._minima])
        self._fit_slope(times, levels)
        flat = levels - self._slope * (times - times[-1])
        recent = flat[-PARTS - 1 :]
        self._anchor = (float(times[-1]), float(recent.min()))
        # The newest part has but one read in it so far.
        closed = np.sort(flat[-PARTS - 1 : -1])
        apart = float(closed[PARTS - 2] - closed[0]) if len(closed) == PARTS else math.inf
        if not self.ready and len(closed) == PARTS and np.ptp(closed) < _AGREE:
            self.ready = True
            self.quiet_since = self._minima[-PARTS - 1][0] * self._part
        if len(flat) > 3 * PARTS:
            floors = np.lib.stride_tricks.sliding_window_view(flat[:-1], PARTS).min(axis=1)
            apart = float(np.quantile(np.abs(floors[PARTS:] - floors[:-PARTS]), 0.9))
        self._spread = _LEAST + apart

    def _fit_slope(self, times: np.ndarray, levels: np.ndarray) -> None:
        span = float(times[-1] - times[0])
        if span < 5 * PARTS * self._part or self._minima[-1][0] % PARTS:
            return
        hull: list[int] = []
        for index in range(len(times)):
            while len(hull) > 1 and _turns_down(times, levels, hull[-2], hull[-1], index):
                hull.pop()
            hull.append(index)
        # The edge over the middle of the points is the line below them that is nearest to them.
        middle = float(times.mean())
        for left, right in itertools.pairwise(hull):
            if times[right] >= middle:
                slope = float((levels[right] - levels[left]) / (times[right] - times[left]))
                break
        else:
            return
        if abs(slope) <= _SLOPE_MAX:
            above = levels - levels[left] - slope * (times - times[left])
            self._slope = slope
            self._slope_error = min(_DRIFT, (1.0 + 4 * float(np.median(above))) / span)


def _turns_down(times: np.ndarray, levels: np.ndarray, first: int, middle: int, last: int) -> bool:
    """Whether ``middle`` lies on or above the line from ``first`` to ``last``."""
    ahead = (times[middle] - times[first]) * (levels[last] - levels[first])
    return bool(ahead <= (times[last] - times[first]) * (levels[middle] - levels[first]))
