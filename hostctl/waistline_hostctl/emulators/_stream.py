"""Samples on their way out of an emulated instrument: a FIFO that ends, and faults."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from waistline_hostctl.emulators._faults import Fault, Truth
from waistline_hostctl.emulators._line import Line

_MOST = 1 << 16
Encoder = Callable[[int, int], NDArray[np.uint8]]


class Stream:
    """Makes samples at a fixed rate and offers them to the line.

    A sample is taken when its time has come, whether or not there is room for it: when the FIFO is
    full it is lost while the numbering runs on, as in the instrument.

    Args:
        line: where bytes go.
        encode: (first, count) to uint8 (count, sample_bytes).
        rate_hz: of the samples.
        fifo: samples it holds.
        sample_bytes: of one sample.
        faults: to make on purpose.
        truth: takes what happened.

    Attributes:
        message: bytes sent before the first sample and about every second, by sample number.
        unplugged: it is gone.
    """

    def __init__(
        self,
        line: Line,
        encode: Encoder,
        *,
        rate_hz: float,
        fifo: int,
        sample_bytes: int,
        faults: Sequence[Fault],
        truth: Truth,
    ) -> None:
        self._line = line
        self._encode = encode
        self._rate_hz = rate_hz
        self._room = fifo * sample_bytes
        self._size = sample_bytes
        self._faults = sorted(faults, key=lambda one: one.at)
        self._truth = truth
        self._waiting = bytearray()
        self._next = 0
        self._second = 0
        self.message: Callable[[int], bytes] | None = None
        self._last = np.empty((0, sample_bytes), np.uint8)
        self._start_ns = time.monotonic_ns()
        self._stalled_until_ns = 0
        self._losing: tuple[int, int, str] | None = None
        self.unplugged = False
        truth.say("start", rate_hz=rate_hz)

    def tick(self) -> None:
        """Take the samples that are due, and send what the line takes."""
        self._send()
        now_ns = time.monotonic_ns()
        due = int((now_ns - self._start_ns) * self._rate_hz * 1e-9)
        while self._next < due and not self.unplugged:
            fault = self._faults[0] if self._faults else None
            stop = min(due, self._next + _MOST)
            if fault is not None and fault.at <= self._next:
                self._faults.pop(0)
                self._make(fault, now_ns)
                continue
            if fault is not None:
                stop = min(stop, fault.at)
            self._put(stop - self._next)
        self._send()

    def end(self) -> None:
        """Note how many samples there were; what waits is forgotten."""
        self._tell_lost()
        unsent = len(self._waiting) // self._size
        self._truth.say("stop", samples=self._next, unsent=unsent)

    def _put(self, count: int) -> None:
        if self.message is not None and self._next >= self._second:
            self._waiting += self.message(self._next)
            self._second = self._next + int(self._rate_hz)
        free = max(0, self._room - len(self._waiting)) // self._size
        taken = min(count, free)
        if taken:
            self._tell_lost()
            rows = self._encode(self._next, taken)
            self._waiting += rows.tobytes()
            self._last = np.concatenate([self._last, rows])[-1024:]
            self._next += taken
            self._send()
        if taken < count:
            self._lose(count - taken, "fifo")

    def _lose(self, count: int, cause: str) -> None:
        if self._losing and self._losing[2] == cause:
            count += self._losing[1]
            self._losing = (self._losing[0], count, cause)
        else:
            self._tell_lost()
            self._losing = (self._next, count, cause)
        self._next = self._losing[0] + count

    def _tell_lost(self) -> None:
        if self._losing:
            first, count, cause = self._losing
            self._truth.say("lost", first=first, count=count, cause=cause)
            self._losing = None

    def _make(self, fault: Fault, now_ns: int) -> None:
        if fault.kind == "drop":
            self._lose(int(fault.size), "injected")
        elif fault.kind == "dup":
            rows = self._last[-int(fault.size) :]
            self._waiting += rows.tobytes()
            self._truth.say("repeated", first=self._next - len(rows), count=len(rows))
        elif fault.kind == "byte":
            row = self._encode(self._next, 1).tobytes()
            which = self._next % self._size
            self._waiting += row[:which] + row[which + 1 :]
            self._truth.say("byte", sample=self._next, which=which)
            self._next += 1
        elif fault.kind == "stall":
            self._stalled_until_ns = now_ns + int(fault.size * 1e9)
            self._truth.say("stall", first=self._next, duration_s=fault.size)
        else:
            self._truth.say("unplug", first=self._next)
            self.unplugged = True

    def _send(self) -> None:
        if time.monotonic_ns() < self._stalled_until_ns:
            return
        while self._waiting:
            with memoryview(self._waiting) as waiting:
                sent = self._line.send(waiting[:_MOST])
            if not sent:
                return
            del self._waiting[:sent]
