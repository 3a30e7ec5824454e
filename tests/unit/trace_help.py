"""Small traces to test with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from waistline.evidence import Evidence
from waistline.trace.base import SIGNALS, Annotation, Block, Gap, TraceSpec
from waistline.trace.store import create

UTC_NS = 1_700_000_000_123_456_789
NAMES = ("current", "voltage", "power", "d0", "d3")


def spec_of(*names: str, rate_hz: float = 100_000.0, supply_v: float | None = None) -> TraceSpec:
    return TraceSpec(
        rate_hz=rate_hz,
        signals=tuple(SIGNALS[name] for name in names or NAMES),
        source="test:1",
        evidence=Evidence.SIMULATED,
        start_utc_ns=UTC_NS,
        supply_v=supply_v,
    )


@dataclass
class Made:
    """A trace on disk and what was put into it."""

    path: Path
    power: np.ndarray
    logic: np.ndarray
    gaps: list[Gap]
    notes: list[Annotation]


def make(
    path: Path,
    seed: int = 0,
    blocks: int = 12,
    rate_hz: float = 100_000.0,
    largest: int = 30_000,
    ledger: bytes = b'{"lost":0}',
) -> Made:
    """Blocks of random sizes with gaps between some, every bit pattern and constant stretches."""
    random = np.random.default_rng(seed)
    made = Made(path, np.zeros(0), np.zeros(0), [], [])
    power, logic = [], []
    with create(path, spec_of(rate_hz=rate_hz)) as writer:
        for number in range(blocks):
            first = writer.next_sample
            size = int(random.integers(1, largest))
            values = random.normal(1, 0.2, size).astype(np.float32)
            bits = np.full(size, 8 if number % 5 == 1 else 0, np.uint8)
            if number % 3 == 0:
                bits = random.integers(0, 2, size, np.uint8)
            writer.write(Block(first, values / 5, np.full(size, 5, np.float32), values, bits))
            power.append(values)
            logic.append(bits)
            if number % 4 == 2:
                gap = Gap(writer.next_sample, int(random.integers(1, 5000)), "counter")
                writer.gap(gap)
                made.gaps.append(gap)
                power.append(np.full(gap.count, np.nan, np.float32))
                logic.append(np.zeros(gap.count, np.uint8))
            note = Annotation(first + 0.25, "segment", f"layer {number}", first + size - 0.5)
            writer.annotate(note)
            made.notes.append(note)
            writer.utc(first, UTC_NS + round(first / rate_hz * 1e9))
        writer.user_data(b'{"name": "run"}')
        writer.close(ledger)
    made.power, made.logic = np.concatenate(power), np.concatenate(logic)
    return made
