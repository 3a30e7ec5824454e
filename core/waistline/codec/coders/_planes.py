"""The planes of a tensor's codes: what lies beside what, for coders that look at neighbours."""

from __future__ import annotations

import math
from dataclasses import dataclass

from waistline.codec.coders.base import CodeShape
from waistline.codec.pack import Codes


@dataclass(frozen=True, slots=True)
class Planes:
    """How the codes lie; `waist_ctx` in core/c/waist.h."""

    planes: int
    rows: int
    columns: int
    interleaved: bool
    bits: int

    @property
    def count(self) -> int:
        return self.planes * self.rows * self.columns

    def view(self, codes: Codes) -> Codes:
        """(planes, rows, columns) on the codes of the stream."""
        if self.interleaved:
            return codes.reshape(self.rows, self.columns, self.planes).transpose(2, 0, 1)
        return codes.reshape(self.planes, self.rows, self.columns)


def planes_of(shape: CodeShape) -> Planes:
    """The planes whose rows and columns are neighbours.

    A channel axis in front of others gives a plane per channel (and per outer index); the last
    axis as channel axis gives interleaved planes; without one the last axis is the columns.
    """
    axis, sizes = shape.channel_axis, shape.shape
    channels = 1 if axis is None else sizes[axis]
    inner = sizes if axis is None else sizes[axis + 1 :]
    interleaved = axis is not None and not inner
    if interleaved:
        inner = sizes[:-1]
    columns = inner[-1] if inner else 1
    rows = math.prod(inner[:-1])
    outer = 1 if axis is None or interleaved else math.prod(sizes[:axis])
    return Planes(outer * channels, rows, columns, interleaved, shape.bits)
