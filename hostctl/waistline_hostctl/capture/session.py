"""One capture while it lasts: its ring, its two processes, and why it ends."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import msgspec

from waistline.errors import ConfigError, WaistlineError
from waistline_hostctl.capture.command import Command
from waistline_hostctl.capture.limits import Limits
from waistline_hostctl.capture.live import Live
from waistline_hostctl.capture.processes import Child
from waistline_hostctl.capture.reader import CHUNK_BYTES
from waistline_hostctl.capture.record import FAILURES, Ending
from waistline_hostctl.capture.ring import Ring
from waistline_hostctl.capture.tasks import (
    Answer,
    Done,
    Ended,
    Failed,
    ReaderTask,
    RunNow,
    WriterTask,
)
from waistline_hostctl.capture.writer import Event, Kept
from waistline_hostctl.meters.base import MeterInfo

BEGIN, END = "command-begin", "command-end"
_LEAST_RING = 4 << 20
_LOOK_S = 0.1
_LEAD_S = _TAIL_S = 0.2
"""What of the trace lies before and behind a command."""
_READER_S, _WRITER_S = 15.0, 60.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a capture went.

    Attributes:
        ended: why.
        why: in words, "" where it ended as it should.
        kept: what the writer says; None: it was killed, or failed.
        failure: what the writer failed with.
    """

    ended: Ending
    why: str
    kept: Kept | None
    failure: WaistlineError | None


def ring_bytes(info: MeterInfo, buffer_s: float) -> int:
    """Size of a ring for so many seconds, with room for records and their heads."""
    wanted = buffer_s * info.rate_hz * info.sample_bytes * 1.1
    return max(_LEAST_RING, int(wanted) + 4 * chunk_bytes(info))


