"""Node and edge on a terminal: lines that a person can read, JSON only where it is asked for."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from edge_rig import WAIT_S, EdgeProcess, fake_bundle


class AtTerminal:
    """``python -m MODULE`` with a pseudo-terminal for standard output."""

    def __init__(self, module, *arguments):
        self._near, far = os.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *map(str, arguments), "--backend", "fake"],
            stdout=far,
            stderr=subprocess.DEVNULL,
        )
        os.close(far)
        self._seen = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        # Linux ends the reading of a terminal that nobody holds open any more with EIO.
        with contextlib.suppress(OSError):
            while data := os.read(self._near, 4096):
                self._seen += data

    def until_said(self, text):
        end = time.monotonic() + WAIT_S
        while text not in self._seen.decode():
            assert time.monotonic() < end, self._seen
            time.sleep(0.02)

    def end(self):
        """Its exit code and its lines."""
        code = self.process.wait(WAIT_S)
        self._reader.join(WAIT_S)
        return code, self._seen.decode().splitlines()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(WAIT_S)
        self._reader.join(WAIT_S)
        os.close(self._near)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return fake_bundle(tmp_path_factory.mktemp("terminal") / "a.bundle")


@pytest.fixture(scope="module")
def frames(bundle, tmp_path_factory):
    (spec,) = bundle.manifest.golden.frame_tensors
    path = tmp_path_factory.mktemp("frames") / "frames.npz"
    np.savez(path, x=np.zeros((7, *spec.shape), spec.numpy_dtype))
    return path


@pytest.mark.parametrize("extra", [(), ("--json",)], ids=["lines", "json"])
def test_an_edge_on_a_terminal(bundle, extra):
    with AtTerminal("waistline_edge", bundle.path, "--listen", "tcp://127.0.0.1:0", *extra) as edge:
        edge.until_said("tcp://127.0.0.1:")
        edge.process.send_signal(signal.SIGTERM)
        code, lines = edge.end()
    assert code == 0
    if extra:
        assert [next(iter(json.loads(line))) for line in lines] == ["ready", "summary"]
        return
    assert all(line.startswith("edge: ") and len(line) <= 100 for line in lines)
    assert "a.bundle" in lines[0]
    assert lines[-1].startswith("edge: connections: 0")


@pytest.mark.parametrize("extra", [(), ("--json",)], ids=["lines", "json"])
def test_a_node_on_a_terminal(bundle, frames, extra):
    with (
        EdgeProcess(bundle.path) as edge,
        AtTerminal(
            *("waistline_node", bundle.path, "--source", frames, "--edge", edge.endpoint), *extra
        ) as node,
    ):
        code, lines = node.end()
    assert code == 0
    if extra:
        assert [next(iter(json.loads(line))) for line in lines] == ["ready", "summary"]
        return
    assert all(line.startswith("node: ") for line in lines)
    assert f"7 frames from {frames} to the edge at {edge.endpoint}" in lines[1]
    assert "7 frames in" in lines[2]
    assert lines[2].endswith(": 7 remote")
    assert "answers a second" in lines[3]
