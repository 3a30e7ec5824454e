"""Captures as processes, and the processor time of each. Part of benchmarks/capture.py."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WAIT_S = 60.0
_END_S = 10.0
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_SETTLE_S = 1.0
_CHILD = b"waistline_hostctl.capture.child"


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
            "lost": sum(found.get("ledger", {}).get("lost", {}).values()),
            "invalid": found.get("ledger", {}).get("invalid", 0),
            "ended": found.get("ended", found.get("what", "")),
            "code": self.code,
            "seconds": found.get("figures", {}).get("duration_s", {}).get("value", 0.0),
            "running_percent": share,
            "total_percent": sum(share.values()),
            "whole_s": self.whole_s,
            "problems": found.get("problems", []),
        }


class Budget:
    """Time that a part of the benchmark may take."""

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self._until_s = time.monotonic() + limit_s

    @property
    def left_s(self) -> float:
        return self._until_s - time.monotonic()


def measure(path: Path, seconds: float, budget: Budget, *arguments: str) -> Measured:
    """One capture of so many seconds, ended where it does not end in its time."""
    path.unlink(missing_ok=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(
        [sys.executable, "-m", "waistline_hostctl", "capture", "--json", "-o", str(path),
         "--duration", f"{seconds}s", *arguments],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    begin = _first_sample(process, path, budget)
    time.sleep(min(_SETTLE_S, seconds / 4))
    pids = {"control": process.pid} | children(process.pid)
    first_s, first = time.monotonic(), {name: used_s(pid) for name, pid in pids.items()}
    time.sleep(max(0.1, begin + seconds - 0.3 - first_s))
    last_s, last = time.monotonic(), {name: used_s(pid) for name, pid in pids.items()}
    said = _last_words(process, list(pids.values()), budget)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Measured(
        said,
        process.returncode,
        {name: last[name] - first[name] for name in pids},
        last_s - first_s,
        after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
    )


def _last_words(process: subprocess.Popen[str], pids: list[int], budget: Budget) -> dict[str, Any]:
    """What a capture says at its end; one that is over its time is killed, with its children."""
    try:
        out, _ = process.communicate(timeout=max(1.0, budget.left_s))
    except subprocess.TimeoutExpired:
        # A writer left alone would go on writing what its ring holds, beside the next capture.
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.communicate()
        return {"ended": "not in its time"}
    found: dict[str, Any] = json.loads(out) if out else {}
    return found


def _first_sample(process: subprocess.Popen[str], path: Path, budget: Budget) -> float:
    """About when the trace began; it is there a moment before."""
    limit = time.monotonic() + min(WAIT_S, max(_END_S, budget.left_s))
    while time.monotonic() < limit and process.poll() is None:
        if path.exists() and path.stat().st_size > 30_000:
            return time.monotonic()
        time.sleep(0.02)
    process.kill()
    raise RuntimeError(f"the capture did not begin: {process.communicate()}")


def children(pid: int) -> dict[str, int]:
    """Reader and writer of a capture; the writer is the one with the trace open."""
    found = {}
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            with contextlib.suppress(OSError):
                if _CHILD in Path(f"/proc/{child}/cmdline").read_bytes():
                    names = [str(entry.readlink()) for entry in Path(f"/proc/{child}/fd").iterdir()]
                    writes = any(".jls" in name for name in names)
                    found["writer" if writes else "reader"] = child
    return found


def used_s(pid: int) -> float:
    """Processor time of a process so far, all its threads; to 10 ms."""
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) * _TICK_S
    return 0.0
