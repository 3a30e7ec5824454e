"""Clocks without a wire: a code of busy and idle times that the power itself shows.

The device runs its processor busy and idle by a pseudo-random code (`code`) and notes when it
changed, on its own clock. In the trace the code is found by correlation, then fitted to the power
with a straight edge at each change; that says where on the trace one moment of the device lies.
Two codes, before and after what is measured, give the drift, too.

All changes are seen late alike by what the supply and the processor's clock take to follow. Where
a bound of that is given, half of it is taken off and the rest is a type B uncertainty; else it is
in none. A wire has none of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import msgspec
import numpy as np
from numpy.typing import NDArray

from waistline.errors import MarkerMissing, TraceError
from waistline.trace.base import Doubles, Trace
from waistline.trace.clocks import DRIFT, ClockMap, map_of
from waistline.trace.markers import EDGE_SIGMA

_TAPS = {5: 3, 6: 5, 7: 6, 8: (6, 5, 4), 9: 5, 10: 7, 11: 9}
"""By number of bits: the others whose sum, with the last one, goes in."""
_COARSE = 8
"""Bins a chip while searching."""
_MOST_BINS = 1 << 22
_LEAST_MATCH = 0.35
_RIVAL = 1.5
_ROUNDS = 40


def code(order: int = 7) -> NDArray[np.uint8]:
    """A maximal-length sequence of 0 and 1, uint8 (2^order - 1,); it is like itself nowhere else.

    Raises:
        ValueError: an order other than 5 .. 11.
    """
    if order not in _TAPS:
        raise ValueError(f"a code has an order from {min(_TAPS)} to {max(_TAPS)}, not {order}")
    taps = _TAPS[order]
    others = taps if isinstance(taps, tuple) else (taps,)
    state, out = [1] * order, []
    for _ in range((1 << order) - 1):
        out.append(state[-1])
        fresh = state[-1]
        for tap in others:
            fresh ^= state[tap - 1]
        state = [fresh, *state[:-1]]
    return np.array(out, np.uint8)


class Played(msgspec.Struct, frozen=True):
    """A code as it was run.

    Attributes:
        times_s: begin of each chip and end of the last, on the device's clock, rising.
        chips: 1 where it was busy; one fewer.
    """

    times_s: tuple[float, ...]
    chips: tuple[int, ...]

    def __post_init__(self) -> None:
        times = np.array(self.times_s)
        rising = len(times) > 1 and bool(np.all(np.diff(times) > 0) and np.isfinite(times).all())
        if not rising or len(self.chips) != len(times) - 1 or set(self.chips) != {0, 1}:
            raise ValueError("a code needs rising times, and a chip of 0 or 1 between each two")


def read_played(data: bytes) -> Played:
    """A code that was stored as JSON.

    Raises:
        TraceError: it is none.
    """
    try:
        return msgspec.json.decode(data, type=Played)
    except msgspec.MsgspecError as error:
        raise TraceError(
            "the code that was run cannot be read", cause=str(error), fix="run it again"
        ) from error


@dataclass(frozen=True, slots=True)
class CodeAt:
    """Where a code lies on a trace.

    Attributes:
        time_s: a moment in its middle, on the device's clock.
        place: the same moment, in samples.
        uncertainty_s: standard uncertainty of that, without what all edges have in common.
        match: correlation of power and code, up to 1.
        rival: the next best anywhere else.
        busy_w: power of busy over idle.
    """

    time_s: float
    place: float
    uncertainty_s: float
    match: float
    rival: float
    busy_w: float


def find_code(trace: Trace, played: Played, start: int = 0, stop: int | None = None) -> CodeAt:
    """Find a code between two samples.

    Raises:
        MarkerMissing: it is not there, or could be in two places.
    """
    stop = trace.length if stop is None else stop
    times = np.array(played.times_s)
    busy = _Busy(times - times[0], np.array(played.chips, float))
    chip = busy.length_s / len(played.chips) * trace.spec.rate_hz
    bin_size = max(1, int(chip / _COARSE), math.ceil((stop - start) / _MOST_BINS))
    edges = np.arange(start, stop + 1, bin_size, dtype=np.float64)
    expected = busy.shares(np.arange(0, busy.length_s, bin_size / trace.spec.rate_hz))
    if bin_size > chip / 2 or len(edges) <= len(expected) + 1:
        raise MarkerMissing(
            "the code does not fit into this stretch of the trace",
            cause=f"it lasts {busy.length_s:g} s, the stretch "
            f"{(stop - start) / trace.spec.rate_hz:g} s",
            fix="name the stretch in which it was run (--from, --to), or use longer chips",
        )
    match = _correlation(_power(trace, edges), expected)
    at = int(np.argmax(match))
    best = float(match[at])
    aside = max(2, math.ceil(chip / bin_size))
    rest = np.concatenate([match[: max(0, at - aside)], match[at + aside + 1 :]])
    rival = float(rest.max(initial=0.0))
    _check_match(best, rival)
    place, sigma, busy_w = _fitted(trace, busy, float(edges[at]), chip, (start, stop))
    middle_s = busy.middle_s
    return CodeAt(
        time_s=float(times[0]) + middle_s,
        place=place + middle_s * trace.spec.rate_hz,
        uncertainty_s=sigma / trace.spec.rate_hz,
        match=best,
        rival=rival,
        busy_w=busy_w,
    )


def _check_match(best: float, rival: float) -> None:
    """Refuse a place that is none, or not the only one.

    Raises:
        MarkerMissing: either.
    """
    cause = f"the best place has a correlation of {best:.2f}, another {rival:.2f}"
    if best < _LEAST_MATCH:
        raise MarkerMissing(
            "the code is not in the power of this trace",
            cause=cause,
            fix="use longer chips or a longer code, and more processor cores",
        )
    if rival > best / _RIVAL:
        raise MarkerMissing(
            "the code could be in two places of this trace",
            cause=cause,
            fix="name the stretch in which it was run: --from, --to",
        )


def clock_of(
    found: Sequence[CodeAt], rate_hz: float, drift: float = DRIFT, *, lag_s: float = 0.0
) -> ClockMap:
    """The map that codes give.

    Args:
        found: one code or more.
        rate_hz: nominal, of the trace.
        drift: how far off the rates may be; counts where there is one code alone.
        lag_s: the power follows the load within this time; any delay up to it is as likely.
    """
    times = np.array([one.time_s for one in found])
    places = np.array([one.place for one in found]) - lag_s / 2 * rate_hz
    sigma_s = math.sqrt(float(np.mean([one.uncertainty_s**2 for one in found])))
    clock = map_of(times, places, rate_hz, sigma_s, drift)
    return replace(clock, common_s=lag_s * EDGE_SIGMA)


def find_codes(
    trace: Trace, played: Sequence[Played], start: int = 0, stop: int | None = None
) -> list[CodeAt]:
    """Find several codes of one clock, each where the others leave room for it.

    The same code played twice is found twice; each is looked for only where the ones before and
    behind it have room, too.

    Args:
        trace: an open one.
        played: in any order.
        start: first sample to look at.
        stop: the one behind the last; None is the end.

    Raises:
        MarkerMissing: as `find_code`; or the codes overlap, or last longer than the trace.
    """
    stop = trace.length if stop is None else stop
    rows = sorted(played, key=lambda one: one.times_s[0])
    if any(first.times_s[-1] > last.times_s[0] for first, last in pairwise(rows)):
        raise MarkerMissing(
            "two of the codes were run at one time",
            cause="the second began before the first had ended",
            fix="give each file once, and only those of one clock",
        )
    found = []
    for one in rows:
        before_s = (one.times_s[0] - rows[0].times_s[0]) * (1 - DRIFT)
        behind_s = (rows[-1].times_s[-1] - one.times_s[-1]) * (1 - DRIFT)
        first = start + int(before_s * trace.spec.rate_hz)
        last = stop - int(behind_s * trace.spec.rate_hz)
        found.append(find_code(trace, one, first, max(first, last)))
    return found


class _Busy:
    """Seconds that the device was busy up to a time, and whether it is, from the code's begin."""

    def __init__(self, times_s: Doubles, chips: Doubles) -> None:
        self._times, self._chips = times_s, chips
        self._sums = np.concatenate([[0.0], np.cumsum(chips * np.diff(times_s))])
        self.length_s = float(times_s[-1])
        changes = times_s[1:-1][np.diff(chips) != 0]
        self.middle_s = float(changes.mean())

    def until(self, time_s: Doubles) -> Doubles:
        seconds: Doubles = np.interp(time_s, self._times, self._sums)
        return seconds

    def shares(self, edges_s: Doubles) -> Doubles:
        """Share of the time between consecutive edges that it was busy."""
        shares: Doubles = np.diff(self.until(edges_s)) / np.diff(edges_s)
        return shares

    def at(self, time_s: Doubles) -> Doubles:
        index = np.clip(np.searchsorted(self._times, time_s, "right") - 1, 0, len(self._chips) - 1)
        inside = (time_s >= 0) & (time_s < self.length_s)
        busy: Doubles = np.where(inside, self._chips[index], 0.0)
        return busy


