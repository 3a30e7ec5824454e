"""What the programs of emulated instruments share: options, and serving until ended."""

from __future__ import annotations

import argparse
import json
import math
import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

from waistline.errors import WaistlineError
from waistline_hostctl.emulators._faults import Truth, at_random, parse
from waistline_hostctl.emulators._line import Line
from waistline_hostctl.emulators._stream import Encoder, Stream

FIFO = 4096
_TICK_S = 0.002


class Emulated(ABC):
    """An instrument at the end of its line, with the faults and the truth of its program's options.

    Attributes:
        line: where its host is.
    """

    def __init__(self, options: argparse.Namespace, rate_hz: float) -> None:
        self.line = Line()
        self._options = options
        self._faults = [parse(text) for text in options.fault]
        length = round(options.random_seconds * rate_hz)
        self._faults += at_random(options.random_faults, length, options.seed)
        self._truth = Truth(options.truth)
        self._stream: Stream | None = None
        self._pending = b""

    @abstractmethod
    def obey(self) -> None:
        """Take whole commands out of ``_pending``."""

    def serve(self) -> None:
        """Until unplugged."""
        try:
            while self._stream is None or not self._stream.unplugged:
                self._pending += self.line.receive(_TICK_S if self._stream else 0.5)
                self.obey()
                if self._stream is not None:
                    self._stream.tick()
        finally:
            if self._stream is not None:
                self._stream.end()
            self._truth.close()
            self.line.close()

    def begin(self, encode: Encoder, rate_hz: float, sample_bytes: int) -> Stream:
        """Start to sample, by a clock that is fast as the options say."""
        self._stream = Stream(
            self.line,
            encode,
            rate_hz=rate_hz * (1 + self._options.ppm * 1e-6),
            fifo=self._options.fifo,
            sample_bytes=sample_bytes,
            faults=self._faults,
            truth=self._truth,
        )
        return self._stream

    def end(self) -> None:
        """Stop sampling."""
        if self._stream is not None:
            self._stream.end()
            self._stream = None


_EPILOG = """\
waveforms:
  constant:AMPERES  one current, such as constant:0.01
  device:FILE.json  a simulated device: its load, regulators and supply
  file:FILE.csv     a recorded current, repeated: two columns, seconds and amperes

faults, each before sample SAMPLE goes out:
  drop@SAMPLE:COUNT     so many samples are lost
  dup@SAMPLE:COUNT      so many go out twice
  byte@SAMPLE           one byte is lost on the line
  stall@SAMPLE:SECONDS  nothing goes out for so long
  unplug@SAMPLE         the instrument is gone
"""


def arguments(description: str) -> argparse.ArgumentParser:
    """Options that emulated instruments share."""
    parser = argparse.ArgumentParser(
        description=description,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--waveform", default="constant:0.01", help="see below")
    parser.add_argument("--fault", action="append", default=[], metavar="KIND@SAMPLE[:SIZE]",
                        help="see below; may be given again")  # fmt: skip
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
    opened: Callable[[argparse.Namespace], Emulated],
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
