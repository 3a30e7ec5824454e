"""The reader process: moves a meter's bytes into the ring, and does nothing else.

It decodes nothing, makes no garbage and never waits for the writer: while the ring is full it goes
on reading, throws away what it read, and says how much that was.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import select
import time
from dataclasses import dataclass

from waistline.errors import MeterError
from waistline_hostctl.capture.records import Producer
from waistline_hostctl.capture.ring import Ring
from waistline_hostctl.meters.base import Reader

CHUNK_BYTES = 1 << 16
"""Read at once; more than a pseudoterminal or a USB serial driver holds."""
PAUSE_S = 0.008
"""Between reads where nothing else is said: few wake-ups, and a fifth of what the smallest line
holds at 400 kB/s."""
NOTICE_S = 0.1
WRITER_GONE = "the writer process ended"
_LAST_WORD_S = 10.0
_PRIORITY = 50
_LOCK_NOW_AND_LATER = 3  # MCL_CURRENT | MCL_FUTURE


@dataclass(frozen=True, slots=True)
class End:
    """Why reading ended.

    Attributes:
        reason: "" for being told to, or because there is no more.
        over: the source has no more.
    """

    reason: str
    over: bool = False


def pump(
    reader: Reader,
    ring: Ring,
    control: int,
    *,
    peer: int = -1,
    chunk_bytes: int = CHUNK_BYTES,
    pause_s: float = PAUSE_S,
    patient: bool = False,
) -> End:
    """Read until told to stop, the meter is gone, or the writer.

    Args:
        reader: started.
        ring: gets the records, at last one of kind END.
        control: a descriptor; a byte in it, or its end, means stop.
        peer: end for writing of a pipe that the writer reads; -1: there is none.
        chunk_bytes: to read at once.
        pause_s: between reads.
        patient: do not read while there is no room.
    """
    producer = Producer(ring)
    scratch = memoryview(bytearray(chunk_bytes))
    waits = _Waits(control, peer, reader.fileno())
    notices = _Notices(ring, producer)
    end = None
    while end is None:
        view = producer.reserve(chunk_bytes)
        buffer = scratch if view is None else view
        count, end = _read(reader, waits, buffer, pause_s, idle=patient and view is None)
        now = time.monotonic_ns()
        if count and view is not None:
            producer.commit(count, now)
        elif count:
            producer.drop(count, now)
        notices.add(count, now)
        if waits.line and end is None and count < chunk_bytes:
            time.sleep(pause_s)
    reader.stop()
    if end.reason != WRITER_GONE:
        _last_word(producer, end.reason, waits)
    return end


class _Waits:
    """What may happen between two reads.

    Attributes:
        line: bytes of the meter can be waited for.
    """

    def __init__(self, control: int, peer: int, line: int) -> None:
        self._control, self._peer = control, peer
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)
        if peer >= 0:
            self._poll.register(peer, 0)
        self.line = line >= 0
        if self.line:
            self._poll.register(line, select.POLLIN)

    def look(self, timeout_s: float) -> End | None:
        """Wait for bytes, or a reason to end, which is returned."""
        found = {descriptor for descriptor, _ in self._poll.poll(timeout_s * 1e3)}
        if self._peer in found:
            return End(WRITER_GONE)
        return End("") if self._control in found else None


class _Notices:
    """Says now and then how it goes."""

    def __init__(self, ring: Ring, producer: Producer) -> None:
        self._ring, self._producer = ring, producer
        self._last_ns = self._total = 0

    def add(self, count: int, now_ns: int) -> None:
        self._total += count
        if now_ns - self._last_ns > NOTICE_S * 1e9:
            self._last_ns = now_ns
            dropped = self._producer.dropped_bytes
            full = self._producer.waiting_bytes / self._ring.capacity
            self._ring.say("reader", {"bytes": self._total, "dropped": dropped, "full": full})


def _read(
    reader: Reader, waits: _Waits, buffer: memoryview, pause_s: float, *, idle: bool
) -> tuple[int, End | None]:
    """(bytes read, why it is over); ``idle``: do not take what can wait."""
    count, end = 0, None
    try:
        if waits.line:
            # Empty the line, then wait for what comes next: that is as prompt as can be, and
            # the time of the whole read.
            count = reader.read_into(buffer)
        wait_s = NOTICE_S if waits.line else pause_s
        end = waits.look(wait_s if count < len(buffer) else 0)
        if not idle:
            more = reader.read_into(buffer[count:])
            end = End("", over=True) if more < 0 else end
            count += max(0, more)
    except MeterError as error:
        # That the meter is gone is said by whoever shows this.
        end = end or End(error.cause or error.what)
    return count, end


def _last_word(producer: Producer, reason: str, waits: _Waits) -> None:
    """END, once the writer has made room; a writer that is gone never will."""
    deadline = time.monotonic() + _LAST_WORD_S
    while not producer.end(reason, time.monotonic_ns()) and time.monotonic() < deadline:
        if waits.look(0) == End(WRITER_GONE):
            return
        time.sleep(PAUSE_S)


def hurry() -> dict[str, bool]:
    """Ask the system to let nothing come between; what it allowed."""
    gc.disable()
    allowed = {"real_time": False, "locked_memory": False}
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_PRIORITY))
        allowed["real_time"] = True
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None, use_errno=True)
        allowed["locked_memory"] = library.mlockall(_LOCK_NOW_AND_LATER) == 0
    return allowed
