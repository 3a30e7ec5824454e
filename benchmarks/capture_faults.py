"""Captures whose writer is killed, and on a busy machine. Part of benchmarks/capture.py."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from capture_processes import WAIT_S, Budget, Emulated, children

from waistline.bench import resolve
from waistline.errors import WaistlineError
from waistline.trace.store import open_trace
from waistline_hostctl.capture.control import run
from waistline_hostctl.capture.wanted import Wanted
from waistline_hostctl.console import Console
from waistline_hostctl.meters.base import MeterChoice
from waistline_hostctl.meters.sim import Device, layers

KILL_RATE_HZ = 100_000
LONGEST_S = 5.0
LOST_LIMIT_S = 1.0
_PERIOD = KILL_RATE_HZ // 100


def kills_report(count: int, folder: Path, budget: Budget) -> dict[str, Any]:
    """Kill the writer of so many captures, or of as many as there is time for."""
    draw, kinds, lost = random.Random(count), Counter[str](), []
    for number in range(count):
        if budget.left_s < 2 * LONGEST_S:
            break
        kind, lost_s = _kill(folder / f"{number}.jls", draw.uniform(0, LONGEST_S))
        kinds[kind] += 1
        lost += [lost_s] if lost_s is not None else []
        print(f"kill {number + 1} of {count}: {kind}", file=sys.stderr, flush=True)
    count = kinds.total()
    found = {"pyjls": metadata.version("pyjls"), "kinds": dict(kinds), "count": count}
    found["lost_s"] = {"median": float(np.median(lost)), "most": max(lost)} if lost else {}
    said = ", ".join(f"{value} {kind}" for kind, value in kinds.items())
    print(
        f"Writer killed {count} times, pyjls {found['pyjls']}, what is left mended: {said}.",
        flush=True,
    )
    if lost:
        print(
            f"Lost before the kill: median {np.median(lost):.3f} s, most {max(lost):.3f} s "
            f"(goal {LOST_LIMIT_S:g} s).\n",
            flush=True,
        )
    return found


def _kill(path: Path, life_s: float) -> tuple[str, float | None]:
    """(what was left, seconds lost before the kill) of one capture."""
    process = subprocess.Popen(
        [sys.executable, "-m", "waistline_hostctl", "capture", "--json", "-o", str(path),
         "--meter", "sim", "--meter-option", f"rate={KILL_RATE_HZ}"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    pids = _begun(process.pid, path)
    time.sleep(life_s)
    os.kill(pids["writer"], signal.SIGKILL)
    killed_ns = time.time_ns()
    said, _ = process.communicate(timeout=WAIT_S)
    left = [pid for pid in pids.values() if Path(f"/proc/{pid}").exists()]
    try:
        if left:
            return "processes left behind", None
        if not path.exists():
            # Killed before a first chunk was whole.
            gone = "nothing yet to keep" if process.returncode == 5 else "no file"
            return gone, life_s
        with open_trace(path) as trace:
            if trace.length != json.loads(said)["samples"]:
                return "counted wrong", None
            kind = "exact" if _exact(trace) else "DIFFERENT"
            if not trace.utc:
                return kind, None
            point = trace.utc[-1]
            end_ns = point.utc_ns + (trace.length - point.sample) / KILL_RATE_HZ * 1e9
            return kind, (killed_ns - end_ns) * 1e-9
    except WaistlineError as error:
        return f"not readable: {error.what[:60]}", None
    finally:
        path.unlink(missing_ok=True)


def _begun(control: int, path: Path) -> dict[str, int]:
    """Reader and writer, once the reader is about to start the meter."""
    limit = time.monotonic() + WAIT_S
    while not path.exists() and time.monotonic() < limit:
        time.sleep(0.005)
    pids = children(control)
    # It asks for real-time priority last; where that is not permitted this waits in vain.
    limit = time.monotonic() + 3.0
    while os.sched_getscheduler(pids["reader"]) != os.SCHED_FIFO and time.monotonic() < limit:
        time.sleep(0.005)
    return pids


def _exact(trace: Any) -> bool:
    """Whether every sample is the one that the device gave."""
    true = Device(layers(), KILL_RATE_HZ).samples(0, _PERIOD)
    turns = -(-trace.length // _PERIOD)
    same = True
    for name, values in (
        ("current", true.current_a), ("voltage", true.voltage_v), ("power", true.power_w),
    ):  # fmt: skip
        same &= np.array_equal(trace.read(name), np.tile(values, turns)[: trace.length])
    return bool(
        same and np.array_equal(trace.bits("d0"), np.tile(true.logic, turns)[: trace.length])
    )


@dataclass(frozen=True)
class Load:
    """What is beside a capture.

    Attributes:
        name: in the table.
        programs: that never rest, for each core.
        spinning: a thread of the capture's own process holds the interpreter's lock.
        held_s: longest time for which the reader is stopped, again and again.
        fifo: samples that the instrument holds.
    """

    name: str
    programs: int = 0
    spinning: bool = False
    held_s: float = 0.0
    fifo: int = 4096


LOADS = (
    Load("both cores busy", programs=1),
    Load("a parent that holds the lock", spinning=True),
    Load("both, FIFO 512, reader held up to 0.3 s", 2, True, 0.3, 512),
)


def busy_report(seconds: float, folder: Path, budget: Budget) -> list[dict[str, Any]]:
    """Accounts of captures on a busy machine, against the truth."""
    found = []
    print("| load beside a PPK2 | truly lost | by the account | unknown | ring | verdict |")
    print("| --- | --- | --- | --- | --- | --- |", flush=True)
    for load in LOADS:
        if budget.left_s < seconds + LONGEST_S:
            print(f"| {load.name} | no time was left |  |  |  |  |", flush=True)
            continue
        with _busy(load.programs * (os.cpu_count() or 2)), _spinning(load.spinning):
            row = {"load": load.name} | _compared(seconds, folder, load)
        found.append(row)
        print(
            f"| {load.name} | {row['true']:,} in {row['true_holes']} | {row['lost']:,} in "
            f"{row['holes']}, {row['low']:,} to {row['high']:,} | {row['unknown']} | "
            f"{row['ring']:,} | {row['verdict']} |",
            flush=True,
        )
    return found


def _compared(seconds: float, folder: Path, load: Load) -> dict[str, Any]:
    """A capture in this very process, beside what the emulator knows."""
    path = folder / "busy.jls"
    path.unlink(missing_ok=True)
    with (
        Emulated(folder, "--waveform", "constant:0.01", "--fifo", str(load.fifo)) as emulated,
        _held_up(path, load.held_s),
    ):
        choice = MeterChoice("ppk2", emulated.port, {"voltage": "3.3", "mode": "source"})
        captured = run(Wanted(choice, seconds, path), resolve(), Console(json=True))
        truth = emulated.truth()
    ledger = captured.ledger
    first, last = _span(path, truth[0], captured.samples)
    rows = [row for row in truth if row["event"] == "lost" and first <= row["first"] < last]
    true = sum(row["count"] for row in rows)
    low = sum(loss["low"] for loss in ledger["losses"])
    high = sum(loss["high"] for loss in ledger["losses"])
    lost = sum(ledger["lost"].values())
    ring = ledger["lost"].get("ring", 0)
    if ledger["closes"]:
        verdict = "true" if lost - ring == true else "WRONG"
    else:
        verdict = "true (bounds hold)" if low - ring <= true <= high else "refused, bounds off"
    return {
        "true": true, "true_holes": len(rows), "lost": lost, "low": low, "high": high,
        "holes": ledger["holes"], "unknown": ledger["unknown"], "ring": ring,
        "closes": ledger["closes"], "verdict": verdict, "start_dropped": ledger["start_dropped"],
        "samples": captured.samples, "contradictions": ledger["contradictions"],
    }  # fmt: skip


def _span(path: Path, start: dict[str, Any], samples: int) -> tuple[float, float]:
    """First and last sample of the trace, by the emulator's numbers, within some milliseconds."""
    with open_trace(path) as trace:
        point = trace.utc[0]
    offset_ns = time.time_ns() - time.monotonic_ns()
    begin_ns = point.utc_ns - offset_ns - point.sample * 10_000
    first = (begin_ns - start["monotonic_ns"]) * 1e-9 * start["rate_hz"]
    return first - 500, first + samples


