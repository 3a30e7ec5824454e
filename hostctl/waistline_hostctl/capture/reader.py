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

from waistline.errors import MeterError
from waistline_hostctl.capture.ring import Producer, Ring
from waistline_hostctl.meters.base import Reader

CHUNK_BYTES = 1 << 16
"""Read at once; more than a pseudoterminal or a USB serial driver holds."""
PAUSE_S = 0.005
"""Between reads: few wake-ups, and a tenth of what the smallest line holds at 400 kB/s."""
NOTICE_S = 0.1
_LAST_WORD_S = 10.0
_PRIORITY = 50
_LOCK_NOW_AND_LATER = 3  # MCL_CURRENT | MCL_FUTURE


def pump(reader: Reader, ring: Ring, control: int) -> str:
    """Read until told to stop; why it ended, "" for being told to.

    Args:
        reader: started.
        ring: gets the records, at last one of kind END.
        control: a descriptor; a byte in it, or its end, means stop.
    """
    producer = Producer(ring)
    scratch = memoryview(bytearray(CHUNK_BYTES))
    waits = select.poll()
    waits.register(control, select.POLLIN)
    line = reader.fileno()
    if line >= 0:
        waits.register(line, select.POLLIN)
    total = last_notice = 0
    reason = ""
    while not reason:
        ready = waits.poll(PAUSE_S * 1e3 if line < 0 else NOTICE_S * 1e3)
        if any(descriptor == control for descriptor, _ in ready):
            break
        try:
            total += _drain(reader, producer, scratch)
        except MeterError as error:
            reason = "; ".join(error.lines())
        now = time.monotonic_ns()
        if now - last_notice > NOTICE_S * 1e9:
            last_notice = now
            waiting = producer.waiting_bytes / ring.capacity
            ring.say("reader", {"bytes": total, "dropped": producer.dropped_bytes, "full": waiting})
        if line >= 0 and not reason:
            time.sleep(PAUSE_S)
    reader.stop()
    _last_word(producer, reason)
    return reason


def _drain(reader: Reader, producer: Producer, scratch: memoryview) -> int:
    """Read until nothing is left; bytes read."""
    total = 0
    while True:
        view = producer.reserve(CHUNK_BYTES)
        count = reader.read_into(scratch if view is None else view)
        host_ns = time.monotonic_ns()
        if count and view is None:
            producer.drop(count, host_ns)
        elif count:
            producer.commit(count, host_ns)
        total += count
        if count < CHUNK_BYTES:
            return total


def _last_word(producer: Producer, reason: str) -> None:
    """END, once the writer has made room; a writer that is gone never will."""
    deadline = time.monotonic() + _LAST_WORD_S
    while not producer.end(reason, time.monotonic_ns()) and time.monotonic() < deadline:
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
