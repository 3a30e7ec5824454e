"""What became of all the frames of a run."""

from __future__ import annotations

import statistics
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from waistline import words
from waistline.errors import BackendError, BridgeError, CodecError, LinkError, WaistlineError
from waistline.frame import OutcomeKind
from waistline_node.records import FrameRecord

RECENT = 10_000
"""Latencies are summed up over the last so many frames: a service runs for months."""
STAGES = tuple(stage.column for stage in words.STAGES)
"""Columns of seconds; they add up to the latency."""

_KINDS: dict[str, type[WaistlineError]] = {
    "error(backend)": BackendError,
    "error(board)": BridgeError,
    "error(link)": LinkError,
    "dropped(busy)": LinkError,
}
_Row = tuple[float, ...]


@dataclass(slots=True)
class Summary:
    """Counts over the whole run, times over its last frames that were answered.

    Attributes:
        frames: that were read; the sum of all outcomes.
        connections: made to the edge.
        unrecorded: frames whose record could not be written.
        lost: frames of a live source that were never read, by reason (`sources.base.lost_by`).
        error: what ended the run early.
        clean: every thread came to its end; otherwise a head still runs in its engine.
    """

    frames: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    waist_bytes: int = 0
    connections: int = 0
    unrecorded: int = 0
    lost: dict[str, int] = field(default_factory=dict)
    error: WaistlineError | None = None
    clean: bool = True
    _began: float = field(default_factory=time.monotonic)
    _recent: deque[_Row] = field(default_factory=lambda: deque(maxlen=RECENT))

    def add(self, record: FrameRecord) -> None:
        self.frames += 1
        self.outcomes[record.outcome] += 1
        if record.reason:
            self.reasons[f"{record.outcome}({record.reason})"] += 1
        if record.outcome == OutcomeKind.REMOTE:
            self.waist_bytes += record.waist_bytes
            self._recent.append(
                (
                    record.latency_s,
                    *(float(getattr(record, stage)) for stage in STAGES),
                    record.device_s,
                )
            )

    def verdict(self) -> WaistlineError | None:
        """The error a run ends with: what ended it early, or that no frame at all was answered."""
        answered = self.outcomes[OutcomeKind.REMOTE] + self.outcomes[OutcomeKind.LOCAL]
        if self.error is not None or answered or not self.frames:
            return self.error
        worst, count = self.reasons.most_common(1)[0]
        return _KINDS.get(worst, CodecError)(
            f"none of {self.frames} frames was answered",
            cause=f"{count} ended as {worst}",
            fix="see the lines above, or the column 'detail' of --records FILE",
        )

    def as_json(self) -> dict[str, Any]:
        """Plain data; medians and the 99th percentile in seconds."""
        rows = list(self._recent)
        found: dict[str, Any] = {
            "frames": self.frames,
            "outcomes": {kind.value: self.outcomes[kind.value] for kind in OutcomeKind},
            "reasons": dict(self.reasons),
            "waist_bytes": self.waist_bytes,
            "connections": self.connections,
            "unrecorded": self.unrecorded,
            "lost": self.lost,
            "duration_s": round(time.monotonic() - self._began, 6),
        }
        if rows:
            latencies = sorted(row[0] for row in rows)
            found["latency_s"] = {
                "p50": _rounded(statistics.median(latencies)),
                "p99": _rounded(latencies[min(len(rows) - 1, round(0.99 * len(rows)))]),
                "n": len(rows),
            }
            found["stages_s"] = {
                stage: _rounded(statistics.median(row[place] for row in rows))
                for place, stage in enumerate(STAGES, start=1)
            }
            on_board = statistics.median(row[-1] for row in rows)
            if on_board:
                found["device_s"] = _rounded(on_board)
        return found


def _rounded(duration_s: float) -> float:
    return round(duration_s, 9)
