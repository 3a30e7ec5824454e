"""Where tensors and scratch lie in the one buffer a head runs in.

Things that are needed at the same time may not share a byte, all others may. Finding the smallest
buffer is NP-hard; placing the largest first, each in the tightest gap between those it meets, comes
within a few per cent for networks. A few other orders are tried too, and the best one wins.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Need:
    """Bytes needed from step ``first`` to step ``last``, both included."""

    size_bytes: int
    first: int
    last: int
    alignment: int = 4

    def meets(self, other: Need) -> bool:
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class ArenaPlan:
    """Offsets, one a need.

    Attributes:
        offsets: in the order of the needs.
        size_bytes: of the buffer.
        largest_live_bytes: the most that is needed at any one step; no plan is smaller.
    """

    offsets: tuple[int, ...]
    size_bytes: int
    largest_live_bytes: int


def plan_arena(needs: Sequence[Need]) -> ArenaPlan:
    """Place every need; those of 0 bytes lie at 0."""
    best: list[int] = []
    best_bytes = -1
    for key in _ORDERS:
        order = sorted(range(len(needs)), key=lambda k, key=key: (*key(needs[k]), k))  # type: ignore[misc]
        offsets = _placed(needs, order)
        size = max(
            (at + need.size_bytes for at, need in zip(offsets, needs, strict=True)), default=0
        )
        if best_bytes < 0 or size < best_bytes:
            best, best_bytes = offsets, size
    return ArenaPlan(tuple(best), max(best_bytes, 0), largest_live(needs))


def largest_live(needs: Sequence[Need]) -> int:
    """The most bytes that any step needs at once."""
    steps = {need.first for need in needs}
    return max(
        (
            sum(need.size_bytes for need in needs if need.first <= step <= need.last)
            for step in steps
        ),
        default=0,
    )


_ORDERS: tuple[Callable[[Need], tuple[int, ...]], ...] = (
    lambda need: (-need.size_bytes, need.first),
    lambda need: (-need.size_bytes, -need.last),
    lambda need: (-need.size_bytes * (need.last - need.first + 1), need.first),
    lambda need: (need.first - need.last, -need.size_bytes),
    lambda need: (need.first, -need.size_bytes),
)


def _placed(needs: Sequence[Need], order: Sequence[int]) -> list[int]:
    offsets = [0] * len(needs)
    done: list[int] = []
    for k in order:
        if needs[k].size_bytes == 0:
            continue
        taken = sorted(
            (offsets[j], offsets[j] + needs[j].size_bytes) for j in done if needs[j].meets(needs[k])
        )
        offsets[k] = _tightest(taken, needs[k])
        done.append(k)
    return offsets


def _tightest(taken: Sequence[tuple[int, int]], need: Need) -> int:
    """Start of the smallest gap that holds it, else behind everything."""
    found, slack, end = -1, 0, 0
    for start, stop in taken:
        at = -(-end // need.alignment) * need.alignment
        left = start - at - need.size_bytes
        if left >= 0 and (found < 0 or left < slack):
            found, slack = at, left
        end = max(end, stop)
    return found if found >= 0 else -(-end // need.alignment) * need.alignment
