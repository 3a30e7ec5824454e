"""Sums over a trace while it is written, and its parts cut to where it ends."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from itertools import pairwise

import numpy as np

from waistline.errors import MeterError
from waistline.trace.accuracy import Part, Parts
from waistline.trace.base import Block, Gap
from waistline.trace.sums import part_sums


@dataclass
class Sums:
    """Running sums; float64.

    Attributes:
        parts: over what is there.
        samples: ids so far, lost ones included.
        missing: of these, lost.
    """

    parts: Parts
    samples: int = 0
    missing: int = 0

    def block(self, block: Block, supply_v: float | None) -> None:
        """Add a block.

        Raises:
            MeterError: its sums are not finite.
        """
        count = len(block)
        current, power, voltage = block.current_a, block.power_w, block.voltage_v
        with np.errstate(over="ignore"):
            if power is None and current is not None and voltage is not None:
                power = current * voltage
        columns = {"current": current, "voltage": voltage, "power": power}
        cuts = np.array(self.parts.cuts(count), np.int64)
        there = np.diff(cuts).astype(float)
        sums = {}
        for name, values in columns.items():
            if values is not None:
                sums[name], there = part_sums(values, cuts)
                if there.sum() < count and np.isinf(values).any():
                    raise self._beyond(count)
        if power is None and current is not None and supply_v is not None:
            sums["power"] = sums["current"] * supply_v
        names = ["count", *sums]
        rows = zip(there.tolist(), *(one.tolist() for one in sums.values()), strict=True)
        parts = [Part(**dict(zip(names, row, strict=True))) for row in rows]
        self.parts.add(np.diff(cuts).tolist(), parts)
        self.samples += count

    def _beyond(self, count: int) -> MeterError:
        return MeterError(
            "the meter's values are beyond all bounds",
            cause=f"{count} samples from {self.samples} on have no finite sum",
            fix="see its gain, offset and shunt in the bench file",
        )

    def gap(self, gap: Gap) -> None:
        """Add a hole."""
        cuts = self.parts.cuts(gap.count)
        self.parts.add([end - start for start, end in pairwise(cuts)], [Part()] * (len(cuts) - 1))
        self.samples += gap.count
        self.missing += gap.count


def size(part: Block | Gap) -> int:
    """Ids it takes."""
    return part.count if isinstance(part, Gap) else len(part)


def begin(part: Block | Gap, count: int) -> Block | Gap:
    """The first ``count`` ids of it; of uncertain size where it is."""
    if isinstance(part, Block):
        values = {one.name: getattr(part, one.name) for one in fields(part) if one.name != "first"}
        return Block(
            part.first,
            **{name: None if one is None else one[:count] for name, one in values.items()},
        )
    if part.low is None or part.high is None:
        return replace(part, count=count)
    return replace(part, count=count, low=min(part.low, count))
