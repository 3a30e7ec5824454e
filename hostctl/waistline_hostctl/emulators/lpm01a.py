"""An emulated ST X-NUCLEO-LPM01A on a pseudo-terminal.

    python -m waistline_hostctl.emulators.lpm01a --waveform constant:0.003

prints one JSON line with its port and serves until it is ended. Its samples carry no number: what
its FIFO drops shows by time alone. The truth is logged as by the emulated PPK2.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
from numpy.typing import NDArray

from waistline_hostctl.emulators._faults import Truth, at_random, parse
from waistline_hostctl.emulators._line import Line
from waistline_hostctl.emulators._program import arguments, run
from waistline_hostctl.emulators._stream import Stream
from waistline_hostctl.simulated.waveform import Waveform, open_waveform

_TICK_S = 0.002
_PROMPT = b"PowerShield > "
_KNOWN = {"htc", "hrc", "volt", "freq", "format", "acqmode", "acqtime", "trigsrc", "funcmode"}


def binary(current_a: NDArray[np.float32]) -> NDArray[np.uint8]:
    """uint8 (n, 2): the largest twelve-bit mantissa that fits, rounded."""
    amps = np.clip(current_a.astype(np.float64), 0, 4095)
    with np.errstate(divide="ignore"):
        exponent = np.floor(np.log(4095 / np.maximum(amps, 1e-30)) / np.log(16))
    exponent = np.clip(exponent, 0, 14)
    mantissa = np.minimum(np.rint(amps * 16.0**exponent), 4095)
    words = (exponent.astype(np.uint16) << np.uint16(12)) | mantissa.astype(np.uint16)
    rows: NDArray[np.uint8] = words.astype(">u2").view(np.uint8).reshape(-1, 2)
    return rows


def text(current_a: NDArray[np.float32]) -> NDArray[np.uint8]:
    """uint8 (n, 9): four digits, an exponent of ten, CR LF."""
    rows = b"".join(_line(float(value)) for value in current_a)
    return np.frombuffer(rows, np.uint8).reshape(-1, 9)


def _line(value: float) -> bytes:
    digits, exponent = f"{max(0.0, value):.3e}".split("e")
    power = int(exponent) - 3
    if power < -99:
        return b"0000+00\r\n"
    return f"{digits.replace('.', '')}{power:+03d}\r\n".encode()


class Lpm01a:
    """The board at the end of its line."""

    def __init__(
        self, waveform: str, faults: list[str], fifo: int, truth: Truth, ppm: float = 0.0
    ) -> None:
        self.line = Line()
        self._waveform_name = waveform
        self._waveform: Waveform = open_waveform(waveform, 100_000.0)
        self._faults = [parse(fault) for fault in faults]
        self._fifo, self._truth, self._ppm = fifo, truth, ppm
        self._rate_hz = 100_000.0
        self._binary = True
        self._host = False
        self._stream: Stream | None = None
        self._began = 0
        self._pending = b""

    def add_random(self, count: int, seconds: float, seed: int) -> None:
        """Faults at random places, for the rate it has by default."""
        self._faults += at_random(count, round(seconds * self._rate_hz), seed)

    def serve(self) -> None:
        """Until unplugged."""
        try:
            while self._stream is None or not self._stream.unplugged:
                self._pending += self.line.receive(_TICK_S if self._stream else 0.5)
                *commands, self._pending = self._pending.split(b"\n")
                for command in commands:
                    self._command(command.decode("ascii", "replace").strip())
                if self._stream is not None:
                    self._stream.tick()
        finally:
            if self._stream is not None:
                self._stream.end()
            self._truth.close()
            self.line.close()

    def _command(self, command: str) -> None:
        verb, _, argument = command.partition(" ")
        if verb == "start" and self._host and self._stream is None:
            self.line.send(_PROMPT + b"ack start\r\n")
            self._begin()
            return
        if verb == "stop" and self._stream is not None:
            self._stream.end()
            self._stream = None
            self.line.send(b"\xf0\xf4\xff\xff" if self._binary else b"end\r\n")
            return
        good = verb in _KNOWN and (self._host or verb == "htc")
        if good and verb == "htc":
            self._host = True
        elif good and verb == "hrc":
            self._host = False
        elif good and verb == "freq":
            good = self._rate(argument)
        elif good and verb == "format":
            good = argument in ("bin_hexa", "ascii_dec")
            self._binary = argument == "bin_hexa"
        if command:
            self.line.send(_PROMPT + (b"ack " if good else b"err ") + command.encode() + b"\r\n")

    def _rate(self, argument: str) -> bool:
        number = argument.replace("k", "000")
        if not number.isdigit() or not 1 <= int(number) <= 100_000:
            return False
        self._rate_hz = float(number)
        self._waveform = open_waveform(self._waveform_name, self._rate_hz)
        return True

    def _begin(self) -> None:
        self._stream = Stream(
            self.line,
            self._encode,
            rate_hz=self._rate_hz * (1 + self._ppm * 1e-6),
            fifo=self._fifo,
            sample_bytes=2 if self._binary else 9,
            faults=self._faults,
            truth=self._truth,
        )
        self._stream.message = self._stamp

    def _encode(self, first: int, count: int) -> NDArray[np.uint8]:
        current = self._waveform.samples(first, count).current_a
        return binary(current) if self._binary else text(current)

    def _stamp(self, first: int) -> bytes:
        """A time stamp, sent before the first sample and after every second of them."""
        time_ms = round(first / self._rate_hz * 1000)
        if self._binary:
            return b"\xf0\xf3" + time_ms.to_bytes(4, "big") + b"\x00\xff\xff"
        return f"TimeStamp: {time_ms // 1000}s {time_ms % 1000}ms, buff 0%\r\n".encode()


def main(argv: list[str] | None = None) -> int:
    """Serve until ended."""
    options = arguments("An emulated X-NUCLEO-LPM01A.").parse_args(argv)
    return run("lpm01a", options, _opened)


def _opened(options: argparse.Namespace) -> Lpm01a:
    truth = Truth(options.truth)
    board = Lpm01a(options.waveform, options.fault, options.fifo, truth, options.ppm)
    board.add_random(options.random_faults, options.random_seconds, options.seed)
    return board


if __name__ == "__main__":
    sys.exit(main())
