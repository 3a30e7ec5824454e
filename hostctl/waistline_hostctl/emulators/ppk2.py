"""An emulated Nordic Power Profiler Kit II on a pseudo-terminal.

    python -m waistline_hostctl.emulators.ppk2 --waveform constant:0.01

prints one JSON line with its port and serves until it is ended. It knows the wire format on its
own (it shares no code with the decoder), has a FIFO that drops while its counter runs on, switches
ranges with hysteresis, and logs the truth (``--truth FILE``, JSON lines).
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
from numpy.typing import NDArray

from waistline_hostctl.emulators._program import Emulated, arguments, run
from waistline_hostctl.simulated.waveform import Waveform, open_waveform

RATE_HZ = 100_000
_ARGUMENTS = {0x0C: 1, 0x0D: 2, 0x11: 1, 0x25: 5}
"""Bytes that follow a command; others have none."""
_UP_A = np.array([5e-5, 5e-4, 5e-3, 6e-2])
_DOWN_A = 0.8 * _UP_A
_OHM = (1031.64, 101.65, 10.15, 0.94, 0.043)
_GS = (0.9, 1.1, 1.2, 0.95, 0.02)
_GI = (1.0, 0.97, 1.01, 0.98, 0.99)
_O = (112.86, 80.54, 0.0, 62.48, 81.96)
_S = (1.2e-8, 2.3e-7, 5.4e-6, 5.2e-5, 7.3e-4)
_I = (-1.4e-8, -3.1e-7, -8.6e-6, -6.9e-5, -9.3e-4)
_UG = (1.0, 1.0, 1.002, 1.0, 0.998)


class Instrument:
    """Turns currents into words, as the instrument's converter does.

    Args:
        waveform: what is in the supply line.
    """

    def __init__(self, waveform: Waveform) -> None:
        self._waveform = waveform
        self._range = 0
        self.supply_v = 3.3
        self.on = False
        self.source = False

    def metadata(self) -> bytes:
        """The answer to the metadata command."""
        columns = {"R": _OHM, "GS": _GS, "GI": _GI, "O": _O, "S": _S, "I": _I, "UG": _UG}
        rows = ["Calibrated: 0"]
        rows += [
            f"{key}{n}: {v!r}" for key, values in columns.items() for n, v in enumerate(values)
        ]
        rows += [f"VDD: {round(self.supply_v * 1000)}", "HW: 9173", f"mode: {2 - self.source}"]
        return "\n".join([*rows, "IA: 56", "END", ""]).encode()

    def encode(self, first: int, count: int) -> NDArray[np.uint8]:
        """Words of samples ``first`` .. ``first + count``, uint8 (count, 4)."""
        seen = self._waveform.samples(first, count)
        current = seen.current_a.astype(np.float64) * (1.0 if self.on else 0.0)
        ranges = self._ranges(current)
        words = (self._codes(current, ranges) | (ranges << 14)).astype(np.uint32)
        words |= ((first + np.arange(count)) & 63).astype(np.uint32) << np.uint32(18)
        words |= seen.logic.astype(np.uint32) << np.uint32(24)
        return words.astype("<u4").view(np.uint8).reshape(count, 4)

    def _ranges(self, current: NDArray[np.float64]) -> NDArray[np.int64]:
        """Up at once, down only below 0.8 of where it went up."""
        least = np.searchsorted(_UP_A, current)
        most = np.searchsorted(_DOWN_A, current)
        ranges = np.empty(len(current), np.int64)
        begin = 0
        changes = np.flatnonzero((np.diff(least) != 0) | (np.diff(most) != 0)) + 1
        for end in [*changes.tolist(), len(current)]:
            self._range = min(max(self._range, int(least[begin])), int(most[begin]))
            ranges[begin:end] = self._range
            begin = end
        return ranges

    def _codes(self, current: NDArray[np.float64], ranges: NDArray[np.int64]) -> NDArray[np.int64]:
        """The ADC code whose calibrated value is nearest to the current."""
        gs, gi, ohm, zero, s, i, ug = (
            np.array(values)[ranges] for values in (_GS, _GI, _OHM, _O, _S, _I, _UG)
        )
        rest = s * self.supply_v + i - current / ug
        root = np.sqrt(np.maximum(gi * gi - 4 * gs * rest, 0.0))
        volts = -2 * rest / (gi + root)
        codes = np.rint((volts * ohm * (163840 / 1.8) + zero) / 4)
        return np.asarray(np.clip(codes, 0, (1 << 14) - 1), np.int64)


class Ppk2(Emulated):
    """The instrument at the end of its line."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options, RATE_HZ)
        self._instrument = Instrument(open_waveform(options.waveform, RATE_HZ))

    def obey(self) -> None:
        while self._pending:
            command = self._pending[0]
            size = 1 + _ARGUMENTS.get(command, 0)
            if len(self._pending) < size:
                return
            arguments, self._pending = self._pending[1:size], self._pending[size:]
            self._command(command, arguments)

    def _command(self, command: int, arguments: bytes) -> None:
        if command == 0x19:
            noise = b"R0: nan\nGS1: \xff\xfe\nO0: 1e999\nEND\n"
            self.line.send(noise if self._options.bad_metadata else self._instrument.metadata())
        elif command == 0x06 and self._stream is None:
            self.begin(self._instrument.encode, RATE_HZ, 4)
        elif command in (0x07, 0x20):
            self.end()
        elif command == 0x0C:
            self._instrument.on = arguments[0] == 1
        elif command == 0x0D:
            millivolt = (arguments[0] - 3) * 256 + arguments[1] - 32 + 800
            self._instrument.supply_v = min(5000, max(800, millivolt)) / 1000
        elif command == 0x11:
            self._instrument.source = arguments[0] == 2


def main(argv: list[str] | None = None) -> int:
    """Serve until ended."""
    options = arguments("An emulated Power Profiler Kit II.").parse_args(argv)
    return run("ppk2", options, Ppk2)


if __name__ == "__main__":
    sys.exit(main())
