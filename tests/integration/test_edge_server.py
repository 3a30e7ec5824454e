"""The server in this process, with tails that the test opens and closes."""

from __future__ import annotations

import asyncio
import socket
import threading
import time

import numpy as np
import pytest
from edge_rig import (
    WAIT_S,
    Client,
    Gate,
    LocalTail,
    ServerThread,
    fake_bundle,
    frame_payload,
    joined,
    pump_all,
)

from waistline.errors import ConfigError, LinkError
from waistline.frame import OutcomeKind
from waistline.links.base import parse_endpoint
from waistline.wire import MessageType, bundle_tag, encode_message
from waistline_edge.options import EdgeOptions
from waistline_edge.server import EdgeServer

LISTEN = "tcp://127.0.0.1:0"


@pytest.fixture
def bundle(tmp_path):
    return fake_bundle(tmp_path / "a.bundle")


def test_a_full_queue_is_told_as_busy_and_the_rest_is_served(bundle):
    gate = Gate()
    with ServerThread(bundle, gate, queue_limit=2, workers=1) as edge:
        with joined(edge, bundle, "a", max_in_flight=8) as client:
            frames = [frame_payload(bundle, seed) for seed in range(6)]
            for frame in frames:
                client.submit(*frame)
            client.pump(lambda: any(o.reason == "busy" for o in client.outcomes.values()))
            gate.event.set()
            client.pump(lambda: len(client.outcomes) == 6)
        kinds = {seq: outcome.kind for seq, outcome in client.outcomes.items()}
        busy = [seq for seq, outcome in client.outcomes.items() if outcome.reason == "busy"]
        assert busy
        assert all(kinds[seq] is OutcomeKind.DROPPED for seq in busy)
        assert [seq for seq, kind in kinds.items() if kind is OutcomeKind.REMOTE]
        assert edge.server.stats.frames["busy"] == len(busy)
        local = LocalTail(bundle)
        for seq, outcome in client.outcomes.items():
            if outcome.kind is OutcomeKind.REMOTE:
                assert outcome.answer == local.answer(*frames[seq - 1])


def test_a_greedy_node_does_not_keep_others_from_the_edge(bundle):
    gate = Gate()
    with (
        ServerThread(bundle, gate, queue_limit=4, workers=1) as edge,
        joined(edge, bundle, "greedy", max_in_flight=16) as greedy,
        joined(edge, bundle, "modest", max_in_flight=1) as modest,
    ):
        greedy.submit(*frame_payload(bundle, 0))
        pump_all([greedy], lambda: edge.server.load() == (0, 1))
        for seed in range(1, 5):
            greedy.submit(*frame_payload(bundle, seed))
        pump_all([greedy], lambda: edge.server.load() == (4, 1))
        wanted = frame_payload(bundle, 1000)
        seq = modest.submit(*wanted)
        pump_all([modest, greedy], lambda: edge.server.stats.frames["busy"] == 1)
        gate.event.set()
        pump_all([modest, greedy], lambda: len(greedy.outcomes) == 5 and modest.outcomes)
        assert modest.outcomes[seq].kind is OutcomeKind.REMOTE
        reasons = [outcome.reason for outcome in greedy.outcomes.values()]
        assert sorted(reasons) == ["", "", "", "", "busy"]
        assert gate.payloads.index(wanted[0]) <= 2


def test_a_frame_whose_budget_is_over_is_not_run(bundle):
    gate = Gate()
    with (
        ServerThread(bundle, gate, workers=1) as edge,
        joined(edge, bundle, "first") as first,
        joined(edge, bundle, "hasty", budget_s=0.2) as hasty,
    ):
        first.submit(*frame_payload(bundle, 1))
        pump_all([first], lambda: edge.server.load()[1] == 1)
        late = frame_payload(bundle, 2)
        # In one moment, so that no standstill makes it late before it is sent.
        now = time.monotonic()
        hasty.session.submit(*late, now)
        while out := hasty.session.to_send(now):
            hasty.link.send(out)
        edge.until(lambda server: server.load() == (1, 1))
        over = time.monotonic() + 0.25
        pump_all([hasty], lambda: hasty.outcomes and time.monotonic() > over)
        assert hasty.outcomes[1].kind is OutcomeKind.ERROR
        gate.event.set()
        edge.until(lambda server: server.stats.frames["expired"] == 1)
        assert late[0] not in gate.payloads


