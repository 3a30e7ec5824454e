"""The far side of a verification as a program: hostile hosts, closed pipes, signals."""

from __future__ import annotations

import hashlib
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from waistline.bundle.schema import StoredFile
from waistline.verification import pipe
from waistline.verification.ends import EndChoice
from waistline.verification.pipe import Kind

pytest.importorskip("onnxruntime", reason="the ends run on onnxruntime")

PROBE = f"{shlex.quote(sys.executable)} -m waistline_node.probe"
WAIT_S = 120.0


@pytest.fixture(autouse=True)
def _rubbish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A far side that is killed cannot clear what it received; let that lie with the test."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))


@pytest.fixture
def probe(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "waistline_node.probe"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    yield process
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        stream.close()


def ask(process, opened: pipe.Open, *more: bytes) -> tuple[Kind, bytes]:
    """The far side's answer to a host that says this."""
    pipe.read_frame(process.stdout.read, (Kind.HELLO,))
    process.stdin.write(b"".join([pipe.message(Kind.OPEN, opened), *more]))
    process.stdin.close()
    return pipe.read_frame(process.stdout.read, (Kind.ERROR, Kind.OPENED))


@pytest.mark.parametrize(
    ("names", "size_bytes", "says"),
    [
        (["bundle.json", "../../escape"], 1, "a path"),
        (["bundle.json", "/etc/escape"], 1, "a path"),
        (["bundle.json", ".hidden"], 1, "hidden"),
        (["bundle.json", "a\nb"], 1, "a path"),
        (["bundle.json", "same", "same"], 1, "two of one name"),
        (["other.json"], 1, "first file"),
        ([], 1, "0 files"),
        (["bundle.json", "head.onnx"], 1 << 40, "larger than"),
        (["bundle.json", "head.onnx"], -1, "negative"),
        (["bundle.json"], 1, "changed on the way"),
    ],
)
def test_a_hostile_host_writes_nothing_it_should_not(probe, tmp_path, names, size_bytes, says):
    files = tuple(
        StoredFile(name, size_bytes if k else 1, hashlib.sha256(b"x").hexdigest())
        for k, name in enumerate(names)
    )
    opened = pipe.Open("0" * 64, files, "", EndChoice(), None)
    kind, payload = ask(probe, opened, pipe.frame(Kind.CHUNK, b"y"))
    assert kind is Kind.ERROR
    failure = pipe.decode(payload, pipe.Failure)
    assert says in f"{failure.what} {failure.cause}"
    assert probe.wait(WAIT_S) != 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["a\0b", "/" + "x" * 60_000])
def test_a_path_that_can_be_none_is_refused_within_a_frame(probe, path):
    _, payload = ask(probe, pipe.Open("0" * 64, (), path, EndChoice(), None))
    assert pipe.decode(payload, pipe.Failure).kind == "BundleError"


@pytest.mark.parametrize("closed", ["<&-", ">&-"])
def test_a_far_side_without_a_pipe_says_so(closed):
    done = subprocess.run(
        ["sh", "-c", f"exec {PROBE} {closed}"], capture_output=True, text=True, timeout=WAIT_S,
        stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "Bad file descriptor" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_interrupted_far_side_ends_without_a_traceback():
    process = subprocess.Popen(
        [sys.executable, "-m", "waistline_node.probe"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    pipe.read_frame(process.stdout.read, (Kind.HELLO,))
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=WAIT_S)
    assert (process.returncode, said) == (128 + signal.SIGINT, b"")


@pytest.mark.parametrize("end", ["closes", "terminates"])
def test_a_far_side_whose_host_is_gone_cleans_up(probe, tmp_path, end):
    pipe.read_frame(probe.stdout.read, (Kind.HELLO,))
    files = (StoredFile("bundle.json", 10, "0" * 64),)
    probe.stdin.write(pipe.message(Kind.OPEN, pipe.Open("0" * 64, files, "", EndChoice(), None)))
    probe.stdin.write(pipe.frame(Kind.CHUNK, b"12345"))
    probe.stdin.flush()
    if end == "closes":
        probe.stdin.close()
    else:
        while not list(tmp_path.glob("*/bundle.json")):
            assert probe.poll() is None
        probe.terminate()
    assert probe.wait(WAIT_S) == (4 if end == "closes" else 128 + 15)
    assert list(tmp_path.iterdir()) == []
