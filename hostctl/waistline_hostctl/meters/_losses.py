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
three reads in a row within 32 samples of the floor do not share a lateness of 64 samples or more.
Clocks differ by less than 200 ppm until that is measured (after a second). Within this model no
loss is missed and none is wrong. Not seen: a multiple of 64 lost in the last 0.2 s, or given back
as copies within 0.2 s, which looks like a delay of that time. The trace begins with the first 0.2 s
all of whose parts agree; what came before is dropped, and counted.

Which samples lie between two losses is known where each is less than 64. Otherwise a further loss,
of a multiple of 64, could hide between the reads that prove the clock right before and after: that
stretch is one invalid hole, whose total is exact.
"""

from __future__ import annotations

import math
from collections import deque

from waistline.trace.base import Gap, GapKind
from waistline_hostctl.meters._floor import PARTS, WINDOW_S, Floor
from waistline_hostctl.meters._ledger import Ledger
from waistline_hostctl.meters._place import Places, Run, Step
from waistline_hostctl.meters._reads import IN_A_ROW, JITTER, UNCERTAINTY, Read, Reads

_EARLY = 4.0
_PATIENCE_S = 10.0


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
        self._window, self._patience = WINDOW_S * rate_hz, _PATIENCE_S * rate_hz
        self._floor = Floor(self._window)
        self._received = 0
        self._places = Places(ledger)
        self._reads = Reads(self._floor, self._places)
        self._wait_from = 0.0
        self._look_at = 0.0
        self._fresh = True
        self._origin_ns: int | None = None
        self._last: tuple[int, int] | None = None
        self._clears: deque[int] = deque(maxlen=IN_A_ROW + 1)
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
        self._places.steps.append(
            Step(self._received, missing, kind, False, repeats, copied, spoiled)
        )

    def lost(self, count: int, kind: GapKind) -> None:
        """Before the next sample exactly ``count`` are missing, by another account."""
        self._places.steps.append(Step(self._received, count, kind, exact=True))

    def arrived(self, host_ns: int) -> None:
        """All samples so far had been read at ``host_ns``."""
        if self._last is not None and self._last[1] != host_ns:
            self._read(*self._last)
        self._last = (self._received, host_ns)

    def take(self) -> list[Run | Gap]:
        """What was decided since the last call; the ledger's balance is of then, too."""
        self._ledger.elapsed = self._newest
        if self._first_level is not None:
            self._ledger.balance = self._newest_level - self._first_level
        out, self._places.out = self._places.out, []
        return out

    def finish(self) -> None:
        """Decide the rest."""
        if self._last is not None:
            self._read(*self._last)
            self._last = None
        if self._reads.held and (self._places.steps or self._reads.waited >= self._window):
            time = self._reads.newest.time
            window = min(self._window, max(self._reads.waited, 1.0))
            if not self._decide(time, window):
                self._give_up()
        if self._places.steps:
            self._give_up()
        self._places.release(self._received)

    def _read(self, received: int, host_ns: int) -> None:
        if self._origin_ns is None:
            self._origin_ns = host_ns
        read = Read(received, (host_ns - self._origin_ns) * self._rate * 1e-9)
        self._newest = read.time
        self._reads.held.append(read)
        if self._floor.ready:
            self._judge(read)
        else:
            self._begin(read)

    def _begin(self, read: Read) -> None:
        """Wait for a window in which the floor is plain; samples are held back meanwhile."""
        passed = [one.at for one in self._places.steps if one.at < read.received]
        if passed:
            self._from(passed[-1])
            self._reads.held = [read]
        self._floor.add(read.time, read.time - read.received - self._places.shift)
        if self._floor.ready:
            quiet = self._floor.quiet_since
            before = [one.received for one in self._reads.held if one.time < quiet]
            if before:
                self._from(before[-1], keep=True)
            self._fresh = False
            if self._first_level is None:
                self._first_level = self._newest_level = self._floor.at(read.time)
            self._again()
        elif self._reads.waited > self._patience:
            self._from(read.received)

    def _from(self, start: int, *, keep: bool = False) -> None:
        """Begin at ``start``: what came before is dropped, or, in mid-trace, an unknown hole."""
        # The newest samples are known before the time they came is: a step in them still counts.
        later = [one for one in self._places.steps if one.at > start]
        self._places.steps = [one for one in self._places.steps if one.at <= start]
        if self._fresh:
            # The trace begins here.
            moved = self._places.begin(start)
            if keep:
                self._floor.move(moved)
        else:
            counted = sum(one.missing for one in self._places.steps)
            self._hole(counted, (counted, counted + (self._modulo or round(UNCERTAINTY))), start)
            if keep:
                self._floor.move(-counted)
        self._places.steps = later
        if not keep:
            self._floor.reset()
            self._reads.held.clear()

    def _again(self) -> None:
        """Judge the reads held back once more, after what they waited for was decided."""
        done = self._places.done
        reads, self._reads.held = [one for one in self._reads.held if one.received > done], []
        self._wait_from = self._look_at = 0.0
        self._early = False
        self._clears.clear()
        for read in reads:
            if read.received > self._places.done:
                self._reads.held.append(read)
                (self._judge if self._floor.ready else self._begin)(read)

    def _judge(self, read: Read) -> None:
        late = self._reads.late(read)
        # Nothing delays a read to before its time: more samples came than can have.
        self._early |= late < -max(JITTER, self._floor.uncertainty(read.time)) - _EARLY
        if not self._places.steps and not self._early and late < self._clear(read.time):
            self._newest_level = late + self._floor.at(read.time)
            self._floor.add(read.time, self._newest_level)
            self._newest_level = self._floor.level
            self._clears.append(read.received)
            if len(self._clears) > IN_A_ROW:
                self._places.release(self._clears[0])
            self._reads.held.clear()
            self._wait_from = 0.0
            return
        if not self._wait_from or (self._places.steps and self._last_step_after(read)):
            self._wait_from = read.time
            self._look_at = read.time + self._window
        if read.time < self._look_at:
            return
        self._look_at = read.time + self._window / (2 * PARTS)
        if not self._decide(read.time, self._window) and self._reads.waited > self._patience:
            self._give_up()

    def _last_step_after(self, read: Read) -> bool:
        """Whether this is the first read past the newest step."""
        held = self._reads.held
        before = held[-2].received if len(held) > 1 else self._places.done
        return before <= self._places.steps[-1].at < read.received

    def _clear(self, time: float) -> float:
        """Lateness below which a read proves that no whole turn of the counter was lost."""
        if self._modulo is None:
            return UNCERTAINTY
        return max(UNCERTAINTY, self._modulo - 8.0 - self._floor.uncertainty(time))

    def _decide(self, now: float, window: float) -> bool:
        """Measure the step between the floors, and act on it if that can be trusted."""
        if not self._floor.ready:
            return False
        seen = self._reads.floor_after(now, window)
        if seen is None:
            return False
        step, spread = seen
        step -= self._places.known
        doubt = spread + self._floor.uncertainty(now)
        visible = self._places.visible
        if doubt >= UNCERTAINTY:
            return False
        if self._modulo is None:
            return self._decide_by_time(step, doubt)
        total = visible + round((step - visible) / self._modulo) * self._modulo
        if abs(step - total) > doubt:
            return False
        if not self._places.steps and not total:
            return self._same_floor(step)
        self._apply(total, visible)
        return True

    def _decide_by_time(self, step: float, doubt: float) -> bool:
        if step > UNCERTAINTY:
            low, high = max(0, math.floor(step - doubt)), math.ceil(step + doubt)
            self._hole(round(step), (low, high), self._reads.proven(round(step)))
        elif self._places.steps:
            self._places.each()
        else:
            return self._same_floor(step)
        self._again()
        return True

    def _same_floor(self, step: float) -> bool:
        """Nothing was lost: the floor is where the earliest reads are."""
        least = min(0.0, self._reads.least_late() or 0.0)
        if step - least >= UNCERTAINTY:
            return False
        self._floor.move(min(step, least))
        self._again()
        return True

    def _apply(self, total: int, visible: int) -> None:
        """Place ``total`` samples, those lost less those repeated."""
        counted = [one for one in self._places.steps if not one.exact]
        # Copies and unseen losses can add up to what the counter shows.
        repeats = any(one.copied or (one.repeats and len(counted) > 1) for one in counted)
        if total == visible and not repeats:
            self._places.each()
        elif len(self._places.steps) == 1 and counted and -total in counted[0].repeats:
            self._places.copies(counted[0], -total)
        elif total < 0 and not counted:
            self._take_back(-total)
        else:
            self._hole(total, (total, total), self._reads.proven(total))
        self._again()

    def _take_back(self, count: int) -> None:
        """More samples came than time allows: an earlier loss was overstated, or copies hid."""
        self._ledger.contradictions += self._ledger.holes > 0
        stop = max(self._reads.proven(-count), self._places.done + count)
        self._hole(-count, (-count, -count), stop)

    def _hole(self, total: int, bounds: tuple[int, int], stop: int) -> None:
        on_time = self._clears[-1] if self._clears else None
        self._places.hole(total, bounds, stop, on_time)

    def _give_up(self) -> None:
        """Nothing certain came in time: an unknown hole up to the newest sample."""
        counted, exact = self._places.visible, self._places.known
        after = self._places.steps[-1].at if self._places.steps else self._places.done
        least = self._reads.least_late(after)
        most = counted if least is None else least - exact
        turn = self._modulo or 1
        best = counted + turn * max(0, round((most - counted) / turn))
        high = max(best, math.ceil(most + UNCERTAINTY), counted + turn)
        self._hole(best, (counted, high), self._received)
        self._reads.held.clear()
        self._clears.clear()
        self._wait_from = 0.0
        self._early = False
        self._floor.reset()