def test_an_answer_finds_the_node_on_its_new_connection(bundle):
    gate = Gate()
    with ServerThread(bundle, gate, workers=1) as edge:
        client = joined(edge, bundle, "a")
        seq = client.submit(*frame_payload(bundle, 3))
        pump_all([client], lambda: edge.server.load()[1] == 1)
        client.link.abort()
        client.session.disconnected(time.monotonic())
        client.connect()
        client.join()
        gate.event.set()
        client.pump(lambda: seq in client.outcomes)
        assert client.outcomes[seq].kind is OutcomeKind.REMOTE
        assert client.outcomes[seq].answer == LocalTail(bundle).answer(*frame_payload(bundle, 3))
        assert len(gate.payloads) == 1
        client.close()


def test_a_newer_session_of_a_node_supersedes_the_older(bundle):
    with ServerThread(bundle) as edge, joined(edge, bundle, "a", session_id=1) as old:
        with joined(edge, bundle, "a", session_id=2) as new:
            assert new.ask(*frame_payload(bundle, 1)).kind is OutcomeKind.REMOTE
            old.until_closed()
            assert old.refused is not None
        assert edge.server.stats.rejects["superseded"] == 1


def test_draining_finishes_what_is_queued_and_says_bye(bundle):
    gate = Gate()
    edge = ServerThread(bundle, gate, workers=1, drain_s=WAIT_S)
    with edge, joined(edge, bundle, "a") as client:
        for seed in range(3):
            client.submit(*frame_payload(bundle, seed))
        pump_all([client], lambda: edge.server.load() == (2, 1))
        drained = asyncio.run_coroutine_threadsafe(edge.server.drain(), edge.loop)
        gate.event.set()
        client.until_closed()
        assert drained.result(WAIT_S)
        assert [o.kind for o in client.outcomes.values()] == [OutcomeKind.REMOTE] * 3
        with pytest.raises(LinkError):
            Client(edge.server.endpoint, bundle)


def test_what_is_not_reached_while_draining_stays_with_the_node(bundle):
    gate = Gate()
    edge = ServerThread(bundle, gate, workers=1, drain_s=0.05)
    with edge, joined(edge, bundle, "a") as client:
        for seed in range(3):
            client.submit(*frame_payload(bundle, seed))
        pump_all([client], lambda: edge.server.load() == (2, 1))
        drained = asyncio.run_coroutine_threadsafe(edge.server.drain(), edge.loop)
        client.until_closed()
        assert drained.result(WAIT_S) is False
        assert client.session.pending == 3


def test_the_stages_of_the_stay_are_reported(bundle):
    gate = Gate()
    with ServerThread(bundle, gate, workers=1) as edge, joined(edge, bundle, "a") as client:
        client.submit(*frame_payload(bundle, 1))
        client.submit(*frame_payload(bundle, 2))
        pump_all([client], lambda: edge.server.load() == (1, 1))
        time.sleep(0.05)
        opened = time.monotonic()
        gate.event.set()
        client.pump(lambda: len(client.outcomes) == 2)
        passed_s = time.monotonic() - opened
        first, second = client.outcomes[1].edge, client.outcomes[2].edge
        assert first.tail_s >= 0.05
        assert second.queue_s >= 0.05
        assert first.decode_s > 0
        assert second.tail_s < passed_s


def test_a_peer_that_does_not_read_is_cut_off(bundle, monkeypatch):
    monkeypatch.setattr("waistline_edge.server.MIN_UNSENT_BYTES", 1 << 16)
    with ServerThread(bundle, write_s=0.2) as edge, joined(edge, bundle, "mute") as client:
        ping = encode_message(MessageType.PING, session=1, bundle=bundle_tag(bundle.id))
        flood = b"".join(ping) * 100_000
        with pytest.raises(LinkError):
            client.link.send([flood] * 100)
        rejects = edge.server.stats.rejects
        edge.until(lambda server: rejects["unread"] + rejects["garbage"] == 1)
        edge.until(lambda server: server.stats.connections == 0)


