"""What a person sees on standard error: lines, and on a terminal one line that counts frames."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TextIO

from waistline.terminal import shown
from waistline_node.records import FrameRecord

REDRAW_S = 0.5
_CLEAR = "\r\x1b[K"


class Console:
    """Writes whole lines; any thread may call `say`."""

    def __init__(self, stream: TextIO, total: int | None) -> None:
        self._stream = stream
        self._total = total
        self._terminal = stream.isatty()
        self._counts: Counter[str] = Counter()
        self._drawn_at = time.monotonic()
        self._shown = False
        self._lock = threading.Lock()

    def say(self, text: str) -> None:
        with self._lock:
            self._hide()
            self._stream.write(shown(f"node: {text}\n"))
            self._stream.flush()

    def show(self, text: str) -> None:
        """On a terminal: ``text`` until something else is shown; "" takes it away."""
        if not self._terminal:
            return
        with self._lock:
            self._hide()
            if text:
                self._stream.write(shown(f"node: {text}"))
                self._shown = True
            self._stream.flush()

    def count(self, record: FrameRecord) -> None:
        """Another frame has ended; on a terminal the counts are redrawn twice a second."""
        self._counts[record.outcome] += 1
        if not self._terminal or time.monotonic() < self._drawn_at + REDRAW_S:
            return
        done = sum(self._counts.values())
        of = f"/{self._total}" if self._total else ""
        parts = ", ".join(f"{count} {kind}" for kind, count in sorted(self._counts.items()))
        with self._lock:
            self._stream.write(f"{_CLEAR}node: {done}{of} frames: {parts}")
            self._stream.flush()
            self._shown = True
        self._drawn_at = time.monotonic()

    def close(self) -> None:
        """Take the counting line away."""
        with self._lock:
            self._hide()
            self._stream.flush()

    def _hide(self) -> None:
        if self._shown:
            self._stream.write(_CLEAR)
            self._shown = False
