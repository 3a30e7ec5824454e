"""What the processes of a capture say to each other: lines of JSON on standard input and output.

A child's standard input is its control pipe: its first line is the task, later lines are for the
writer alone, and its end means that the capture is over, or the control process gone. On standard
output a child says that it has begun, or why not, and the writer at last what it kept.
"""

from __future__ import annotations

import os
import select
from typing import Any

import msgspec

from waistline import errors
from waistline.errors import WaistlineError
from waistline_hostctl.capture.writer import Event, Kept
from waistline_hostctl.meters.base import MeterInfo

_PIECE = 1 << 16


class ReaderTask(msgspec.Struct, frozen=True, tag="reader"):
    """Read a meter into a ring.

    Attributes:
        meter: its file name.
        settings: of `Meter.settings`.
        ring: descriptor of the memory.
        peer: descriptor of a pipe's end for writing; broken once the writer is gone.
        chunk_bytes: to read at once.
        pause_s, patient: as in `MeterInfo`.
    """

    meter: str
    settings: dict[str, Any]
    ring: int
    peer: int
    chunk_bytes: int
    pause_s: float
    patient: bool


class WriterTask(msgspec.Struct, frozen=True, tag="writer"):
    """Decode a ring into a trace.

    Attributes:
        info: of the meter.
        settings: of `Meter.settings`.
        ring: descriptor of the memory.
        peer: descriptor of the pipe's other end; at its end once the reader is gone.
        path: of the new trace.
        run: run.json as it is now.
        most: samples at which the trace ends; None: with the reader.
    """

    info: MeterInfo
    settings: dict[str, Any]
    ring: int
    peer: int
    path: str
    run: msgspec.Raw
    most: int | None = None


Task = ReaderTask | WriterTask


class RunNow(msgspec.Struct, frozen=True, tag="run"):
    """To the writer: run.json as it has become."""

    run: msgspec.Raw


Note = Event | RunNow


class Begun(msgspec.Struct, frozen=True, tag="begun"):
    """A child works; the reader says what the system allowed."""

    allowed: dict[str, bool] = {}


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """A child ends with an error of this class."""

    kind: str
    what: str
    cause: str
    fix: str

    @classmethod
    def of(cls, error: WaistlineError) -> Failed:
        return cls(type(error).__name__, error.what, error.cause, error.fix)

    def error(self) -> WaistlineError:
        """The same error, here."""
        kind = getattr(errors, self.kind, WaistlineError)
        known = isinstance(kind, type) and issubclass(kind, WaistlineError)
        found: WaistlineError = (kind if known else WaistlineError)(
            self.what, cause=self.cause, fix=self.fix
        )
        return found


class Ended(msgspec.Struct, frozen=True, tag="ended"):
    """The reader's end: why, "" for being told to; ``over``: its source has no more."""

    reason: str
    over: bool = False


class Done(msgspec.Struct, frozen=True, tag="done"):
    """The writer's end."""

    kept: Kept


Answer = Begun | Failed | Ended | Done


class Lines:
    """Whole lines out of a descriptor, without waiting longer than told.

    Attributes:
        over: there will be no more.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)
        self._rest = b""
        self.over = False

    def take(self, timeout_s: float = 0.0) -> list[bytes]:
        """Lines that are there; waits for the first byte."""
        while not self.over and self._poll.poll(timeout_s * 1e3):
            data = os.read(self._descriptor, _PIECE)
            self.over = not data
            self._rest += data
            timeout_s = 0.0
        *lines, self._rest = self._rest.split(b"\n")
        return lines
