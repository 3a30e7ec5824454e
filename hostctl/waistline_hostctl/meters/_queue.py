"""Decoded samples that wait for their ids."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from waistline.trace.base import Block, Gap
from waistline_hostctl.meters._place import Run
from waistline_hostctl.meters.base import Part


class Queue:
    """Currents and logic in the order they came, addressed by how many came before."""

    def __init__(self) -> None:
        self._parts: deque[tuple[NDArray[np.float32], NDArray[np.uint8] | None]] = deque()
        self._start = 0

    def put(self, current_a: NDArray[np.float32], logic: NDArray[np.uint8] | None) -> None:
        """Append; the arrays are kept."""
        self._parts.append((current_a, logic))

    def parts(self, decided: list[Run | Gap]) -> list[Part]:
        """Blocks and gaps for what was decided; samples before a run are dropped."""
        out: list[Part] = []
        for one in decided:
            if isinstance(one, Gap):
                if one.count:
                    out.append(one)
            else:
                self._drop(one.start - self._start)
                out.extend(self._take(one.stop - one.start, one.first))
        return out

    def _drop(self, count: int) -> None:
        self._start += count
        while count:
            current, logic = self._parts.popleft()
            if count < len(current):
                self._parts.appendleft((current[count:], None if logic is None else logic[count:]))
                return
            count -= len(current)

    def _take(self, count: int, first: int) -> list[Block]:
        self._start += count
        out = []
        while count:
            current, logic = self._parts.popleft()
            if count < len(current):
                rest = current[count:], None if logic is None else logic[count:]
                self._parts.appendleft(rest)
                current, logic = current[:count], None if logic is None else logic[:count]
            out.append(Block(first, current_a=current, logic=logic))
            first += len(current)
            count -= len(current)
        return out
