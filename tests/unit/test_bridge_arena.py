"""The arena plan: nothing alive at once shares a byte, and little is wasted."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from waistline_bridge.arena import Need, largest_live, plan_arena

_STEPS = 12


@st.composite
def _needs(draw):
    first = draw(st.integers(0, _STEPS))
    last = draw(st.integers(first, _STEPS))
    size = draw(st.one_of(st.integers(0, 40), st.integers(0, 5000)))
    return Need(size, first, last, draw(st.sampled_from([1, 4, 8, 16])))


@given(st.lists(_needs(), max_size=24))
def test_what_lives_at_once_never_overlaps(needs):
    plan = plan_arena(needs)
    placed = list(zip(plan.offsets, needs, strict=True))
    for k, (at, need) in enumerate(placed):
        assert at % need.alignment == 0 or need.size_bytes == 0
        assert 0 <= at <= at + need.size_bytes <= plan.size_bytes
        for other_at, other in placed[:k]:
            if need.meets(other) and need.size_bytes and other.size_bytes:
                apart = at + need.size_bytes <= other_at or other_at + other.size_bytes <= at
                assert apart
    assert plan.largest_live_bytes <= plan.size_bytes
    assert plan.size_bytes <= sum(need.size_bytes + need.alignment for need in needs)


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=20))
def test_a_chain_takes_its_two_largest_neighbours(sizes):
    needs = [Need(4 * size, k, k + 1) for k, size in enumerate(sizes)]
    pairs = [a + b for a, b in pairwise(sizes)]
    assert largest_live(needs) == 4 * max(pairs, default=sizes[0])
    assert plan_arena(needs).size_bytes == largest_live(needs)


@given(st.lists(_needs(), min_size=1, max_size=24))
def test_the_same_needs_give_the_same_plan(needs):
    assert plan_arena(needs) == plan_arena(list(needs))


def test_branches_and_scratch_leave_little_unused():
    """Blocks of four layers with a branch around them, as residual networks have."""
    needs = []
    for block in range(6):
        start, size = 4 * block, 6000 - 700 * block
        needs += [Need(size, start, start + 4), Need(3 * size, start + 1, start + 2)]
        needs += [
            Need(3 * size, start + 2, start + 3),
            Need(900 + 40 * block, start + 2, start + 2, 8),
        ]
        needs += [Need(size, start + 3, start + 4)]
    plan = plan_arena(needs)
    assert plan.size_bytes <= 1.03 * plan.largest_live_bytes


def test_nothing_needs_nothing():
    plan = plan_arena([])
    assert (plan.offsets, plan.size_bytes, plan.largest_live_bytes) == ((), 0, 0)


def test_an_empty_need_lies_on_others():
    plan = plan_arena([Need(8, 0, 3), Need(0, 0, 3, 8), Need(8, 1, 2)])
    assert plan.size_bytes == 16