def _power(trace: Trace, edges: Doubles) -> Doubles:
    """Mean power between consecutive edges; NaN where a sample is missing."""
    windows = trace.windows(edges)
    power: Doubles = windows.energy_j * trace.spec.rate_hz / np.diff(edges)
    power[~windows.whole] = np.nan
    return power


def _correlation(power: Doubles, expected: Doubles) -> Doubles:
    """Normalized correlation at each lag, float64 (lags,); bins that are NaN do not count."""
    there = ~np.isnan(power)
    values = np.where(there, power - np.nanmean(power) if there.any() else 0.0, 0.0)
    weight = there.astype(float)
    size = len(power)
    n = np.maximum(_slid(weight, np.ones(len(expected)), size), 1e-9)
    means = _slid(weight, expected, size) / n
    template = np.maximum(_slid(weight, expected**2, size) - n * means**2, 0)
    sums = _slid(values, np.ones(len(expected)), size)
    square = np.maximum(_slid(values**2, np.ones(len(expected)), size) - sums**2 / n, 0)
    product = _slid(values, expected, size) - sums * means
    scale = np.sqrt(template * square)
    # A stretch without any change, or half lost, is like nothing.
    enough = (scale > 1e-9 * (scale.max(initial=0.0) or 1.0)) & (n > len(expected) / 2)
    found: Doubles = np.where(enough, product / np.where(enough, scale, 1.0), 0.0)
    return found


