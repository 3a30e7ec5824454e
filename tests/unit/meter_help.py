"""A meter's samples on their way to the host, with faults and a clock that tests inject."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RATE_HZ = 100_000


@dataclass
class Fault:
    """``count`` samples lost (or, negative, repeated) before sample ``at`` of the meter."""

    at: int
    count: int


def faulty_ids(length: int, faults: list[Fault]) -> np.ndarray:
    """Ids of the samples in the order in which they go out, int64."""
    parts, start = [], 0
    for fault in sorted(faults, key=lambda one: one.at):
        parts.append(np.arange(start, max(start, fault.at)))
        start = max(start, fault.at) + fault.count
    parts.append(np.arange(start, max(start, length)))
    return np.concatenate(parts)


def reads(
    ids: np.ndarray,
    rng: np.random.Generator,
    *,
    every_s: float = 0.002,
    jitter_s: float = 50e-6,
    stalls: int = 0,
    ppm: float = 0.0,
) -> list[tuple[int, int]]:
    """(samples received, host_ns) of each read: 2 ms apart, late by an exponential time.

    A stall of up to 60 ms makes what was taken meanwhile come at once.
    """
    period_s = (1 + ppm * 1e-6) / RATE_HZ
    newest = np.maximum.accumulate(ids)
    end_s = float(newest[-1] + 1) * period_s
    times = np.cumsum(rng.uniform(0.3, 1.7, int(end_s / every_s) + 20) * every_s)
    times = times[times < end_s]
    for _ in range(stalls):
        start = rng.uniform(0, end_s)
        times = times[(times < start) | (times > start + rng.uniform(0, 0.06))]
    times = np.append(times, end_s + 1e-3)
    got = np.searchsorted(newest, np.floor(times / period_s), side="left")
    stamps = times + rng.exponential(jitter_s, len(times))
    stamps = np.maximum.accumulate(stamps)
    return [(int(n), int(t * 1e9) + 5_000_000_000) for n, t in zip(got, stamps, strict=True)]
