"""Mutated frames by the million: no crash, no wrong tensor, no memory.

    python fuzz/run.py [--frames 1000000] [--seconds S] [--seed N] [--jobs N] [--json FILE]
    python fuzz/run.py --block N            what one block does, in this process

Each frame goes through a real edge session and codec (see drive.py), a share in each process. The
processes may not take more than 256 MiB beside what they have when they begin, so that an
allocation that a frame talks a decoder into is a crash. The same seed and number give the same
frame. FUZZ_FRAMES, FUZZ_SECONDS and FUZZ_SEED stand in for the flags. Exit status 5 when anything
was found.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import json
import os
import resource
import selectors
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from bombs import bombs
from drive import BLOCK, Driver

from waistline import plugins

FRAMES = 1_000_000
SPARE_BYTES = 256 << 20
MAX_GROWTH_BYTES = 32 << 20
"""Of the resident memory, from the first blocks to the end."""
WARM_BLOCKS = 4
REPORT_EVERY = 10
"""Blocks."""


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = _parser().parse_args(arguments)
    if chosen.block is not None:
        driver = Driver(chosen.seed)
        driver.block(chosen.block)
        print(_lines(driver.found.ends), *driver.found.problems, sep="\n")
        return 5 if driver.found.problems else 0
    if chosen.share is not None:
        work(chosen.seed, *chosen.share, chosen.frames, chosen.seconds)
        return 0
    result = run(chosen.frames, chosen.seconds, chosen.seed, chosen.jobs)
    if chosen.json:
        chosen.json.write_text(json.dumps(result, indent=1) + "\n")
    print(shown(result))
    return 0 if result["passed"] else 5


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    told = os.environ.get
    frames, seconds = told("FUZZ_FRAMES") or FRAMES, told("FUZZ_SECONDS") or 0
    add = parser.add_argument
    add("--frames", type=int, default=int(frames), help=f"in all ({FRAMES:,})")
    add("--seconds", type=float, default=float(seconds), help="end then at the latest (0: never)")
    add("--seed", type=int, default=int(told("FUZZ_SEED") or 1))
    add("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes (cores)")
    add("--json", type=Path)
    add("--block", type=int, metavar="N", help=f"run the {BLOCK} frames of one block again")
    add("--share", type=int, nargs=2, help=argparse.SUPPRESS)
    return parser


def work(seed: int, first: int, step: int, frames: int, seconds: float) -> None:
    """Every ``step``-th block from ``first`` on; says what it found as JSON lines."""
    faulthandler.enable()
    end = time.monotonic() + seconds if seconds else float("inf")
    driver = Driver(seed)
    for coder in plugins.names("waistline.codec.coders"):
        bombs(coder)
    before_bytes = 0
    for turn, block in enumerate(range(first, -(-frames // BLOCK), step)):
        if turn == WARM_BLOCKS:
            before_bytes = _start_watching()
        if turn % REPORT_EVERY == 0:
            _say(block, driver)
        driver.block(block, min(BLOCK, frames - block * BLOCK))
        if time.monotonic() > end:
            break
    grown = _memory("VmHWM") - before_bytes if before_bytes else 0
    _say(None, driver, grown_bytes=grown)


def _start_watching() -> int:
    """Forget the peak so far and forbid much more; resident bytes now."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    soft = _memory("VmSize") + SPARE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (soft, resource.getrlimit(resource.RLIMIT_AS)[1]))
    return _memory("VmRSS")


def _memory(what: str) -> int:
    for row in Path("/proc/self/status").read_text().splitlines():
        if row.startswith(f"{what}:"):
            return int(row.split()[1]) * 1024
    return 0


def _say(block: int | None, driver: Driver, **more: int) -> None:
    found = driver.found
    line = {
        "block": block,
        "ends": found.ends,
        "frames": found.frames,
        "crashes": found.crashes,
        "wrong": found.wrong,
        "problems": found.problems,
        **more,
    }
    print(json.dumps(line), flush=True)


def run(frames: int, seconds: float, seed: int, jobs: int) -> dict[str, Any]:
    """All shares; what they found, together."""
    began = time.monotonic()
    command = [sys.executable, __file__, "--frames", str(frames), "--seconds", str(seconds)]
    command += ["--seed", str(seed)]
    workers = [
        subprocess.Popen(
            [*command, "--share", str(k), str(jobs)], stdout=subprocess.PIPE, text=True
        )
        for k in range(jobs)
    ]
    try:
        last = _listen(workers, frames)
    finally:
        for worker in workers:
            if worker.poll() is None:
                worker.kill()
            worker.wait()
            assert worker.stdout is not None
            worker.stdout.close()
    ends: Counter[str] = Counter()
    problems: list[Any] = []
    for worker, line in zip(workers, last, strict=True):
        ends.update(line["ends"])
        problems += line["problems"]
        if worker.returncode or line["block"] is not None:
            near = f"block {line['block']} or within {REPORT_EVERY * jobs} blocks after it"
            problems.append([None, f"a process ended with {worker.returncode} in {near}"])
            line["crashes"] += 1
    result = {
        "frames": sum(line["frames"] for line in last),
        "seed": seed,
        "jobs": jobs,
        "seconds": time.monotonic() - began,
        "ends": dict(sorted(ends.items())),
        "crashes": sum(line["crashes"] for line in last),
        "wrong_tensors": sum(line["wrong"] for line in last),
        "problems": problems,
        "grown_bytes": max(line.get("grown_bytes", 0) for line in last),
    }
    clean = not result["crashes"] and not result["wrong_tensors"]
    result["passed"] = clean and result["grown_bytes"] <= MAX_GROWTH_BYTES
    return result


def _listen(workers: list[subprocess.Popen[str]], frames: int) -> list[dict[str, Any]]:
    """The last line of each worker; progress on a terminal meanwhile."""
    last: list[dict[str, Any]] = [
        {"block": k, "ends": {}, "frames": 0, "crashes": 0, "wrong": 0, "problems": []}
        for k in range(len(workers))
    ]
    with selectors.DefaultSelector() as selector:
        for k, worker in enumerate(workers):
            assert worker.stdout is not None
            selector.register(worker.stdout, selectors.EVENT_READ, k)
        while selector.get_map():
            for key, _ in selector.select():
                text = key.fileobj.readline()  # type: ignore[union-attr]
                if text:
                    last[key.data] = json.loads(text)
                else:
                    selector.unregister(key.fileobj)
            if sys.stderr.isatty():
                done = sum(line["frames"] for line in last)
                print(f"\r\x1b[K{done:,} of {frames:,} frames", end="", file=sys.stderr)
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr)
    return last


def _lines(ends: dict[str, int]) -> str:
    return "\n".join(f"  {count:>9,}  {name}" for name, count in sorted(ends.items()))


def shown(result: dict[str, Any]) -> str:
    """The closing table."""
    rows = [
        f"{result['frames']:,} mutated frames, seed {result['seed']}, {result['jobs']} processes, "
        f"{result['seconds']:.0f} s; what became of them ('several' sends up to four):",
        "",
        _lines(result["ends"]),
        "",
        f"  {result['crashes']:>9,}  crashes",
        f"  {result['wrong_tensors']:>9,}  wrong tensors",
        f"  {result['grown_bytes'] / 2**20:>9.1f}  MiB grown at most "
        f"(limit {MAX_GROWTH_BYTES / 2**20:.0f})",
    ]
    rows += [f"  frame {index}: {what}" for index, what in result["problems"][:20]]
    rows += ["", "passed" if result["passed"] else "FAILED"]
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
