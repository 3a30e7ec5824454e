"""How soon an edge that was away is found again, and that it is not asked all the time."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waistline_node.backoff import FIRST_DELAY_S, HEALTHY_S, MAX_DELAY_S, Backoff


def found_after(backoff: Backoff, down_at: float, up_at: float, draw) -> tuple[float, int]:
    """When an attempt finds the edge, and how many did not; attempts take no time."""
    now, failed = down_at, 0
    while now < up_at:
        failed += 1
        backoff.lost(None, now)
        now += draw(backoff.limit_s(now))
    return now, failed


def test_the_longest_pause_grows_with_the_absence_up_to_half_a_minute():
    backoff = Backoff(100.0)
    limits = [backoff.limit_s(100.0 + gone) for gone in (0.0, 0.3, 1.0, 10.0, 60.0, 1e6)]
    assert limits == pytest.approx([FIRST_DELAY_S, FIRST_DELAY_S, 0.5, 5.0, 30.0, MAX_DELAY_S])


LIVES = st.tuples(st.floats(HEALTHY_S, 60.0), st.floats(0.1, 6.0))


@given(st.lists(LIVES, min_size=1, max_size=20), st.none() | st.integers(0, 1 << 32))
def test_an_edge_killed_again_and_again_is_found_within_3_s(lives, seed):
    """Fault 1 of the link's tests: killed, restarted after 2 s, 20 times; None: no luck at all."""
    dice = random.Random(seed)
    now, backoff = 0.0, Backoff(0.0)
    for alive_s, away_s in lives:
        backoff.lost(now, now + alive_s)
        up_at = now + alive_s + away_s
        draw = (lambda high: high) if seed is None else (lambda high: dice.uniform(0.0, high))
        now, _ = found_after(backoff, now + alive_s, up_at, draw)
        assert now - up_at <= 3.0 + 1e-6


def test_an_edge_that_dies_at_every_welcome_gets_a_rest_and_is_found_as_soon():
    now, backoff = 0.0, Backoff(0.0)
    for lives in range(20):
        backoff.lost(now, now + 0.01)
        now += 0.01
        assert backoff.limit_s(now) == pytest.approx(0.5 if lives else FIRST_DELAY_S)
        up_at = now + 2.0
        now, _ = found_after(backoff, now, up_at, lambda high: high)
        assert now - up_at <= 3.0


def test_a_day_without_an_edge_costs_few_attempts():
    dice = random.Random(1)
    _, failed = found_after(Backoff(0.0), 0.0, 86_400.0, lambda high: dice.uniform(0.0, high))
    assert failed < 7000
