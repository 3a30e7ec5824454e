"""What the PPK2 shows for the samples right after it changed its range.

Its amplifiers need three samples to settle. Two exponential averages (0.18 and 0.06 of each new
sample) run along; after a change the three samples are replaced by the fast average, in range 4 by
the slow one, which the first two samples do not enter. The averages matter only there, so they are
computed there only, from the samples before: older ones than `_REACH` weigh less than 1e-16.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_FAST, _SLOW = 0.18, 0.06
_SETTLE = 3
_REACH = 640
_WEIGHTS = np.stack([a * (1 - a) ** np.arange(_REACH)[::-1] for a in (_FAST, _SLOW)])
_KEPT = np.array([1 - _FAST, 1 - _SLOW])
_TOP = 4

Doubles = NDArray[np.float64]


class SpikeFilter:
    """Keeps its state from array to array; how the samples are chunked changes nothing."""

    def __init__(self, table: Doubles) -> None:
        self._table = table
        self._past = np.empty(0, np.uint32)
        self._averages: Doubles | None = None
        self._range = -1
        self._left = 0
        self._row = 0

    def apply(self, codes: NDArray[np.uint32], amps: NDArray[np.float32]) -> None:
        """Mend ``amps`` in place.

        Args:
            codes: uint32 (n,), low 17 bits of the samples.
            amps: float32 (n,), the same through the table.
        """
        if not len(codes):
            return
        ranges = codes >> np.uint32(14)
        changes = np.flatnonzero(ranges[1:] != ranges[:-1]) + 1
        first = min(int(ranges[0]), _TOP)
        starts: list[int] = changes.tolist()
        if self._left or (self._range not in (-1, first)):
            starts.insert(0, 0)
        elif self._range == -1:
            self._range = first
        # Samples before ``done`` are in the averages or in the past.
        done = 0
        for start in starts:
            if start < done:
                continue
            self._pass(codes[done:start])
            done = self._settle(codes, amps, start)
        self._pass(codes[done:])

    def _pass(self, codes: NDArray[np.uint32]) -> None:
        """Let samples enter the averages, later."""
        if len(codes) >= _REACH:
            self._past = codes[-_REACH:]
        elif len(codes):
            self._past = np.concatenate([self._past, codes])[-_REACH:]

    def _average(self) -> tuple[float, float]:
        """Fast and slow average over the samples passed so far."""
        past = self._table[self._past]
        self._past = self._past[:0]
        if self._averages is None and len(past):
            self._averages, past = np.full(2, past[0]), past[1:]
        if self._averages is None or not len(past):
            state = self._averages if self._averages is not None else np.zeros(2)
            return float(state[0]), float(state[1])
        state = self._averages * _KEPT ** len(past) + _WEIGHTS[:, _REACH - len(past) :] @ past
        return float(state[0]), float(state[1])

    def _settle(self, codes: NDArray[np.uint32], amps: NDArray[np.float32], start: int) -> int:
        """Replace samples from ``start`` until the amplifiers have settled; where that was."""
        fast, slow = self._average()
        index = start
        while index < len(codes):
            now = min(int(codes[index]) >> 14, _TOP)
            if now != self._range:
                self._range, self._left, self._row = now, _SETTLE, 0
            else:
                self._row += 1
            if not self._left:
                break
            if now != _TOP or self._row >= 2:
                value = float(self._table[codes[index]])
                fast += _FAST * (value - fast)
                slow += _SLOW * (value - slow)
            amps[index] = slow if now == _TOP else fast
            self._left -= 1
            index += 1
        self._averages = np.array([fast, slow])
        return index
