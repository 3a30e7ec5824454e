"""How many samples were lost, from a counter that wraps and the time the others came.

A six-bit counter at 100 kHz wraps every 0.64 ms: of a loss of ``k`` samples it shows ``k`` modulo
64, and nothing at all where that is 0. The rest comes from the arrival-time floor (`_floor`), which
a loss lifts by ``k`` samples: the step is measured between the window of 0.2 s before and the one
after, and forced to counter + 64 n. It counts only where exactly one such number lies inside the
step's uncertainty, which must be below 32 samples; until that is so, samples are held back, for at
most ten seconds, then the hole is ``unknown`` and has bounds.

*Jitter model.* A read may come late by any amount at any time, never early. In every stretch of
0.2 s there are reads, at least 5, in at least three of its four parts, that come less than 16
samples (160 us at 100 kHz) late; lateness does not settle for 0.2 s at any other constant; and
three reads in a row within 16 samples of each other do not share a lateness of 64 samples or more.
Clocks differ by less than 200 ppm until that is measured (after a second). Within this model no
loss is missed and none is wrong. Not seen: a multiple of 64 lost within 0.2 s of either end.

Which samples lie between two losses is known where each is less than 64. Otherwise a further loss,
of a multiple of 64, could hide between the reads that prove the clock right before and after: that
stretch is one invalid hole, whose total is exact.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from waistline.trace.base import Gap, GapKind
from waistline_hostctl.meters._floor import PARTS, WINDOW_S, Floor
from waistline_hostctl.meters._ledger import Ledger, Loss

_JITTER = 16.0
_UNCERTAINTY = 32.0
_READS = 5
_IN_A_ROW = 3
_EARLY = 4.0
_PATIENCE_S = 10.0


@dataclass(frozen=True, slots=True)
class Run:
    """Received samples ``start`` .. ``stop`` (counted as they came) have ids from ``first`` on.

    Samples between two runs are to be dropped.
    """

    start: int
    stop: int
    first: int


@dataclass(frozen=True, slots=True)
class _Step:
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


@dataclass(frozen=True, slots=True)
class _Read:
    received: int
    time: float


class Resolver:
    """Turns received samples, counter steps and read times into runs and gaps.

    Call `received`, `step` and `lost` in the stream's order, `arrived` after each read, `take` for
    what is decided. Reads at one and the same time count as one, so chunking changes nothing.

    Args:
        rate_hz: of the samples.
        modulo: where the counter wraps; None without one: then losses are measured by time
            alone, below 32 samples not at all, and each is unknown within bounds.
        ledger: takes the account.
    """

    def __init__(self, rate_hz: float, modulo: int | None, ledger: Ledger) -> None:
        self._rate = rate_hz
        self._modulo = modulo
        self._ledger = ledger
        self._window = WINDOW_S * rate_hz
        self._floor = Floor(self._window)
        self._received = 0
        self._shift = 0
        self._done = 0
        self._steps: list[_Step] = []
        self._reads: list[_Read] = []
        self._wait_from = 0.0
        self._look_at = 0.0
        self._fresh = True
        self._origin_ns: int | None = None
        self._last: tuple[int, int] | None = None
        self._out: list[Run | Gap] = []
        self._clears: deque[int] = deque(maxlen=_IN_A_ROW + 1)
        self._early = False
        self._first_level: float | None = None
        self._newest_level = 0.0
        self._newest = 0.0

    def received(self, count: int) -> None:
        """``count`` more samples came, each following the one before."""
        self._received += count

    def step(
        self,
        missing: int,
        kind: GapKind,
        repeats: frozenset[int] = frozenset(),
        copied: bool = False,
        spoiled: int = 0,
    ) -> None:
        """Before the next sample ``missing`` (modulo the counter) are."""
        self._steps.append(_Step(self._received, missing, kind, False, repeats, copied, spoiled))

    def lost(self, count: int, kind: GapKind) -> None:
        """Before the next sample exactly ``count`` are missing, by another account."""
        self._steps.append(_Step(self._received, count, kind, exact=True))

    def arrived(self, host_ns: int) -> None:
        """All samples so far had been read at ``host_ns``."""
        if self._last is not None and self._last[1] != host_ns:
            self._read(*self._last)
        self._last = (self._received, host_ns)

    def take(self) -> list[Run | Gap]:
        """What was decided since the last call."""
        out, self._out = self._out, []
        return out

    def finish(self) -> None:
        """Decide the rest."""
        if self._last is not None:
            self._read(*self._last)
            self._last = None
        if self._reads and (self._steps or self._waited() >= self._window):
            time = self._reads[-1].time
            window = min(self._window, max(self._waited(), 1.0))
            if not self._decide(time, window):
                self._give_up()
        if self._steps:
            self._give_up()
        self._release(self._received)
        self._ledger.elapsed = self._newest
        if self._first_level is not None:
            self._ledger.balance = self._newest_level - self._first_level

    def _read(self, received: int, host_ns: int) -> None:
        if self._origin_ns is None:
            self._origin_ns = host_ns
        read = _Read(received, (host_ns - self._origin_ns) * self._rate * 1e-9)
        self._newest = read.time
        self._reads.append(read)
        if self._floor.ready:
            self._judge(read)
        else:
            self._begin(read)

    def _begin(self, read: _Read) -> None:
        """Wait for a window in which the floor is plain; samples are held back meanwhile."""
        if self._steps and self._steps[-1].at < read.received:
            self._from(self._steps[-1].at)
            self._reads = [read]
        self._floor.add(read.time, read.time - read.received - self._shift)
        if self._floor.ready:
            quiet = self._floor.quiet_since
            before = [one.received for one in self._reads if one.time < quiet]
            if before:
                self._from(before[-1], keep=True)
            self._fresh = False
            if self._first_level is None:
                self._first_level = self._newest_level = self._floor.at(read.time)
            self._again()
        elif self._waited() > _PATIENCE_S * self._rate:
            self._from(read.received)

    def _from(self, start: int, *, keep: bool = False) -> None:
        """Begin at ``start``: what came before is dropped, or, in mid-trace, an unknown hole."""
        if self._fresh:
            # The trace begins here.
            moved = start - self._done
            self._ledger.start_dropped += moved
            self._done = start
            self._shift -= moved
            if keep:
                self._floor.move(moved)
        else:
            counted = sum(one.missing for one in self._steps)
            self._hole(counted, (counted, counted + (self._modulo or round(_UNCERTAINTY))), start)
            if keep:
                self._floor.move(-counted)
        self._steps.clear()
        if not keep:
            self._floor.reset()
            self._reads.clear()

    def _again(self) -> None:
        """Judge the reads held back once more, after what they waited for was decided."""
        reads, self._reads = [read for read in self._reads if read.received > self._done], []
        self._wait_from = self._look_at = 0.0
        self._early = False
        self._clears.clear()
        for read in reads:
            if read.received > self._done:
                self._reads.append(read)
                (self._judge if self._floor.ready else self._begin)(read)

    def _late(self, read: _Read) -> float:
        return read.time - read.received - self._shift - self._floor.at(read.time)

    def _judge(self, read: _Read) -> None:
        late = self._late(read)
        # Nothing delays a read to before its time: more samples came than can have.
        self._early |= late < -max(_JITTER, self._floor.uncertainty(read.time)) - _EARLY
        if not self._steps and not self._early and late < self._clear(read.time):
            self._newest_level = late + self._floor.at(read.time)
            self._floor.add(read.time, self._newest_level)
            self._newest_level = self._floor.level
            self._clears.append(read.received)
            if len(self._clears) > _IN_A_ROW:
                self._release(self._clears[0])
            self._reads.clear()
            self._wait_from = 0.0
            return
        if not self._wait_from or (self._steps and self._last_step_after(read)):
            self._wait_from = read.time
            self._look_at = read.time + self._window
        if read.time < self._look_at:
            return
        self._look_at = read.time + self._window / (2 * PARTS)
        if not self._decide(read.time, self._window) and self._waited() > _PATIENCE_S * self._rate:
            self._give_up()

    def _last_step_after(self, read: _Read) -> bool:
        """Whether this is the first read past the newest step."""
        before = self._reads[-2].received if len(self._reads) > 1 else self._done
        return before <= self._steps[-1].at < read.received

    def _clear(self, time: float) -> float:
        """Lateness below which a read proves that no whole turn of the counter was lost."""
        if self._modulo is None:
            return _UNCERTAINTY
        return max(_UNCERTAINTY, self._modulo - 8.0 - self._floor.uncertainty(time))

    def _waited(self) -> float:
        return self._reads[-1].time - self._reads[0].time if self._reads else 0.0

    def _release(self, until: int) -> None:
        """Give out the samples up to ``until`` under the ids they now have."""
        if until > self._done:
            self._out.append(Run(self._done, until, self._done + self._shift))
            self._ledger.kept += until - self._done
            self._done = until

    # -- the decision -------------------------------------------------------------------------

    def _decide(self, now: float, window: float) -> bool:
        """Measure the step between the floors, and act on it if that can be trusted."""
        if not self._floor.ready:
            return False
        seen = self._floor_after(now, window)
        if seen is None:
            return False
        step, spread = seen
        step -= sum(one.missing for one in self._steps if one.exact)
        doubt = spread + self._floor.uncertainty(now)
        visible = sum(one.missing for one in self._steps if not one.exact)
        if doubt >= _UNCERTAINTY:
            return False
        if self._modulo is None:
            return self._decide_by_time(step, doubt)
        total = visible + round((step - visible) / self._modulo) * self._modulo
        if abs(step - total) > doubt:
            return False
        if not self._steps and not total:
            return self._same_floor(step)
        self._apply(total, visible)
        return True

    def _decide_by_time(self, step: float, doubt: float) -> bool:
        if step > _UNCERTAINTY:
            low, high = max(0, math.floor(step - doubt)), math.ceil(step + doubt)
            self._hole(round(step), (low, high), self._proven(round(step)))
        elif self._steps:
            self._place_each()
        else:
            return self._same_floor(step)
        self._again()
        return True

    def _same_floor(self, step: float) -> bool:
        """Nothing was lost: the floor is where the earliest reads are."""
        least = min(0.0, *map(self._late, self._reads))
        if step - least >= _UNCERTAINTY:
            return False
        self._floor.move(min(step, least))
        self._again()
        return True

    def _floor_after(self, now: float, window: float) -> tuple[float, float] | None:
        """How much the floor rose, and how well the parts of the window agree on it."""
        after = self._steps[-1].at if self._steps else -1
        parts: dict[int, float] = {}
        lates: list[float] = []
        for read in reversed(self._reads):
            age = now - read.time
            if age >= window or read.received <= after:
                break
            late = self._late(read)
            lates.append(late)
            part = int(age * PARTS / window)
            parts[part] = min(late, parts.get(part, late))
        if len(parts) < PARTS - 1 or len(lates) < _READS:
            return None
        least = sorted(parts.values())
        lates.sort()
        return least[0], max(least[PARTS - 2] - least[0], lates[_READS - 1] - lates[0])

    def _apply(self, total: int, visible: int) -> None:
        """Place ``total`` samples, those lost less those repeated."""
        counted = [one for one in self._steps if not one.exact]
        # Copies and unseen losses can add up to what the counter shows.
        repeats = any(one.copied or (one.repeats and len(counted) > 1) for one in counted)
        if total == visible and not repeats:
            self._place_each()
        elif len(self._steps) == 1 and counted and -total in counted[0].repeats:
            self._drop_copies(counted[0], -total)
        elif total < 0 and not counted:
            self._take_back(-total)
        else:
            self._hole(total, (total, total), self._proven(total))
        self._again()

    def _place_each(self) -> None:
        """Every step is exactly what it says."""
        for one in self._steps:
            self._release(one.at - one.spoiled)
            self._gap(one.missing, (one.missing, one.missing), one.at - self._done, one.kind)
        self._steps.clear()
        # Nothing was lost unseen, so the reads that came on time prove all before them.
        self._wait_from = 0.0

    def _drop_copies(self, step: _Step, count: int) -> None:
        self._release(step.at)
        self._ledger.repeated += count
        self._done += count
        self._shift -= count
        self._steps.clear()

    def _take_back(self, count: int) -> None:
        """More samples came than time allows: an earlier loss was overstated, or copies hid."""
        self._ledger.contradictions += self._ledger.holes > 0
        stop = max(self._proven(-count), self._done + count)
        self._hole(-count, (-count, -count), stop)

    def _proven(self, total: int) -> int:
        """First received sample that certainly follows the whole loss."""
        known = sum(one.missing for one in self._steps if one.exact)
        after = self._steps[-1].at if self._steps else self._done
        row = 0
        found: int | None = None
        for read in self._reads:
            late = self._late(read) - total - known
            row = row + 1 if read.received > after and abs(late) <= 2 * _JITTER else 0
            if late < -_UNCERTAINTY:
                found = None
            elif row >= _IN_A_ROW and found is None:
                found = read.received
        return self._reads[-1].received if found is None else found

    def _hole(self, total: int, bounds: tuple[int, int], stop: int) -> None:
        """One invalid hole from the last sample that is certain to ``stop``."""
        kinds: set[GapKind] = {one.kind for one in self._steps} or {"host-time"}
        kind: GapKind = kinds.pop() if len(kinds) == 1 else "counter"
        known = sum(one.missing for one in self._steps if one.exact)
        if total > 0 and self._clears and not any(one.copied for one in self._steps):
            # A loss makes every later read late, and that one was not.
            self._release(self._clears[-1])
        invalid = max(stop - self._done, -total - known)
        self._steps.clear()
        self._gap(total + known, (bounds[0] + known, bounds[1] + known), invalid, kind)

    def _gap(self, lost: int, bounds: tuple[int, int], invalid: int, kind: GapKind) -> None:
        low, high = bounds
        first = self._done + self._shift
        known = low == high
        self._out.append(
            Gap(
                first,
                lost + invalid,
                kind,
                low=None if known else low + invalid,
                high=None if known else high + invalid,
            )
        )
        copies = max(0, -lost)
        self._ledger.repeated += copies
        self._ledger.hole(
            Loss(first, lost + copies, low + copies, high + copies, invalid - copies, kind)
        )
        self._shift += lost
        self._done += invalid

    def _give_up(self) -> None:
        """Nothing certain came in time: an unknown hole up to the newest sample."""
        counted = sum(one.missing for one in self._steps if not one.exact)
        exact = sum(one.missing for one in self._steps if one.exact)
        after = self._steps[-1].at if self._steps else self._done
        lates = [self._late(read) for read in self._reads if read.received > after]
        most = min(lates) - exact if lates else counted
        turn = self._modulo or 1
        best = counted + turn * max(0, round((most - counted) / turn))
        high = max(best, math.ceil(most + _UNCERTAINTY), counted + turn)
        self._hole(best, (counted, high), self._received)
        self._reads.clear()
        self._clears.clear()
        self._wait_from = 0.0
        self._early = False
        self._floor.reset()
