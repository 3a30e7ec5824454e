"""What a node knows about a frame between reading it and its outcome."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from queue import SimpleQueue

from waistline.codec.waist import EncodedWaist
from waistline.frame import Outcome
from waistline_node.heads.base import DeviceWaist
from waistline_node.records import FrameRecord

_NS = 1e-9


@dataclass(slots=True)
class Ticket:
    """One frame's times in monotonic nanoseconds; filled in by the stages as it passes."""

    index: int = 0
    name: str = ""
    label: str = ""
    started_ns: int = field(default_factory=time.monotonic_ns)
    source_ns: int = 0
    preprocess_ns: int = 0
    head_ns: int = 0
    encode_ns: int = 0
    device_s: float = 0.0
    waist_bytes: int = 0
    raw_len: int = 0
    payload: bytes = b""
    """Kept at x = N only, where it is the answer."""
    _done: SimpleQueue[None] | None = None

    def read(
        self, index: int, name: str, label: object = None, captured_s: float | None = None
    ) -> None:
        """The source gave the frame, just now; its time begins when the sensor took it."""
        now_ns = time.monotonic_ns()
        if captured_s is not None:
            self.started_ns = min(now_ns, round(captured_s / _NS))
        self.source_ns = now_ns - self.started_ns
        self.index, self.name = index, name
        # Boxes and the like stay with the source: a record holds what fits one cell.
        self.label = str(label) if isinstance(label, int | str) else ""

    def submitted(self, encoded: EncodedWaist, *, keep: bool) -> None:
        """The session takes over."""
        self.waist_bytes, self.raw_len = len(encoded.payload), encoded.raw_len
        if isinstance(encoded, DeviceWaist):
            self.device_s = encoded.device_s
        if keep:
            self.payload = encoded.payload

    def wait_on(self) -> None:
        """Somebody is going to `wait`."""
        self._done = SimpleQueue()

    def wait(self) -> None:
        """Until the frame has ended."""
        if self._done is not None:
            self._done.get()

    def ended(self) -> None:
        if self._done is not None:
            self._done.put(None)

    def record(self, outcome: Outcome, answer: bytes) -> FrameRecord:
        """The frame's record, ended just now.

        What was spent neither in a stage nor on the way was spent waiting on the node, so that the
        stages of a record add up to its latency.
        """
        latency_ns = time.monotonic_ns() - self.started_ns
        worked_ns = self.source_ns + self.preprocess_ns + self.head_ns + self.encode_ns
        edge = outcome.edge
        away_s = outcome.transit_s + edge.residence_s
        return FrameRecord(
            index=self.index,
            name=self.name,
            label=self.label,
            seq=outcome.seq,
            outcome=outcome.kind.value,
            reason=outcome.reason,
            started_s=self.started_ns * _NS,
            latency_s=latency_ns * _NS,
            source_s=self.source_ns * _NS,
            preprocess_s=self.preprocess_ns * _NS,
            head_s=self.head_ns * _NS,
            device_s=self.device_s,
            encode_s=self.encode_ns * _NS,
            node_queue_s=max(0.0, (latency_ns - worked_ns) * _NS - away_s),
            transit_s=outcome.transit_s,
            edge_queue_s=edge.queue_s,
            decode_s=edge.decode_s,
            edge_preprocess_s=edge.preprocess_s,
            tail_s=edge.tail_s,
            postprocess_s=edge.postprocess_s,
            waist_bytes=self.waist_bytes,
            raw_len=self.raw_len,
            answer=answer,
            detail=outcome.detail,
        )