@contextlib.contextmanager
def _held_up(path: Path, longest_s: float) -> Iterator[None]:
    """Stop the reader for a while about every second, as a machine does that has no time for it."""
    over, draw = threading.Event(), random.Random(1)

    def hold() -> None:
        while not path.exists() and not over.wait(0.1):
            pass
        while not over.wait(draw.uniform(0.7, 1.5)):
            reader = children(os.getpid()).get("reader")
            if reader is None:
                continue
            with contextlib.suppress(ProcessLookupError):
                os.kill(reader, signal.SIGSTOP)
                over.wait(draw.uniform(longest_s / 5, longest_s))
                os.kill(reader, signal.SIGCONT)

    thread = threading.Thread(target=hold, daemon=True)
    if longest_s:
        thread.start()
    try:
        yield
    finally:
        over.set()
        if longest_s:
            thread.join()


@contextlib.contextmanager
def _busy(count: int) -> Iterator[None]:
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


@contextlib.contextmanager
def _spinning(wanted: bool) -> Iterator[None]:
    over = threading.Event()

    def spin() -> None:
        while not over.is_set():
            sum(range(1000))

    thread = threading.Thread(target=spin, daemon=True)
    if wanted:
        thread.start()
    try:
        yield
    finally:
        over.set()
        if wanted:
            thread.join()
