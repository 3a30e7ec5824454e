"""A stretch of trace as sums over at most 64 equal parts: all that its figures are made of."""

from __future__ import annotations

import msgspec

PARTS = 64
"""That a stretch is cut into, at most."""


class Part(msgspec.Struct, frozen=True, array_like=True):
    """Sums over consecutive samples; lost ones are not among them.

    Attributes:
        count: samples that are there.
        current, voltage, power: sums of samples, SI; 0.0 where there is no such signal.
    """

    count: float = 0.0
    current: float = 0.0
    voltage: float = 0.0
    power: float = 0.0

    def __add__(self, other: Part) -> Part:
        return Part(
            self.count + other.count,
            self.current + other.current,
            self.voltage + other.voltage,
            self.power + other.power,
        )


class Parts(msgspec.Struct):
    """A stretch cut into at most 64 parts of equal size, however long it gets.

    Attributes:
        span: samples in each part but the last; doubles when there are 64.
        done: parts that are full.
        last: the one that grows.
    """

    span: int
    done: list[Part] = []
    last: Part = Part()

    def add(self, part: Part) -> None:
        """Append sums over the samples that come next, at most ``span`` of them or so."""
        self.last += part
        if self.last.count >= self.span:
            self.done.append(self.last)
            self.last = Part()
        if len(self.done) >= PARTS:
            pairs = zip(self.done[::2], self.done[1::2], strict=True)
            self.done = [first + second for first, second in pairs]
            self.span *= 2

    @property
    def total(self) -> Part:
        """Sums over everything."""
        return sum(self.done, self.last)
