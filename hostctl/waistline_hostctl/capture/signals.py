"""Interrupts and requests to end while a capture lasts."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Signals:
    """Interrupts and requests to end since the capture began."""

    received: list[int] = field(default_factory=list)
    _raises: bool = False

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Collect SIGINT, SIGTERM and SIGHUP; in a thread that is not the main one there are none.

        A SIGHUP that is ignored (nohup) stays so.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            numbers.append(signal.SIGHUP)
        before = {number: signal.signal(number, self._take) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def raised(self) -> Iterator[None]:
        """Inside `taken`: the next one is a KeyboardInterrupt, those behind it are collected."""
        self._raises = True
        try:
            yield
        finally:
            self._raises = False

    def _take(self, number: int, frame: object) -> None:
        self.received.append(number)
        if self._raises:
            self._raises = False
            raise KeyboardInterrupt