def test_strangers_give_way_when_every_place_is_taken(bundle):
    with ServerThread(bundle, max_connections=3, handshake_s=WAIT_S) as edge:
        where = parse_endpoint(edge.server.endpoint)
        strangers = [socket.create_connection((where.host, where.port)) for _ in range(3)]
        try:
            with joined(edge, bundle, "honest") as client:
                assert client.ask(*frame_payload(bundle, 1)).kind is OutcomeKind.REMOTE
            edge.until(lambda server: server.stats.rejects["evicted"] == 1)
        finally:
            for stranger in strangers:
                stranger.close()


def test_a_storm_of_strangers_does_not_pass_the_limit(bundle):
    with ServerThread(bundle, max_connections=3, handshake_s=WAIT_S) as edge:
        where = parse_endpoint(edge.server.endpoint)
        held, release = threading.Event(), threading.Event()

        def hold():
            held.set()
            release.wait(WAIT_S)

        edge.loop.call_soon_threadsafe(hold)
        assert held.wait(WAIT_S)
        strangers = [socket.create_connection((where.host, where.port)) for _ in range(60)]
        try:
            release.set()
            edge.until(lambda server: server.stats.accepted == 60)
            edge.until(lambda server: server.stats.connections == 3)
            assert edge.server.stats.rejects["evicted"] == 57
        finally:
            for stranger in strangers:
                stranger.close()


def test_who_was_cut_off_and_lingers_gives_way_to_a_node(bundle, monkeypatch):
    monkeypatch.setattr("waistline_edge.connection.LINGER_S", WAIT_S)
    with ServerThread(bundle, max_connections=2) as edge:
        gone = [joined(edge, bundle, "gone", session_id=k) for k in (1, 2)]
        try:
            edge.until(lambda server: server.stats.rejects["superseded"] == 1)
            gone[1].link.send([b"garbage"])
            edge.until(lambda server: server.stats.rejects["garbage"] == 1)
            with joined(edge, bundle, "honest") as client:
                assert client.ask(*frame_payload(bundle, 1)).kind is OutcomeKind.REMOTE
        finally:
            for client in gone:
                client.close()


def test_joined_nodes_are_not_pushed_out(bundle):
    with (
        ServerThread(bundle, max_connections=2) as edge,
        joined(edge, bundle, "a") as first,
        joined(edge, bundle, "b") as second,
    ):
        with Client(edge.server.endpoint, bundle, node_id="c") as third:
            third.until_closed()
        assert not third.session.ready
        for client in (first, second):
            assert client.ask(*frame_payload(bundle, 1)).kind is OutcomeKind.REMOTE
        assert edge.server.stats.rejects["connections"] == 1


def test_connections_that_say_nothing_are_closed(bundle):
    with ServerThread(bundle, handshake_s=0.1) as edge:
        where = parse_endpoint(edge.server.endpoint)
        with socket.create_connection((where.host, where.port)) as sock:
            sock.settimeout(WAIT_S)
            assert sock.recv(1) == b""
        edge.until(lambda server: server.stats.rejects["handshake"] == 1)


def test_the_same_bundle_twice_is_refused(bundle):
    with pytest.raises(ConfigError, match="same bundle"):
        EdgeServer([bundle, bundle], EdgeOptions(backend="fake"))
    with pytest.raises(ConfigError, match="needs a bundle"):
        EdgeServer([], EdgeOptions(backend="fake"))


def test_a_tail_of_another_format_is_refused(bundle):
    with pytest.raises(ConfigError, match="cannot open"):
        EdgeServer([bundle], EdgeOptions(backend="onnxruntime"))


def test_many_nodes_at_once_get_their_own_answers(bundle):
    local = LocalTail(bundle)
    with ServerThread(bundle, workers=2) as edge:
        clients = [joined(edge, bundle, f"n{k}", session_id=k) for k in range(8)]
        sent = {}
        for index, client in enumerate(clients):
            for k in range(5):
                frame = frame_payload(bundle, 100 * index + k)
                sent[index, client.submit(*frame)] = frame
        pump_all(clients, lambda: all(len(client.outcomes) == 5 for client in clients))
        for (index, seq), frame in sent.items():
            outcome = clients[index].outcomes[seq]
            assert outcome.kind is OutcomeKind.REMOTE
            assert outcome.answer == local.answer(*frame)
        for client in clients:
            client.close()
    assert edge.server.stats.frames["remote"] == 40
    assert np.sum(edge.server.stats.stages["tail"].counts) == 40
