"""The node's unanswered frames: waiting, under way, or to be sent again."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from waistline.frame import EdgeTimes, Outcome, OutcomeKind
from waistline.session.events import Finished


@dataclass(slots=True)
class Frame:
    """One submitted frame; times in seconds on the owner's monotonic clock."""

    seq: int
    payload: bytes
    raw_len: int
    submitted_at: float
    deadline: float
    sent_at: float = 0.0
    sends: int = 0

    def ended(
        self,
        kind: OutcomeKind,
        reason: str,
        now: float,
        *,
        edge: EdgeTimes | None = None,
        answer: bytes = b"",
        detail: str = "",
    ) -> Finished:
        """Its outcome; how long it waited and travelled is known once it was sent."""
        edge = edge or EdgeTimes()
        sent = self.sends > 0
        return Finished(
            Outcome(
                seq=self.seq,
                kind=kind,
                reason=reason,
                answer=answer,
                edge=edge,
                transit_s=max(0.0, now - self.sent_at - edge.residence_s) if sent else 0.0,
                node_queue_s=(self.sent_at if sent else now) - self.submitted_at,
                detail=detail,
            )
        )


class FrameBook:
    """Every frame without an outcome stands in exactly one of three lines."""

    def __init__(self) -> None:
        self.queue: deque[Frame] = deque()
        """Never sent, oldest first."""
        self.again: deque[Frame] = deque()
        """Sent over a connection that is gone, oldest first."""
        self.sent: dict[int, Frame] = {}
        """Sent over this connection."""

    def __len__(self) -> int:
        return len(self.queue) + len(self.again) + len(self.sent)

    def __iter__(self) -> Iterator[Frame]:
        yield from self.again
        yield from self.sent.values()
        yield from self.queue

    def next_deadline(self) -> float | None:
        return min((frame.deadline for frame in self), default=None)

    def send_next(self, now: float) -> Frame | None:
        """Move the frame that is to be sent now under way; what has expired is left to expire."""
        for line in (self.again, self.queue):
            for place, frame in enumerate(line):
                if frame.deadline > now:
                    del line[place]
                    frame.sent_at = now
                    frame.sends += 1
                    self.sent[frame.seq] = frame
                    return frame
        return None

    def set_aside(self) -> None:
        """The connection is gone: what was under way is to be sent again, in order."""
        frames = sorted((*self.again, *self.sent.values()), key=lambda frame: frame.seq)
        self.again, self.sent = deque(frames), {}

    def answered(self, seq: int) -> Frame | None:
        """Take out the frame an answer speaks about; None: it has ended, or was never sent.

        The edge may have got it over the old connection and answer over the new one.
        """
        frame = self.sent.pop(seq, None)
        if frame is None:
            frame = next((frame for frame in self.again if frame.seq == seq), None)
            if frame is not None:
                self.again.remove(frame)
        return frame

    def expired(self, now: float) -> list[Frame]:
        """Take out every frame whose deadline has passed, in order of seq."""
        gone = sorted(
            (frame for frame in self if frame.deadline <= now), key=lambda frame: frame.seq
        )
        if gone:
            self.again = deque(frame for frame in self.again if frame.deadline > now)
            self.queue = deque(frame for frame in self.queue if frame.deadline > now)
            self.sent = {seq: frame for seq, frame in self.sent.items() if frame.deadline > now}
        return gone

    def clear(self) -> list[Frame]:
        """Take out everything, in order of seq."""
        gone = sorted(self, key=lambda frame: frame.seq)
        self.queue, self.again, self.sent = deque(), deque(), {}
        return gone
