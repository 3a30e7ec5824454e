"""The node's half: one outcome per frame, whatever the edge and the link do."""

from __future__ import annotations

import pytest
from session_help import BUNDLE, MAX_PAYLOAD, OTHER, RAW_LEN, Pair, make_node, make_store

from waistline.errors import BadFrame, ConfigError, LinkTimeout, VersionMismatch
from waistline.frame import OutcomeKind
from waistline.session import bodies
from waistline.session.events import Broken, Left, Refused, Welcomed
from waistline.session.store import BundleLimits, SessionStore
from waistline.wire import MessageType, bundle_tag, encode_message


def ready_pair(**node) -> Pair:
    pair = Pair(**node)
    pair.connect()
    pair.settle()
    assert pair.node.ready
    return pair


def from_edge(kind, payload=b"", **fields) -> bytes:
    head = {"session": 7, "bundle": bundle_tag(BUNDLE), **fields}
    return b"".join(encode_message(kind, [payload], **head))


def test_a_frame_goes_there_and_back():
    pair = ready_pair()
    seq = pair.submit()
    pair.now += 0.25
    pair.carry_up()
    pair.now += 1.0
    pair.answer(b"cat", queue_s=0.125, tail_s=0.5)
    pair.carry_down()
    (outcome,) = pair.outcomes
    assert (outcome.seq, outcome.kind, outcome.answer) == (seq, OutcomeKind.REMOTE, b"cat")
    assert outcome.node_queue_s == pytest.approx(0.25)
    assert outcome.edge.residence_s == pytest.approx(0.625)
    assert outcome.transit_s == pytest.approx(1.0 - 0.625)
    assert pair.node.pending == 0


def test_the_remaining_budget_travels():
    pair = ready_pair(budget_s=2.0)
    pair.submit()
    pair.now += 0.5
    pair.carry_up()
    assert pair.jobs[0][1].expires_at == pytest.approx(pair.now + 1.5, abs=2e-3)


def test_nothing_is_sent_before_the_welcome():
    pair = Pair()
    pair.connect()
    pair.submit()
    hello = b"".join(bytes(part) for part in pair.node.to_send(pair.now))
    assert hello[3] == MessageType.HELLO
    assert not pair.node.to_send(pair.now)
    assert not pair.node.can_submit


def test_a_newer_frame_pushes_the_oldest_out():
    pair = Pair(queue_limit=2)
    seqs = [pair.submit() for _ in range(5)]
    assert [(out.seq, out.kind, out.reason) for out in pair.outcomes] == [
        (seq, OutcomeKind.DROPPED, "queue") for seq in seqs[:3]
    ]
    assert pair.node.pending == 2


def test_frames_leave_one_at_a_time_up_to_the_in_flight_limit():
    pair = ready_pair(queue_limit=10, max_in_flight=3)
    for _ in range(5):
        pair.submit()
    batches = []
    while out := pair.node.to_send(pair.now):
        batches.append(out)
    assert len(batches) == 3
    assert all(len(batch) == 2 for batch in batches)


def test_the_edge_may_lower_the_in_flight_limit():
    pair = Pair(make_store(max_in_flight=1), queue_limit=3)
    pair.connect()
    pair.settle()
    assert pair.events(Welcomed) == [Welcomed("edge-1", 1)]
    pair.submit(), pair.submit()
    pair.carry_up()
    assert len(pair.jobs) == 1


def test_can_submit_says_when_a_finite_source_may_go_on():
    pair = ready_pair(max_in_flight=1)
    assert pair.node.can_submit
    pair.submit()
    assert not pair.node.can_submit
    pair.carry_up()
    assert pair.node.can_submit
    pair.drop()
    assert not pair.node.can_submit


def test_frames_are_sent_again_over_the_next_connection():
    pair = ready_pair(queue_limit=4)
    for _ in range(3):
        pair.submit()
    pair.carry_up(60)
    pair.drop()
    assert not pair.outcomes
    pair.now += 1.0
    pair.connect()
    pair.settle()
    assert [job.seq for _, job in pair.jobs] == [1, 2, 3]
    for _ in range(3):
        pair.answer()
    pair.settle()
    assert [out.kind for out in pair.outcomes] == [OutcomeKind.REMOTE] * 3


