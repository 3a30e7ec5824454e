"""Bundles, processes and clients for the edge's tests; the client is a bare node session."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

from waistline import endpoints
from waistline.backends.base import BackendOptions
from waistline.backends.fake import FakeModel, open_backend, write_fake
from waistline.bundle import golden
from waistline.bundle.schema import SCHEMA_VERSION, Cut, Manifest, Stage
from waistline.bundle.store import Bundle
from waistline.bundle.write import stored_file, write_bundle
from waistline.errors import LinkClosed, LinkTimeout
from waistline.links.base import parse_endpoint
from waistline.session.events import Broken, Finished, Left, Refused
from waistline.session.node import NodeSession
from waistline.stages import TailStages, open_slice
from waistline.task.spec import AnswerSpec
from waistline.tensors import TensorSpec, WaistTensor
from waistline_edge.options import EdgeOptions
from waistline_edge.server import EdgeServer, open_stages

WAIT_S = 60
"""Far above what anything here takes on a busy machine; a failure, not a measurement."""

INPUT = TensorSpec("x", "float32", (1, 8))
WAIST = TensorSpec("w", "float32", (1, 4, 6, 6), "NCHW", 1)
OUTPUT = TensorSpec("y", "float32", (1, 10))


def fake_bundle(path, *, codec="affine:b=8|zstd:1", delay_ms=0.0, function="cycle", name="fake"):
    """A bundle of partition point 2 of 3 whose slices the fake backend runs."""

    def build(folder: Path) -> Manifest:
        write_fake(folder / "head.fake", FakeModel((INPUT,), (WAIST,)))
        tail = FakeModel((WAIST,), (OUTPUT,), function=function, delay_ms=delay_ms)
        write_fake(folder / "tail.fake", tail)
        manifest = Manifest(
            schema_version=SCHEMA_VERSION,
            model_name=name,
            model_sha256="0" * 64,
            partition_points=3,
            stages=(
                Stage("head", stored_file(folder, "head.fake"), "fake", (INPUT,), (WAIST,)),
                Stage("tail", stored_file(folder, "tail.fake"), "fake", (WAIST,), (OUTPUT,)),
            ),
            cuts=(Cut(2, "head", (WaistTensor(WAIST, codec),)),),
            model_inputs=(INPUT,),
            model_outputs=(OUTPUT,),
            preprocess=None,
            answer=AnswerSpec("tensors", {"outputs": [_plain(OUTPUT)]}),
            opsets={},
            golden=golden.EMPTY,
            created_by="test",
        )
        backend = open_backend(BackendOptions(extra={"delay_ms": "0", "function": "cycle"}))
        frame = golden.invented_frame((INPUT,), None)
        made = golden.write_golden(folder, Bundle(folder, manifest, "0" * 64), backend, frame)
        return _replace(manifest, golden=made)

    return write_bundle(path, build)


def _plain(spec):
    return {"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape)}


def _replace(struct, **changes):
    import msgspec

    return msgspec.structs.replace(struct, **changes)


def frame_payload(bundle, seed):
    """(payload, raw_len) of a random waist, as a node would send it."""
    random = np.random.default_rng(seed)
    codec = bundle.waist_codec()
    arrays = [
        random.standard_normal(item.tensor.shape).astype(item.tensor.numpy_dtype)
        for item in bundle.cut.tensors
    ]
    encoded = codec.encode(arrays)
    return encoded.payload, encoded.raw_len


class LocalTail:
    """What the edge should answer, computed here."""

    def __init__(self, bundle, function="cycle"):
        options = BackendOptions(extra={"delay_ms": "0", "function": function})
        self._stages = TailStages(bundle, open_slice(open_backend(options), bundle, bundle.tail))

    def answer(self, payload, raw_len):
        stages = self._stages
        tensors = stages.preprocess(stages.decode(payload, raw_len))
        return stages.postprocess(stages.tail(tensors))


class EdgeProcess:
    """``python -m waistline_edge`` on a free port; a context manager that leaves no process."""

    def __init__(self, *arguments, listen="tcp://127.0.0.1:0", backend="fake", log=None, **place):
        self._log = log
        stderr = subprocess.DEVNULL if log is None else log.open("wb")
        try:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "waistline_edge"),
                    *(str(argument) for argument in arguments),
                    *("--listen", listen, "--backend", backend),
                ],
                stdout=subprocess.PIPE,
                stderr=stderr,
                cwd=place.get("cwd"),
                env={**os.environ, **place.get("env", {})},
            )
        finally:
            if log is not None:
                stderr.close()
        self._lines: queue.Queue = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        line = self.line()
        assert line is not None, self.log
        self.ready = json.loads(line)
        self.endpoint = self.ready["endpoint"]

    def _read(self):
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def line(self):
        return self._lines.get(timeout=WAIT_S)

    @property
    def log(self):
        return self._log.read_text(errors="replace") if self._log else ""

    @property
    def address(self):
        parsed = parse_endpoint(self.endpoint)
        return parsed.host, parsed.port

    @property
    def rss_bytes(self):
        for row in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if row.startswith("VmRSS:"):
                return int(row.split()[1]) * 1024
        raise AssertionError("no VmRSS")

    def stop(self, number=signal.SIGTERM):
        """End it; returns the exit code and the summary line."""
        self.process.send_signal(number)
        code = self.process.wait(WAIT_S)
        lines = []
        while (line := self.line()) is not None:
            lines.append(json.loads(line))
        return code, (lines[-1] if lines else None)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(WAIT_S)
        self._reader.join(WAIT_S)
        self.process.stdout.close()


class Client:
    """One node session over one link, driven by the caller's thread."""

    def __init__(self, endpoint, bundle, *, node_id="node", session_id=1, bundle_id=None, **kwargs):
        codec = bundle.waist_codec()
        answer_bytes = bundle.answer_kind.max_bytes
        settings = {"max_in_flight": 4, "queue_limit": 1000, "budget_s": WAIT_S, **kwargs}
        self.session = NodeSession(
            node_id=node_id,
            session_id=session_id,
            bundle_id=bundle_id or bundle.id,
            max_payload_bytes=codec.max_payload_bytes if codec else answer_bytes,
            max_answer_bytes=answer_bytes,
            **settings,
        )
        self.endpoint = endpoint
        self.outcomes = {}
        self.events = []
        self.closed = False
        self._view = memoryview(bytearray(1 << 16))
        self.connect()

    def connect(self):
        self.link = endpoints.connect(self.endpoint, WAIT_S)
        self.closed = False
        self.session.connected(time.monotonic())

    def submit(self, payload, raw_len):
        seq, events = self.session.submit(payload, raw_len, time.monotonic())
        self._note(events)
        return seq

    def pump(self, done, timeout_s=WAIT_S):
        """Talk until ``done()``; fails when that does not come, unless the edge hung up."""
        deadline = time.monotonic() + timeout_s
        while not done() and not self.closed:
            assert time.monotonic() < deadline, f"not in {timeout_s} s: {self.events[-3:]}"
            try:
                while out := self.session.to_send(time.monotonic()):
                    self.link.send(out)
                count = self.link.recv_into(self._view, 0.02)
                self._note(self.session.receive(self._view[:count], time.monotonic()))
            except LinkTimeout:
                self._note(self.session.on_time(time.monotonic()))
            except LinkClosed:
                self._hung_up()

    def join(self):
        self.pump(lambda: self.session.ready or self.refused)
        return self

    def ask(self, payload, raw_len):
        """Send one frame and wait for its outcome."""
        seq = self.submit(payload, raw_len)
        self.pump(lambda: seq in self.outcomes)
        return self.outcomes.get(seq)

    def until_closed(self):
        self.pump(lambda: False)

    @property
    def refused(self):
        return next((event.error for event in self.events if isinstance(event, Refused)), None)

    def saw(self, kind):
        return any(isinstance(event, kind) for event in self.events)

    def close(self):
        self.link.abort()

    def _hung_up(self):
        self.closed = True
        self._note(self.session.disconnected(time.monotonic()))

    def _note(self, events):
        self.events += events
        for event in events:
            if isinstance(event, Finished):
                assert event.outcome.seq not in self.outcomes, "a second outcome"
                self.outcomes[event.outcome.seq] = event.outcome
            if isinstance(event, Broken | Left | Refused):
                self.closed = True

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


