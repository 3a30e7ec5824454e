"""One clock in terms of another: offset and drift from edges that both have seen.

Edges may be missing on either side and others may be there that the other side knows nothing of;
which belongs to which is found first. No answer is given where edges come so evenly that several
fit alike (add a random delay between them, or say roughly where the clocks stand), where no more
fit than would by chance, and where a clock jumped.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from waistline.errors import MarkerMissing
from waistline.trace.base import Doubles
from waistline.trace.markers import EDGE_SIGMA
from waistline.trace.matching import APART, LEAST, Both, Line, follow, line_through

DRIFT = 300e-6
"""How far off two clocks' rates may be, relative."""
_RIVAL = 0.9
_LOG_CHANCE = math.log(1e-3)
"""A map that comes about by chance more often than this is none."""


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
        common_s: standard uncertainty of what shifts all edges alike (type B); durations have none.
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
    common_s: float = 0.0

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
        alike = math.hypot(self.common_s, EDGE_SIGMA / self.rate_hz if self.locked else 0.0)
        found: Doubles = np.hypot(spread, alike)
        return found

    @property
    def drift_uncertainty(self) -> float:
        """Standard uncertainty of the drift."""
        return self.sigma_s / self.spread_s


def map_of(
    times_s: Doubles, places: Doubles, rate_hz: float, sigma_s: float, drift: float = DRIFT
) -> ClockMap:
    """The map through moments of which it is known where they lie.

    Args:
        times_s: float64 (n,), n over 0, on the other clock.
        places: float64 (n,), on the trace, in samples.
        rate_hz: nominal, of the trace.
        sigma_s: standard uncertainty of one.
        drift: how far off the rates may be; counts where there is one moment alone.
    """
    every = np.arange(len(times_s))
    line = line_through(times_s, places / rate_hz, (every, every))
    return ClockMap(
        rate_hz=rate_hz,
        middle_s=line.middle_s,
        middle=line.middle * rate_hz,
        drift=line.drift,
        residual_s=float(np.sqrt(np.mean(line.residuals**2))),
        n=len(every),
        missed=0,
        extra=0,
        spread_s=line.spread_s or sigma_s / drift,
        sigma_s=sigma_s,
        locked=False,
    )


def fit_clocks(
    times_s: Doubles,
    places: Doubles,
    rate_hz: float,
    *,
    jitter_s: float = 5e-6,
    drift: float = DRIFT,
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
        MarkerMissing: too few edges fit, no more than by chance, several answers do, or a clock
            jumped.
    """
    both = Both(
        np.asarray(times_s, np.float64),
        np.asarray(places, np.float64) / rate_hz,
        jitter_s + 1.0 / rate_hz,
        drift,
        near_s,
        within_s,
    )
    fits = both.fits()
    if not fits:
        raise _unlike(both, f"fewer than {LEAST} agree")
    best = fits[0]
    if both.log_chance(best) > _LOG_CHANCE:
        raise _unlike(both, f"{best.n} agree, as many as would by chance")
    for other in fits[1:]:
        if both.apart_s(best, other) and other.n >= _RIVAL * best.n:
            raise _jumped(best, other) if follow(best, other) else _even(best, other)
    rest = both.without(best)
    for other in rest.fits() if rest is not None else ():
        if rest is not None and rest.log_chance(other) <= _LOG_CHANCE and follow(best, other):
            raise _jumped(best, other)
    return _map_of(best, rate_hz, len(both.times), len(both.there))


def _map_of(line: Line, rate_hz: float, times: int, there: int) -> ClockMap:
    """The map of a line that edges were matched by; so many there were on either side."""
    square = float(np.sum(line.residuals**2))
    quantum = EDGE_SIGMA / rate_hz
    scatter = math.sqrt(square / (line.n - 2)) if line.n > 2 else quantum
    # A dozen random phases never scatter by less than half of what they should.
    locked = line.n >= 8 and scatter < 0.5 * quantum
    return ClockMap(
        rate_hz=rate_hz,
        middle_s=line.middle_s,
        middle=line.middle * rate_hz,
        drift=line.drift,
        residual_s=math.sqrt(square / line.n),
        n=line.n,
        missed=times - line.n,
        extra=there - line.n,
        spread_s=line.spread_s,
        sigma_s=max(scatter, quantum) if line.n < 8 else scatter,
        locked=locked,
    )


def _unlike(both: Both, why: str) -> MarkerMissing:
    return MarkerMissing(
        "the events and the edges on the trace do not fit each other",
        cause=f"{len(both.times)} events, {len(both.there)} edges on the trace; {why} "
        f"within {_told(both.limit_s)}",
        fix="check that they are of one run, the bit, and how late an edge may be noted (--jitter)",
    )


def _even(best: Line, other: Line) -> MarkerMissing:
    apart_s = abs(float(other.at(best.middle_s) - best.at(best.middle_s)))
    return MarkerMissing(
        "the edges come too evenly to tell which belongs to which",
        cause=f"{best.n} events fit one way, and {other.n} fit {_told(apart_s)} beside it",
        fix="add a random delay before each inference, or say how close the clocks are, such as "
        "--within 4ms",
    )


def _jumped(best: Line, other: Line) -> MarkerMissing:
    first, last = sorted((best, other), key=lambda line: float(np.median(line.there)))
    cut = float(np.quantile(first.there, APART))
    apart_s = float(last.at(last.middle_s) - first.at(last.middle_s))
    return MarkerMissing(
        "one of the two clocks jumped",
        cause=f"{first.n} edges fit up to {cut:.6g} s of the trace or so, {last.n} behind that fit "
        f"{_told(apart_s, '+')} beside",
        fix="place the part before and the part behind each by itself: --from, --to",
    )


def _told(time_s: float, sign: str = "-") -> str:
    """``2 ms``: three digits, in the unit that needs no exponent; a ``+`` where ``sign`` is one."""
    for scale, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if abs(time_s) >= 0.9995 * scale or unit == "us":
            break
    return f"{time_s / scale:{sign}.3g} {unit}"
