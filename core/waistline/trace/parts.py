"""A stretch of trace as sums over at most 64 equal parts: all that its figures are made of.

The parts depend on nothing but how long the stretch is, so that the writer of a trace and whoever
reads it later find the same uncertainty.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import zip_longest

import msgspec
import numpy as np

from waistline.trace.base import Doubles

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
        span: samples in each part but the last, lost ones included; doubles when there are 64.
        size: samples of the stretch, lost ones included.
        done: one after the other.
    """

    span: int = 1
    size: float = 0
    done: list[Part] = []

    def cuts(self, count: int) -> list[int]:
        """Make room for the next ``count`` samples: where among them parts begin, and their end."""
        while self.size + count > PARTS * self.span:
            pairs = zip_longest(self.done[::2], self.done[1::2], fillvalue=Part())
            self.done = [first + second for first, second in pairs]
            self.span *= 2
        begins = range(int(-self.size % self.span), count, self.span)
        return [*begins, count] if begins.start == 0 else [0, *begins, count]

    def add(self, sizes: Iterable[int], rows: Iterable[Part]) -> None:
        """Append sums over the samples between each two of `cuts`."""
        for size, row in zip(sizes, rows, strict=True):
            if self.size % self.span:
                self.done[-1] += row
            else:
                self.done.append(row)
            self.size += size

    @property
    def total(self) -> Part:
        """Sums over everything."""
        return sum(self.done, Part())


def span_of(size: float) -> int:
    """Samples in each part of a stretch of so many: a power of two."""
    return 1 << max(0, math.ceil(size / PARTS) - 1).bit_length()


def edges_of(start: float, stop: float) -> Doubles:
    """Where the parts of a stretch begin, and its end; as `Parts` has them."""
    begins = np.arange(start, stop, span_of(stop - start), dtype=np.float64)
    # What is added up to a fraction may come out a rounding past the end.
    return np.concatenate([[start], begins[(begins > start) & (begins < stop)], [stop]])
