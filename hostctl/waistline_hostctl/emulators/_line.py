"""A pseudo-terminal with an instrument at its far end."""

from __future__ import annotations

import contextlib
import os
import select
import tty


class Line:
    """The instrument's end of a serial line.

    The other end stays open here too, so that clients may come and go.
    """

    def __init__(self) -> None:
        self._end, self._kept = os.openpty()
        tty.setraw(self._kept)
        os.set_blocking(self._end, False)
        self.path = os.ttyname(self._kept)

    def receive(self, timeout_s: float) -> bytes:
        """What the client sent, after waiting for it."""
        ready, _, _ = select.select([self._end], [], [], timeout_s)
        if not ready:
            return b""
        with contextlib.suppress(BlockingIOError):
            return os.read(self._end, 4096)
        return b""

    def send(self, data: bytes | memoryview) -> int:
        """Bytes of ``data`` that the line took, without waiting."""
        try:
            return os.write(self._end, data)
        except BlockingIOError:
            return 0

    def close(self) -> None:
        """Pull the plug: the client's reads fail."""
        os.close(self._end)
        os.close(self._kept)
