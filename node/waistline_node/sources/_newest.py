"""Between a camera that does not wait and a reader that may be late: one place, the newest wins."""

from __future__ import annotations

import statistics
import threading
from collections import deque
from typing import Generic, TypeVar

from waistline.errors import WaistlineError

T = TypeVar("T")

_WATCHED = 9
"""Intervals whose median is the camera's own: a third of a second, past one or two gaps."""


class Newest(Generic[T]):
    """One thread puts, another takes; what was not taken in time is overtaken."""

    def __init__(self) -> None:
        self.overtaken = 0
        self._item: T | None = None
        self._error: WaistlineError | None = None
        self._closed = False
        self._changed = threading.Condition()

    def put(self, item: T) -> bool:
        """Replace what waits; False once nobody takes any more."""
        with self._changed:
            if self._closed:
                return False
            if self._item is not None:
                self.overtaken += 1
            self._item = item
            self._changed.notify_all()
            return True

    def take(self, timeout_s: float) -> T | None:
        """The newest item, waiting for one. None: closed.

        Raises:
            WaistlineError: the error the putter ended with, after its last item.
            TimeoutError: nothing came.
        """
        with self._changed:
            if not self._changed.wait_for(self._ready, timeout_s):
                raise TimeoutError
            if self._closed:
                return None
            item, self._item = self._item, None
            if item is None and self._error is not None:
                raise self._error
            return item

    def fail(self, error: WaistlineError) -> None:
        """The putter has ended."""
        with self._changed:
            self._error = error
            self._changed.notify_all()

    def close(self) -> None:
        """Let both sides go; any thread, any number of times."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _ready(self) -> bool:
        return self._closed or self._item is not None or self._error is not None


class Gaps:
    """Counts frames that a device never gave, by the times at which it took the others.

    An estimate: a gap of n median intervals is n - 1 frames. A camera that slows down in the dark
    looks for up to five frames as if it lost some.
    """

    def __init__(self) -> None:
        self.lost = 0
        self._last_s: float | None = None
        self._intervals: deque[float] = deque(maxlen=_WATCHED)

    def note(self, captured_s: float) -> None:
        """The device took a frame."""
        if self._last_s is not None:
            interval_s = captured_s - self._last_s
            if len(self._intervals) > _WATCHED // 2:
                usual_s = statistics.median(self._intervals)
                if interval_s > 1.5 * usual_s > 0:
                    self.lost += round(interval_s / usual_s) - 1
            self._intervals.append(interval_s)
        self._last_s = captured_s
