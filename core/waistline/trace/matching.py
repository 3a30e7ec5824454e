"""Which edges of two clocks belong together: the lines that pairs of them lie on.

Most edges of both sides are of the same events, but some may be missing, and others may be there
that the other side knows nothing of. `waistline.trace.clocks` says which line is to be trusted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from waistline.trace.base import Doubles

LEAST = 3
"""Pairs of edges without which there is no line."""
APART = 0.95
"""This share of one line's edges behind those of another: a clock jumped between."""
_SEED = 48
"""Edges that a first guess rests on: few, so that drift does not matter among them."""
_MOST_PAIRS = 10_000_000
_GUESSES = 12
_MANY, _HOPELESS = 8 * _SEED, 1.5
"""Among more edges than these, a line of so little more than by chance grows no further."""

Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class Line:
    """``there = middle + (1 + drift) (time - middle_s)`` through pairs of edges."""

    middle_s: float
    middle: float
    drift: float
    times: Doubles
    there: Doubles
    residuals: Doubles
    spread_s: float
    pairs: Pairs

    @property
    def n(self) -> int:
        return len(self.times)

    def at(self, time_s: Any) -> Any:
        return self.middle + (1 + self.drift) * (time_s - self.middle_s)


def line_through(times: Doubles, there: Doubles, pairs: Pairs) -> Line:
    x, y = times[pairs[0]], there[pairs[1]]
    middle_s, middle = float(x.mean()), float(y.mean())
    away = x - middle_s
    square = float(away @ away)
    drift = float(away @ (y - middle - away)) / square if square else 0.0
    residuals = y - middle - (1 + drift) * away
    return Line(middle_s, middle, drift, x, y, residuals, math.sqrt(square), pairs)


