"""A meter's samples on their way to the host, with faults and a clock that tests inject."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from waistline.trace.base import Gap
from waistline_hostctl.meters._ledger import Ledger
from waistline_hostctl.meters._losses import Resolver
from waistline_hostctl.meters._place import Run

RATE_HZ = 100_000


@dataclass
class Fault:
    """``count`` samples lost (or, negative, repeated) before sample ``at`` of the meter."""

    at: int
    count: int


def random_faults(rng: np.random.Generator, length: int) -> list[Fault]:
    """Up to four losses, of whole turns of the counter too, and copies, in ``length`` samples."""
    kinds = (
        lambda: int(rng.integers(1, 64)),
        lambda: int(rng.integers(1, 5000)),
        lambda: 64 * int(rng.integers(1, 50)),
        lambda: -int(rng.integers(1, 200)),
    )
    return [
        Fault(int(rng.integers(30_000, length - 25_000)), kinds[rng.integers(4)]())
        for _ in range(rng.integers(0, 5))
    ]


def hidden(faults: list[Fault]) -> bool:
    """Whether whole turns of the counter are lost and given back within one floor window (0.2 s).

    Neither the counter nor the clock shows such faults; the jitter model of `_losses` says so.
    """
    turns = sorted((one for one in faults if one.count % 64 == 0), key=lambda one: one.at)
    return any(
        one.count * other.count < 0 and other.at - one.at < RATE_HZ * 0.2
        for place, one in enumerate(turns)
        for other in turns[place + 1 :]
    )


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


def steps_of(ids: np.ndarray) -> list[tuple[int, int, frozenset[int]]]:
    """(place, missing modulo 64, how many samples from there may be copies) of counter jumps."""
    missing = (np.diff(ids & 63) - 1) & 63
    found = []
    for at in (np.flatnonzero(missing) + 1).tolist():
        count = int(missing[at - 1])
        copies = [
            size
            for size in range(-count % 64, 1024, 64)
            if 0 < size <= at and np.array_equal(ids[at : at + size], ids[at - size : at])
        ]
        found.append((at, count, frozenset(copies)))
    return found


def resolve(ids: np.ndarray, when: list[tuple[int, int]]) -> tuple[list[Run | Gap], Ledger]:
    """What a resolver makes of samples whose words differ from each other."""
    ledger = Ledger("counter")
    resolver = Resolver(RATE_HZ, 64, ledger)
    steps, place, out = steps_of(ids), 0, []
    for received, host_ns in when:
        while steps and steps[0][0] < received:
            at, missing, copies = steps.pop(0)
            resolver.received(at - place)
            resolver.step(missing, "counter", copies, bool(copies))
            place = at
        resolver.received(received - place)
        place = received
        resolver.arrived(host_ns)
        out += resolver.take()
    resolver.finish()
    return out + resolver.take(), ledger


def misplaced(ids: np.ndarray, parts: list[Run | Gap], start: int = 0) -> int:
    """Runs whose ids are not the true ones, less the samples before the start.

    After an unknown hole the clock may be off by a constant.
    """
    wrong, end, off = 0, 0, start
    for part in parts:
        assert part.first == end
        if isinstance(part, Gap):
            end = part.end
            off = off if part.resolved else None
            continue
        end = part.first + part.stop - part.start
        apart = ids[part.start : part.stop] - np.arange(part.first, end)
        off = int(apart[0]) if off is None else off
        wrong += bool((apart != off).any())
    return wrong


def ramp_words(ids: np.ndarray, seed: int = 0, switch: int = 0) -> bytes:
    """PPK2 words of samples: noise on the ADC, a range change each ``switch`` samples."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(2000, 9000, 1 << 14)
    codes = noise[ids % len(noise)]
    ranges = (ids // switch) % 5 if switch else np.full(len(ids), 2)
    logic = (ids // 1000) & 255
    words = codes | (ranges << 14) | ((ids & 63) << 18) | (logic << 24)
    return bytes(words.astype("<u4").tobytes())
