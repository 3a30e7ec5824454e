"""Node and edge open no socket and write no file but their own.

Watched through /proc for 30 seconds, and by strace where that may attach: the engine's telemetry,
where it is on, writes files in the home folder at once and asks DNS about nine seconds after a
session is created.
"""

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from edge_rig import EdgeProcess
from node_rig import NodeProcess

WATCH_S = 30.0
EVERY_S = 0.05
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "fashion"

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs Linux's /proc")


class Watch:
    """Sockets and writable files that a process was seen to hold open."""

    def __init__(self, pid):
        self.pid = pid
        self.sockets = set()
        self.written = set()

    def look(self):
        held = set()
        for entry in Path(f"/proc/{self.pid}/fd").iterdir():
            try:
                target = str(entry.readlink())
                flags = Path(f"/proc/{self.pid}/fdinfo/{entry.name}").read_text()
            except OSError:
                continue
            if match := re.fullmatch(r"socket:\[(\d+)\]", target):
                held.add(match[1])
            elif int(re.search(r"flags:\s*(\d+)", flags)[1], 8) & (os.O_WRONLY | os.O_RDWR):
                self.written.add(target)
        if held:
            self.sockets |= set(self._ends(held))

    def _ends(self, inodes):
        """(protocol, local port, remote port) of each socket; unix sockets by their path."""
        for name in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6"):
            for row in Path(f"/proc/{self.pid}/net/{name}").read_text().splitlines()[1:]:
                fields = row.split()
                if fields[9] in inodes:
                    here, there = (int(end.rpartition(":")[2], 16) for end in fields[1:3])
                    yield name, here, there
        for row in Path(f"/proc/{self.pid}/net/unix").read_text().splitlines()[1:]:
            fields = row.split()
            if fields[6] in inodes:
                yield "unix", " ".join(fields[7:]), ""

    def foreign_files(self, own):
        """What it held open for writing that is neither ``own`` nor a pipe, terminal or device."""
        quiet = ("pipe:", "anon_inode:", "/dev/null", "/dev/pts/", "/dev/tty")
        names = {str(path) for path in own}
        return {name for name in self.written if not name.startswith(quiet) and name not in names}


class Trace:
    """What strace sees of running processes; sees nothing where it is missing or may not attach."""

    CALLS = "trace=socket,connect,sendto,open,openat,creat"

    def __init__(self, pids, path):
        self._path = path
        self._process = None
        if shutil.which("strace"):
            attach = [word for pid in pids for word in ("-p", str(pid))]
            self._process = subprocess.Popen(
                ["strace", "-f", "-qq", "-e", self.CALLS, "-o", str(path), *attach],
                stderr=subprocess.DEVNULL,
            )

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self._process:
            self._process.terminate()
            self._process.wait(60)

    def foreign_calls(self, port):
        """Connections to others than ``port``, datagrams, and files opened for writing."""
        if not self._path.exists():
            return []
        rows = self._path.read_text(errors="replace").splitlines()
        writing = re.compile(r"open(at)?\(.*O_(WRONLY|RDWR|CREAT)|creat\(")
        talking = re.compile(r"SOCK_DGRAM|SOCK_RAW|AF_NETLINK|connect\(|sun_path")
        return [
            row
            for row in rows
            if (writing.search(row) and '"/dev/null"' not in row)
            or (talking.search(row) and f"htons({port})" not in row)
        ]


def files_under(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def fashion_bundle(tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    from waistline.split import split

    return split(
        EXAMPLE / "model.onnx", 5, tmp_path / "f.bundle", task=EXAMPLE / "task.toml",
        codec="affine:b=4|zstd:1",
    )  # fmt: skip


def test_thirty_seconds_of_silence(tmp_path, tmp_path_factory, monkeypatch):
    bundle = fashion_bundle(tmp_path)
    images = np.load(EXAMPLE / "report.npz")["images"][:50]
    np.savez(tmp_path / "frames.npz", images=images)
    home, scratch = tmp_path / "home", tmp_path / "scratch"
    home.mkdir()
    scratch.mkdir()
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(home))
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    records, log = tmp_path / "r.csv", tmp_path / "edge.log"
    before = files_under(tmp_path)
    with EdgeProcess(bundle.path, backend="onnxruntime", log=log) as edge:
        with NodeProcess(
            *(bundle.path, "--source", tmp_path / "frames.npz", "--edge", edge.endpoint),
            *("--loop", "--rate", 20, "--records", records),
            backend="onnxruntime",
        ) as node:
            node.until(lambda: node.out, "ready")
            watches = [Watch(edge.process.pid), Watch(node.process.pid)]
            trace = Trace([watch.pid for watch in watches], tmp_path_factory.mktemp("t") / "trace")
            end = time.monotonic() + WATCH_S
            with trace:
                while time.monotonic() < end:
                    assert node.process.poll() is None, node.errors
                    for watch in watches:
                        watch.look()
                    time.sleep(EVERY_S)
            node.send()
            code, _, summary = node.end()
        edge.stop()
    assert code == 0
    assert summary["outcomes"]["remote"] > 0
    port = edge.address[1]
    edge_watch, node_watch = watches
    assert {kind for kind, _, _ in node_watch.sockets} == {"tcp"}
    assert {there for _, _, there in node_watch.sockets} == {port}
    # An event loop talks to itself through one unnamed pair.
    named = {end for end in edge_watch.sockets if end[:2] != ("unix", "")}
    assert {(kind, here) for kind, here, _ in named} == {("tcp", port)}
    assert node_watch.foreign_files({records}) == set()
    assert edge_watch.foreign_files({log}) == set()
    assert trace.foreign_calls(port) == []
    assert files_under(home) == []
    assert files_under(scratch) == []
    assert set(files_under(tmp_path)) - set(before) == {"r.csv", "edge.log"}
