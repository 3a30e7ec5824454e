"""A bad line, for tests and for finding out what a line may do: damages and paces bytes.

It lies between the client and a board. QEMU neither loses bytes nor has a rate, so a test on it
without this shows nothing about a real serial line.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

from waistline_bridge.boards.base import Line


@dataclass(frozen=True, slots=True)
class Damage:
    """Chances: of each bit to flip, of each byte to get lost, of a byte to appear behind one."""

    flip: float = 0.0
    drop: float = 0.0
    insert: float = 0.0

    def apply(self, data: bytes, random_source: random.Random) -> bytes:
        """``data`` as it arrives."""
        if not data:
            return data
        damaged = bytearray(data)
        for bit in _hits(8 * len(data), self.flip, random_source):
            damaged[bit // 8] ^= 1 << bit % 8
        lost = set(_hits(len(data), self.drop, random_source))
        added = set(_hits(len(data), self.insert, random_source))
        if not lost and not added:
            return bytes(damaged)
        out = bytearray()
        for at, byte in enumerate(damaged):
            if at not in lost:
                out.append(byte)
            if at in added:
                out.append(random_source.randrange(256))
        return bytes(out)


def _hits(count: int, chance: float, random_source: random.Random) -> list[int]:
    """Which of ``count`` independent trials succeed; drawn by the gaps, so rare ones are cheap."""
    if chance <= 0.0:
        return []
    hits: list[int] = []
    at = -1
    while True:
        at += 1 + int(random_source.expovariate(chance)) if chance < 1.0 else 1
        if at >= count:
            return hits
        hits.append(at)


class BadLine:
    """A `Line` that damages what passes, both ways, and keeps it to a rate.

    Attributes:
        rate_bps: bits per second, ten for a byte as on a UART; 0: no limit.
    """

    def __init__(
        self,
        line: Line,
        damage: Damage,
        *,
        seed: int,
        rate_bps: float = 0.0,
    ) -> None:
        self.name = f"{line.name}, damaged"
        self.rate_bps = rate_bps
        self._line = line
        self._damage = damage
        self._random = random.Random(seed)

    def send(self, data: bytes) -> None:
        self._pace(data)
        self._line.send(self._damage.apply(data, self._random))

    def receive(self, timeout_s: float) -> bytes:
        data = self._line.receive(timeout_s)
        self._pace(data)
        return self._damage.apply(data, self._random)

    def close(self) -> None:
        self._line.close()

    def _pace(self, data: bytes) -> None:
        if self.rate_bps:
            time.sleep(10 * len(data) / self.rate_bps)
