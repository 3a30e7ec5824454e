"""Captures as processes, and the processor time of each. Part of benchmarks/capture.py."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WAIT_S = 300.0
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_SETTLE_S = 1.0


class Emulated:
    """An emulated PPK2 with real-time priority, where that is permitted."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.truth_file = folder / "truth.jsonl"
        command = [sys.executable, "-m", "waistline_hostctl.emulators.ppk2"]
        self._process = subprocess.Popen(
            [*command, "--truth", str(self.truth_file), *options], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.port = json.loads(self._process.stdout.readline())["port"]
        with contextlib.suppress(OSError):
            os.sched_setscheduler(self._process.pid, os.SCHED_FIFO, os.sched_param(60))

    def __enter__(self) -> Emulated:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(WAIT_S)

    def truth(self) -> list[dict[str, Any]]:
        """Rows of the last time it sampled."""
        rows = [json.loads(line) for line in self.truth_file.read_text().splitlines()]
        begin = max(k for k, row in enumerate(rows) if row["event"] == "start")
        return rows[begin:]

    def lost(self) -> int:
        """What its FIFO had no room for."""
        return sum(row["count"] for row in self.truth() if row["event"] == "lost")


@dataclass
class Measured:
    """A capture that is over.

    Attributes:
        result: what it said.
        code: its exit code.
        running: processor seconds of each process between two moments while it ran.
        between_s: between these.
        whole_s: processor seconds of all from start to end.
    """

    result: dict[str, Any]
    code: int
    running: dict[str, float] = field(default_factory=dict)
    between_s: float = 0.0
    whole_s: float = 0.0

    def row(self) -> dict[str, Any]:
        """For tables."""
        share = {name: 100 * used / self.between_s for name, used in self.running.items()}
        found = self.result
        return {
            "samples": found.get("samples", 0),
            "missing": found.get("missing", -1),
            "ended": found.get("ended", found.get("what", "")),
            "code": self.code,
            "seconds": found.get("figures", {}).get("duration_s", {}).get("value", 0.0),
            "running_percent": share,
            "total_percent": sum(share.values()),
            "whole_s": self.whole_s,
            "problems": found.get("problems", []),
        }


def measure(path: Path, seconds: float, *arguments: str) -> Measured:
    """One capture of so many seconds."""
    path.unlink(missing_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "waistline_hostctl", "capture", "--json", "-o", str(path),
         "--duration", f"{seconds}s", *arguments],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    begin = _first_sample(process, path)
    time.sleep(_SETTLE_S)
    pids = {"control": process.pid} | children(process.pid)
    first_s, first = time.monotonic(), {name: used_s(pid) for name, pid in pids.items()}
    time.sleep(max(0.1, begin + seconds - 0.3 - first_s))
    last_s, last = time.monotonic(), {name: used_s(pid) for name, pid in pids.items()}
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return Measured(
        json.loads(said),
        process.returncode,
        {name: last[name] - first[name] for name in pids},
        last_s - first_s,
        usage.ru_utime + usage.ru_stime,
    )


def _first_sample(process: subprocess.Popen[str], path: Path) -> float:
    """About when the trace began; it is there a moment before."""
    limit = time.monotonic() + WAIT_S
    while time.monotonic() < limit and process.poll() is None:
        if path.exists() and path.stat().st_size > 30_000:
            return time.monotonic()
        time.sleep(0.02)
    raise RuntimeError(f"the capture did not begin: {process.communicate()}")


def children(pid: int) -> dict[str, int]:
    """Reader and writer of a capture; the writer is the one with the trace open."""
    found = {}
    for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
        names = [str(entry.readlink()) for entry in Path(f"/proc/{child}/fd").iterdir()]
        found["writer" if any(".jls" in name for name in names) else "reader"] = child
    return found


def used_s(pid: int) -> float:
    """Processor time of a process so far, all its threads; to 10 ms."""
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) * _TICK_S
    return 0.0
