"""Losses are counted to the sample, or said to be unknown; never wrong, never unseen."""

from __future__ import annotations

import numpy as np
import pytest
from meter_help import (
    RATE_HZ,
    Fault,
    faulty_ids,
    hidden,
    misplaced,
    random_faults,
    reads,
    resolve,
)

from waistline.trace.base import Gap
from waistline_hostctl.meters._ledger import Ledger
from waistline_hostctl.meters._losses import Resolver


def _sequence(seed: int) -> tuple[int, int, int]:
    """(wrong runs, unknown holes, samples by which the account is off) of one random sequence."""
    rng = np.random.default_rng(seed)
    length = int(rng.uniform(1.0, 2.0) * RATE_HZ)
    faults = random_faults(rng, length)
    if hidden(faults):
        return 0, 0, 0
    ids = faulty_ids(length, faults)
    when = reads(
        ids,
        rng,
        jitter_s=float(rng.choice([10e-6, 50e-6, 150e-6])),
        stalls=int(rng.integers(0, 3)),
        ppm=float(rng.uniform(-100, 100)),
    )
    parts, ledger = resolve(ids, when)
    off = sum(ledger.lost.values()) - ledger.repeated - sum(fault.count for fault in faults)
    if ledger.unknown or ledger.start_dropped:
        off = 0
    received = ledger.kept + ledger.invalid + ledger.repeated + ledger.start_dropped
    assert received == len(ids)
    return misplaced(ids, parts, int(ids[ledger.start_dropped])), ledger.unknown, off


@pytest.mark.parametrize("block", range(8))
def test_random_faults_are_counted_or_unknown_but_never_wrong(block):
    results = [_sequence(1000 * block + number) for number in range(25)]
    assert all(wrong == 0 for wrong, _, _ in results)
    assert all(off == 0 for _, _, off in results)
    assert sum(unknown for _, unknown, _ in results) <= 1


@pytest.mark.parametrize("seed", [1_009_939])
def test_a_loss_just_when_the_trace_can_begin_is_counted(seed):
    wrong, unknown, off = _sequence(seed)
    assert (wrong, unknown, off) == (0, 0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(20))
def test_ten_thousandrandom_faults(block):
    results = [_sequence(1_000_000 + 500 * block + number) for number in range(500)]
    assert all(wrong == 0 and off == 0 for wrong, _, off in results)
    assert sum(unknown for _, unknown, _ in results) <= 5


@pytest.mark.parametrize("count", [1, 5, 63])
def test_a_small_loss_is_placed_to_the_sample(count):
    ids = faulty_ids(150_000, [Fault(70_001, count)])
    parts, ledger = resolve(ids, reads(ids, np.random.default_rng(1)))
    assert [part for part in parts if isinstance(part, Gap)] == [Gap(70_001, count, "counter")]
    assert ledger.closes


@pytest.mark.parametrize("count", [64, 65, 455, 6400, 20_000])
def test_a_large_loss_is_counted_to_the_sample(count):
    ids = faulty_ids(200_000, [Fault(70_001, count)])
    parts, ledger = resolve(ids, reads(ids, np.random.default_rng(2)))
    gaps = [part for part in parts if isinstance(part, Gap)]
    assert len(gaps) == 1
    assert gaps[0].resolved
    assert gaps[0].first <= 70_001 <= 70_001 + count <= gaps[0].end
    assert ledger.losses[0].lost == count
    assert gaps[0].count == count + ledger.invalid < count + 10_000
    assert ledger.closes


def test_two_losses_in_one_window_are_one_hole_of_known_total():
    ids = faulty_ids(200_000, [Fault(80_000, 300), Fault(84_000, 500)])
    parts, ledger = resolve(ids, reads(ids, np.random.default_rng(3)))
    assert misplaced(ids, parts) == 0
    assert [loss.lost for loss in ledger.losses] == [800]


def test_two_small_losses_in_one_window_are_two_holes():
    ids = faulty_ids(200_000, [Fault(80_000, 3), Fault(84_000, 50)])
    parts, _ = resolve(ids, reads(ids, np.random.default_rng(4)))
    gaps = [part for part in parts if isinstance(part, Gap)]
    assert gaps == [Gap(80_000, 3, "counter"), Gap(84_000, 50, "counter")]


@pytest.mark.parametrize("count", [1, 16, 63, 100])
def test_repeated_samples_are_dropped(count):
    ids = faulty_ids(200_000, [Fault(80_000, -count)])
    parts, ledger = resolve(ids, reads(ids, np.random.default_rng(5)))
    assert misplaced(ids, parts) == 0
    assert (ledger.repeated, ledger.lost, ledger.closes) == (count, {}, True)


def test_late_reads_are_not_losses():
    ids = faulty_ids(300_000, [])
    when = reads(ids, np.random.default_rng(6), stalls=20)
    parts, ledger = resolve(ids, when)
    assert not any(isinstance(part, Gap) for part in parts)
    assert (ledger.kept, ledger.closes) == (300_000, True)


def test_without_prompt_reads_the_size_is_unknown_and_bounded():
    rng = np.random.default_rng(7)
    ids = faulty_ids(300_000, [Fault(150_000, 700)])
    when = reads(ids, rng)
    late = [(n, t + (int(rng.uniform(2e6, 40e6)) if n > 148_000 else 0)) for n, t in when]
    stamps = np.maximum.accumulate([t for _, t in late])
    parts, ledger = resolve(ids, [(n, int(t)) for (n, _), t in zip(late, stamps, strict=True)])
    hole = next(part for part in parts if isinstance(part, Gap))
    assert not hole.resolved
    assert hole.low <= 700 + ledger.invalid <= hole.high
    assert not ledger.closes


def test_what_the_host_threw_away_is_known_exactly():
    ledger = Ledger("counter")
    resolver = Resolver(RATE_HZ, 64, ledger)
    ids = faulty_ids(200_000, [Fault(100_000, 1000)])
    place, out = 0, []
    for received, host_ns in reads(ids, np.random.default_rng(8)):
        if place < 100_000 <= received:
            resolver.received(100_000 - place)
            resolver.lost(1000, "ring")
            place = 100_000
        resolver.received(received - place)
        place = received
        resolver.arrived(host_ns)
        out += resolver.take()
    resolver.finish()
    out += resolver.take()
    assert [part for part in out if isinstance(part, Gap)] == [Gap(100_000, 1000, "ring")]
    assert ledger.closes


def test_reads_may_be_split_at_the_same_time_without_any_difference():
    ids = faulty_ids(200_000, [Fault(80_000, 300), Fault(140_000, 9)])
    when = reads(ids, np.random.default_rng(9), stalls=2)
    rng = np.random.default_rng(10)
    split, before = [], 0
    for received, host_ns in when:
        cut = int(rng.integers(before, received + 1))
        split += [(cut, host_ns), (received, host_ns)]
        before = received
    assert resolve(ids, when) == resolve(ids, split)
