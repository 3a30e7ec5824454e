"""The writer process: takes records out of the ring, decodes them and keeps the trace.

It stands between what the meter says and what is on the disk, and owns the account of both. When
its disk is full or its reader is gone it closes the trace with what there is and says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import numpy as np

from waistline.errors import WaistlineError
from waistline.trace.accuracy import Parts
from waistline.trace.base import Annotation, Block, TraceSpec, TraceWriter
from waistline_hostctl.capture.clock import HostClock
from waistline_hostctl.capture.records import Consumer, Kind, Record
from waistline_hostctl.capture.ring import Ring
from waistline_hostctl.capture.sums import Sums, begin, size
from waistline_hostctl.meters._ledger import cut
from waistline_hostctl.meters.base import Decoder, MeterInfo, Part

FLUSH_S = 0.25
IDLE_S = 0.05
"""Between looks into an empty ring, which holds seconds: few wake-ups."""
NOTICE_S = 0.2
_READER_GONE_S = 1.0
"""With an empty ring and no reader for so long, no last word is coming."""


class Event(msgspec.Struct, frozen=True, tag="event"):
    """Something that happened at a moment of this machine's monotonic clock."""

    host_ns: int
    text: str


class Kept(msgspec.Struct, frozen=True):
    """What the writer says when it is done.

    Attributes:
        samples: ids in the trace, lost ones included.
        missing: of these, lost.
        ledger: the decoder's account of these.
        reason: why the reader ended, "" for being told to.
        error: why the writer did; "" where it wrote everything.
        parts: sums over what is there.
        clock_residual_s: of the map from the host's clock to the trace; NaN is None.
        annotations: written.
        full: all samples that were wanted are there.
    """

    samples: int
    missing: int
    ledger: dict[str, Any]
    reason: str
    error: str
    parts: Parts
    clock_residual_s: float | None
    annotations: int
    full: bool = False


def spec_of(info: MeterInfo) -> TraceSpec:
    """What is known of a trace before its first sample."""
    return TraceSpec(
        rate_hz=info.rate_hz,
        signals=info.signals,
        source=info.id,
        evidence=info.evidence,
        supply_v=info.supply_v,
    )


