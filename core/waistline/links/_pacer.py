"""When bytes leave and arrive on a link of a given rate, delay and jitter; arithmetic only."""

from __future__ import annotations

import random


class Pacer:
    """One direction: a serialiser of fixed rate, then a delay that never reorders.

    The schedule is kept in planned times, so oversleeping does not add up: back-to-back chunks
    leave exactly ``8 * bytes / rate`` after the first one began.

    Args:
        rate_bps: 0: unlimited.
        delay_s: one way.
        jitter_s: the delay grows by a uniform share of this, drawn per chunk.
        seed: of the jitter.
    """

    def __init__(self, rate_bps: float, delay_s: float, jitter_s: float, seed: int) -> None:
        self.rate_bps = rate_bps
        self.delay_s = delay_s
        self._jitter_s = jitter_s
        self._random = random.Random(seed)
        self._free_at = 0.0
        self._last_at = 0.0

    def backlog_s(self, now: float) -> float:
        """How long the serialiser is still busy with what it was given."""
        return max(0.0, self._free_at - now)

    def admit(self, since: float, size_bytes: int) -> float:
        """Put one chunk on the link; returns when its last byte arrives.

        Args:
            since: when the chunk became available, which may lie in the past.
            size_bytes: of the chunk.
        """
        self._free_at = max(self._free_at, since)
        if self.rate_bps > 0:
            self._free_at += size_bytes * 8 / self.rate_bps
        jitter_s = self._random.uniform(0.0, self._jitter_s)
        self._last_at = max(self._last_at, self._free_at + self.delay_s + jitter_s)
        return self._last_at
