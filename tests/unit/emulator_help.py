"""Emulated instruments as processes, and captures without a ring.

They end at a sample of the instrument, never at a second of the host: it may stand still.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from waistline.errors import MeterError
from waistline.trace.base import Gap
from waistline_hostctl.meters.base import Meter, Part, decoder_from, reader_from

WAIT_S = 120.0
_BEHIND_BYTES = 1 << 17
"""More than FIFO and line hold: what comes behind so many was sampled since."""


@dataclass
class Emulated:
    """An emulated instrument that runs."""

    port: str
    truth_file: Path

    def truth(self, event: str) -> list[dict]:
        # Whole lines, also while it runs.
        rows = map(json.loads, self.truth_file.read_text().split("\n")[:-1])
        return [row for row in rows if row["event"] == event]

    def at_mark(self, sample: int) -> bool:
        """Whether it has come to a `mark` at that sample."""
        return any(row["first"] >= sample for row in self.truth("stall"))


def mark(sample: int) -> tuple[str, str]:
    """Options: the instrument notes when it comes to a sample; nothing is lost for it."""
    return "--fault", f"stall@{sample}:0.001"


@contextmanager
def emulated(name: str, tmp_path: Path, *options: str) -> Iterator[Emulated]:
    truth = tmp_path / "truth.jsonl"
    command = [sys.executable, "-m", f"waistline_hostctl.emulators.{name}", "--truth", str(truth)]
    process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield Emulated(json.loads(process.stdout.readline())["port"], truth)
    finally:
        process.terminate()
        process.wait(WAIT_S)
        assert process.stdout is not None
        process.stdout.close()


def capture(
    meter: Meter, enough: Callable[[], bool] = lambda: False
) -> tuple[list[Part], dict, MeterError | None]:
    """Parts, ledger, and what ended it before there was enough.

    ``enough`` is said of the instrument; what it sampled until then is read as well.
    """
    name, settings = meter.info.name, meter.settings()
    reader, decoder = reader_from(name, settings), decoder_from(name, settings)
    buffer, parts, ended = memoryview(bytearray(1 << 16)), [], None
    reader.start()
    limit, left = time.monotonic() + WAIT_S, _BEHIND_BYTES
    try:
        while left > 0:
            assert time.monotonic() < limit, "neither enough nor an end"
            time.sleep(0.003)
            got = reader.read_into(buffer)
            select.select([reader.fileno()], [], [], 0.1)
            over = enough()
            got += reader.read_into(buffer[got:])
            left -= got if over else 0
            parts += decoder.feed(bytes(buffer[:got]), time.monotonic_ns())
    except MeterError as error:
        ended = error
    finally:
        reader.stop()
        meter.close()
    parts += decoder.finish(time.monotonic_ns())
    return parts, decoder.ledger(), ended


def lost(parts: list[Part]) -> list[Gap]:
    return [part for part in parts if isinstance(part, Gap)]