@dataclass(frozen=True, slots=True)
class Both:
    """Edges of both sides, in seconds of either clock, and what may be between them."""

    times: Doubles
    there: Doubles
    limit_s: float
    drift: float
    near_s: float | None
    within_s: float

    @property
    def chance(self) -> float:
        """Share of moments that have an edge of the trace beside them."""
        return min(1.0, 2 * self.limit_s * len(self.there) / self.span_s)

    @property
    def span_s(self) -> float:
        """What the trace's edges lie in."""
        return float(self.there[-1] - self.there[0]) + self.limit_s

    def fits(self) -> list[Line]:
        """Lines through many pairs of edges, that through most first."""
        found = (self._grown(guess) for guess in self._guesses())
        return sorted((fit for fit in found if fit is not None), key=lambda fit: -fit.n)

    def apart_s(self, one: Line, other: Line) -> float:
        """How far two lines are apart; 0.0 where they are one."""
        apart = abs(float(other.at(one.middle_s) - one.at(one.middle_s)))
        return apart if apart > 2 * self.limit_s else 0.0

    def without(self, line: Line) -> Both | None:
        """The edges that a line left over; None where they are too few for another."""
        times = np.delete(self.times, line.pairs[0])
        there = np.delete(self.there, line.pairs[1])
        if min(len(times), len(there)) < LEAST:
            return None
        return replace(self, times=times, there=there)

    def log_chance(self, line: Line) -> float:
        """Logarithm of a bound of how likely edges of something else fit so well somewhere."""
        expected = line.at(self.times)
        inside = (expected >= self.there[0] - self.limit_s) & (
            expected <= self.there[-1] + self.limit_s
        )
        tried = max(line.n, int(np.count_nonzero(inside)))
        share, alone = line.n / tried, self.chance
        if share <= alone:
            return 0.0
        reach_s = self.span_s + float(self.times[-1] - self.times[0])
        if self.near_s is not None:
            reach_s = min(reach_s, 2 * self.within_s)
        places = 1 + reach_s / self.limit_s
        slopes = 1 + 2 * self.drift * self.span_s / self.limit_s
        # Chernoff's bound of a binomial tail, times the lines that were to be had.
        far = share * math.log(share / alone)
        if share < 1:
            far += (1 - share) * math.log((1 - share) / (1 - alone))
        return math.log(places * slopes) - tried * far

    def _guesses(self) -> list[Line]:
        """Offsets that many edges in a row have in common, the most common first."""
        times, there = self.times, self.there
        found: list[Line] = []
        if len(times) < LEAST or len(there) < LEAST:
            return found
        size = max(8, min(_SEED, _MOST_PAIRS // len(there)))
        for start in sorted({0, max(0, len(times) // 2 - size // 2), max(0, len(times) - size)}):
            seed = times[start : start + size]
            middle_s = float(seed.mean())
            found += [_guess(middle_s, offset_s) for offset_s in self._offsets(seed)]
        return found

    def _offsets(self, seed: Doubles) -> list[float]:
        """Of a few edges of the other clock in a row, the most common first."""
        offsets = np.subtract.outer(self.there, seed).ravel()
        if self.near_s is not None:
            offsets = offsets[np.abs(offsets - self.near_s) <= self.within_s]
        offsets.sort()
        width = 2 * (self.limit_s + self.drift * float(seed[-1] - seed[0]))
        votes = np.searchsorted(offsets, offsets + width, side="right") - np.arange(len(offsets))
        found: list[float] = []
        while len(found) < _GUESSES and len(votes):
            at = int(votes.argmax())
            if votes[at] < LEAST:
                break
            found.append(float(np.median(offsets[at : at + int(votes[at])])))
            votes[slice(*np.searchsorted(offsets, [found[-1] - width, found[-1] + width]))] = 0
        return found

    def _grown(self, guess: Line) -> Line | None:
        """The line through ever more edges, beginning with those around the guess."""
        line, reach, count = guess, _SEED, len(self.times)
        center = int(np.searchsorted(self.times, guess.middle_s))
        while True:
            low, high = max(0, center - reach), min(count, center + reach)
            known = line.spread_s
            loose = 0.0 if known else self.drift * float(self.times[high - 1] - self.times[low])
            pairs = self._pairs(line, low, high, self.limit_s + loose)
            if len(pairs[0]) >= LEAST and not known:
                pairs = self._agreeing(pairs)
            if len(pairs[0]) < LEAST:
                return None
            if reach > _MANY and len(pairs[0]) < _HOPELESS * self.chance * (high - low):
                return None
            line = line_through(self.times, self.there, pairs)
            if abs(line.drift) > self.drift + self.limit_s / max(line.spread_s, self.limit_s):
                return None
            if low == 0 and high == count:
                break
            reach *= 2
        pairs = self._pairs(line, 0, count, self.limit_s)
        if len(pairs[0]) < LEAST or abs(line.drift) > self.drift + self.limit_s / line.spread_s:
            return None
        return line_through(self.times, self.there, pairs)

    def _agreeing(self, pairs: Pairs) -> Pairs:
        """Those of a few pairs that lie on one line; of all lines through two the fullest."""
        time = self.times[pairs[0]]
        offset = self.there[pairs[1]] - time
        first, second = np.triu_indices(len(time), 1)
        apart = np.maximum(time[second] - time[first], 1e-12)
        slope = (offset[second] - offset[first]) / apart
        # Two close to each other say little about a slope: theirs may be anything that can be.
        slope = np.clip(slope, -self.drift, self.drift)
        level = offset[first] - slope * time[first]
        off = np.abs(offset - slope[:, None] * time - level[:, None])
        best = int(np.count_nonzero(off <= self.limit_s, axis=1).argmax())
        kept = off[best] <= 2 * self.limit_s
        return pairs[0][kept], pairs[1][kept]

    def _pairs(self, line: Line, low: int, high: int, limit_s: float) -> Pairs:
        """Edges that lie closest to each other, both ways, and within the limit."""
        there = self.there
        expected = line.at(self.times[low:high])
        right = np.clip(np.searchsorted(there, expected), 1, len(there) - 1)
        nearer = np.abs(there[right - 1] - expected) < np.abs(there[right] - expected)
        partner = right - nearer
        off = np.abs(there[partner] - expected)
        rows = np.flatnonzero(off <= limit_s)
        # Of two that claim one partner the closer has it.
        rows = rows[np.lexsort((off[rows], partner[rows]))]
        first = np.ones(len(rows), np.bool_)
        first[1:] = partner[rows][1:] != partner[rows][:-1]
        rows = np.sort(rows[first])
        return rows + low, partner[rows]


def _guess(middle_s: float, offset_s: float) -> Line:
    none = np.empty(0, np.int64)
    nothing = np.empty(0)
    return Line(middle_s, middle_s + offset_s, 0.0, nothing, nothing, nothing, 0.0, (none, none))


def follow(one: Line, other: Line) -> bool:
    """Whether on the trace the edges of one come after those of the other, but for a few."""
    first, last = sorted((one, other), key=lambda line: float(np.median(line.there)))
    cut = np.quantile(first.there, APART)
    return bool(np.mean(last.there > cut) >= APART)
