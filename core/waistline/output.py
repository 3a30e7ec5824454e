"""Standard output and error, which may be full, closed, or no longer read."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import TYPE_CHECKING, TextIO

from waistline.errors import ConfigError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _Stream(io.RawIOBase):
    """Writes to a descriptor until that fails once; what comes later is dropped without a word.

    So the interpreter, which writes what is left at its end, has nothing to complain of.

    Args:
        number: of the descriptor, which is not closed.
        told: a failure is raised: `BrokenPipeError`, or `ConfigError` for all others.
    """

    def __init__(self, number: int, *, told: bool) -> None:
        self._number, self._told = number, told
        self._failed = False

    def fileno(self) -> int:
        return self._number

    def isatty(self) -> bool:
        return os.isatty(self._number)

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int | None:
        size_bytes = memoryview(data).nbytes
        if self._failed:
            return size_bytes
        try:
            return os.write(self._number, data)
        except BlockingIOError:
            return None
        except OSError as error:
            self._failed = True
            if not self._told:
                return size_bytes
            if isinstance(error, BrokenPipeError):
                raise
            raise _unwritable(error) from error


def guard() -> None:
    """Replace standard output and error of this process by streams that fail as programs should.

    Whoever writes then gets a `ConfigError` where the disk is full, and a `BrokenPipeError` where
    nobody reads any more, once. A failing standard error is given up: there is nobody to tell.
    """
    sys.stdout = _guarded(sys.stdout, told=True)
    sys.stderr = _guarded(sys.stderr, told=False)


def _guarded(stream: TextIO | None, *, told: bool) -> TextIO:
    if stream is None:
        # Closed by whoever started us; the next file that is opened must not get its number.
        return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123
    if not isinstance(stream, io.TextIOWrapper) or not _is_file(stream):
        return stream
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Stream(stream.fileno(), told=told)),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _is_file(stream: TextIO) -> bool:
    """Whether it writes to a descriptor; not where a caller keeps what we say."""
    try:
        stream.fileno()
    except OSError:
        return False
    return True


def _unwritable(error: OSError) -> ConfigError:
    number = error.errno or 0
    return ConfigError(
        "the result cannot be written to standard output",
        cause=f"{error.strerror} (errno {number}, {errno.errorcode.get(number, 'unknown')})",
        fix="free space where it goes to, or send it elsewhere, and run again",
    )
