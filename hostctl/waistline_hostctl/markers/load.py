"""Run a code of busy and idle times on this machine's processor, so that a power trace shows it.

``python -m waistline_hostctl.markers.load -o played.json`` does so by itself, without the command
line's packages. `waistline.trace.coded` finds the code in a trace.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from waistline.trace.coded import Played, code

CHIP_S = 0.01
"""Longer than a scheduler's tick and what a processor's clock takes to rise."""
_WORK = bytes(1 << 15)
"""Hashing this takes some 20 us and lets other threads run meanwhile."""


def play(chips: Sequence[int], chip_s: float = CHIP_S, threads: int = 1) -> Played:
    """Run a code; returns after ``len(chips) * chip_s`` seconds.

    Args:
        chips: 1 is busy.
        chip_s: each lasts.
        threads: that are busy at once; one a core is the most that helps.
    """
    begin_s = time.monotonic() + 2 * chip_s
    others = [
        threading.Thread(target=_follow, args=(chips, chip_s, begin_s), daemon=True)
        for _ in range(threads - 1)
    ]
    for one in others:
        one.start()
    times = _follow(chips, chip_s, begin_s)
    for one in others:
        one.join()
    return Played(tuple(times), tuple(int(chip) for chip in chips))


def _follow(chips: Sequence[int], chip_s: float, begin_s: float) -> list[float]:
    """Be busy and idle in turn; when each chip really began, and the last ended."""
    _idle_until(begin_s)
    times = [time.monotonic()]
    for number, chip in enumerate(chips, 1):
        end_s = begin_s + number * chip_s
        if chip:
            while time.monotonic() < end_s:
                hashlib.sha256(_WORK).digest()
        else:
            _idle_until(end_s)
        # A machine that stood still meanwhile must not give two changes one time.
        times.append(max(time.monotonic(), times[-1] + 1e-9))
    return times


def _idle_until(end_s: float) -> None:
    while (left := end_s - time.monotonic()) > 0:
        time.sleep(left)


def main(words: Sequence[str] | None = None) -> int:
    """The module as a program."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True, help="gets the times, as JSON")
    parser.add_argument("--order", type=int, default=7, help="2^ORDER - 1 chips (7)")
    parser.add_argument("--chip", type=float, default=CHIP_S, help="seconds (0.01)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args(words)
    try:
        chips = code(given.order).tolist()
    except ValueError as error:
        parser.error(str(error))
    if not (0.001 <= given.chip <= 1 and 1 <= given.threads <= 1024):
        parser.error("--chip is 0.001 to 1 s, --threads 1 to 1024")
    given.output.write_bytes(msgspec.json.encode(play(chips, given.chip, given.threads)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
