"""The PPK2's calibration: a text it sends on request, and the table made of it.

amps = UG * (g * (GS * g + GI) + (S * VDD + I)),  g = (4 * adc - O) * (1.8 / 163840) / R[range]
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from waistline.errors import MeterError

RANGES = 5
MAX_BYTES = 4096
_ADC = 1 << 14
_MULTIPLIER = 1.8 / 163840
_PER_RANGE = ("R", "GS", "GI", "O", "S", "I", "UG")
_SINGLE = ("VDD", "HW", "mode", "IA", "Calibrated")
_MAX = 1e12
_MOST_V = 5.0


@dataclass(frozen=True)
class Calibration:
    """Constants of one instrument, by key (``R0`` .. ``UG4``, ``VDD``); all finite."""

    values: Mapping[str, float]

    def row(self, key: str) -> list[float]:
        """Constants ``key``0 .. ``key``4."""
        return [self.values[f"{key}{index}"] for index in range(RANGES)]

    def table(self, supply_v: float) -> NDArray[np.float64]:
        """float64 (131072,): amperes by the low 17 bits of a sample (ADC and range)."""
        adc = 4.0 * np.arange(_ADC)
        rows = []
        rows_of = {key: self.row(key) for key in _PER_RANGE}
        for index in range(RANGES):
            r, gs, gi, o, s, i, ug = (rows_of[key][index] for key in _PER_RANGE)
            g = (adc - o) * (_MULTIPLIER / r)
            rows.append(ug * (g * (gs * g + gi) + (s * supply_v + i)))
        # Ranges 5 to 7 do not exist and mean 4.
        return np.concatenate([*rows, rows[4], rows[4], rows[4]])


def parse(text: bytes) -> Calibration:
    """Read the instrument's answer to the metadata command.

    Raises:
        MeterError: it is too long, incomplete, or holds what cannot be a calibration.
    """
    if len(text) > MAX_BYTES:
        raise _bad(f"it is over {MAX_BYTES} bytes long")
    known = {*(f"{key}{index}" for key in _PER_RANGE for index in range(RANGES)), *_SINGLE}
    values: dict[str, float] = {}
    for line in text.decode("ascii", "replace").split("END", 1)[0].splitlines():
        key, colon, number = line.partition(":")
        if colon and key.strip() in known:
            values[key.strip()] = _number(key.strip(), number)
    missing = sorted(known - values.keys() - {"HW", "mode", "IA", "Calibrated"})
    if missing:
        raise _bad(f"it has no {', '.join(missing[:4])}")
    zero = [key for key in values if key.startswith("R") and values[key] <= 0]
    if zero:
        raise _bad(f"{zero[0]} is {values[zero[0]]}, a resistor in ohm")
    found = Calibration(values)
    with np.errstate(over="ignore", invalid="ignore"):
        most = np.abs(found.table(_MOST_V)).max()
    if not most <= _MAX:
        raise _bad(f"it makes currents of up to {most:.3g} A")
    return found


def _number(key: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) <= _MAX:
        raise _bad(f"{key} is {text.strip()[:40]!r}")
    return value


def _bad(cause: str) -> MeterError:
    return MeterError(
        "the PPK2's calibration cannot be used",
        cause=cause,
        fix="unplug it and plug it in again; if it stays, calibrate it with its maker's program",
    )