def chunk_bytes(info: MeterInfo) -> int:
    """What the reader reads at once: four of its pauses, to catch up after a late one."""
    return max(CHUNK_BYTES, int(4 * info.pause_s * info.rate_hz * info.sample_bytes) // 4096 * 4096)


class Session:
    """A context that leaves no process and no memory behind.

    Args:
        info: of the meter.
        settings: of the meter.
        path: of the new trace.
        duration_s: of the trace; None: until something else ends it.
        buffer_s: that the ring holds.
        command: to run in its midst.
        signals: grows with each interrupt.
        stream: gets the line of statistics, where it is a terminal.
    """

    def __init__(
        self,
        info: MeterInfo,
        settings: dict[str, object],
        path: Path,
        *,
        duration_s: float | None,
        buffer_s: float,
        command: Command | None,
        signals: list[int],
        stream: TextIO,
    ) -> None:
        self._info, self._settings, self._path = info, settings, path
        self._command, self._signals = command, signals
        self._ended: Ending | None = None
        self._why = ""
        self._tail_s = 0.0
        self._kept: Kept | None = None
        self._failure: WaistlineError | None = None
        self._stack = contextlib.ExitStack()
        with contextlib.ExitStack() as stack:
            if command is not None:
                stack.callback(command.close)
            self._ring = Ring.make(ring_bytes(info, buffer_s))
            stack.callback(self._ring.close)
            hears, alive = os.pipe()
            try:
                self._writer = Child("writer", (self._ring.descriptor, hears))
                stack.callback(self._writer.close)
                self._reader = Child("reader", (self._ring.descriptor, alive))
                stack.callback(self._reader.close)
            finally:
                os.close(hears)
                os.close(alive)
            self._live = Live(self._ring, info, stream)
            stack.callback(self._live.close)
            self._limits = Limits(info, self._live, duration_s)
            self._peers = hears, alive
            self._stack = stack.pop_all()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def pids(self) -> dict[str, int]:
        """Of reader and writer."""
        return {child.name: child.pid for child in (self._reader, self._writer)}

    def begin(self, run: bytes) -> dict[str, bool]:
        """Let the writer make the trace, then the reader start the meter.

        Args:
            run: run.json as it is now.

        Returns:
            What the system allowed the reader.

        Raises:
            WaistlineError: one of them could not; the trace may be there, empty.
        """
        hears, alive = self._peers
        ring, path = self._ring.descriptor, str(self._path)
        info, settings = self._info, self._settings
        self._writer.begin(
            WriterTask(info, settings, ring, hears, path, msgspec.Raw(run), self._limits.samples)
        )
        task = ReaderTask(
            info.name, settings, ring, alive, chunk_bytes(info), info.pause_s, info.patient
        )
        return self._reader.begin(task).allowed

    def watch(self) -> None:
        """Look on until there is a reason to end."""
        self._limits.begin(time.monotonic())
        while self._ended is None:
            now_s = time.monotonic()
            self._live.update(now_s)
            self._limits.look(now_s)
            self._ended = (
                self._of_samples()
                or self._of_children()
                or ("interrupted" if self._signals else None)
                or self._of_time(now_s)
                or self._of_command(now_s)
            )
            if self._ended is None:
                time.sleep(_LOOK_S)

    def finish(self, run: Callable[[], bytes]) -> Outcome:
        """End command, reader and writer, in this order.

        Args:
            run: run.json as it has become.
        """
        assert self._ended is not None
        self._reader.stop()
        if self._command is not None:
            self._command.end()
            self._note_events(self._command)
        self._writer.note(RunNow(msgspec.Raw(run())))
        self._writer.stop()
        if not self._reader.end(_READER_S) and self._ended not in FAILURES:
            self._ended, self._why = "reader", "it did not stop, and was killed"
        self._wait_for_writer(len(self._signals))
        if self._kept and self._kept.full and self._ended in ("source", "meter", "silent"):
            # It had all that was wanted before the meter went.
            self._ended, self._why = "duration", ""
        self._live.close()
        return Outcome(self._ended, self._why, self._kept, self._failure)

    @property
    def ended(self) -> Ending | None:
        """Why it ended, None while it goes on."""
        return self._ended

    def _of_samples(self) -> Ending | None:
        return "duration" if self._limits.full else None

    def _of_time(self, now_s: float) -> Ending | None:
        found = self._limits.passed(now_s)
        if found is None:
            return None
        self._why = found.why
        return found.ended

    def _of_children(self) -> Ending | None:
        said = self._writer.answer()
        if said is not None:
            self._take(said)
            if self._failure or (self._kept and self._kept.error):
                return "trace"
            # The reader is at its end; it says so itself in a moment.
            return self._of_reader(1.0) or "reader"
        if not self._writer.lives():
            self._why = self._writer.complaint()
            return "writer"
        return self._of_reader(0.0)

    def _of_reader(self, timeout_s: float) -> Ending | None:
        lives = self._reader.lives()
        said = self._reader.answer(timeout_s)
        if isinstance(said, Ended):
            self._why = said.reason
            return "source" if said.over else "meter"
        if isinstance(said, Failed):
            self._why = str(said.error())
            return "reader"
        if not lives:
            self._why = self._reader.complaint()
            return "reader"
        return None

    def _of_command(self, now_s: float) -> Ending | None:
        command = self._command
        if command is None:
            return None
        self._note_events(command)
        if command.ended_ns:
            if not self._tail_s:
                self._mark(END, command.ended_ns)
                self._tail_s = now_s + _TAIL_S
            return "command" if now_s > self._tail_s else None
        if not command.started and self._limits.passed_s() > _LEAD_S:
            try:
                self._mark(BEGIN, command.start())
            except ConfigError as error:
                self._why = str(error)
                return "no command"
        return None

    def _note_events(self, command: Command) -> None:
        for event in command.events():
            self._writer.note(event)

    def _mark(self, text: str, host_ns: int) -> None:
        self._writer.note(Event(host_ns, text))

    def _wait_for_writer(self, signals: int) -> None:
        """Its last word, while it makes progress; one more interrupt kills it."""
        seen, limit_s = -1, time.monotonic() + _WRITER_S
        while self._kept is None and self._failure is None and self._writer.lives():
            said, now_s = self._writer.answer(_LOOK_S), time.monotonic()
            if said is not None:
                self._take(said)
            self._live.update(now_s)
            if self._live.samples != seen:
                seen, limit_s = self._live.samples, now_s + _WRITER_S
            if now_s > limit_s or len(self._signals) > signals:
                self._writer.kill()
        self._writer.end(_READER_S)
        said = self._writer.answer(_LOOK_S)
        if said is not None:
            self._take(said)
        if self._kept is None and self._failure is None:
            self._why = self._why or self._writer.complaint()
            self._ended = self._ended if self._ended in FAILURES else "writer"

    def _take(self, said: Answer) -> None:
        if isinstance(said, Done):
            self._kept = said.kept
            self._why = self._why or said.kept.error or said.kept.reason
        elif isinstance(said, Failed):
            self._failure = said.error()
            self._why = self._why or str(self._failure)