def test_a_frame_whose_budget_ends_without_a_link_is_an_error():
    pair = ready_pair(budget_s=5.0)
    pair.submit()
    pair.carry_up()
    pair.drop()
    assert pair.node.next_timer() == pytest.approx(pair.now + 5.0)
    pair.tick(4.999)
    assert not pair.outcomes
    pair.tick(0.001)
    (outcome,) = pair.outcomes
    assert (outcome.kind, outcome.reason) == (OutcomeKind.ERROR, "link")
    assert outcome.detail == "no reply within 5 s; sent 1 times"


def test_a_late_reply_is_discarded():
    pair = ready_pair(budget_s=1.0)
    pair.submit()
    pair.carry_up()
    pair.tick(1.5)
    pair.answer()
    pair.settle()
    assert [out.reason for out in pair.outcomes] == ["link"]
    assert not pair.events(Broken)


def test_an_expired_frame_is_never_sent():
    pair = Pair(budget_s=1.0)
    pair.submit()
    pair.now += 1.0
    pair.connect()
    pair.settle()
    assert not pair.jobs
    pair.tick(0.0)
    assert [out.reason for out in pair.outcomes] == ["link"]


def test_busy_ends_a_frame_and_holds_the_next_back():
    pair = ready_pair()
    pair.submit()
    pair.carry_up()
    session, job = pair.jobs.pop()
    session.busy(job.seq, 0.5)
    pair.carry_down()
    assert [(out.kind, out.reason) for out in pair.outcomes] == [(OutcomeKind.DROPPED, "busy")]
    pair.submit()
    assert not pair.node.to_send(pair.now)
    assert pair.node.next_timer() == pytest.approx(pair.now + 0.5)
    pair.tick(0.5)
    pair.carry_up()
    assert len(pair.jobs) == 1


def test_a_busy_cannot_silence_a_node_for_good():
    pair = ready_pair(budget_s=1000.0)
    pair.submit()
    pair.carry_up()
    pair.jobs[0][0].busy(1, 4e6)
    pair.carry_down()
    pair.submit()
    pair.now += 10.0
    assert pair.node.to_send(pair.now)


def test_an_error_about_a_frame_is_its_outcome():
    pair = ready_pair()
    pair.submit()
    pair.carry_up()
    pair.jobs[0][0].error(1, "backend", "no memory")
    pair.carry_down()
    (outcome,) = pair.outcomes
    assert (outcome.kind, outcome.reason) == (OutcomeKind.ERROR, "backend")
    assert outcome.detail == "no memory"
    assert pair.node.ready


def test_an_edge_without_the_bundle_refuses_for_good():
    pair = Pair(SessionStore({OTHER: BundleLimits(RAW_LEN, MAX_PAYLOAD)}))
    pair.submit()
    pair.connect()
    pair.settle()
    (refused,) = pair.events(Refused)
    assert isinstance(refused.error, VersionMismatch)
    assert BUNDLE[:12] in refused.error.what
    assert OTHER[:12] in refused.error.cause
    assert refused.error.fix
    assert [(out.kind, out.reason) for out in pair.outcomes] == [(OutcomeKind.ERROR, "bundle")]
    pair.submit()
    assert [out.reason for out in pair.outcomes] == ["bundle", "bundle"]
    pair.drop()
    pair.node.connected(pair.now)
    assert not pair.node.to_send(pair.now)


def test_another_major_version_refuses_for_good():
    import zlib

    pair = Pair()
    pair.connect()
    welcome = bytearray(from_edge(MessageType.WELCOME))
    welcome[2] = 9
    welcome[36:40] = zlib.crc32(welcome[:36]).to_bytes(4, "little")
    events = pair.node.receive(welcome, pair.now)
    assert [type(event) for event in events] == [Refused]


