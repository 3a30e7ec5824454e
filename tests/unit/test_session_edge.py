"""The edge's half: nothing runs twice, nothing hostile gets far, nodes may come back."""

from __future__ import annotations

import pytest
from raw_node import RawNode, joined
from session_help import BUNDLE, MAX_PAYLOAD, OTHER, RAW_LEN, Pair, make_store

from waistline.errors import BadFrame, LinkClosed, LinkError, LinkTimeout, VersionMismatch
from waistline.frame import EdgeTimes, OutcomeKind
from waistline.session import bodies
from waistline.session.edge import MAX_PINGS_PER_S
from waistline.session.events import Broken, Declined, Joined, Left, Refused, Requested
from waistline.session.store import BundleLimits, SessionStore
from waistline.wire import MessageType, encode_message


def test_a_node_joins_and_is_welcomed():
    node = RawNode()
    assert node.hello(max_in_flight=3) == [Joined("node-1", 7, BUNDLE)]
    (welcome,) = node.heard()
    assert bodies.load(welcome.payload, bodies.Welcome) == bodies.Welcome("edge-1", 3, 0)
    assert (node.edge.node_id, node.edge.bundle_id) == ("node-1", BUNDLE)


def test_a_request_carries_its_deadline_on_the_edges_clock():
    node = joined()
    (request,) = node.data(1, budget_ms=1500, now=40.0)
    assert request == Requested(1, b"waist", RAW_LEN, 41.5)


def test_a_frame_runs_once_however_often_it_comes():
    node = joined()
    assert node.data(1)
    assert not node.data(1)
    assert not node.heard()
    node.edge.reply(1, EdgeTimes(), b"cat")
    first = node.heard()
    assert not node.data(1)
    assert node.heard() == first
    node.edge.reply(1, EdgeTimes(), b"dog")
    assert not node.heard()


def test_answers_survive_a_reconnect():
    node = joined()
    node.data(1)
    node.edge.reply(1, EdgeTimes(), b"cat")
    first = node.heard()
    node.edge.disconnected()
    again = joined(store=node.store)
    assert not again.data(1)
    assert again.heard() == first


def test_an_answer_finds_the_connection_the_node_has_by_then():
    node = joined()
    node.data(1)
    node.edge.disconnected()
    again = joined(store=node.store)
    assert not again.data(1)
    node.edge.reply(1, EdgeTimes(), b"cat")
    assert again.woken == 1
    (reply,) = again.heard()
    assert reply.payload.endswith(b"cat")


def test_an_answer_without_a_connection_waits():
    node = joined()
    node.data(1)
    node.edge.disconnected()
    node.edge.error(1, "backend", "no memory")
    again = joined(store=node.store)
    assert not again.heard()
    again.data(1)
    assert again.faults() == ["backend"]


def test_a_new_connection_of_the_same_session_supersedes_silently():
    old = joined()
    new = joined(store=old.store)
    assert old.woken == 1
    assert old.edge.over
    assert not old.heard()
    (event,) = old.edge.on_time(0.0)
    assert isinstance(event.error, LinkClosed)
    old.edge.disconnected()
    new.data(1)
    new.edge.reply(1, EdgeTimes(), b"")
    assert len(new.heard()) == 1


def test_a_new_session_of_the_same_node_supersedes_and_says_so():
    old = joined()
    new = joined(store=old.store, session_id=8)
    assert old.faults() == ["superseded"]
    assert old.edge.over
    old.edge.disconnected()
    assert new.data(1)


def test_a_restarted_node_takes_over_from_its_dead_self():
    first = Pair()
    first.connect()
    first.settle()
    second = Pair(first.store, session_id=8)
    second.connect()
    second.settle()
    assert second.node.ready
    first.carry_down()
    assert isinstance(first.events(Refused)[0].error, Exception)


@pytest.mark.parametrize(
    ("settings", "hello", "kind", "error"),
    [
        ({"bundle": OTHER}, {}, "bundle", VersionMismatch),
        ({}, {"minor_min": 3, "minor_max": 4}, "version", VersionMismatch),
        ({}, {"policy": "logged"}, "policy", LinkError),
    ],
)
def test_a_node_that_cannot_be_served_is_told_why(settings, hello, kind, error):
    node = RawNode(**settings)
    (event,) = node.hello(**hello)
    assert isinstance(event, Broken)
    assert isinstance(event.error, error)
    assert node.faults() == [kind]
    assert node.edge.over
    assert node.store.sessions == 0


def test_a_refusal_lists_the_bundles_there_are():
    node = RawNode(bundle=OTHER)
    node.hello()
    (message,) = node.heard()
    assert bodies.load(message.payload, bodies.Fault).bundles == (BUNDLE,)


@pytest.mark.parametrize("data", [
    b"GET / HTTP/1.1\r\n\r\n", b"\0" * 100, b"\x16\x03\x01",
    b"".join(encode_message(MessageType.DATA, [b"x"], seq=1)),
    b"".join(encode_message(MessageType.PING)),
    b"".join(encode_message(MessageType.HELLO, [b"x" * 20_000])),
])  # fmt: skip
def test_strangers_get_no_answer(data):
    node = RawNode()
    (event,) = node.edge.receive(data, 0.0)
    assert isinstance(event.error, BadFrame)
    assert not node.edge.to_send()
    assert node.edge.over


