"""Raw blocks of sources that are no instruments: a head, then one plane a signal.

The head says the first sample's id and how many there are, so that a loss is known to the sample.
float32 planes come first, in the order of the signals, then a uint8 plane of logic bits.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from waistline.errors import MeterError
from waistline.trace.base import FLOAT_SIGNALS, Block, Gap, GapKind
from waistline_hostctl.meters._ledger import Ledger, Loss
from waistline_hostctl.meters.base import Part

HEAD = struct.Struct("<QIHH")
"""First id, samples, 1 where they are a hole, its kind."""
_BOUNDS = struct.Struct("<qq")
"""Behind the head of a hole: the fewest and most samples it can be; negative is not said."""
_KINDS: tuple[GapKind, ...] = (
    "counter", "ring", "host-time", "resync", "unplug", "import", "damage",
)  # fmt: skip


class Form:
    """How blocks of some signals are laid out.

    Args:
        floats: names of the float signals.
        logic: whether there are logic bits.
    """

    def __init__(self, floats: Sequence[str], logic: bool) -> None:
        self.floats, self.logic = tuple(floats), logic
        self.sample_bytes = 4 * len(self.floats) + logic

    def size(self, count: int) -> int:
        """Bytes of a block."""
        return HEAD.size + -(-count * self.sample_bytes // 8) * 8

    def most(self, size_bytes: int) -> int:
        """Samples of the largest block that fits."""
        return max(0, (size_bytes - HEAD.size - 7) // self.sample_bytes)

    def put(
        self, buffer: memoryview, first: int, count: int, planes: Sequence[NDArray[np.generic]]
    ) -> int:
        """Write a block; its size. ``planes`` as the form has them, each of ``count`` samples."""
        HEAD.pack_into(buffer, 0, first, count, 0, 0)
        at = HEAD.size
        for plane in planes:
            raw = plane.view(np.uint8)
            np.frombuffer(buffer, np.uint8, len(raw), at)[:] = raw
            at += len(raw)
        return self.size(count)

    def put_gap(self, buffer: memoryview, gap: Gap) -> int:
        """Write a hole; its size."""
        HEAD.pack_into(buffer, 0, gap.first, gap.count, 1, _KINDS.index(gap.kind))
        bounds = (-1 if bound is None else bound for bound in (gap.low, gap.high))
        _BOUNDS.pack_into(buffer, HEAD.size, *bounds)
        return HEAD.size + _BOUNDS.size

    def block(self, raw: bytes | memoryview, at: int, first: int, count: int) -> Block:
        """The samples behind a head at ``at``; arrays that look into ``raw``."""
        at += HEAD.size
        found = {}
        for name in self.floats:
            key = f"{name}_{FLOAT_SIGNALS[name].lower()}"
            found[key] = np.frombuffer(raw, np.float32, count, at)
            at += 4 * count
        logic = np.frombuffer(raw, np.uint8, count, at) if self.logic else None
        return Block(first, logic=logic, **found)


class PlanarDecoder:
    """Raw blocks to blocks, with gaps where ids are missing."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._ledger = Ledger("counter")
        self._rest = b""
        self._next = 0
        self._skipped = False

    def feed(self, raw: bytes | memoryview, host_ns: int) -> list[Part]:
        data = self._rest + raw if self._rest else raw
        at, parts = 0, list[Part]()
        while at + HEAD.size <= len(data):
            first, count, hole, kind = HEAD.unpack_from(data, at)
            size = HEAD.size + _BOUNDS.size if hole else self._form.size(count)
            if first < self._next or kind >= len(_KINDS):
                raise MeterError("a block of samples is not where it should be", cause=f"{first}")
            if at + size > len(data):
                break
            if first > self._next:
                missing = first - self._next
                self._hole(parts, Gap(self._next, missing, "ring" if self._skipped else "counter"))
            self._skipped = False
            if hole:
                low, high = _BOUNDS.unpack_from(data, at + HEAD.size)
                gap = Gap(first, count, _KINDS[kind])
                self._hole(parts, replace(gap, low=low, high=high) if low >= 0 else gap)
            elif count:
                parts.append(self._form.block(data, at, first, count))
                self._next += count
                self._ledger.kept += count
            at += size
        self._rest = bytes(data[at:])
        return parts

    def skip(self, size_bytes: int, host_ns: int) -> list[Part]:
        # How many samples these bytes were, the next head tells.
        self._skipped = True
        return []

    def finish(self, host_ns: int) -> list[Part]:
        return []

    def ledger(self) -> dict[str, object]:
        return self._ledger.as_dict()

    def _hole(self, parts: list[Part], gap: Gap) -> None:
        parts.append(gap)
        low = gap.count if gap.low is None else gap.low
        high = gap.count if gap.high is None else gap.high
        self._ledger.hole(Loss(gap.first, gap.count, low, high, 0, gap.kind))
        self._next += gap.count
