"""Rates of traces: windows of energy, reading, envelopes, and what writing 2 MSPS costs.

    python benchmarks/trace.py [--json FILE] [--samples N] [--seconds S] [--kills K]

Rates are also given as a ratio to reading the same bytes once (``numpy.max`` over them) in the same
run. CPU is that of the writing process with pyjls' thread, at real-time pace. ``--kills`` kills
that many writers at random moments and mends what they leave.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np
from trace_kills import kills_report

from waistline.evidence import Evidence
from waistline.trace.base import SIGNALS, Block, Gap, TraceSpec
from waistline.trace.store import create, open_trace
from waistline.trace.sums import window_sums

WINDOWS = 10_000
WINDOW_GOAL_MSPS = 500
CPU_GOAL_PERCENT = 12
PIECE = 1 << 20


def median_s(call: Callable[[], object], rounds: int = 5) -> float:
    """Seconds of a call, the first one left out."""
    took = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        call()
        took.append(time.perf_counter() - started)
    return statistics.median(took[1:])


def in_memory(count: int) -> dict[str, float]:
    """1e8 samples into 10,000 windows with fractional edges, and with 1 % of them lost."""
    random = np.random.default_rng(5)
    values = random.random(count, np.float32)
    edges = np.sort(random.uniform(0, count, WINDOWS + 1))

    def windows() -> tuple[np.ndarray, np.ndarray]:
        pieces = ((first, values[first : first + PIECE]) for first in range(0, count, PIECE))
        return window_sums(pieces, edges, count)

    once_s = median_s(values.max)
    clean_s = median_s(windows)
    error = worst_error(values, edges, windows()[0])
    holes = random.integers(0, count - 100, count // 10_000)
    for hole in holes:
        values[hole : hole + 100] = np.nan
    lossy_s = median_s(windows)
    return {
        "samples": count,
        "once_msps": count / once_s / 1e6,
        "windows_msps": count / clean_s / 1e6,
        "windows_to_once": clean_s / once_s,
        "worst_relative_error": error,
        "lossy_msps": count / lossy_s / 1e6,
        "lossy_to_once": lossy_s / once_s,
    }


def worst_error(values: np.ndarray, edges: np.ndarray, sums: np.ndarray) -> float:
    """Against correctly rounded sums of 100 of the windows."""
    worst = 0.0
    for place in range(0, WINDOWS, WINDOWS // 100):
        low, high = edges[place], edges[place + 1]
        first, last = int(low), min(int(high), len(values) - 1)
        terms = values[first : last + 1].astype(np.float64)
        ids = np.arange(first, last + 1)
        share = np.clip(np.minimum(ids + 1, high) - np.maximum(ids, low), 0, None)
        truth = math.fsum((terms * share).tolist())
        worst = max(worst, abs(sums[place] - truth) / truth)
    return worst


def on_disk(count: int, folder: Path) -> dict[str, float]:
    """The same from a JLS file, and an envelope of the whole of it."""
    path = folder / "big.jls"
    random = np.random.default_rng(5)
    spec = TraceSpec(1e6, (SIGNALS["power"],), "benchmark", Evidence.SIMULATED)
    started = time.perf_counter()
    with create(path, spec) as writer:
        for first in range(0, count, PIECE):
            size = min(PIECE, count - first)
            writer.write(Block(first, power_w=random.random(size, np.float32)))
    wrote_s = time.perf_counter() - started
    size_bytes = path.stat().st_size
    started = time.perf_counter()
    with open_trace(path) as trace:
        opened_s = time.perf_counter() - started
        once = np.memmap(path, np.uint8, "r")
        once_s = median_s(once.max)
        edges = np.sort(random.uniform(0, count, WINDOWS + 1))
        windows_s = median_s(lambda: trace.windows(edges))
        read_s = median_s(lambda: trace.read("power"))
        view_s = median_s(lambda: trace.overview("power", 0, count, 2000))
        places = random.integers(0, count - 10_000, 1000).tolist()
        some_s = median_s(lambda: [trace.read("power", p, p + 10_000) for p in places]) / 1000
        del once
    return {
        "bytes_per_sample": size_bytes / count,
        "write_msps": count / wrote_s / 1e6,
        "open_ms": opened_s * 1e3,
        "once_msps": count / once_s / 1e6,
        "windows_msps": count / windows_s / 1e6,
        "windows_to_once": windows_s / once_s,
        "read_msps": count / read_s / 1e6,
        "read_to_once": read_s / once_s,
        "envelope_ms": view_s * 1e3,
        "random_10k_ms": some_s * 1e3,
    }


def live(rate_hz: float, seconds: float, folder: Path) -> dict[str, float]:
    """A process of its own that writes at real-time pace; its CPU share."""
    command = [sys.executable, __file__, "--live", str(folder / "live.jls"), str(rate_hz)]
    done = subprocess.run([*command, str(seconds)], capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def write_live(path: Path, rate_hz: float, seconds: float) -> dict[str, float]:
    """Current, voltage, power and four logic bits, 20 ms a block, a gap every 1000 blocks."""
    names = ("current", "voltage", "power", "d0", "d1", "d2", "d3")
    spec = TraceSpec(rate_hz, tuple(SIGNALS[n] for n in names), "benchmark", Evidence.SIMULATED)
    size = int(rate_hz / 50)
    random = np.random.default_rng(1)
    floats = [random.random(size, np.float32) for _ in range(3)]
    logic = random.integers(0, 16, size, np.uint8)
    with create(path, spec) as writer:
        before = resource.getrusage(resource.RUSAGE_SELF)
        started = time.monotonic()
        late_s = 0.0
        for number in range(int(seconds * 50)):
            first = number * size
            if number % 1000 == 999:
                writer.gap(Gap(first, size, "ring"))
            else:
                writer.write(Block(first, *floats, logic))
            ahead = started + (first + size) / rate_hz - time.monotonic()
            late_s = max(late_s, -ahead)
            time.sleep(max(0.0, ahead))
        took_s = time.monotonic() - started
        after = resource.getrusage(resource.RUSAGE_SELF)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "rate_msps": rate_hz / 1e6,
        "cpu_percent": 100 * used / took_s,
        "seconds": took_s,
        "latest_ms": late_s * 1e3,
        "mb_per_s": path.stat().st_size / took_s / 1e6,
    }


def rows(*cells: tuple[str, ...]) -> str:
    """A Markdown table, the first row its heading."""
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    return "\n".join([lines[0], "|---" * len(cells[0]) + "|", *lines[1:]])


def table(found: dict[str, dict[str, float]]) -> str:
    """The figures as Markdown."""
    memory, disk, paced = found["memory"], found["disk"], found["live"]
    windows = [
        ("in memory", memory["windows_msps"], memory["windows_to_once"]),
        (
            "in memory, 1 % lost, a hole in every window",
            memory["lossy_msps"],
            memory["lossy_to_once"],
        ),
        ("from a JLS file", disk["windows_msps"], disk["windows_to_once"]),
    ]
    first = rows(
        (
            f"{memory['samples']:.0e} float32 samples into {WINDOWS:,} windows, fractional edges",
            f"MSPS (goal {WINDOW_GOAL_MSPS})",
            "time to reading once",
        ),
        *((name, f"{rate:.0f}", f"{ratio:.2f}") for name, rate, ratio in windows),
    )
    second = rows(
        (f"JLS file of {memory['samples']:.0e} samples", ""),
        (
            "write, as fast as it goes",
            f"{disk['write_msps']:.0f} MSPS, {disk['bytes_per_sample']:.3f} bytes a sample",
        ),
        ("open", f"{disk['open_ms']:.1f} ms"),
        ("read all", f"{disk['read_msps']:.0f} MSPS, {disk['read_to_once']:.2f} of reading once"),
        ("read 10,000 samples somewhere", f"{disk['random_10k_ms']:.3f} ms"),
        ("envelope of all in 2,000 columns", f"{disk['envelope_ms']:.1f} ms"),
        (
            f"write current, voltage, power and 4 bits at {paced['rate_msps']:.0f} MSPS "
            f"for {paced['seconds']:.0f} s",
            f"{paced['cpu_percent']:.1f} % of a core (goal {CPU_GOAL_PERCENT} with the reader), "
            f"{paced['mb_per_s']:.0f} MB/s, {paced['latest_ms']:.0f} ms behind at worst",
        ),
    )
    return (
        f"{first}\n\nReading once: {memory['once_msps']:.0f} MSPS in memory, "
        f"{disk['once_msps']:.0f} from the file (in the page cache). Worst relative error of 100 "
        f"windows against correctly rounded sums: {memory['worst_relative_error']:.1e} "
        f"(goal 1e-9).\n\n{second}\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--samples", type=float, default=1e8)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--live", nargs=3, metavar=("PATH", "RATE", "SECONDS"))
    options = parser.parse_args()
    if options.live:
        path, rate, seconds = options.live
        print(json.dumps(write_live(Path(path), float(rate), float(seconds))))
        return
    folder = Path(tempfile.mkdtemp(prefix="trace-"))
    try:
        count = int(options.samples)
        found = {
            "memory": in_memory(count),
            "disk": on_disk(count, folder),
            "live": live(2e6, options.seconds, folder),
        }
        print(f"## Traces\n\npyjls {metadata.version('pyjls')}\n")
        print(table(found))
        if options.kills:
            print(kills_report(options.kills, folder))
    finally:
        shutil.rmtree(folder)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
