"""What an edge remembers of its nodes: windows, answers, sessions, and no more."""

from __future__ import annotations

import gc
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st
from raw_node import RawNode, joined
from session_help import BUNDLE, make_store

from waistline.frame import EdgeTimes
from waistline.session.events import Broken, Declined
from waistline.session.store import WINDOW_FRAMES, Record
from waistline.wire import MAX_SEQ


def test_the_window_remembers_256_frames_and_runs_nothing_older():
    node = joined()
    for seq in range(1, WINDOW_FRAMES + 11):
        node.data(seq)
        node.edge.reply(seq, EdgeTimes(), b"%d" % seq)
    node.heard()
    assert not node.data(11)
    assert node.heard()[0].payload.endswith(b"11")
    assert node.data(10) == [Declined(10, "replay")]
    assert node.faults() == ["replay"]


def test_frames_may_come_out_of_order_inside_the_window():
    node = joined()
    assert node.data(200)
    assert node.data(3)
    assert not node.data(3)


@given(st.lists(st.integers(1, 3 * WINDOW_FRAMES), max_size=60), st.integers(0, 1 << 31))
def test_the_window_is_the_set_of_what_was_taken(seqs, start):
    record, taken = Record(("n", 1, BUNDLE)), set()
    for seq in (start + seq for seq in seqs):
        above = max(taken, default=0) - WINDOW_FRAMES
        assert record.is_new(seq) == (seq > above and seq not in taken)
        if record.is_new(seq):
            record.start(seq)
            taken.add(seq)
            if seq % 3 == 0 and seq != max(taken):
                record.give_back(seq)
                taken.remove(seq)


def test_a_frame_that_falls_out_of_the_window_while_it_waits_does_not_come_again():
    node = joined()
    node.data(1)
    node.data(MAX_SEQ)
    node.edge.busy(1, 0.1)
    assert node.data(1) == [Declined(1, "replay")]
    assert not node.data(MAX_SEQ)
    assert node.data(MAX_SEQ - 1)


def test_big_answers_are_forgotten_sooner_but_never_run_twice():
    node = joined(store=make_store(replay_bytes=1000))
    for seq in range(1, 21):
        node.data(seq)
        node.edge.reply(seq, EdgeTimes(), bytes(400))
    node.heard()
    assert node.store.replay_size_bytes <= 1000
    assert node.data(1) == [Declined(1, "replay")]
    assert node.faults() == ["replay"]
    assert not node.data(20)
    assert len(node.heard()) == 1


def test_the_store_bounds_all_sessions_together():
    store = make_store(total_replay_bytes=2000)
    for number in range(10):
        node = joined(store=store, node_id=f"node-{number}")
        for seq in range(1, 4):
            node.data(seq)
            node.edge.reply(seq, EdgeTimes(), bytes(300))
    assert store.replay_size_bytes <= 2000
    records = store._records.values()
    assert store.replay_size_bytes == sum(record.size_bytes for record in records)


def test_who_was_answered_longest_ago_loses_its_answers_first():
    store = make_store(total_replay_bytes=2000)
    first = joined(store=store, node_id="first")
    second = joined(store=store, node_id="second")
    for seq in range(1, 4):
        for node in (second, first):
            node.data(seq)
            node.edge.reply(seq, EdgeTimes(), bytes(300))
    assert not first.data(3)
    assert second.data(1) == [Declined(1, "replay")]


def test_an_answer_of_a_forgotten_session_is_not_counted_for_ever():
    store = make_store(max_sessions=1)
    old = joined(store=store, node_id="old")
    old.data(1)
    old.edge.disconnected()
    joined(store=store, node_id="new")
    old.edge.reply(1, EdgeTimes(), bytes(300))
    assert store.replay_size_bytes == 0


def test_what_a_session_costs_is_what_is_counted():
    store = make_store()
    tracemalloc.start()
    try:
        node = joined(store=store)
        before = tracemalloc.get_traced_memory()[0]
        for seq in range(1000, 1000 + 2 * WINDOW_FRAMES):
            node.data(seq)
            node.edge.reply(seq, EdgeTimes(), bytes(20))
            node.edge.to_send()
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 1.2 * store.replay_size_bytes


def test_sessions_are_forgotten_least_recent_first_and_never_while_connected():
    store = make_store(max_sessions=2)
    first = joined(store=store, node_id="a")
    second = joined(store=store, node_id="b")
    third = RawNode(store=store, node_id="c")
    (event,) = third.hello()
    assert isinstance(event, Broken)
    assert third.faults() == ["full"]
    first.edge.disconnected()
    joined(store=store, node_id="c")
    assert store.sessions == 2
    assert second.data(1)


def test_a_full_store_still_lets_a_known_node_start_anew():
    store = make_store(max_sessions=1)
    joined(store=store)
    joined(store=store, session_id=8)
    assert store.sessions == 1
