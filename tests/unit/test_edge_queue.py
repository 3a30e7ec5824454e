from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from waistline_edge.queue import FairQueue, ServiceEstimate

LATER = 1e9


def _drain(queue, now=0.0):
    items = []
    while (entry := queue.take(now)[0]) is not None:
        items.append(entry.item)
    return items


def _fill(queue, line, count, expires_at=LATER):
    return [queue.put(line, (line, k), now=0.0, expires_at=expires_at) for k in range(count)]


def test_lines_are_served_in_turn_and_each_in_order():
    queue = FairQueue(100)
    _fill(queue, "greedy", 5)
    _fill(queue, "modest", 2)
    assert _drain(queue) == [
        ("greedy", 0), ("modest", 0), ("greedy", 1), ("modest", 1),
        ("greedy", 2), ("greedy", 3), ("greedy", 4),
    ]  # fmt: skip


def test_a_full_queue_refuses_the_line_that_filled_it():
    queue = FairQueue(4)
    admissions = _fill(queue, "greedy", 6)
    assert [each.accepted for each in admissions] == [True] * 4 + [False] * 2
    assert len(queue) == 4


def test_a_full_queue_makes_room_for_a_line_with_less_in_it():
    queue = FairQueue(4)
    _fill(queue, "greedy", 4)
    admission = queue.put("modest", ("modest", 0), now=0.0, expires_at=LATER)
    assert admission.accepted
    assert [entry.item for entry in admission.evicted] == [("greedy", 3)]
    assert _drain(queue) == [("greedy", 0), ("modest", 0), ("greedy", 1), ("greedy", 2)]


def test_equal_lines_do_not_push_each_other_out():
    queue = FairQueue(2)
    assert _fill(queue, "a", 1)[0].accepted
    assert _fill(queue, "b", 1)[0].accepted
    assert not _fill(queue, "c", 1)[0].accepted


def test_expired_requests_are_handed_back_and_not_run():
    queue = FairQueue(10)
    queue.put("a", "old", now=0.0, expires_at=1.0)
    queue.put("a", "new", now=0.0, expires_at=5.0)
    entry, expired = queue.take(2.0)
    assert entry is not None
    assert entry.item == "new"
    assert [each.item for each in expired] == ["old"]
    assert queue.take(2.0) == (None, ())


def test_expired_requests_do_not_keep_a_full_queue_full():
    queue = FairQueue(3)
    _fill(queue, "a", 3, expires_at=1.0)
    admission = queue.put("a", "fresh", now=2.0, expires_at=9.0)
    assert admission.accepted
    assert len(admission.expired) == 3
    assert len(queue) == 1


def test_what_expires_later_is_found_when_the_queue_is_full_again():
    queue = FairQueue(2)
    queue.put("a", "early", now=0.0, expires_at=1.0)
    queue.put("a", "late", now=0.0, expires_at=5.0)
    assert [each.item for each in queue.put("a", 1, now=2.0, expires_at=9.0).expired] == ["early"]
    assert not queue.put("a", 2, now=4.0, expires_at=9.0).accepted
    admission = queue.put("a", 3, now=6.0, expires_at=9.0)
    assert [each.item for each in admission.expired] == ["late"]
    assert admission.accepted


def test_clear_returns_everything():
    queue = FairQueue(9)
    _fill(queue, "a", 2)
    _fill(queue, "b", 1)
    assert sorted(entry.item for entry in queue.clear()) == [("a", 0), ("a", 1), ("b", 0)]
    assert len(queue) == 0
    assert queue.take(0.0) == (None, ())


def test_a_limit_of_nothing_refuses_everything():
    assert not FairQueue(0).put("a", 1, now=0.0, expires_at=LATER).accepted


ACTIONS = st.one_of(
    st.tuples(st.just("put"), st.integers(0, 3), st.floats(0, 20)),
    st.tuples(st.just("take"), st.just(0), st.just(0.0)),
)


@given(st.integers(0, 6), st.lists(ACTIONS, max_size=80))
def test_no_item_is_lost_or_doubled_and_the_bound_holds(limit, actions):
    queue = FairQueue(limit)
    put, out, now = Counter(), Counter(), 0.0
    for step, (action, line, budget) in enumerate(actions):
        now += 1.0
        if action == "put":
            admission = queue.put(line, step, now=now, expires_at=now + budget)
            put[step] += 1
            gone = [*admission.evicted, *admission.expired]
            out.update(entry.item for entry in gone)
            if not admission.accepted:
                out[step] += 1
        else:
            entry, expired = queue.take(now)
            assert all(each.expires_at <= now for each in expired)
            out.update(each.item for each in expired)
            if entry is not None:
                assert entry.expires_at > now
                out[entry.item] += 1
        assert len(queue) <= limit
    out.update(entry.item for entry in queue.clear())
    assert out == put


@given(st.lists(st.integers(1, 30), min_size=2, max_size=6))
def test_what_is_served_is_shared_evenly(demands):
    """While every line still has something waiting, no line is ahead by more than one."""
    queue = FairQueue(sum(demands))
    for line, demand in enumerate(demands):
        _fill(queue, line, demand)
    served = Counter(line for line, _ in _drain(queue)[: min(demands) * len(demands)])
    assert set(served.values()) == {min(demands)}


def test_the_estimate_grows_with_the_queue_and_shrinks_with_workers():
    one, four = ServiceEstimate(1), ServiceEstimate(4)
    for _ in range(50):
        one.observe(0.1)
        four.observe(0.1)
    assert abs(one.retry_after_s(8) - 0.8) < 1e-9
    assert abs(four.retry_after_s(8) - 0.2) < 1e-9
    assert ServiceEstimate(1).retry_after_s(100) == 0.005
    assert one.retry_after_s(10**6) == 10.0
