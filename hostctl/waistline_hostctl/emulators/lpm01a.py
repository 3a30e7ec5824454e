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

from waistline_hostctl.emulators._program import Emulated, arguments, run
from waistline_hostctl.simulated.waveform import Waveform, open_waveform

_MOST_HZ = 100_000.0
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


class Lpm01a(Emulated):
    """The board at the end of its line; faults at random lie as at its highest rate."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options, _MOST_HZ)
        self._rate_hz = _MOST_HZ
        self._waveform: Waveform = open_waveform(options.waveform, _MOST_HZ)
        self._binary = True
        self._host = False

    def obey(self) -> None:
        *commands, self._pending = self._pending.split(b"\n")
        for command in commands:
            self._command(command.decode("ascii", "replace").strip())

    def _command(self, command: str) -> None:
        verb, _, argument = command.partition(" ")
        if verb == "start" and self._host and self._stream is None:
            self.line.send(_PROMPT + b"ack start\r\n")
            stream = self.begin(self._encode, self._rate_hz, 2 if self._binary else 9)
            stream.message = self._stamp
            return
        if verb == "stop" and self._stream is not None:
            self.end()
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
        self._waveform = open_waveform(self._options.waveform, self._rate_hz)
        return True

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
    return run("lpm01a", options, Lpm01a)


if __name__ == "__main__":
    sys.exit(main())
