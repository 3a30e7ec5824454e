"""What strangers and damaged frames can do to a running edge: nothing that others notice."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
import zstandard
from edge_rig import (
    WAIT_S,
    Client,
    EdgeProcess,
    LocalTail,
    fake_bundle,
    frame_payload,
    raw_socket,
    read_to_end,
)

from waistline.frame import OutcomeKind
from waistline.wire import HEADER_BYTES, MessageType, bundle_tag, encode_message

ROOT = Path(__file__).parents[2]
MIB = 1 << 20


@pytest.fixture
def bundle(tmp_path):
    return fake_bundle(tmp_path / "a.bundle", codec="affine:b=8|zstd:1")


@pytest.fixture
def edge(bundle, tmp_path):
    with EdgeProcess(bundle.path, log=tmp_path / "log") as running:
        yield running
        assert running.process.poll() is None, running.log
        assert "Traceback" not in running.log


class HonestNode(threading.Thread):
    """Asks one frame after the other until told to stop; every answer must be right."""

    def __init__(self, edge, bundle):
        super().__init__(daemon=True)
        self._client = Client(edge.endpoint, bundle, node_id="honest", session_id=77).join()
        self._bundle, self._local = bundle, LocalTail(bundle)
        self._stop_asked = threading.Event()
        self.answered = 0
        self.wrong = []

    def run(self):
        while not self._stop_asked.is_set() and not self._client.closed:
            frame = frame_payload(self._bundle, self.answered)
            outcome = self._client.ask(*frame)
            if outcome is None or outcome.answer != self._local.answer(*frame):
                self.wrong.append(outcome)
            self.answered += 1

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exc):
        self._stop_asked.set()
        self.join(WAIT_S)
        self._client.close()
        assert not self.wrong
        assert self.answered > 0


def _hello(bundle, node_id="n", session=5):
    body = json.dumps({"node_id": node_id, "bundle": bundle.id}).encode()
    tag = bundle_tag(bundle.id)
    return b"".join(encode_message(MessageType.HELLO, [body], session=session, bundle=tag))


def _header(**fields):
    """A header with a sound CRC and whatever lies are asked for."""
    names = ("type", "session", "seq", "bundle", "payload_len", "raw_len", "budget_ms")
    values = {name: 0 for name in names} | {"budget_ms": 5000} | fields
    head = struct.pack(
        "<2sBBHHIIIIIII", b"WL", 1, values["type"], 0, HEADER_BYTES, values["session"],
        values["seq"], values["bundle"], values["payload_len"], values["raw_len"],
        values["budget_ms"], values.get("crc", 0),
    )  # fmt: skip
    return head + struct.pack("<I", zlib.crc32(head))


GARBAGE = {
    "noise": np.random.default_rng(1).bytes(4096),
    "zeros": bytes(4096),
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "tls": bytes.fromhex("16030100c8010000c40303") + bytes(200),
    "half a header": _header(type=1)[:17],
    "4 GB hello": _header(type=MessageType.HELLO, payload_len=0xFFFFFFFF),
    "data before hello": _header(type=MessageType.DATA, payload_len=100) + bytes(100),
    "unknown type": _header(type=200),
    "other major": _header(type=1).replace(b"WL\x01", b"WL\x07", 1),
    "hello that is not json": b"".join(encode_message(MessageType.HELLO, [b"\xff{["])),
    "deep json": b"".join(encode_message(MessageType.HELLO, [b"[" * 16000])),
}


@pytest.mark.parametrize("case", GARBAGE)
def test_garbage_ends_its_connection_alone(edge, bundle, case):
    with HonestNode(edge, bundle), raw_socket(edge.address) as sock:
        sock.sendall(GARBAGE[case])
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_WR)
        assert len(read_to_end(sock)) < 4096


def test_a_4_gb_frame_is_refused_before_it_is_stored(edge, bundle):
    before = edge.rss_bytes
    head = _header(
        type=MessageType.DATA, session=5, seq=1, bundle=bundle_tag(bundle.id),
        payload_len=0xFFFFFFFF, raw_len=bundle.waist_codec().raw_len,
    )  # fmt: skip
    with HonestNode(edge, bundle), raw_socket(edge.address) as sock:
        sock.sendall(_hello(bundle) + head)
        with contextlib.suppress(ConnectionError):
            for _ in range(64):
                sock.sendall(bytes(MIB))
        reply = read_to_end(sock)
    # A reset may take the reason away; the connection ends either way.
    assert b"announces 4294967295 bytes" in reply or len(reply) < 4096
    assert edge.rss_bytes - before < 32 * MIB


def test_bombs_are_refused_one_frame_at_a_time(tmp_path):
    zstd = fake_bundle(tmp_path / "z.bundle", codec="affine:b=8|zstd:1")
    deflate = fake_bundle(tmp_path / "d.bundle", codec="affine:b=8|deflate")
    bomb = bytes(64 * MIB)
    squeezed = {
        zstd.id: zstandard.ZstdCompressor(level=19).compress(bomb),
        deflate.id: zlib.compress(bomb, 9)[:140],
    }
    with EdgeProcess(zstd.path, deflate.path, log=tmp_path / "log") as edge:
        for bundle in (zstd, deflate):
            codec = bundle.waist_codec()
            with Client(edge.endpoint, bundle, node_id=bundle.id[:8]).join() as client:
                assert client.ask(*frame_payload(bundle, 1)).kind is OutcomeKind.REMOTE
                before = edge.rss_bytes
                coded = squeezed[bundle.id][: codec.raw_len - 1]
                ranges = struct.pack("<2f", 0.0, 1.0)
                payload = struct.pack("<I", len(coded)) + ranges + coded
                for _ in range(20):
                    outcome = client.ask(payload, codec.raw_len)
                    assert (outcome.kind, outcome.reason) == (OutcomeKind.ERROR, "codec")
                assert edge.rss_bytes - before < 8 * MIB
                frame = frame_payload(bundle, 2)
                assert client.ask(*frame).answer == LocalTail(bundle).answer(*frame)
        edge.stop()


HOSTILE_RANGES = [
    (float("nan"), 1.0),
    (0.0, float("nan")),
    (float("-inf"), float("inf")),
    (1.0, -1.0),
    (0.0, float("inf")),
]


@pytest.mark.parametrize("ranges", HOSTILE_RANGES)
def test_ranges_that_are_no_ranges_end_their_frame(edge, bundle, ranges):
    codec = bundle.waist_codec()
    stored = struct.pack("<I2f", codec.raw_len | 1 << 31, *ranges) + bytes(codec.raw_len)
    with Client(edge.endpoint, bundle).join() as client:
        outcome = client.ask(stored, codec.raw_len)
        assert (outcome.kind, outcome.reason) == (OutcomeKind.ERROR, "codec")
        assert client.ask(*frame_payload(bundle, 1)).kind is OutcomeKind.REMOTE


def test_payloads_that_do_not_decode_end_their_frame(edge, bundle):
    codec, random = bundle.waist_codec(), np.random.default_rng(3)
    honest, raw_len = frame_payload(bundle, 1)
    payloads = [
        b"",
        b"\x00",
        honest[:-1],
        honest + b"\x00",
        bytes(codec.max_payload_bytes),
        b"\xff" * codec.max_payload_bytes,
        random.bytes(codec.max_payload_bytes),
    ]
    with Client(edge.endpoint, bundle).join() as client:
        for payload in payloads:
            if len(payload) <= codec.max_payload_bytes:
                assert client.ask(payload, raw_len).reason == "codec"
        assert client.ask(honest, raw_len - 1).reason == "codec"
        assert client.ask(honest, raw_len).kind is OutcomeKind.REMOTE


def test_slow_strangers_do_not_keep_an_honest_node_waiting(bundle, tmp_path):
    with EdgeProcess(bundle.path, log=tmp_path / "log") as edge:
        with contextlib.ExitStack() as stack, HonestNode(edge, bundle):
            slow = [stack.enter_context(raw_socket(edge.address)) for _ in range(100)]
            for sock in slow:
                sock.sendall(_hello(bundle)[:20])
            for sock in slow:
                assert read_to_end(sock) == b""
        code, summary = edge.stop()
    assert code == 0
    assert summary["rejects"]["handshake"] == 100


def test_more_frames_than_agreed_are_told_busy(tmp_path):
    bundle = fake_bundle(tmp_path / "a.bundle", delay_ms=200)
    tag, (payload, raw_len) = bundle_tag(bundle.id), frame_payload(bundle, 1)
    flags = ("--workers", "1", "--max-in-flight", "4")
    with EdgeProcess(bundle.path, *flags, log=tmp_path / "log") as edge:
        with raw_socket(edge.address) as sock:
            frames = [
                part
                for seq in range(1, 101)
                for part in encode_message(
                    MessageType.DATA, [payload], session=5, seq=seq, bundle=tag,
                    raw_len=raw_len, budget_ms=60_000,
                )
            ]  # fmt: skip
            sock.sendall(_hello(bundle) + b"".join(frames))
            data = b""
            while data.count(b"WL\x01\x06") + data.count(b"WL\x01\x04") < 100:
                data += sock.recv(1 << 16)
        told = data.count(b"WL\x01\x06")
        assert told >= 90
        code, summary = edge.stop()
    assert code == 0
    assert summary["frames"]["busy"] == told


def test_mutated_frames_harm_nothing(tmp_path):
    """The benchmark in small: thousands of damaged frames against a running edge process."""
    report = tmp_path / "report.json"
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "edge.py", "--quick", "--json", report],
        capture_output=True,
        text=True,
        timeout=5 * WAIT_S,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(report.read_text())
    mutated, load = found["mutated"], found["load"]
    assert mutated["frames"] >= 2000
    assert mutated["crashes"] == 0
    assert mutated["wrong_tensors"] == 0
    assert mutated["honest_answers_wrong"] == 0
    assert sum(load["outcomes"].values()) == load["frames"]
