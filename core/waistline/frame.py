"""One frame on its way through the pipeline, and the outcome it ends in."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import msgspec
import numpy as np


@dataclass(frozen=True, slots=True)
class SensorFrame:
    """What a source yields.

    Attributes:
        index: 0, 1, 2, .. in the order of the source.
        arrays: for an image task one uint8 (H, W, C) array as captured, C = 1 (grey) or 3 (RGB);
            without a task the model's inputs, in the model's order.
        label: ground truth in the task's own form, None where there is none.
        name: file name or index, for people.
        captured_s: when the sensor took it, on this machine's monotonic clock; None: it comes from
            a recording.
    """

    index: int
    arrays: tuple[np.ndarray, ...]
    label: object = None
    name: str = ""
    captured_s: float | None = None


class OutcomeKind(enum.StrEnum):
    """Each submitted frame ends in exactly one of these."""

    REMOTE = "remote"
    """The edge ran the tail, or acknowledged the answer of a node that runs everything."""
    LOCAL = "local"
    """The node ran the tail itself."""
    DROPPED = "dropped"
    """Given up on purpose; the reason says why (queue, busy, shutdown)."""
    ERROR = "error"
    """Failed; the reason says where (source, node, link, edge), in what (codec, backend), on what
    (nonfinite), or that it came too late (deadline, expired) or again (replay)."""


class EdgeTimes(msgspec.Struct, frozen=True):
    """Stage times the edge reports in a REPLY, seconds."""

    queue_s: float = 0.0
    decode_s: float = 0.0
    preprocess_s: float = 0.0
    tail_s: float = 0.0
    postprocess_s: float = 0.0

    @property
    def residence_s(self) -> float:
        """From the last byte of the request to the first byte of the reply."""
        return self.queue_s + self.decode_s + self.preprocess_s + self.tail_s + self.postprocess_s

    def with_residence(self, residence_s: float) -> EdgeTimes:
        """These times, with what is left of the whole stay counted as queue."""
        busy_s = self.residence_s - self.queue_s
        return EdgeTimes(
            residence_s - busy_s, self.decode_s, self.preprocess_s, self.tail_s, self.postprocess_s
        )


class Outcome(msgspec.Struct, frozen=True):
    """How one submitted frame ended.

    Attributes:
        seq: sequence number within the session.
        kind: one of the four.
        reason: one lower-case word for ``dropped`` and ``error``, else "".
        answer: packed answer (`waistline.task.kinds`), empty unless remote or local.
        edge: stage times reported by the edge.
        transit_s: round trip minus the edge's residence.
        node_queue_s: from submission until it was handed to the link, the last time if repeatedly.
        detail: text for people, such as the edge's error message.
    """

    seq: int
    kind: OutcomeKind
    reason: str = ""
    answer: bytes = b""
    edge: EdgeTimes = EdgeTimes()
    transit_s: float = 0.0
    node_queue_s: float = 0.0
    detail: str = ""