def _slid(values: Doubles, kernel: Doubles, size: int) -> Doubles:
    """Sum of products at each lag at which the kernel lies inside."""
    length = 1 << (size + len(kernel)).bit_length()
    spectrum = np.fft.rfft(values, length) * np.conj(np.fft.rfft(kernel, length))
    slid: Doubles = np.fft.irfft(spectrum, length)[: size - len(kernel) + 1]
    return slid


def _fitted(
    trace: Trace, busy: _Busy, place: float, chip: float, limits: tuple[int, int]
) -> tuple[float, float, float]:
    """Place of the code's begin and its standard uncertainty, in samples; busy over idle, W."""
    rate_hz = trace.spec.rate_hz
    length = busy.length_s * rate_hz
    low, high = max(limits[0], int(place - chip)), min(limits[1], int(place + length + chip))
    size = max(1, int(chip / 64), math.ceil((high - low) / _MOST_BINS))
    edges = np.arange(low, high + 1, size, dtype=np.float64)
    power = _power(trace, edges)
    kept = ~np.isnan(power)
    step = chip / _COARSE
    for _ in range(_ROUNDS):
        from_begin = (edges - place) / rate_hz
        shares = busy.shares(from_begin)
        slope = -np.diff(busy.at(from_begin)) / size
        columns = np.stack([np.ones(len(shares)), shares, slope], axis=1)[kept]
        solved, *_ = np.linalg.lstsq(columns, power[kept], rcond=None)
        busy_w = float(solved[1])
        if busy_w <= 0:
            break
        moved = float(np.clip(solved[2] / busy_w, -step, step))
        place += moved
        if abs(moved) < 1e-4 * size:
            break
        step = max(size / 2, step * 0.8)
    residuals = power[kept] - columns @ solved
    scatter = math.sqrt(float(residuals @ residuals) / max(1, len(residuals) - 4))
    steep = float(columns[:, 2] @ columns[:, 2])
    if busy_w <= 0 or not steep:
        raise MarkerMissing("the code does not fit the power", fix="run it again, with more load")
    # A step between two bins is placed no better than a small part of a bin.
    sigma = math.hypot(scatter / (busy_w * math.sqrt(steep)), 0.02 * size)
    return place, sigma, busy_w
