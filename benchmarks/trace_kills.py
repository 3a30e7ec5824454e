"""Writers of traces killed at random moments, and what is left of their files.

Part of benchmarks/trace.py. A child writes at real-time pace samples that can be told from their
number; it is killed; the file is opened by pyjls in another child (on a copy), then mended and
compared bit by bit. What the writer had been given when it died is in a file beside the trace.
"""

from __future__ import annotations

import mmap
import random
import struct
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from waistline.errors import TraceError
from waistline.evidence import Evidence
from waistline.trace.base import SIGNALS, Annotation, Block, Gap, TraceSpec
from waistline.trace.repair import repair
from waistline.trace.store import create, open_trace

RATE_HZ = 100_000
STEP = RATE_HZ // 50
GAP_EVERY, GAP_AT = 23, 11
SIGNAL_NAMES = ("current", "voltage", "power", "d0", "d7")
LONGEST_S = 4.0
AT_ONCE = 6
_OPEN_BY_PYJLS = """
import sys, pyjls
with pyjls.Reader(sys.argv[1]) as reader:
    for signal in reader.signals.values():
        if signal.length and signal.units:
            reader.fsr(signal.signal_id, 0, signal.length)
"""


def truth(seed: int, first: int, count: int) -> Block:
    """Samples that can be made again from their numbers."""
    ids = np.arange(first, first + count, dtype=np.uint64)
    mixed = ids * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)
    current = (mixed >> np.uint64(40)).astype(np.float32)
    logic = ids // np.uint64(7) & np.uint64(1) | (ids // np.uint64(33_333) & np.uint64(1)) << 7
    return Block(
        first, current, current * np.float32(0.5), current + np.float32(1), logic.astype(np.uint8)
    )


def write_until_killed(path: Path, progress: Path, seed: int) -> None:
    """Write at real-time pace, saying in ``progress`` how far it is."""
    with progress.open("r+b") as stream:
        said = mmap.mmap(stream.fileno(), 8)
    spec = TraceSpec(
        RATE_HZ, tuple(SIGNALS[n] for n in SIGNAL_NAMES), "kill test", Evidence.SIMULATED
    )
    writer = create(path, spec)
    started = time.monotonic()
    for number in range(1_000_000):
        first = number * STEP
        if number % GAP_EVERY == GAP_AT:
            writer.gap(Gap(first, STEP, "counter"))
        else:
            writer.write(truth(seed, first, STEP))
        if number % 5 == 0:
            writer.annotate(Annotation(first + 0.5, "segment", f"s{number}", first + 9.5))
            writer.utc(first, 1_700_000_000_000_000_000 + first * 10_000)
        said[:] = struct.pack("<q", first + STEP)
        time.sleep(max(0.0, started + (first + STEP) / RATE_HZ - time.monotonic()))


@dataclass(frozen=True)
class Killed:
    """What one kill left."""

    path: Path
    seed: int
    given: int


def kill_writers(count: int, folder: Path) -> list[Killed]:
    """Start writers and kill each at a random moment of its life."""
    draw = random.Random(count)
    waiting, running, killed = list(range(count)), [], []
    while waiting or running:
        while waiting and len(running) < AT_ONCE:
            seed = waiting.pop()
            path, progress = folder / f"{seed}.jls", folder / f"{seed}.progress"
            progress.write_bytes(bytes(8))
            command = [sys.executable, __file__, str(path), str(progress), str(seed)]
            child = subprocess.Popen(command)
            running.append([child, path, progress, seed, 0.0, draw.uniform(0, LONGEST_S)])
        time.sleep(0.002)
        for row in list(running):
            child, path, progress, seed, begun, life = row
            if child.poll() is not None:
                raise RuntimeError(f"writer {seed} ended by itself")
            if not begun and path.exists():
                row[4] = time.monotonic()
            elif begun and time.monotonic() - begun > life:
                child.kill()
                child.wait()
                given = struct.unpack("<q", progress.read_bytes())[0]
                killed.append(Killed(path, seed, given))
                running.remove(row)
    return killed


def exact(path: Path, seed: int) -> bool:
    """Whether every sample of a mended file is the one that was given."""
    with open_trace(path) as trace:
        given = truth(seed, 0, trace.length)
        number = np.arange(trace.length) // STEP
        lost = number % GAP_EVERY == GAP_AT
        same = True
        for name in trace.spec.floats:
            values, wanted = trace.read(name), given.values(name)
            assert wanted is not None
            same &= bool((np.isnan(values) == lost).all())
            same &= bool((values[~lost].view("u4") == wanted[~lost].view("u4")).all())
        for bit in trace.spec.bits:
            wanted_bits = given.logic >> np.uint8(bit) & 1
            same &= bool((trace.bits(f"d{bit}")[~lost] == wanted_bits[~lost]).all())
    return same


def kills_report(count: int, folder: Path) -> str:
    """Kill, mend, compare; Markdown."""
    opened: Counter[int] = Counter()
    changed = mended = same = 0
    lost_s: list[float] = []
    for row in kill_writers(count, folder):
        copy = folder / "copy.jls"
        copy.write_bytes(row.path.read_bytes())
        child = subprocess.run(
            [sys.executable, "-c", _OPEN_BY_PYJLS, str(copy)], capture_output=True
        )
        opened[child.returncode] += 1
        changed += copy.read_bytes() != row.path.read_bytes()
        try:
            report = repair(row.path)
        except TraceError as error:
            print(f"{row.path.name}: {error}", file=sys.stderr)
            continue
        mended += 1
        same += exact(row.path, row.seed)
        lost_s.append((row.given - report.length) / RATE_HZ)
    crashed = sum(number for status, number in opened.items() if status < 0)
    total = sum(opened.values())
    return (
        f"{count} writers of {RATE_HZ:,} samples a second killed (SIGKILL) within "
        f"{LONGEST_S:.0f} s of their file's appearing: {mended} of {total} files mended, "
        f"{same} of them bit-exact, {max(lost_s, default=0):.2f} s lost at most "
        f"({np.mean(lost_s or [0]):.2f} s on average). pyjls' own reader, on a copy: {crashed} of "
        f"{total} end the process, {changed} are changed by being opened."
    )


if __name__ == "__main__":
    write_until_killed(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