def test_a_node_that_was_superseded_does_not_come_back():
    pair = ready_pair()
    fault = bodies.dump(bodies.Fault("superseded"))
    events = pair.node.receive(from_edge(MessageType.ERROR, fault), pair.now)
    assert isinstance(events[0], Refused)
    assert "--node-id" in events[0].error.fix


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK",
        from_edge(MessageType.WELCOME),
        from_edge(MessageType.HELLO),
        from_edge(MessageType.DATA),
        from_edge(MessageType.REPLY, bytes(20), seq=2),
        from_edge(MessageType.REPLY, bytes(20), seq=0),
        from_edge(MessageType.REPLY, bytes(19), seq=1),
        from_edge(MessageType.REPLY, bytes(100), seq=1),
        from_edge(MessageType.REPLY, bytes(20), seq=1, session=8),
        from_edge(MessageType.REPLY, bytes(20), seq=1, bundle=0),
        from_edge(MessageType.BUSY, b"", seq=1),
        from_edge(MessageType.ERROR, b"{}", seq=1),
    ],
)
def test_an_edge_that_talks_nonsense_is_left_and_the_frame_kept(data):
    pair = ready_pair()
    pair.submit()
    pair.carry_up()
    (event,) = pair.node.receive(data, pair.now)
    assert isinstance(event, Broken)
    assert isinstance(event.error, BadFrame)
    assert not pair.node.receive(from_edge(MessageType.REPLY, bytes(20), seq=1), pair.now)
    pair.connect()
    pair.settle()
    pair.answer()
    pair.settle()
    assert [out.kind for out in pair.outcomes] == [OutcomeKind.REMOTE]


def test_an_edge_that_says_bye_is_left():
    pair = ready_pair()
    pair.submit()
    pair.carry_up()
    pair.edge.bye()
    pair.carry_down()
    assert pair.events(Left)
    assert not pair.outcomes
    assert pair.node.pending == 1


def test_silence_is_asked_about_and_then_given_up_on():
    pair = ready_pair(ping_interval_s=5.0, patience_s=3.0)
    assert pair.node.next_timer() == pytest.approx(pair.now + 5.0)
    pair.tick(5.0)
    pair.settle()
    assert not pair.events(Broken)
    assert pair.node.next_timer() == pytest.approx(pair.now + 5.0)
    pair.tick(5.0)
    assert pair.node.to_send(pair.now)
    pair.tick(3.0)
    (broken,) = pair.events(Broken)
    assert isinstance(broken.error, LinkTimeout)


def test_a_link_that_is_busy_sending_is_not_taken_for_dead():
    """The clock of a PING runs from when it was handed out."""
    pair = ready_pair(ping_interval_s=1.0, patience_s=1.0)
    pair.tick(1.0)
    pair.tick(50.0)
    assert not pair.events(Broken)


def test_an_edge_that_never_welcomes_is_given_up_on():
    pair = Pair(patience_s=3.0)
    pair.connect()
    assert pair.node.to_send(pair.now)
    pair.tick(3.0)
    assert pair.events(Broken)


def test_finish_ends_everything_and_says_bye():
    pair = ready_pair(queue_limit=3, max_in_flight=1)
    for _ in range(3):
        pair.submit()
    pair.carry_up()
    pair.finish()
    assert [(out.seq, out.reason) for out in pair.outcomes] == [
        (seq, "shutdown") for seq in (1, 2, 3)
    ]
    pair.carry_up()
    assert [type(event) for event in pair.edge_events][-1] is Left
    pair.finish()
    pair.submit()
    assert [out.reason for out in pair.outcomes] == ["shutdown"] * 4


@pytest.mark.parametrize("changes", [
    {"policy": "logged"}, {"policy": ""}, {"queue_limit": 0}, {"max_in_flight": 0},
    {"max_in_flight": 1000}, {"budget_s": 0.0}, {"budget_s": float("nan")}, {"node_id": "a b"},
    {"node_id": ""}, {"bundle_id": "abcdefabcd"},
])  # fmt: skip
def test_settings_that_cannot_work_are_refused(changes):
    with pytest.raises(ConfigError) as caught:
        make_node(**changes)
    assert caught.value.fix


def test_a_payload_over_the_agreed_size_is_the_callers_mistake():
    with pytest.raises(ValueError, match="65 bytes, 64 were agreed"):
        make_node().submit(bytes(MAX_PAYLOAD + 1), RAW_LEN, 0.0)
