"""Reads whose samples are held back, and what they tell together about the floor behind a loss."""

from __future__ import annotations

from dataclasses import dataclass

from waistline_hostctl.meters._floor import PARTS, Floor
from waistline_hostctl.meters._place import Places

JITTER = 16.0
UNCERTAINTY = 32.0
IN_A_ROW = 3
_READS = 5


@dataclass(frozen=True, slots=True)
class Read:
    """``received`` samples had come at ``time``, which is in samples, too."""

    received: int
    time: float


class Reads:
    """Held back, oldest first.

    Args:
        floor: before the loss.
        places: of the samples so far.

    Attributes:
        held: the reads.
    """

    def __init__(self, floor: Floor, places: Places) -> None:
        self._floor, self._places = floor, places
        self.held: list[Read] = []

    def late(self, read: Read) -> float:
        """Samples that it came above the floor, were nothing lost."""
        return read.time - read.received - self._places.shift - self._floor.at(read.time)

    @property
    def waited(self) -> float:
        """Time from the oldest to the newest."""
        return self.held[-1].time - self.held[0].time if self.held else 0.0

    @property
    def newest(self) -> Read:
        return self.held[-1]

    def least_late(self, after: int = -1) -> float | None:
        """Of those that end past a received sample; None: there is none."""
        return min((self.late(read) for read in self.held if read.received > after), default=None)

    def floor_after(self, now: float, window: float) -> tuple[float, float] | None:
        """How much the floor rose, and how well the parts of the window agree on it."""
        after = self._places.steps[-1].at if self._places.steps else -1
        parts: dict[int, float] = {}
        lates: list[float] = []
        for read in reversed(self.held):
            age = now - read.time
            if age >= window or read.received <= after:
                break
            late = self.late(read)
            lates.append(late)
            part = int(age * PARTS / window)
            parts[part] = min(late, parts.get(part, late))
        if len(parts) < PARTS - 1 or len(lates) < _READS:
            return None
        least = sorted(parts.values())
        lates.sort()
        return least[0], max(least[PARTS - 2] - least[0], lates[_READS - 1] - lates[0])

    def proven(self, total: int) -> int:
        """First received sample that certainly follows the whole loss."""
        known = self._places.known
        after = self._places.steps[-1].at if self._places.steps else self._places.done
        row = 0
        found: int | None = None
        for read in self.held:
            late = self.late(read) - total - known
            row = row + 1 if read.received > after and abs(late) <= 2 * JITTER else 0
            if late < -UNCERTAINTY:
                found = None
            elif row >= IN_A_ROW and found is None:
                found = read.received
        return self.newest.received if found is None else found
