"""Slow, silent and deaf peers and bombs: they are ended, and a good client is served meanwhile."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from pathlib import Path

import pytest
from edge_rig import (
    WAIT_S,
    Client,
    EdgeProcess,
    LocalTail,
    ServerThread,
    fake_bundle,
    frame_payload,
    joined,
    read_to_end,
)

from waistline import plugins
from waistline.codec.native import kernels
from waistline.codec.spec import parse_spec
from waistline.codec.tensor_codec import open_tensor_codec
from waistline.errors import ConfigError
from waistline.frame import OutcomeKind
from waistline.links.base import parse_endpoint
from waistline.session import bodies
from waistline.wire import MessageType, bundle_tag, encode_message
from waistline_edge.server import MIN_UNSENT_BYTES

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "fuzz"))

from bombs import bombs, payload_of

MIB = 1 << 20
ASKED = 40


@pytest.fixture
def bundle(tmp_path):
    return fake_bundle(tmp_path / "a.bundle")


def _address(edge):
    parsed = parse_endpoint(edge.server.endpoint)
    return parsed.host, parsed.port


def _message(bundle, kind, payload=b"", session=5, **fields):
    tag = bundle_tag(bundle.id)
    return b"".join(encode_message(kind, [payload], session=session, bundle=tag, **fields))


def _hello(bundle, node="n", session=5):
    body = bodies.dump(bodies.Hello(node, bundle.id))
    return _message(bundle, MessageType.HELLO, body, session)


def _is_served(edge, bundle, tries=5):
    """A good client gets all its answers, and the right ones.

    One that stood still for as long as silence may last is let go as well, and comes again.
    """
    local = LocalTail(bundle)
    silent = edge.server.stats.rejects["silent"]
    with joined(edge, bundle, "good") as client:
        for seed in range(ASKED):
            frame = frame_payload(bundle, seed)
            outcome = client.ask(*frame)
            if client.closed and edge.server.stats.rejects["silent"] > silent:
                assert tries
                return _is_served(edge, bundle, tries - 1)
            assert outcome.answer == local.answer(*frame)
    return None


class Drip(threading.Thread):
    """Sends a byte over each of many connections in turn until all of them are closed."""

    def __init__(self, address, data, count):
        super().__init__(daemon=True)
        self._data = data
        self.socks = [socket.create_connection(address, WAIT_S) for _ in range(count)]
        self.dripped = 0
        self.closed = 0

    def run(self):
        left = list(self.socks)
        for byte in self._data:
            for sock in list(left):
                try:
                    sock.sendall(bytes([byte]))
                    self.dripped += 1
                except OSError:
                    left.remove(sock)
            time.sleep(0.02)
        for sock in self.socks:
            sock.settimeout(WAIT_S)
            read_to_end(sock)
            self.closed += 1
            sock.close()


def test_two_hundred_slow_strangers_do_not_keep_a_good_client_waiting(bundle):
    with ServerThread(bundle, handshake_s=4.0) as edge:
        drip = Drip(_address(edge), _hello(bundle)[:30], 200)
        drip.start()
        _is_served(edge, bundle)
        drip.join(WAIT_S)
        assert drip.closed == 200
        edge.until(lambda server: server.stats.connections == 0)
        assert edge.server.stats.rejects["handshake"] == 200
        assert drip.dripped > 200


def test_a_joined_node_that_falls_silent_is_let_go(bundle):
    """As a node is whose power failed: no FIN, no reset, nothing."""
    with ServerThread(bundle, idle_s=0.2) as edge:
        with socket.create_connection(_address(edge), WAIT_S) as vanished:
            vanished.sendall(_hello(bundle, "gone"))
            data = read_to_end(vanished)
            assert data.startswith(b"WL\x01\x02")  # WELCOME
        edge.until(lambda server: server.stats.connections == 0)
        assert edge.server.stats.rejects["silent"] == 1
        assert edge.server.stats.nodes == 0
        _is_served(edge, bundle)


def test_half_a_frame_and_then_nothing_is_let_go(bundle):
    frame, raw_len = frame_payload(bundle, 1)
    data = _message(bundle, MessageType.DATA, frame, seq=1, raw_len=raw_len, budget_ms=5000)
    with ServerThread(bundle, idle_s=0.2) as edge:
        with socket.create_connection(_address(edge), WAIT_S) as half:
            half.sendall(_hello(bundle, "half") + data[: len(data) // 2])
            read_to_end(half)
        edge.until(lambda server: server.stats.rejects["silent"] == 1)
        assert not edge.server.stats.frames
        _is_served(edge, bundle)


def test_a_node_that_pings_is_kept_however_long(bundle):
    with ServerThread(bundle, idle_s=0.3) as edge, joined(edge, bundle, "a") as client:
        ping = _message(bundle, MessageType.PING, session=1)
        for _ in range(8):
            client.link.send([ping])
            stop = time.monotonic() + 0.1
            client.pump(lambda stop=stop: time.monotonic() > stop)
        if not edge.server.stats.rejects:  # a machine that stood still for 0.2 s proves nothing
            assert client.ask(*frame_payload(bundle, 1)).kind is OutcomeKind.REMOTE


def test_deaf_peers_are_held_at_a_bound_and_then_let_go(bundle):
    """They have an answer said again and again and read none: they are read from no more."""
    raw_len = bundle.waist_codec().raw_len
    frame = _message(bundle, MessageType.DATA, b"x", seq=1, raw_len=raw_len, budget_ms=60_000)
    again = frame * 100
    with ServerThread(bundle, write_s=0.5) as edge, contextlib.ExitStack() as stack:
        deaf = []
        for k in range(8):
            sock = stack.enter_context(socket.socket())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect(_address(edge))
            sock.sendall(_hello(bundle, f"deaf-{k}"))
            sock.setblocking(False)
            deaf.append(sock)
        most = 0
        deadline = time.monotonic() + WAIT_S
        while edge.server.stats.rejects["unread"] < 8:
            assert time.monotonic() < deadline, edge.server.stats.rejects
            for sock in deaf:
                with contextlib.suppress(OSError):
                    sock.send(again)
            held = [
                connection._writer.transport.get_write_buffer_size()
                for connection in list(edge.server._connections)
            ]
            most = max(most, *held, 0)
            time.sleep(0.001)
        assert 0 < most <= MIN_UNSENT_BYTES
        edge.until(lambda server: server.stats.connections == 0)
        _is_served(edge, bundle)


def test_a_flood_of_pings_is_cut_off_at_once(bundle):
    with ServerThread(bundle) as edge:
        with socket.create_connection(_address(edge), WAIT_S) as sock:
            with contextlib.suppress(OSError):
                sock.sendall(_hello(bundle) + _message(bundle, MessageType.PING) * 20_000)
            read_to_end(sock)
        edge.until(lambda server: server.stats.connections == 0)
        assert edge.server.stats.rejects["garbage"] == 1
        _is_served(edge, bundle)


def _bundles_with_bombs(folder):
    """A bundle for each coder that codes a waist tensor and can be given more than it wants."""
    for coder in plugins.names("waistline.codec.coders"):
        codec = f"affine:b=8|{coder}"
        with contextlib.suppress(ConfigError):
            if bombs(coder):
                yield coder, fake_bundle(folder / f"{coder}.bundle", codec=codec, name=coder)


def test_bombs_for_every_coder_are_refused_without_memory(tmp_path):
    made = dict(_bundles_with_bombs(tmp_path))
    assert {"zstd", "deflate", "ctx", "jpeg", "webp"} <= set(made)
    paths = [bundle.path for bundle in made.values()]
    with EdgeProcess(*paths, log=tmp_path / "log") as edge:
        with contextlib.ExitStack() as stack:
            clients = {
                coder: stack.enter_context(Client(edge.endpoint, bundle, node_id=coder).join())
                for coder, bundle in made.items()
            }
            for coder, client in clients.items():
                assert client.ask(*frame_payload(made[coder], 1)).kind is OutcomeKind.REMOTE
            before_bytes = edge.rss_bytes
            for coder, client in clients.items():
                waist = made[coder].cut.tensors[0]
                codec = open_tensor_codec(waist, kernels())
                assert parse_spec(waist.codec).coder == coder
                for coded in bombs(coder):
                    charge = payload_of(coded[: codec.size_bytes - 1], codec.range_bytes)
                    for _ in range(5):
                        outcome = client.ask(charge, codec.size_bytes)
                        ended = outcome.kind, outcome.reason
                        assert ended in (
                            (OutcomeKind.ERROR, "codec"),
                            (OutcomeKind.REMOTE, ""),  # noise is a stream of ctx as well
                        )
                        assert coder == "ctx" or outcome.kind is OutcomeKind.ERROR
                assert edge.rss_bytes - before_bytes < 8 * MIB, coder
            for coder, client in clients.items():
                frame = frame_payload(made[coder], 2)
                assert client.ask(*frame).answer == LocalTail(made[coder]).answer(*frame)
        edge.stop()
        assert "Traceback" not in edge.log
