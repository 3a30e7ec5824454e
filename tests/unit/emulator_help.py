"""Emulated instruments as processes, and a capture of a few seconds without a ring."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from waistline.errors import MeterError
from waistline.trace.base import Gap
from waistline_hostctl.meters.base import Meter, Part


@dataclass
class Emulated:
    """An emulated instrument that runs."""

    port: str
    truth_file: Path

    def truth(self, event: str) -> list[dict]:
        rows = map(json.loads, self.truth_file.read_text().splitlines())
        return [row for row in rows if row["event"] == event]


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
        process.wait(20)
        assert process.stdout is not None
        process.stdout.close()


def capture(meter: Meter, duration_s: float) -> tuple[list[Part], dict, MeterError | None]:
    """Parts, ledger, and what ended it early."""
    reader, decoder = meter.reader(), meter.decoder()
    buffer, parts, ended = memoryview(bytearray(1 << 16)), [], None
    reader.start()
    end = time.monotonic() + duration_s
    try:
        while time.monotonic() < end:
            time.sleep(0.003)
            got = reader.read_into(buffer)
            select.select([reader.fileno()], [], [], 0.1)
            got += reader.read_into(buffer[got:])
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
