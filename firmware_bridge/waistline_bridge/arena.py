"""Where tensors and scratch lie in the one buffer a head runs in.

Things that are needed at the same time may not share a byte, all others may. Finding the smallest
buffer is NP-hard. Here needs are placed one by one, each in the tightest gap from the bottom or in
the highest one below the bound; a few orders are tried, the largest first among them. Where the
best of these is above the bound, a bounded search moves what sticks out.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_TRIES = 400
_PLACED_AT_MOST = 40_000
"""Needs that the search places, over all tries: some tenths of a second."""


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
    """Place every need; those of 0 bytes lie at 0. The same needs give the same plan."""
    bound = largest_live(needs)
    room = _Room(needs, bound)
    best = min(
        (_Try.of(room, order, tops) for order in _orders(needs) for tops in _ends(needs, order)),
        key=lambda one: one.size_bytes,
    )
    if best.size_bytes > bound:
        best = _searched(room, best)
    return ArenaPlan(tuple(best.offsets), best.size_bytes, bound)


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


def _orders(needs: Sequence[Need]) -> list[list[int]]:
    return [
        sorted(range(len(needs)), key=lambda k, key=key: (*key(needs[k]), k))  # type: ignore[misc]
        for key in _ORDERS
    ]


def _ends(needs: Sequence[Need], order: Sequence[int]) -> list[frozenset[int]]:
    """Sets of needs that go to the top: none, and every other one by birth or as they are placed.

    In a chain, where a layer's output is the next one's input, every other one gives the bound.
    """
    births = sorted(range(len(needs)), key=lambda k: (needs[k].first, -needs[k].size_bytes))
    return [frozenset(), frozenset(births[1::2]), frozenset(order[1::2])]


class _Room:
    """The needs, which of them meet, and the size that no plan is below."""

    def __init__(self, needs: Sequence[Need], bound: int) -> None:
        self.needs, self.bound = needs, bound
        sized = [k for k, need in enumerate(needs) if need.size_bytes]
        self.meeting = [
            [j for j in sized if j != k and needs[j].meets(need)] for k, need in enumerate(needs)
        ]

    def place(self, order: Sequence[int], tops: frozenset[int]) -> list[int]:
        """Offsets of all needs."""
        offsets = [-1] * len(self.needs)
        for k in order:
            need = self.needs[k]
            if need.size_bytes == 0:
                offsets[k] = 0
                continue
            taken = sorted(
                (offsets[j], offsets[j] + self.needs[j].size_bytes)
                for j in self.meeting[k]
                if offsets[j] >= 0
            )
            at = _highest(taken, need, self.bound) if k in tops else -1
            offsets[k] = _tightest(taken, need) if at < 0 else at
        return offsets


@dataclass(frozen=True, slots=True)
class _Try:
    order: list[int]
    tops: frozenset[int]
    offsets: list[int]
    size_bytes: int

    @classmethod
    def of(cls, room: _Room, order: list[int], tops: frozenset[int]) -> _Try:
        offsets = room.place(order, tops)
        ends = (at + need.size_bytes for at, need in zip(offsets, room.needs, strict=True))
        return cls(order, tops, offsets, max(ends, default=0))


def _searched(room: _Room, start: _Try) -> _Try:
    """Place what reaches highest, or something it meets, earlier or at the other end; again."""
    choice = random.Random(0)
    now = best = start
    for _ in range(min(_TRIES, _PLACED_AT_MOST // len(room.needs))):
        reaching = [
            k
            for k, need in enumerate(room.needs)
            if now.offsets[k] + need.size_bytes == now.size_bytes
        ]
        moved = choice.choice(reaching)
        if room.meeting[moved] and choice.random() < 0.5:
            moved = choice.choice(room.meeting[moved])
        order, tops = now.order, now.tops
        if choice.random() < 0.5:
            tops = tops ^ {moved}
        else:
            order = [k for k in order if k != moved]
            order.insert(choice.randint(0, now.order.index(moved)), moved)
        after = _Try.of(room, order, tops)
        if after.size_bytes <= now.size_bytes:
            now = after
        if now.size_bytes < best.size_bytes:
            best = now
        if best.size_bytes == room.bound:
            break
    return best


def _highest(taken: Sequence[tuple[int, int]], need: Need, bound: int) -> int:
    """Start of the highest place below ``bound`` that holds it; -1 where none does."""
    limit = bound
    found, end = -1, 0
    for start, stop in [*taken, (limit, limit)]:
        at = (min(start, limit) - need.size_bytes) // need.alignment * need.alignment
        if at >= end:
            found = at
        end = max(end, stop)
    return found


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
