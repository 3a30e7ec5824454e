"""Standard output and error, which may be full, closed, or no longer read."""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from typing import TYPE_CHECKING, TextIO

from waistline.errors import ConfigError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _Stream(io.RawIOBase):
    """Writes to a descriptor until that fails once; what comes later is dropped without a word.

    So the interpreter, which writes what is left at its end, has nothing to complain of.

    Where a pipe is full and does not wait for its reader, we do.

    Args:
        number: of the descriptor, which is not closed.
        name: of the stream, as Python has it.
        told: a failure is raised: `BrokenPipeError`, or `ConfigError` for all others.
    """

    mode = "wb"

    def __init__(self, number: int, name: str, *, told: bool) -> None:
        self.name = name
        self._number, self._told = number, told
        self._failed: OSError | None = None

    def fileno(self) -> int:
        return self._number

    def isatty(self) -> bool:
        return os.isatty(self._number)

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int | None:
        size_bytes = memoryview(data).nbytes
        if self._failed is not None:
            return size_bytes
        try:
            return self._written(data)
        except OSError as error:
            self._failed = error
            self.check()
        return size_bytes

    def check(self) -> None:
        """Raise what it failed with, if it did and that is told."""
        if self._failed is None or not self._told:
            return
        if isinstance(self._failed, BrokenPipeError):
            raise self._failed
        raise _unwritable(self._failed) from self._failed

    def _written(self, data: ReadableBuffer) -> int:
        while True:
            try:
                return os.write(self._number, data)
            except BlockingIOError:
                waiting = select.poll()
                waiting.register(self._number, select.POLLOUT)
                waiting.poll()


class _Unbuffered(io.BufferedWriter):
    """Keeps nothing back (``python -u``), and writes all of it where the system takes a part."""

    def write(self, data: ReadableBuffer, /) -> int:
        size_bytes = super().write(data)
        self.flush()
        return size_bytes


def guard() -> None:
    """Replace standard output and error of this process by streams that fail as programs should.

    Whoever writes then gets a `ConfigError` where the disk is full, and a `BrokenPipeError` where
    nobody reads any more, once. A failing standard error is given up: there is nobody to tell.
    """
    _fill()
    sys.stdout = _guarded(sys.stdout, told=True)
    sys.stderr = _guarded(sys.stderr, told=False)


def finish(*, well: bool) -> None:
    """Write out what is still waiting on standard output.

    Args:
        well: nothing has gone wrong as far as we know. An early failure is then raised again: some
            who write, such as argparse, keep it to themselves.

    Raises:
        BrokenPipeError, ConfigError: see `guard`.
    """
    sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if well and isinstance(raw, _Stream):
        raw.check()


def _fill() -> None:
    """Give standard streams that whoever started us has closed their numbers back.

    A file or socket of ours would get them next, and what a library says would go into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest that is free, which is this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def _guarded(stream: TextIO | None, *, told: bool) -> TextIO:
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123
    if not isinstance(stream, io.TextIOWrapper) or not _is_file(stream):
        return stream
    stream.flush()
    kept = _Unbuffered if stream.write_through else io.BufferedWriter
    return io.TextIOWrapper(
        kept(_Stream(stream.fileno(), stream.name, told=told)),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _is_file(stream: TextIO) -> bool:
    """Whether it writes to a descriptor; not where a caller keeps what we say."""
    try:
        stream.fileno()
    except (OSError, ValueError):  # it has none, or was closed
        return False
    return True


def _unwritable(error: OSError) -> ConfigError:
    number = error.errno or 0
    return ConfigError(
        "the result cannot be written to standard output",
        cause=f"{error.strerror} (errno {number}, {errno.errorcode.get(number, 'unknown')})",
        fix="free space where it goes to, or send it elsewhere, and run again",
    )
