"""One clock in terms of another: offset and drift from edges that both have seen.

Edges may be missing on either side and others may be there that the other side knows nothing of;
which belongs to which is found first. Where edges come so evenly that several answers fit alike,
none is given: add a random delay between them, or say roughly where the clocks stand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from waistline.errors import MarkerMissing
from waistline.trace.base import Doubles
from waistline.trace.markers import EDGE_SIGMA

_SEED = 48
"""Edges that a first guess rests on: few, so that drift does not matter among them."""
_MOST_PAIRS = 10_000_000
_GUESSES = 12
_LEAST = 3
_RIVAL = 0.9


@dataclass(frozen=True, slots=True)
class ClockMap:
    """Where on a trace a moment of another clock lies.

    Attributes:
        rate_hz: nominal, of the trace.
        middle_s: mean of the matched edges on the other clock, seconds.
        middle: that moment on the trace, samples.
        drift: how much faster the trace's clock runs than its nominal rate by the other one.
        residual_s: rms of the matched edges about the line.
        n: matched edges.
        missed: edges of the other clock without a partner on the trace.
        extra: edges of the trace without one on the other clock.
        spread_s: root of the sum of squares of the matched edges' times about their mean.
        sigma_s: standard uncertainty of one edge.
        locked: the edges' phases to the sample clock are alike, so that averaging does not help.
    """

    rate_hz: float
    middle_s: float
    middle: float
    drift: float
    residual_s: float
    n: int
    missed: int
    extra: int
    spread_s: float
    sigma_s: float
    locked: bool

    def place(self, time_s: Doubles | float) -> Doubles:
        """On the trace, in samples; float64 of the same shape."""
        time = np.asarray(time_s, np.float64)
        place: Doubles = self.middle + (time - self.middle_s) * self.rate_hz * (1 + self.drift)
        return place

    def time_s(self, place: Doubles | float) -> Doubles:
        """On the other clock, in seconds."""
        samples = np.asarray(place, np.float64) - self.middle
        time: Doubles = self.middle_s + samples / (self.rate_hz * (1 + self.drift))
        return time

    def uncertainty_s(self, time_s: Doubles | float) -> Doubles:
        """Standard uncertainty of `place`, in seconds; grows beyond the edges it rests on."""
        away = (np.asarray(time_s, np.float64) - self.middle_s) / self.spread_s
        spread = self.sigma_s * np.sqrt(1 / self.n + away**2)
        found: Doubles = np.hypot(spread, EDGE_SIGMA / self.rate_hz if self.locked else 0.0)
        return found

    @property
    def drift_uncertainty(self) -> float:
        """Standard uncertainty of the drift."""
        return self.sigma_s / self.spread_s


def fit_clocks(
    times_s: Doubles,
    places: Doubles,
    rate_hz: float,
    *,
    jitter_s: float = 5e-6,
    drift: float = 300e-6,
    near_s: float | None = None,
    within_s: float = math.inf,
) -> ClockMap:
    """The map from edges seen on two clocks.

    Args:
        times_s: float64 (n,), ascending, on the other clock.
        places: float64 (m,), ascending, on the trace, in samples.
        rate_hz: nominal, of the trace.
        jitter_s: how far off an edge may be beside half a sample.
        drift: how far off the rates may be, relative.
        near_s: what the trace's time (place / rate) less the other's is, roughly; None: no idea.
        within_s: how roughly.

    Raises:
        MarkerMissing: too few edges fit, or more than one answer does.
    """
    times, there = np.asarray(times_s, np.float64), np.asarray(places, np.float64) / rate_hz
    limit_s = jitter_s + 1.0 / rate_hz
    guesses = _guesses(times, there, limit_s, drift, near_s, within_s)
    grown = (_grown(times, there, guess, limit_s, drift) for guess in guesses)
    fits = [fit for fit in grown if fit is not None]
    fits.sort(key=lambda fit: -len(fit.pairs[0]))
    if not fits:
        raise MarkerMissing(
            "the edges of the two clocks do not fit each other",
            cause=f"{len(times)} on one, {len(there)} on the other; fewer than {_LEAST} agree",
            fix="check that the marker's wire is on the bit that was read, and its mode",
        )
    best = fits[0]
    for other in fits[1:]:
        apart = abs(other.at(best.middle_s) - best.at(best.middle_s))
        if apart > 2 * limit_s and len(other.pairs[0]) >= _RIVAL * len(best.pairs[0]):
            raise MarkerMissing(
                "the edges come too evenly to tell which belongs to which",
                cause=f"{len(best.pairs[0])} fit one way, and {len(other.pairs[0])} fit "
                f"{apart * 1e3:.3g} ms beside it",
                fix="add a random delay before each inference, or say where the clocks stand",
            )
    return best.map(rate_hz, len(times), len(there))


@dataclass(frozen=True, slots=True)
class _Line:
    """``there = middle + (1 + drift) (time - middle_s)`` through pairs of edges."""

    middle_s: float
    middle: float
    drift: float
    pairs: tuple[NDArray[np.int64], NDArray[np.int64]]
    residuals: Doubles
    spread_s: float

    def at(self, time_s: float) -> float:
        return self.middle + (1 + self.drift) * (time_s - self.middle_s)

    def map(self, rate_hz: float, times: int, there: int) -> ClockMap:
        n = len(self.residuals)
        square = float(np.sum(self.residuals**2))
        quantum = EDGE_SIGMA / rate_hz
        scatter = math.sqrt(square / (n - 2)) if n > 2 else quantum
        # A dozen random phases never scatter by less than half of what they should.
        locked = n >= 8 and scatter < 0.5 * quantum
        return ClockMap(
            rate_hz=rate_hz,
            middle_s=self.middle_s,
            middle=self.middle * rate_hz,
            drift=self.drift,
            residual_s=math.sqrt(square / n),
            n=n,
            missed=times - n,
            extra=there - n,
            spread_s=self.spread_s,
            sigma_s=max(scatter, quantum) if n < 8 else scatter,
            locked=locked,
        )


def _line(times: Doubles, there: Doubles, pairs: tuple[NDArray[np.int64], ...]) -> _Line:
    x, y = times[pairs[0]], there[pairs[1]]
    middle_s, middle = float(x.mean()), float(y.mean())
    away = x - middle_s
    square = float(away @ away)
    drift = float(away @ (y - middle - away)) / square if square else 0.0
    residuals = y - middle - (1 + drift) * away
    return _Line(middle_s, middle, drift, (pairs[0], pairs[1]), residuals, math.sqrt(square))


def _guesses(
    times: Doubles,
    there: Doubles,
    limit_s: float,
    drift: float,
    near_s: float | None,
    within_s: float,
) -> list[_Line]:
    """Offsets that many edges in a row have in common, the most common first."""
    found: list[_Line] = []
    if len(times) < _LEAST or len(there) < _LEAST:
        return found
    size = max(8, min(_SEED, _MOST_PAIRS // len(there)))
    starts = sorted({0, max(0, len(times) // 2 - size // 2), max(0, len(times) - size)})
    for start in starts:
        seed = times[start : start + size]
        offsets = np.subtract.outer(there, seed).ravel()
        if near_s is not None:
            offsets = offsets[np.abs(offsets - near_s) <= within_s]
        if not len(offsets):
            continue
        offsets.sort()
        width = 2 * (limit_s + drift * float(seed[-1] - seed[0]))
        votes = np.searchsorted(offsets, offsets + width, side="right") - np.arange(len(offsets))
        for _ in range(_GUESSES):
            at = int(votes.argmax())
            if votes[at] < _LEAST:
                break
            inside = slice(at, at + int(votes[at]))
            offset = float(np.median(offsets[inside]))
            votes[np.abs(offsets - offset) < width] = 0
            middle_s = float(seed.mean())
            none = np.empty(0, np.int64)
            found.append(_Line(middle_s, middle_s + offset, 0.0, (none, none), np.empty(0), 0.0))
    return found


def _grown(
    times: Doubles, there: Doubles, guess: _Line, limit_s: float, drift: float
) -> _Line | None:
    """The line through ever more edges, beginning with those around the guess."""
    line, reach = guess, _SEED
    center = int(np.searchsorted(times, guess.middle_s))
    while True:
        low, high = max(0, center - reach), min(len(times), center + reach)
        known = line.spread_s
        loose = limit_s if known else limit_s + drift * float(times[high - 1] - times[low])
        pairs = _pairs(times, there, line, low, high, loose)
        if len(pairs[0]) < _LEAST:
            return None
        if not known:
            pairs = _agreeing(times, there, pairs, limit_s, drift)
            if len(pairs[0]) < _LEAST:
                return None
        line = _line(times, there, pairs)
        if abs(line.drift) > drift + limit_s / max(line.spread_s, limit_s):
            return None
        if low == 0 and high == len(times):
            break
        reach *= 2
    pairs = _pairs(times, there, line, 0, len(times), limit_s)
    if len(pairs[0]) < _LEAST or abs(line.drift) > drift + limit_s / line.spread_s:
        return None
    return _line(times, there, pairs)


def _agreeing(
    times: Doubles,
    there: Doubles,
    pairs: tuple[NDArray[np.int64], NDArray[np.int64]],
    limit_s: float,
    drift: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Those of a few pairs that lie on one line; of all lines through two, the one with most."""
    time = times[pairs[0]]
    offset = there[pairs[1]] - time
    first, second = np.triu_indices(len(time), 1)
    apart = np.maximum(time[second] - time[first], 1e-12)
    slope = (offset[second] - offset[first]) / apart
    # Two close to each other say little about a slope: theirs may be anything that can be.
    slope = np.clip(slope, -drift, drift)
    level = offset[first] - slope * time[first]
    off = np.abs(offset - slope[:, None] * time - level[:, None])
    best = int(np.count_nonzero(off <= limit_s, axis=1).argmax())
    kept = off[best] <= 2 * limit_s
    return pairs[0][kept], pairs[1][kept]


def _pairs(
    times: Doubles, there: Doubles, line: _Line, low: int, high: int, limit_s: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Edges that lie closest to each other, both ways, and within the limit."""
    expected = line.middle + (1 + line.drift) * (times[low:high] - line.middle_s)
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
