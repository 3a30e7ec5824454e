"""The writer process: takes records out of the ring, decodes them and keeps the trace.

It stands between what the meter says and what is on the disk, and owns the account of both. When
its disk is full or its reader is gone it closes the trace with what there is and says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from waistline.errors import MeterError, WaistlineError
from waistline.trace.accuracy import Part, Parts
from waistline.trace.base import Annotation, Block, Floats, TraceSpec, TraceWriter
from waistline_hostctl.capture.clock import HostClock
from waistline_hostctl.capture.ring import Consumer, Kind, Ring
from waistline_hostctl.meters.base import Decoder, MeterInfo
from waistline_hostctl.meters.base import Part as Piece

FLUSH_S = 0.25
IDLE_S = 0.05
"""Between looks into an empty ring, which holds seconds: few wake-ups."""
NOTICE_S = 0.2
_SPAN_S = 0.1
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
        ledger: the decoder's account.
        reason: why the reader ended, "" for being told to.
        error: why the writer did; "" where it wrote everything.
        parts: sums over what is there.
        clock_residual_s: of the map from the host's clock to the trace; NaN is None.
        annotations: written.
    """

    samples: int
    missing: int
    ledger: dict[str, Any]
    reason: str
    error: str
    parts: Parts
    clock_residual_s: float | None
    annotations: int


@dataclass
class _Sums:
    """Running sums; float64."""

    parts: Parts
    samples: int = 0
    missing: int = 0

    def block(self, block: Block, supply_v: float | None) -> None:
        """Add a block.

        Raises:
            MeterError: its sums are not finite.
        """
        count = len(block)
        current, power, voltage = block.current_a, block.power_w, block.voltage_v
        charge = 0.0 if current is None else _sum(current)
        if power is None and current is not None and voltage is not None:
            power = current * voltage
        constant_w = charge * supply_v if power is None and supply_v is not None else 0.0
        part = Part(
            count,
            charge,
            0.0 if voltage is None else _sum(voltage),
            constant_w if power is None else _sum(power),
        )
        if not np.isfinite([part.current, part.voltage, part.power]).all():
            raise MeterError(
                "the meter's values are beyond all bounds",
                cause=f"{count} samples from {self.samples} on have no finite sum",
                fix="see its gain, offset and shunt in the bench file",
            )
        self.samples += count
        self.parts.add(part)


def _sum(values: Floats) -> float:
    """Of those that are there; float64."""
    found = float(np.add.reduce(values, dtype=np.float64))
    return found if found == found else float(np.nansum(values, dtype=np.float64))


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
    ) -> None:
        self._ring, self._consumer = ring, Consumer(ring)
        self._decoder, self._trace, self._info = decoder, trace, info
        self._events, self._reader_alive = events, reader_alive
        self._clock = HostClock(info.rate_hz)
        self._utc_offset_ns = time.time_ns() - time.monotonic_ns()
        self._sums = _Sums(Parts(span=max(1, int(info.rate_hz * _SPAN_S))))
        self._waiting: list[Event] = []
        self._annotations = 0
        self._flushed = self._noticed = time.monotonic()
        self._host_ns = 0

    def run(self) -> Kept:
        """Keep everything up to the reader's last word."""
        reason, error = "", ""
        try:
            reason = self._take_all()
            self._write(self._decoder.finish(self._host_ns))
            self._waiting += self._events(True)
            self._annotate(None)
        except WaistlineError as failure:
            error = str(failure)
        ledger = self._decoder.ledger()
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
            reason=reason,
            error=error,
            parts=sums.parts,
            clock_residual_s=None if np.isnan(residual) else residual,
            annotations=self._annotations,
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
            self._host_ns = max(self._host_ns, record.host_ns)
            kind, payload = record.kind, record.payload
            reason = bytes(payload).decode(errors="replace") if kind == Kind.END else ""
            if kind == Kind.DATA:
                parts = self._decoder.feed(payload, record.host_ns)
            elif kind == Kind.DROPPED:
                parts = self._decoder.skip(record.dropped_bytes, record.host_ns)
            else:
                parts = []
            # Blocks may look into the record: it is given back once they are written.
            self._write(parts)
            self._consumer.release()
            if kind == Kind.END:
                return reason
            point = self._clock.add(self._sums.samples, record.host_ns) if parts else None
            if point is not None and not self._info.patient:
                self._trace.utc(point[0], point[1] + self._utc_offset_ns)
            self._now_and_then()

    def _write(self, parts: Iterable[Piece]) -> None:
        for part in parts:
            if isinstance(part, Block):
                self._sums.block(part, self._info.supply_v)
                self._trace.write(part)
            elif isinstance(part, Annotation):
                self._trace.annotate(part)
                self._annotations += 1
            else:
                self._trace.gap(part)
                self._sums.samples += part.count
                self._sums.missing += part.count

    def _now_and_then(self) -> None:
        now = time.monotonic()
        if now - self._flushed > FLUSH_S:
            self._flushed = now
            self._trace.flush()
        if now - self._noticed > NOTICE_S:
            self._noticed = now
            self._waiting += self._events(False)
            self._annotate(self._clock.known_until_ns)
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