class Keeper:
    """One capture, from its ring to its trace.

    Args:
        ring: filled by a reader.
        decoder: of the meter.
        trace: just begun.
        info: of the meter.
        events: asked often; what happened since it was asked last. At the end it is asked with
            True, and may wait for what is on its way.
        reader_alive: asked while the ring is empty.
        most: samples, lost ones included, at which the trace ends; None: with the reader. What
            comes behind it is neither decoded nor counted.
    """

    def __init__(
        self,
        ring: Ring,
        decoder: Decoder,
        trace: TraceWriter,
        info: MeterInfo,
        *,
        events: Callable[[bool], Iterable[Event]] = lambda last: (),
        reader_alive: Callable[[], bool] = lambda: True,
        most: int | None = None,
    ) -> None:
        self._ring, self._consumer = ring, Consumer(ring)
        self._decoder, self._trace, self._info = decoder, trace, info
        self._events, self._reader_alive = events, reader_alive
        self._clock = HostClock(info.rate_hz)
        self._utc_offset_ns = time.time_ns() - time.monotonic_ns()
        self._sums = Sums(Parts())
        self._most = most
        self._given = 0
        self._account: dict[str, Any] | None = None
        self._waiting: list[Event] = []
        self._annotations = 0
        self._flushed = self._noticed = time.monotonic()
        self._host_ns = 0

    def run(self) -> Kept:
        """Keep everything up to the reader's last word, or what is wanted."""
        reason, error = "", ""
        try:
            reason = self._take_all()
            if self._account is None:
                self._write(self._decoder.finish(self._host_ns))
            self._waiting += self._events(True)
            self._annotate(None)
            # A trace of less than a second has no other.
            self._utc(self._clock.finish())
        except WaistlineError as failure:
            error = str(failure)
        full = self._account is not None
        ledger = self._decoder.ledger() if self._account is None else self._account
        try:
            self._trace.close(msgspec.json.encode(ledger))
        except WaistlineError as failure:
            error = error or str(failure)
        residual = self._clock.residual_s
        sums = self._sums
        return Kept(
            samples=sums.samples,
            missing=sums.missing,
            ledger=ledger,
            # What became of the meter behind the end of the trace does not matter to it.
            reason="" if full else reason,
            error=error,
            parts=sums.parts,
            clock_residual_s=None if np.isnan(residual) else residual,
            annotations=self._annotations,
            full=full,
        )

    def _take_all(self) -> str:
        alone_since = 0.0
        while True:
            record = self._consumer.take()
            if record is None:
                now = time.monotonic()
                if self._reader_alive():
                    alone_since = now
                elif alone_since and now - alone_since > _READER_GONE_S:
                    return "the reader process ended without a word"
                alone_since = alone_since or now
                self._now_and_then()
                time.sleep(IDLE_S)
                continue
            if record.kind == Kind.END:
                self._host_ns = max(self._host_ns, record.host_ns)
                reason = bytes(record.payload).decode(errors="replace")
                self._consumer.release()
                return reason
            if self._account is None:
                self._decode(record)
            self._consumer.release()
            self._now_and_then()

    def _decode(self, record: Record) -> None:
        self._host_ns = max(self._host_ns, record.host_ns)
        if record.kind == Kind.DATA:
            parts = self._decoder.feed(record.payload, record.host_ns)
        else:
            parts = self._decoder.skip(record.dropped_bytes, record.host_ns)
        # Blocks may look into the record: it is given back once they are written.
        self._write(parts)
        if parts:
            self._utc(self._clock.add(self._given, record.host_ns))

    def _utc(self, point: tuple[int, int] | None) -> None:
        if point is not None and not self._info.patient:
            self._trace.utc(point[0], point[1] + self._utc_offset_ns)

    def _write(self, parts: Iterable[Part]) -> None:
        for part in parts:
            if isinstance(part, Annotation):
                if self._most is None or part.sample <= self._most:
                    self._trace.annotate(part)
                    self._annotations += 1
                continue
            self._given += size(part)
            if self._most is not None and self._given > self._most:
                room = self._most - self._sums.samples
                if not room:
                    continue
                part = begin(part, room)
            if isinstance(part, Block):
                self._sums.block(part, self._info.supply_v)
                self._trace.write(part)
            else:
                self._trace.gap(part)
                self._sums.gap(part)
        if self._sums.samples == self._most:
            self._end()

    def _end(self) -> None:
        """Nothing that comes from now on is of this trace."""
        sums = self._sums
        self._account = self._decoder.ledger()
        if self._given > sums.samples:
            self._account = cut(self._account, sums.samples, sums.samples - sums.missing)
        self._notice()

    def _now_and_then(self) -> None:
        now = time.monotonic()
        if now - self._flushed > FLUSH_S:
            self._flushed = now
            self._trace.flush()
        if now - self._noticed > NOTICE_S:
            self._noticed = now
            self._waiting += self._events(False)
            self._annotate(self._clock.known_until_ns)
            self._notice()

    def _notice(self) -> None:
        sums = self._sums
        total = sums.parts.total
        self._ring.say(
            "writer",
            {
                "samples": sums.samples,
                "missing": sums.missing,
                "there": total.count,
                "charge": total.current,
                "power": total.power,
                "began_ns": self._clock.host_ns_at(0),
            },
        )

    def _annotate(self, until_ns: int | None) -> None:
        """Events whose place is known by now; None: all."""
        later = []
        for event in self._waiting:
            if until_ns is not None and event.host_ns > until_ns:
                later.append(event)
                continue
            sample = self._clock.sample_at(event.host_ns)
            if 0 <= sample <= self._sums.samples:
                self._trace.annotate(Annotation(sample, "marker", event.text))
                self._annotations += 1
        self._waiting = later
