"""Clock maps from edges: how exact, and what missing and extra edges do to them."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from waistline.errors import MarkerMissing
from waistline.trace.clocks import fit_clocks, map_of

SPAN_S = 10.0


def dithered(rng: np.random.Generator, count: int, span_s: float = SPAN_S) -> np.ndarray:
    """Moments of the device, about evenly apart, each delayed by a random time."""
    step = span_s / count
    times: np.ndarray = np.arange(count) * step + rng.uniform(0, 0.5 * step, count)
    return times


def truth(times: np.ndarray, rate_hz: float, offset_s: float, drift: float) -> np.ndarray:
    """Where these moments lie on the trace, in samples, exactly."""
    places: np.ndarray = (times + offset_s) * (1 + drift) * rate_hz
    return places


def sampled(places: np.ndarray) -> np.ndarray:
    """Where a bit that is sampled shows them."""
    found: np.ndarray = np.ceil(places) - 0.5
    return found


# Simulated elsewhere, over 10 s with 25 ppm of drift: rms at a layer's edge, seconds.
EXPECTED = [
    (1e6, 10, 0.14e-6), (1e6, 100, 0.04e-6), (1e6, 1000, 0.01e-6),
    (1e5, 10, 1.4e-6), (1e5, 100, 0.41e-6), (1e5, 1000, 0.14e-6),
    (1e4, 10, 13e-6), (1e4, 100, 4.0e-6), (1e4, 1000, 1.4e-6),
]  # fmt: skip


@pytest.mark.parametrize(("rate_hz", "count", "expected_s"), EXPECTED)
def test_errors_are_as_expected_and_known(rate_hz: float, count: int, expected_s: float) -> None:
    rng = np.random.default_rng(7)
    squares, claimed = [], []
    for _ in range(30):
        times = dithered(rng, count)
        offset_s = rng.uniform(-5, 5)
        found = fit_clocks(times, sampled(truth(times, rate_hz, offset_s, 25e-6)), rate_hz)
        assert (found.n, found.missed, found.extra) == (count, 0, 0)
        inside = rng.uniform(0, SPAN_S, 50)
        off = (found.place(inside) - truth(inside, rate_hz, offset_s, 25e-6)) / rate_hz
        squares.append(np.mean(off**2))
        claimed.append(np.mean(found.uncertainty_s(inside) ** 2))
    rms = math.sqrt(np.mean(squares))
    assert rms < 1.5 * expected_s
    assert 0.6 < rms / math.sqrt(np.mean(claimed)) < 1.5


def test_the_map_goes_both_ways_and_knows_its_drift() -> None:
    rng = np.random.default_rng(1)
    times = dithered(rng, 500)
    found = fit_clocks(times, sampled(truth(times, 1e5, -3.0, -120e-6)), 1e5)
    # The drift is by the other clock, offset included.
    assert found.drift == pytest.approx(-120e-6, abs=5 * found.drift_uncertainty)
    assert found.drift_uncertainty < 1e-7
    np.testing.assert_allclose(found.time_s(found.place(times)), times, atol=1e-9)
    assert found.residual_s == pytest.approx(1e-5 / math.sqrt(12), rel=0.1)
    assert found.uncertainty_s(1000.0) > 20 * found.uncertainty_s(5.0)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    count=st.integers(20, 600),
    missing=st.floats(0, 0.35),
    unseen=st.floats(0, 0.35),
    extra=st.integers(0, 60),
    offset_s=st.floats(-1000, 1000),
    ppm=st.floats(-250, 250),
)
def test_missing_and_extra_edges_do_not_move_it(
    seed: int, count: int, missing: float, unseen: float, extra: int, offset_s: float, ppm: float
) -> None:
    rng = np.random.default_rng(seed)
    times = dithered(rng, count)
    places = sampled(truth(times, 1e5, offset_s, ppm * 1e-6))
    there = places[rng.random(count) >= missing]
    wrong = rng.uniform(places[0], places[-1], min(extra, count // 4))
    there = np.unique(np.concatenate([there, sampled(wrong)]))
    known = times[rng.random(count) >= unseen]
    found = fit_clocks(known, there, 1e5)
    assert found.n >= 0.35 * count * (1 - missing)
    assert found.n + found.missed == len(known)
    assert found.n + found.extra == len(there)
    off = (found.place(times) - truth(times, 1e5, offset_s, ppm * 1e-6)) / 1e5
    assert np.all(np.abs(off) < 6 * found.uncertainty_s(times) + 1e-6)


def even(count: int = 100) -> np.ndarray:
    times: np.ndarray = np.arange(count) * 0.01
    return times


def test_edges_that_come_evenly_have_no_answer() -> None:
    with pytest.raises(MarkerMissing, match="evenly") as caught:
        fit_clocks(even(), sampled(truth(even(), 1e5, 0.7, 0) + 0.3), 1e5)
    assert "random delay" in caught.value.fix


def test_a_rough_idea_of_the_clocks_is_an_answer() -> None:
    places = sampled(truth(even(), 1e5, 0.7, 40e-6) + 0.3)
    found = fit_clocks(even(), places, 1e5, near_s=0.702, within_s=0.004)
    assert found.n == 100
    assert found.place(0.0) == pytest.approx(70_003, abs=1.5)


def test_edges_locked_to_the_sample_clock_are_not_better_than_one_sample() -> None:
    places = truth(even(), 1e5, 0.7, 0) + 0.3
    found = fit_clocks(even(), sampled(places), 1e5, near_s=0.7, within_s=0.004)
    assert found.locked
    assert found.uncertainty_s(0.5) > 0.99e-5 / math.sqrt(12)
    off_s = abs(float(found.place(0.5)) - (0.5 + 0.7) * 1e5 - 0.3) / 1e5
    assert off_s < 2 * found.uncertainty_s(0.5)


@pytest.mark.parametrize(("times", "places"), [(0, 0), (1, 50), (50, 2), (2, 2)])
def test_too_few_edges_are_an_error(times: int, places: int) -> None:
    rng = np.random.default_rng(3)
    with pytest.raises(MarkerMissing, match="do not fit"):
        fit_clocks(dithered(rng, max(times, 1))[:times], np.arange(places) * 1000.0, 1e5)


def test_edges_of_something_else_do_not_fit_well() -> None:
    rng = np.random.default_rng(11)
    times = np.sort(rng.uniform(0, 10, 200))
    with pytest.raises(MarkerMissing, match="do not fit"):
        fit_clocks(times, np.sort(rng.uniform(0, 1e6, 200)), 1e5)


@pytest.mark.parametrize(
    ("jitter_s", "limit"), [(1.99e-3, "2 ms"), (0.3e-3, "310 us"), (1.5, "1.5 s")]
)
def test_what_does_not_fit_is_told_of_events_and_edges(jitter_s: float, limit: str) -> None:
    with pytest.raises(MarkerMissing, match="events and the edges") as caught:
        fit_clocks(np.arange(1.0), np.arange(50) * 1000.0, 1e5, jitter_s=jitter_s)
    cause = f"1 events, 50 edges on the trace; fewer than 3 agree within {limit}"
    assert caught.value.cause == cause


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("jump_s", [1e-3, 0.3, -2.0])
def test_a_clock_that_jumps_has_no_map(share: float, jump_s: float) -> None:
    times = dithered(np.random.default_rng(5), 200)
    places = sampled(truth(times, 1e5, 3.0, 20e-6))
    jumped = times + np.where(np.arange(200) < share * 200, 0, jump_s)
    with pytest.raises(MarkerMissing, match="jumped") as caught:
        fit_clocks(np.sort(jumped), places, 1e5, jitter_s=50e-6)
    assert "--from" in caught.value.fix
    # Each part by itself has one.
    part = slice(0, int(share * 200))
    assert fit_clocks(jumped[part], places[part], 1e5, jitter_s=50e-6).n == int(share * 200)


def test_events_at_a_fixed_time_beside_other_edges_are_no_jump() -> None:
    """Notes without an edge and edges without a note that fit each other, too: still one clock."""
    times = dithered(np.random.default_rng(6), 100)
    noted = np.sort(np.concatenate([times, times[::2] + 0.004]))
    edges = np.sort(np.concatenate([times, times[::2] + 0.009]))
    found = fit_clocks(noted, sampled(truth(edges, 1e5, 1.0, 0)), 1e5, jitter_s=50e-6)
    assert (found.n, found.missed, found.extra) == (100, 50, 50)
    assert found.place(0.0) == pytest.approx(1e5, abs=2)


@pytest.mark.parametrize("seed", range(25))
def test_what_fits_by_chance_is_no_map(seed: int) -> None:
    rng = np.random.default_rng(seed)
    times, places = np.sort(rng.uniform(0, 10, 200)), np.sort(rng.uniform(0, 1e6, 200))
    with pytest.raises(MarkerMissing):
        fit_clocks(times, places, 1e5, jitter_s=50e-6)


def test_three_edges_are_enough_where_they_fit_well() -> None:
    rng = np.random.default_rng(2)
    for _ in range(20):
        times = dithered(rng, 3, 2.0)
        found = fit_clocks(times, sampled(truth(times, 1e5, 7.0, 0)), 1e5)
        assert found.n == 3


def test_moments_of_known_place_give_a_map_of_their_own_uncertainty() -> None:
    clock = map_of(np.array([1.0, 3.0]), np.array([500.0, 2500.2]), 1e3, 1e-4)
    assert clock.place(2.0) == pytest.approx(1500.1)
    assert clock.drift == pytest.approx(1e-4)
    assert clock.uncertainty_s(2.0) == pytest.approx(1e-4 / math.sqrt(2))
    shifted = replace(clock, common_s=1e-3)
    assert shifted.uncertainty_s(2.0) == pytest.approx(1e-3, rel=0.01)