@pytest.mark.parametrize("act", [
    lambda node: node.data(1, payload=bytes(MAX_PAYLOAD + 1)),
    lambda node: node.data(0),
    lambda node: node.hello(),
    lambda node: node.say(MessageType.DATA, seq=1, session=8),
    lambda node: node.say(MessageType.DATA, seq=1, bundle=0),
    lambda node: node.say(MessageType.REPLY, seq=1),
    lambda node: node.say(MessageType.ACK, seq=1),
    lambda node: node.edge.receive(b"garbage!", 0.0),
])  # fmt: skip
def test_a_node_that_breaks_the_rules_is_told_and_cut_off(act):
    node = joined()
    (event,) = act(node)
    assert isinstance(event.error, BadFrame)
    assert node.faults() == ["protocol"]
    assert not node.data(5)


@pytest.mark.parametrize(
    ("frame", "kind"), [({"raw_len": RAW_LEN + 1}, "codec"), ({"budget_ms": 0}, "deadline")]
)
def test_a_frame_that_lies_fails_alone(frame, kind):
    node = joined()
    assert node.data(1, **frame) == [Declined(1, kind)]
    assert node.faults() == [kind]
    assert not node.data(1, **frame)
    assert node.faults() == [kind]
    assert node.data(2)


def test_an_answer_bundle_has_raw_length_equal_to_the_payload():
    store = SessionStore({BUNDLE: BundleLimits(None, MAX_PAYLOAD)})
    node = joined(store=store)
    assert isinstance(node.data(1, payload=b"answer", raw_len=6)[0], Requested)
    assert node.data(2, payload=b"answer", raw_len=7) == [Declined(2, "codec")]


def test_more_in_flight_than_agreed_is_busy_and_not_run():
    node = joined(store=make_store(max_in_flight=2))
    assert isinstance(node.data(1)[0], Requested)
    assert isinstance(node.data(2)[0], Requested)
    assert node.data(3) == [Declined(3, "busy")]
    assert [message.type for message in node.heard()] == [MessageType.BUSY]
    node.edge.reply(1, EdgeTimes(), b"")
    assert isinstance(node.data(3)[0], Requested)


def test_a_busy_frame_may_come_again():
    node = joined()
    node.data(1)
    node.edge.busy(1, 0.25)
    (busy,) = node.heard()
    assert bodies.load_busy(busy.payload) == 0.25
    assert node.data(1)


def test_who_says_nothing_is_closed_in_time():
    node = RawNode(now=10.0)
    assert node.edge.next_timer() == 12.0
    assert not node.edge.on_time(11.9)
    node.edge.receive(b"W", 11.95)
    (event,) = node.edge.on_time(12.0)
    assert isinstance(event.error, LinkTimeout)
    assert node.edge.next_timer() is None


def test_a_node_that_falls_silent_is_closed_later():
    node = joined()
    node.say(MessageType.PING, now=50.0)
    assert node.edge.next_timer() == 110.0
    assert not node.edge.on_time(109.0)
    assert isinstance(node.edge.on_time(110.0)[0].error, LinkTimeout)


def test_pings_are_answered_and_bye_is_heard():
    node = joined()
    node.say(MessageType.PING, seq=3)
    assert [(message.type, message.seq) for message in node.heard()] == [(MessageType.PONG, 3)]
    assert node.say(MessageType.BYE) == [Left()]
    assert node.edge.over


def test_a_node_that_never_reads_is_cut_off():
    node = joined()
    node.data(1)
    node.edge.reply(1, EdgeTimes(), b"answer")
    for _ in range(2000):
        events = node.data(1)
        if events:
            break
    assert "does not read" in events[0].error.what
    assert len(node.edge.to_send()) < 4000


def test_a_flood_of_pings_is_cut_off_and_a_ping_now_and_then_is_not():
    node = joined()
    for k in range(1000):
        assert not node.say(MessageType.PING, now=k / 50)
        node.edge.to_send()
    ends = [node.say(MessageType.PING, now=100.0) for _ in range(MAX_PINGS_PER_S + 1)]
    assert not any(ends[:-1])
    assert "PINGs a second" in ends[-1][0].error.what


def test_an_edge_that_stops_says_bye():
    node = joined()
    node.data(1)
    node.edge.bye()
    assert [message.type for message in node.heard()] == [MessageType.BYE]
    assert node.edge.over
    node.edge.reply(1, EdgeTimes(), b"late")
    assert not node.heard()


def test_outcomes_of_a_node_whose_edge_came_back_empty():
    """A restarted edge runs the frame again: tails are pure, the node counts one outcome."""
    pair = Pair()
    pair.connect()
    pair.settle()
    pair.submit()
    pair.carry_up()
    pair.drop()
    pair.store, pair.jobs = make_store(), []
    pair.connect()
    pair.settle()
    pair.answer()
    pair.settle()
    assert [out.kind for out in pair.outcomes] == [OutcomeKind.REMOTE]
