"""Signals that come in messages of their own, each with an id of its first sample, put together.

A message is a head and its samples; the reader writes it as it comes, the decoder aligns. Ids count
the instrument's own fastest clock; each signal keeps every ``decimate``-th, the floats all the same
ones. Samples that any signal lacks are a hole for all. A float that is NaN was lost before it was
sent, and is one, too.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from waistline.errors import MeterError
from waistline.trace.base import FLOAT_SIGNALS, Block, Gap
from waistline_hostctl.meters._ledger import Ledger, Loss
from waistline_hostctl.meters.base import Part

HEAD = struct.Struct("<HHIQ")
"""Number of the signal, decimation, size of what follows in bytes, id of its first sample."""
MOST_BYTES = 1 << 22
_EARLY = 4096
"""Messages of bits before the first float, of which more are dropped."""
_PATIENCE_S = 2.0
"""A signal that stays back by so much has lost what it lacks."""


def message(lane: int, decimate: int, first: int, data: NDArray[np.generic]) -> bytes:
    """A message; ``data`` is float32, or uint8 of eight bits each, the first one lowest."""
    raw = np.ascontiguousarray(data).tobytes()
    return HEAD.pack(lane, decimate, len(raw), first) + raw


class Lane:
    """The samples of one signal that are still needed."""

    def __init__(self) -> None:
        self._chunks: deque[tuple[int, NDArray[np.generic]]] = deque()
        self.end = 0

    def put(self, first: int, values: NDArray[np.generic]) -> None:
        """Append; what came before is not taken again."""
        double = max(0, self.end - first)
        if double < len(values):
            self._chunks.append((first + double, values[double:]))
            self.end = first + len(values)

    def run(self, place: int) -> tuple[int, int] | None:
        """(start, stop) of the first samples from ``place`` on that are there without a hole."""
        while self._chunks and self._chunks[0][0] + len(self._chunks[0][1]) <= place:
            self._chunks.popleft()
        if not self._chunks:
            return None
        start = stop = self._chunks[0][0]
        for first, values in self._chunks:
            if first != stop:
                break
            stop = first + len(values)
        return max(start, place), stop

    def take(self, start: int, stop: int) -> NDArray[np.generic]:
        """Samples that `run` has told of."""
        parts = []
        for first, values in self._chunks:
            if first >= stop:
                break
            parts.append(values[max(0, start - first) : stop - first])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


class LaneDecoder:
    """Messages to blocks and gaps.

    Args:
        floats: names of the float signals, which are the first lanes.
        bits: numbers of the logic bits, which are the others.
        rate_hz: of the floats.
    """

    def __init__(self, floats: Sequence[str], bits: Sequence[int], rate_hz: float) -> None:
        self._floats, self._bits = tuple(floats), tuple(bits)
        self._lanes = [Lane() for _ in range(len(floats) + len(bits))]
        self._patience = int(_PATIENCE_S * rate_hz)
        self._ledger = Ledger("counter")
        self._rest = b""
        self._early: deque[tuple[int, int, int, bytes]] = deque(maxlen=_EARLY)
        self._decimate = 0
        self._base: int | None = None
        self._next = 0
        self._skipped = False

    def feed(self, raw: bytes | memoryview, host_ns: int) -> list[Part]:
        data = self._rest + bytes(raw)
        at = 0
        while at + HEAD.size <= len(data):
            lane, decimate, size, first = HEAD.unpack_from(data, at)
            if lane >= len(self._lanes) or not decimate or size > MOST_BYTES:
                raise MeterError("a message of samples is damaged", cause=f"signal {lane}, {size}")
            if at + HEAD.size + size > len(data):
                break
            self._take(lane, decimate, first, data[at + HEAD.size : at + HEAD.size + size])
            at += HEAD.size + size
        self._rest = data[at:]
        return self._aligned()

    def skip(self, size_bytes: int, host_ns: int) -> list[Part]:
        # How many samples these bytes were, the next ids tell.
        self._skipped = True
        return []

    def finish(self, host_ns: int) -> list[Part]:
        return self._aligned()

    def ledger(self) -> dict[str, object]:
        return self._ledger.as_dict()

    def _take(self, lane: int, decimate: int, first: int, raw: bytes) -> None:
        if lane < len(self._floats):
            if not self._decimate:
                self._decimate = decimate
                while self._early:
                    self._take_bits(*self._early.popleft())
            if decimate != self._decimate:
                raise MeterError(
                    "the meter changed its rate", cause=f"one of {decimate}, not {self._decimate}"
                )
            self._lanes[lane].put(first // decimate, np.frombuffer(raw, "<f4"))
        elif self._decimate:
            self._take_bits(lane, decimate, first, raw)
        else:
            self._early.append((lane, decimate, first, raw))

    def _take_bits(self, lane: int, decimate: int, first: int, raw: bytes) -> None:
        values = np.unpackbits(np.frombuffer(raw, np.uint8), bitorder="little")
        ours = self._decimate
        if decimate <= ours:
            # The bit at the beginning of each sample.
            values = values[-first % ours // decimate :: ours // decimate]
            self._lanes[lane].put(-(-first // ours), values)
        else:
            self._lanes[lane].put(first // ours, np.repeat(values, decimate // ours))

    def _aligned(self) -> list[Part]:
        parts: list[Part] = []
        while True:
            runs = [lane.run(self._next) for lane in self._lanes]
            found = [run for run in runs if run is not None]
            if len(found) < len(runs):
                newest = max(lane.end for lane in self._lanes)
                if self._base is None or newest - self._next <= self._patience:
                    return parts
                # One signal fell silent: what the others have is no whole sample.
                self._gap(parts, newest - self._patience - self._next)
                continue
            start, stop = max(first for first, _ in found), min(end for _, end in found)
            if self._base is None:
                self._base = self._next = start
            elif start > self._next:
                self._gap(parts, start - self._next)
            if stop > start:
                self._block(parts, start, stop)

    def _block(self, parts: list[Part], start: int, stop: int) -> None:
        taken = [lane.take(start, stop) for lane in self._lanes]
        floats = [values.astype(np.float32, copy=False) for values in taken[: len(self._floats)]]
        logic = np.zeros(stop - start, np.uint8)
        for bit, values in zip(self._bits, taken[len(floats) :], strict=True):
            logic |= values.astype(np.uint8) << np.uint8(bit)
        lost = np.isnan(floats[0])
        for values in floats[1:]:
            lost |= np.isnan(values)
        edges = np.flatnonzero(np.diff(lost)) + 1 if lost.any() else np.empty(0, np.int64)
        borders = [0, *edges.tolist(), stop - start]
        for low, high in pairwise(borders):
            if lost[low]:
                self._gap(parts, high - low)
                continue
            names = [f"{name}_{FLOAT_SIGNALS[name].lower()}" for name in self._floats]
            found = {name: values[low:high] for name, values in zip(names, floats, strict=True)}
            bits = logic[low:high] if self._bits else None
            parts.append(Block(self._place, logic=bits, **found))
            self._ledger.kept += high - low
            self._next += high - low

    @property
    def _place(self) -> int:
        """Id of the next sample in the trace, which begins with the first whole one."""
        return self._next - (self._base or 0)

    def _gap(self, parts: list[Part], count: int) -> None:
        gap = Gap(self._place, count, "ring" if self._skipped else "counter")
        parts.append(gap)
        self._ledger.hole(Loss(gap.first, count, count, count, 0, gap.kind))
        self._skipped = False
        self._next += count
