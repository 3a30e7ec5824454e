"""The bounded queue in front of the tails, fair among connections. Pure: no locks, no clock.

Every connection has its own line and the lines are served in turn, so a node that sends ten times
as much waits behind itself and not in front of the others. When the queue is full, the newest
request of the longest line makes room for a connection that has less in it; without that rule one
greedy node would fill the bound and the others would only ever be told BUSY.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Generic, TypeVar

import msgspec

ItemT = TypeVar("ItemT")

_SMOOTHING = 0.2
"""Weight of the newest observation: follows a change of load within about ten frames."""

MIN_RETRY_AFTER_S = 0.005
MAX_RETRY_AFTER_S = 10.0


class Entry(msgspec.Struct, Generic[ItemT], frozen=True):
    """One waiting request; it expires on the owner's monotonic clock, seconds."""

    line: Hashable
    item: ItemT
    expires_at: float


class Admission(msgspec.Struct, Generic[ItemT], frozen=True):
    """What became of a `FairQueue.put`.

    Attributes:
        accepted: the item waits now; if not, its sender is to be told BUSY.
        evicted: items of longer lines that gave way; their senders are to be told BUSY.
        expired: items that were found too old while looking for room.
    """

    accepted: bool
    evicted: tuple[Entry[ItemT], ...] = ()
    expired: tuple[Entry[ItemT], ...] = ()


class FairQueue(Generic[ItemT]):
    """At most ``limit`` waiting items in lines that are served round robin."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._lines: OrderedDict[Hashable, deque[Entry[ItemT]]] = OrderedDict()
        self._size = 0
        self._none_expires_before = math.inf
        """On the owner's clock; nothing needs to be looked through until then."""

    def __len__(self) -> int:
        return self._size

    def put(
        self, line: Hashable, item: ItemT, *, now: float, expires_at: float
    ) -> Admission[ItemT]:
        """Let ``item`` wait in ``line``, or say that there is no room for it."""
        expired: tuple[Entry[ItemT], ...] = ()
        if self._size >= self.limit:
            expired = self._purge(now)
        evicted: tuple[Entry[ItemT], ...] = ()
        if self._size >= self.limit:
            victim = self._give_way(line)
            if victim is None:
                return Admission(accepted=False, expired=expired)
            evicted = (victim,)
        entry = Entry(line, item, expires_at)
        self._lines.setdefault(line, deque()).append(entry)
        self._none_expires_before = min(self._none_expires_before, expires_at)
        self._size += 1
        return Admission(True, evicted, expired)

    def take(self, now: float) -> tuple[Entry[ItemT] | None, tuple[Entry[ItemT], ...]]:
        """The next item to run, if there is one, and the expired ones met on the way to it."""
        expired: list[Entry[ItemT]] = []
        while self._lines:
            entry = self._next()
            if entry.expires_at > now:
                return entry, tuple(expired)
            expired.append(entry)
        return None, tuple(expired)

    def clear(self) -> tuple[Entry[ItemT], ...]:
        """Empty the queue; returns what was in it, oldest first within each line."""
        left = tuple(entry for line in self._lines.values() for entry in line)
        self._lines.clear()
        self._size = 0
        return left

    def _next(self) -> Entry[ItemT]:
        """Pop the head of the line whose turn it is and send that line to the back."""
        name, line = next(iter(self._lines.items()))
        entry = line.popleft()
        self._size -= 1
        if line:
            self._lines.move_to_end(name)
        else:
            del self._lines[name]
        return entry

    def _give_way(self, line: Hashable) -> Entry[ItemT] | None:
        """The newest item of the longest line, removed, if ``line`` is shorter by two or more.

        By one less the two would only change places, for ever.
        """
        if not self._lines:
            return None
        longest = max(self._lines, key=lambda name: len(self._lines[name]))
        mine = len(self._lines.get(line, ()))
        if mine + 1 >= len(self._lines[longest]):
            return None
        self._size -= 1
        return self._lines[longest].pop()

    def _purge(self, now: float) -> tuple[Entry[ItemT], ...]:
        """Remove every expired item; called only when the queue is full."""
        if now < self._none_expires_before:
            return ()
        expired: list[Entry[ItemT]] = []
        for name, line in list(self._lines.items()):
            kept = deque(entry for entry in line if entry.expires_at > now)
            expired.extend(entry for entry in line if entry.expires_at <= now)
            if kept:
                self._lines[name] = kept
            else:
                del self._lines[name]
        self._size -= len(expired)
        left = (entry.expires_at for line in self._lines.values() for entry in line)
        self._none_expires_before = min(left, default=math.inf)
        return tuple(expired)


class ServiceEstimate:
    """How long a newcomer would have to wait, from the running mean of the service time."""

    def __init__(self, workers: int) -> None:
        self._workers = max(1, workers)
        self._mean_s: float | None = None

    def observe(self, service_s: float) -> None:
        """Note how long one request kept a worker."""
        if self._mean_s is None:
            self._mean_s = service_s
        else:
            self._mean_s += _SMOOTHING * (service_s - self._mean_s)

    def retry_after_s(self, ahead: int) -> float:
        """When ``ahead`` requests will be done, within 5 ms and 10 s."""
        wait = (self._mean_s or 0.0) * ahead / self._workers
        return min(max(wait, MIN_RETRY_AFTER_S), MAX_RETRY_AFTER_S)
