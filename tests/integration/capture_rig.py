"""Captures as processes around emulated instruments, and what the machine holds of them."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from waistline.trace.jls_read import JlsTrace
from waistline.trace.store import open_trace

WAIT_S = 120.0
CHILD = "waistline_hostctl.capture.child"
PPK2 = ("--meter", "ppk2", "--meter-option", "voltage=3.3", "--meter-option", "mode=source")


class Emulator:
    """An emulated PPK2, and the truth about it."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._truth = folder / "truth.jsonl"
        command = [sys.executable, "-m", "waistline_hostctl.emulators.ppk2"]
        self.process = subprocess.Popen(
            [*command, "--truth", str(self._truth), *options], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.port = json.loads(self.process.stdout.readline())["port"]

    def truth(self, event: str) -> list[dict]:
        """Rows of one kind, of the last time it sampled."""
        return [row for row in self.events() if row["event"] == event]

    def events(self) -> list[dict]:
        """All that happened since it last began to sample; whole lines, also while it runs."""
        *lines, _ = self._truth.read_text().split("\n")
        rows = [json.loads(line) for line in lines]
        begins = [k for k, row in enumerate(rows) if row["event"] == "start"]
        return rows[begins[-1] :] if begins else []

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(WAIT_S)
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextlib.contextmanager
def emulator(folder: Path, *options: str) -> Iterator[Emulator]:
    found = Emulator(folder, *options)
    try:
        yield found
    finally:
        found.stop()


class CaptureProcess:
    """``waistline capture`` left running."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        command = [sys.executable, "-m", "waistline_hostctl", "capture", "--json", *arguments]
        self.process = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def children(self) -> dict[str, int]:
        """Pid of reader and writer, once both are told apart: the writer has the trace open."""
        limit = time.monotonic() + WAIT_S
        while time.monotonic() < limit and self.process.poll() is None:
            pids = [pid for pid in children_of(self.pid) if CHILD in command_of(pid)]
            writers = [pid for pid in pids if any(".jls" in name for name in open_files(pid))]
            if len(pids) == 2 and len(writers) == 1:
                (reader,) = set(pids) - set(writers)
                return {"reader": reader, "writer": writers[0]}
            time.sleep(0.02)
        raise AssertionError(f"no reader and writer: {self.process.communicate(timeout=WAIT_S)}")

    def result(self) -> tuple[int, dict]:
        """(exit code, the JSON it said)."""
        out, err = self.process.communicate(timeout=WAIT_S)
        assert "Traceback" not in err
        return self.process.returncode, json.loads(out) if out else {}

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)


@contextlib.contextmanager
def capturing(folder: Path, *arguments: str) -> Iterator[CaptureProcess]:
    found = CaptureProcess(folder, *arguments)
    try:
        yield found
    finally:
        if found.process.poll() is None:
            found.process.kill()
        for stream in (found.process.stdout, found.process.stderr):
            if stream is not None:
                stream.close()
        found.process.wait(WAIT_S)


def grown(path: Path, size_bytes: int) -> None:
    """Wait until a trace holds so much."""
    limit = time.monotonic() + WAIT_S
    while time.monotonic() < limit:
        if path.exists() and path.stat().st_size >= size_bytes:
            return
        time.sleep(0.02)
    raise AssertionError(f"{path} did not grow to {size_bytes}")


def gone(pids: list[int]) -> None:
    """Wait until none of these processes is there."""
    limit = time.monotonic() + WAIT_S
    while time.monotonic() < limit:
        if not any(alive(pid) for pid in pids):
            return
        time.sleep(0.05)
    raise AssertionError(f"still there: {[command_of(pid) for pid in pids]}")


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def children_of(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def command_of(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


def open_files(pid: int) -> list[str]:
    found = []
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found.append(str(entry.readlink()))
    return found


def read(path: Path) -> JlsTrace:
    return open_trace(path)
