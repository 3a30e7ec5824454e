"""The highest rate of the simulated device that a capture holds. Part of benchmarks/capture.py."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from capture_processes import Budget, measure

LADDER_HZ = (4e6, 8e6, 16e6, 32e6)
PROBE_S = 12.0
"""Longer than the ring can hide."""
_CLOSE_S = 25.0
"""What a trace may take to be closed, beside its seconds."""
_SAMPLE_BYTES = 13
_STEP_HZ = 1e6
_SPARE = 1.3


def sim(rate_hz: float, seconds: float, folder: Path, budget: Budget) -> dict[str, Any]:
    """The simulated device at one rate; a capture that does not end is ended, and held nothing."""
    path = folder / "sim.jls"
    limit = Budget(min(budget.left_s, seconds + _CLOSE_S))
    rate = ("--meter", "sim", "--meter-option", f"rate={rate_hz:.0f}")
    found = measure(path, seconds, limit, *rate)
    size = path.stat().st_size if path.exists() else 0
    path.unlink(missing_ok=True)
    row = found.row() | {"rate_hz": rate_hz, "size_bytes": size}
    return row | {"held": not row["missing"] and row["code"] == 0}


def rates(
    seconds: float, folder: Path, budget: Budget, show: Callable[[dict[str, Any]], None]
) -> tuple[list[dict[str, Any]], float]:
    """Rates tried, and the highest that was held for so many seconds; 0 for none.

    Up the ladder, briefly, until one loses; one more halfway between the last two; then the best
    of these for the whole time, or the next below it.
    """
    tried: list[dict[str, Any]] = []

    def probe(rate_hz: float, time_s: float) -> bool:
        room = shutil.disk_usage(folder).free > _SPARE * rate_hz * time_s * _SAMPLE_BYTES
        if not room or budget.left_s < time_s + _CLOSE_S / 2:
            return False
        tried.append(sim(rate_hz, time_s, folder, budget))
        show(tried[-1])
        return bool(tried[-1]["held"])

    brief_s = min(PROBE_S, seconds)
    good: list[float] = []
    for rate_hz in LADDER_HZ:
        if not probe(rate_hz, brief_s):
            middle_hz = (rate_hz + good[-1]) / 2 // _STEP_HZ * _STEP_HZ if good else rate_hz / 2
            good += [middle_hz] if probe(middle_hz, brief_s) else []
            break
        good.append(rate_hz)
    for rate_hz in reversed(good):
        if probe(rate_hz, seconds):
            return tried, rate_hz
    return tried, 0.0
