"""What the edge counts. Written by the event loop alone; read by the metrics and the summary."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

from waistline.frame import EdgeTimes

BUCKETS_S = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01),
    *(0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
)
"""Upper bounds, seconds: a decode of a small waist is near the first, a budget ends at the last."""

REJECTS_LOGGED_EVERY_S = 1.0
"""By cause. A stranger that connects in a loop must not fill the disk with log lines."""

STAGES = ("queue", "decode", "preprocess", "tail", "postprocess")


@dataclass(slots=True)
class Histogram:
    """Counts by bucket of `BUCKETS_S` plus one for what is above, and the sum."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))
    total_s: float = 0.0

    def observe(self, value_s: float) -> None:
        self.counts[bisect_left(BUCKETS_S, value_s)] += 1
        self.total_s += value_s


@dataclass(slots=True)
class EdgeStats:
    """Counters since start, and gauges.

    Attributes:
        frames: answered requests by outcome: remote, busy, expired, or the ERROR's kind.
        rejects: connections that were turned away or closed, by cause.
        accepted: connections since start.
        connections: open now.
        nodes: connections now that said HELLO and were welcomed.
        bytes_in, bytes_out: on the sockets.
        stages: seconds by stage, of remote frames.
    """

    frames: Counter[str] = field(default_factory=Counter)
    rejects: Counter[str] = field(default_factory=Counter)
    accepted: int = 0
    connections: int = 0
    nodes: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    stages: dict[str, Histogram] = field(
        default_factory=lambda: {stage: Histogram() for stage in STAGES}
    )

    _said_at: dict[str, float] = field(default_factory=dict)

    def reject(self, cause: str, now: float) -> bool:
        """Count a connection turned away or broken; whether it is also worth a line in the log."""
        self.rejects[cause] += 1
        last = self._said_at.get(cause)
        if last is not None and now - last < REJECTS_LOGGED_EVERY_S:
            return False
        self._said_at[cause] = now
        return True

    def remote(self, times: EdgeTimes) -> None:
        """Note an answered frame."""
        self.frames["remote"] += 1
        for stage in STAGES:
            self.stages[stage].observe(getattr(times, f"{stage}_s"))

    def summary(self) -> dict[str, object]:
        """Plain data for the JSON line at exit."""
        return {
            "frames": dict(sorted(self.frames.items())),
            "rejects": dict(sorted(self.rejects.items())),
            "connections": self.accepted,
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
        }
