"""What the programs of emulated instruments share: options, and serving until ended."""

from __future__ import annotations

import argparse
import json
import math
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from waistline.errors import WaistlineError
from waistline_hostctl.emulators._line import Line

FIFO = 4096


class Instrument(Protocol):
    """An emulated instrument at the end of its line."""

    line: Line

    def serve(self) -> None:
        """Until unplugged."""


def arguments(description: str) -> argparse.ArgumentParser:
    """Options that emulated instruments share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--waveform", default="constant:0.01", help="constant:A, device: or file:")
    parser.add_argument("--fault", action="append", default=[], metavar="KIND@SAMPLE[:SIZE]")
    parser.add_argument("--random-faults", type=int, default=0, metavar="N")
    parser.add_argument("--random-seconds", type=float, default=10.0, help="they lie before this")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fifo", type=int, default=FIFO, help="samples it holds")
    parser.add_argument("--ppm", type=float, default=0.0, help="its clock is fast by this")
    parser.add_argument("--truth", type=Path, help="write what truly happened here")
    parser.add_argument("--bad-metadata", action="store_true", help="answer with garbage")
    return parser


def run(
    name: str,
    options: argparse.Namespace,
    opened: Callable[[argparse.Namespace], Instrument],
) -> int:
    """Open the instrument, say where it is (one JSON line), and serve; its exit status."""
    if not (options.fifo > 0 and math.isfinite(options.ppm)):
        print("error: --fifo is over 0, --ppm a number", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        instrument = opened(options)
    except WaistlineError as error:
        print("\n".join(error.lines()), file=sys.stderr)
        return error.exit_code
    print(json.dumps({"instrument": name, "port": instrument.line.path}), flush=True)
    try:
        instrument.serve()
    except KeyboardInterrupt:
        return 130
    return 0
