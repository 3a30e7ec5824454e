"""The account of a capture: each sample is kept, lost or given up; the host's clock agrees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec

from waistline.trace.base import GapKind

_EVENTS = 1000
_PPM = 300.0
"""What the meter's and the host's clock may differ by, before an account does not close."""


@dataclass(slots=True)
class Loss:
    """One hole in the trace.

    Attributes:
        first: id where the hole begins.
        lost: samples lost; the best estimate where the bounds differ.
        low, high: bounds of ``lost``; equal where it is certain.
        invalid: samples that came, but whose place in the hole is not known.
        kind: what showed it.
    """

    first: int
    lost: int
    low: int
    high: int
    invalid: int
    kind: GapKind

    @property
    def end(self) -> int:
        """Id behind it."""
        return self.first + self.lost + self.invalid

    def begin(self, count: int) -> Loss:
        """Its first ``count`` ids; of uncertain size where it is."""
        invalid = min(self.invalid, count)
        lost = count - invalid
        bounds = (lost, lost) if self.low == self.high else (min(self.low, lost), self.high)
        return Loss(self.first, lost, *bounds, invalid, self.kind)


@dataclass(slots=True)
class Ledger:
    """Counts since the start, in samples where not said otherwise.

    Attributes:
        grade: what losses are counted by: the meter's own counter, or the host's clock alone.
        kept: samples given out.
        lost: by kind of what showed them: ``counter``, ``ring``, ``host-time``, ``resync``; less
            the copies that came in the same hole.
        invalid: samples that came, but not between which losses.
        repeated: samples that came more than once; the copies were dropped.
        start_dropped: samples before the first quiet stretch; the trace begins after them.
        unknown: holes whose size is not certain. Any makes the capture fail.
        contradictions: times the clock took back what it had said. Any makes the capture fail.
        resyncs: times the boundary between samples was found anew.
        resync_bytes: bytes thrown away for that.
        balance: ids less elapsed time at the newest sample whose time is certain, None before.
        elapsed: host time between first and newest sample.
        losses: the first 1000 holes; ``holes`` counts all.
    """

    grade: str
    kept: int = 0
    lost: dict[str, int] = field(default_factory=dict)
    invalid: int = 0
    repeated: int = 0
    start_dropped: int = 0
    unknown: int = 0
    contradictions: int = 0
    resyncs: int = 0
    resync_bytes: int = 0
    balance: float | None = None
    elapsed: float = 0.0
    holes: int = 0
    losses: list[Loss] = field(default_factory=list)

    def hole(self, loss: Loss) -> None:
        """Enter one hole."""
        self._count(loss, 1)
        if len(self.losses) < _EVENTS:
            self.losses.append(loss)

    def _count(self, loss: Loss, times: int) -> None:
        self.holes += times
        self.lost[loss.kind] = self.lost.get(loss.kind, 0) + times * loss.lost
        self.invalid += times * loss.invalid
        self.unknown += times * (loss.low != loss.high)

    @property
    def closes(self) -> bool:
        """Whether nothing is unknown, taken back, or at odds with the host's clock.

        Without a sample, or a quiet stretch after those that were dropped, there is no account.
        """
        allowed = 64 + self.elapsed * _PPM * 1e-6
        balanced = self.balance is None or abs(self.balance) <= allowed
        begun = self.kept > 0 and (self.balance is not None or not self.start_dropped)
        return begun and balanced and not self.unknown and not self.contradictions

    def cut(self, end: int, kept: int) -> None:
        """Leave out what lies behind id ``end``; ``kept`` samples lie before it.

        Holes that are not listed stay counted wherever they are.
        """
        self.kept = kept
        while self.losses and self.losses[-1].end > end:
            loss = self.losses.pop()
            self._count(loss, -1)
            if loss.first < end:
                self.hole(loss.begin(end - loss.first))

    def as_dict(self) -> dict[str, object]:
        """Plain JSON values."""
        return asdict(self) | {"closes": self.closes}


def cut(account: Mapping[str, Any], end: int, kept: int) -> dict[str, Any]:
    """An account, as a decoder gives it, of what lies before id ``end``; see `Ledger.cut`."""
    ledger = msgspec.convert(account, Ledger)
    ledger.cut(end, kept)
    return ledger.as_dict()