@contextlib.contextmanager
def raw_socket(address):
    """A plain socket to the edge, for bytes that no session would send."""
    with socket.create_connection(address, WAIT_S) as sock:
        sock.settimeout(WAIT_S)
        yield sock


def read_to_end(sock):
    """All that comes until the other side closes or resets."""
    data = b""
    with contextlib.suppress(ConnectionError):
        while chunk := sock.recv(1 << 16):
            data += chunk
    return data


class Gate:
    """Lets tails through when the test says so; notes the order in which they ran."""

    def __init__(self):
        self.event = threading.Event()
        self.payloads = []

    def wrap(self, stages):
        gate = self

        class Gated:
            decode = staticmethod(lambda payload, raw: gate.note(stages, payload, raw))
            preprocess = staticmethod(stages.preprocess)
            postprocess = staticmethod(stages.postprocess)

            @staticmethod
            def tail(tensors):
                assert gate.event.wait(WAIT_S)
                return stages.tail(tensors)

        return Gated()

    def note(self, stages, payload, raw_len):
        self.payloads.append(bytes(payload))
        return stages.decode(payload, raw_len)


class ServerThread:
    """An edge in an event loop of its own."""

    def __init__(self, bundle, gate=None, **settings):
        options = EdgeOptions(listen="tcp://127.0.0.1:0", backend="fake", **settings)
        stages = open_stages([bundle], options)
        if gate:
            # Without the worker that decodes ahead, so that what waits and what runs is exact.
            stages = stages[: options.workers]
            stages = [{bundle.id: gate.wrap(each[bundle.id])} for each in stages]
        self.gate = gate
        self.server = EdgeServer([bundle], options, stages=stages)
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.call(self.server.start())

    def call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(WAIT_S)

    def until(self, condition):
        deadline = time.monotonic() + WAIT_S
        while not condition(self.server):
            assert time.monotonic() < deadline, "did not happen"
            time.sleep(0.002)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.gate:
            self.gate.event.set()
        try:
            self.call(self.server.drain())
        finally:
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join(WAIT_S)
            self.loop.close()


def joined(edge, bundle, node_id, **settings):
    return Client(edge.server.endpoint, bundle, node_id=node_id, **settings).join()


def pump_all(clients, done):
    deadline = time.monotonic() + WAIT_S
    while not done():
        assert time.monotonic() < deadline, "did not happen"
        for client in clients:
            stop = time.monotonic() + 0.01
            client.pump(lambda stop=stop: time.monotonic() > stop)
