"""``python -m waistline_hostctl.capture.child``: the reader or the writer of a capture.

`tasks` says what comes and goes. Neither outlives the capture: the reader stops when its control
pipe ends or the writer is gone, the writer when the reader has said its last word or is gone.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from waistline.errors import WaistlineError
from waistline.trace.store import create
from waistline_hostctl.capture.reader import hurry, pump
from waistline_hostctl.capture.ring import Ring
from waistline_hostctl.capture.tasks import (
    Answer,
    Begun,
    Done,
    Ended,
    Failed,
    Lines,
    Note,
    ReaderTask,
    Task,
    WriterTask,
)
from waistline_hostctl.capture.writer import Event, Keeper, spec_of
from waistline_hostctl.meters.base import decoder_from, reader_from

if TYPE_CHECKING:
    from waistline.trace.jls_write import JlsWriter

_FOREVER_S = 1e6
_LAST_NOTES_S = 10.0


def main() -> int:
    # An interrupt at the terminal is for the control process, which ends us in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    lines = Lines(sys.stdin.fileno())
    waiting: list[bytes] = []
    while not waiting and not lines.over:
        waiting += lines.take(_FOREVER_S)
    if not waiting:
        return 0
    task = msgspec.json.decode(waiting.pop(0), type=Task)
    try:
        if isinstance(task, ReaderTask):
            _read(task)
        else:
            _write(task, lines, waiting)
    except WaistlineError as error:
        _say(Failed.of(error))
        return 1
    return 0


def _say(answer: Answer) -> None:
    with suppress(BrokenPipeError):
        os.write(sys.stdout.fileno(), msgspec.json.encode(answer) + b"\n")


def _read(task: ReaderTask) -> None:
    ring = Ring(task.ring)
    reader = reader_from(task.meter, task.settings)
    allowed = hurry()
    try:
        reader.start()
        _say(Begun(allowed))
        found = pump(
            reader,
            ring,
            sys.stdin.fileno(),
            peer=task.peer,
            chunk_bytes=task.chunk_bytes,
            pause_s=task.pause_s,
            patient=task.patient,
        )
    finally:
        reader.stop()
    _say(Ended(found.reason, found.over))


def _write(task: WriterTask, lines: Lines, waiting: list[bytes]) -> None:
    ring = Ring(task.ring)
    decoder = decoder_from(task.info.name, task.settings)
    trace = create(Path(task.path), spec_of(task.info))
    trace.user_data(bytes(task.run))
    notes = _Notes(trace, lines, waiting)
    _say(Begun())
    keeper = Keeper(
        ring,
        decoder,
        trace,
        task.info,
        events=notes.events,
        reader_alive=_Peer(task.peer).lives,
        most=task.most,
    )
    _say(Done(keeper.run()))


class _Notes:
    """What the control process has to say to the writer."""

    def __init__(self, trace: JlsWriter, lines: Lines, waiting: list[bytes]) -> None:
        self._trace, self._lines, self._waiting = trace, lines, waiting

    def events(self, last: bool) -> Iterable[Event]:
        """Events since last time; run.json goes straight into the trace.

        Args:
            last: wait until there can be no more: the control process has said all, or is gone.
        """
        found = []
        lines = [*self._waiting, *self._lines.take()]
        limit = time.monotonic() + _LAST_NOTES_S
        while last and not self._lines.over and time.monotonic() < limit:
            lines += self._lines.take(_LAST_NOTES_S)
        for line in lines:
            note = msgspec.json.decode(line, type=Note)
            if isinstance(note, Event):
                found.append(note)
            else:
                self._trace.user_data(bytes(note.run))
        self._waiting = []
        return found


class _Peer:
    """Whether the process at the other end of a pipe lives."""

    def __init__(self, peer: int) -> None:
        self._poll = select.poll()
        self._poll.register(peer, 0)

    def lives(self) -> bool:
        return not self._poll.poll(0)


if __name__ == "__main__":
    sys.exit(main())
