"""Where received samples belong: runs with ids, holes between them, and the account of both."""

from __future__ import annotations

from dataclasses import dataclass

from waistline.trace.base import Gap, GapKind
from waistline_hostctl.meters._ledger import Ledger, Loss


@dataclass(frozen=True, slots=True)
class Run:
    """Received samples ``start`` .. ``stop`` (counted as they came) have ids from ``first`` on.

    Samples between two runs are to be dropped.
    """

    start: int
    stop: int
    first: int


@dataclass(frozen=True, slots=True)
class Step:
    """The counter jumped before received sample ``at``.

    ``missing`` is modulo the counter, or exact; ``repeats`` are the numbers of samples from here
    on that are equal to the same number before, ``copied`` that this is no coincidence; ``spoiled``
    ones just before are of no use.
    """

    at: int
    missing: int
    kind: GapKind
    exact: bool = False
    repeats: frozenset[int] = frozenset()
    copied: bool = False
    spoiled: int = 0


class Places:
    """Gives ids to samples, front to back.

    Attributes:
        done: received samples that have their place.
        shift: id less number of a received sample from here on.
        steps: jumps whose size is not decided.
        out: runs and gaps not taken yet.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.done = 0
        self.shift = 0
        self.steps: list[Step] = []
        self.out: list[Run | Gap] = []

    @property
    def visible(self) -> int:
        """What the counter shows of the steps, each modulo its range."""
        return sum(one.missing for one in self.steps if not one.exact)

    @property
    def known(self) -> int:
        """Samples that another account says are missing."""
        return sum(one.missing for one in self.steps if one.exact)

    def release(self, until: int) -> None:
        """Give out the samples up to ``until`` under the ids they now have."""
        if until > self.done:
            self.out.append(Run(self.done, until, self.done + self.shift))
            self.ledger.kept += until - self.done
            self.done = until

    def begin(self, start: int) -> int:
        """Let the trace begin at ``start``; samples dropped."""
        dropped = start - self.done
        self.ledger.start_dropped += dropped
        self.done = start
        self.shift -= dropped
        self.steps.clear()
        return dropped

    def each(self) -> None:
        """Every step is exactly what it says."""
        for one in self.steps:
            self.release(one.at - one.spoiled)
            self._gap(one.missing, (one.missing, one.missing), one.at - self.done, one.kind)
        self.steps.clear()

    def copies(self, step: Step, count: int) -> None:
        """The ``count`` samples after ``step`` are copies of those before."""
        self.release(step.at)
        self.ledger.repeated += count
        self.done += count
        self.shift -= count
        self.steps.clear()

    def hole(self, total: int, bounds: tuple[int, int], stop: int, on_time: int | None) -> None:
        """One invalid hole from the last sample that is certain to ``stop``.

        Args:
            total: lost less repeated in it, beside what is `known`.
            bounds: of ``total``.
            stop: first received sample after it.
            on_time: up to this received sample none was late.
        """
        kinds: set[GapKind] = {one.kind for one in self.steps} or {"host-time"}
        kind: GapKind = kinds.pop() if len(kinds) == 1 else "counter"
        if total > 0 and on_time is not None and not any(one.copied for one in self.steps):
            # A loss makes every later read late.
            self.release(on_time)
        known = self.known
        invalid = max(stop - self.done, -total - known)
        self.steps.clear()
        self._gap(total + known, (bounds[0] + known, bounds[1] + known), invalid, kind)

    def _gap(self, lost: int, bounds: tuple[int, int], invalid: int, kind: GapKind) -> None:
        low, high = bounds
        first = self.done + self.shift
        certain = low == high
        self.out.append(
            Gap(
                first,
                lost + invalid,
                kind,
                low=None if certain else low + invalid,
                high=None if certain else high + invalid,
            )
        )
        copies = max(0, -lost)
        self.ledger.repeated += copies
        self.ledger.hole(
            Loss(first, lost + copies, low + copies, high + copies, invalid - copies, kind)
        )
        self.shift += lost
        self.done += invalid
