"""Reading a file or pipe so that a reader who waits can be let go."""

from __future__ import annotations

import os
import select
import stat
import threading
from pathlib import Path

from waistline.errors import ConfigError

CHUNK_BYTES = 1 << 16
STDIN = "-"


class Descriptor:
    """Bytes of a file, of a FIFO, or of standard input (``-``).

    A FIFO is opened without waiting for whoever writes into it; `read` waits.

    Raises:
        ConfigError: it cannot be opened.
    """

    def __init__(self, path: str) -> None:
        try:
            if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises for names too long
                raise ConfigError(
                    f"{path} cannot be used", cause="it is a folder", fix="name a file"
                )
            self._file = 0 if path == STDIN else os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except (OSError, ValueError) as error:
            cause = getattr(error, "strerror", None) or str(error)
            raise ConfigError(f"{path} cannot be used", cause=cause, fix="name a file") from error
        self._wake_read, self._wake_write = os.pipe()
        self._poll = select.poll()
        self._poll.register(self._file, select.POLLIN)
        self._poll.register(self._wake_read, select.POLLIN)
        self._closed = False
        self._closing = threading.Lock()

    def read(self) -> bytes:
        """Up to `CHUNK_BYTES`; waits for the first. b"" at the end, after `stop`, after a failure.

        Raises:
            OSError: the device failed.
        """
        while True:
            ready = dict(self._poll.poll())
            if self._wake_read in ready:
                return b""
            try:
                return os.read(self._file, CHUNK_BYTES)
            except BlockingIOError:
                continue

    def stop(self) -> None:
        """Let `read` return b""; any thread."""
        with self._closing:
            # A closed number may by now be another file's.
            if not self._closed:
                os.write(self._wake_write, b".")

    def close(self) -> None:
        with self._closing:
            if self._closed:
                return
            self._closed = True
        for number in (self._wake_read, self._wake_write, self._file):
            if number:
                os.close(number)


def waits(path: str) -> bool:
    """Whether it is a stream that only comes as it is written: standard input or a FIFO."""
    if path == STDIN:
        return True
    try:
        return stat.S_ISFIFO(Path(path).stat().st_mode)
    except (OSError, ValueError):
        return False
