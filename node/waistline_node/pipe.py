"""A bounded queue between two stages that can be ended and closed."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Pipe(Generic[T]):
    """One thread puts, another gets.

    Args:
        limit: items that may wait.
        drop_oldest: a full pipe gives up its oldest item instead of letting the putter wait.
    """

    def __init__(self, limit: int, *, drop_oldest: bool = False) -> None:
        self._limit = limit
        self._drop_oldest = drop_oldest
        self._items: deque[T] = deque()
        self._ended = self._closed = False
        lock = threading.Lock()
        self._filled = threading.Condition(lock)
        self._room = threading.Condition(lock)

    def put(self, item: T) -> T | None:
        """Hand over ``item``; waits for room unless the pipe drops.

        Returns:
            The item that gave way: the oldest, or ``item`` itself once the pipe is closed.
        """
        pushed_out = None
        with self._room:
            while len(self._items) >= self._limit and not self._closed:
                if self._drop_oldest:
                    pushed_out = self._items.popleft()
                else:
                    self._room.wait()
            if self._closed:
                return item
            self._items.append(item)
            self._filled.notify()
        return pushed_out

    def get(self) -> T | None:
        """The oldest item; waits for one. None: the pipe has ended and is empty, or is closed."""
        with self._filled:
            while not self._items and not (self._ended or self._closed):
                self._filled.wait()
            if not self._items:
                return None
            item = self._items.popleft()
            self._room.notify()
        return item

    def end(self) -> None:
        """Nothing more will be put; what waits can still be got."""
        with self._filled:
            self._ended = True
            self._filled.notify()

    def close(self) -> list[T]:
        """Let both sides go at once; returns what was waiting."""
        with self._filled:
            left, self._items = list(self._items), deque()
            self._closed = True
            self._filled.notify()
            self._room.notify()
        return left
