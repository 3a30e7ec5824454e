"""How long a node waits before it tries to connect again.

A pause is drawn between nothing and half of the time for which the edge has been away, from
`FIRST_DELAY_S` up to `MAX_DELAY_S`: attempts thin out as those of a doubling delay do, yet an edge
that was away for 6 s or less is found again within 3 s of its return, whatever the dice say. Full
jitter keeps the nodes of a restarted edge apart.
"""

from __future__ import annotations

FIRST_DELAY_S = 0.2
MAX_DELAY_S = 30.0
HEALTHY_S = 1.0
"""A connection that lasted so long after the edge's WELCOME ends the absence."""
SHORT_LIVED_S = 1.0
"""The absence after a WELCOME that did not last: an edge that dies of every frame gets a rest."""


class Backoff:
    """Times are on one monotonic clock.

    Args:
        now: the edge has been away since then.
    """

    def __init__(self, now: float) -> None:
        self._away_since = now

    def lost(self, welcomed_at: float | None, now: float) -> None:
        """A connection or an attempt has ended; ``welcomed_at`` is None if no WELCOME came."""
        if welcomed_at is None:
            return
        healthy = now - welcomed_at >= HEALTHY_S
        self._away_since = now if healthy else max(self._away_since, now - SHORT_LIVED_S)

    def limit_s(self, now: float) -> float:
        """The longest pause before the next attempt."""
        return min(max((now - self._away_since) / 2, FIRST_DELAY_S), MAX_DELAY_S)
