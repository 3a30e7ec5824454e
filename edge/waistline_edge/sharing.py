"""One slice opened several times, behind the face of one."""

from __future__ import annotations

from collections.abc import Sequence
from queue import SimpleQueue

import numpy as np

from waistline.backends.base import Profile, Slice
from waistline.tensors import TensorSpec


class SharedSlice:
    """As many threads may run it at once as it was opened times; a further one waits.

    Args:
        opened: the same slice, opened at least once.
    """

    def __init__(self, opened: Sequence[Slice]) -> None:
        self._all = tuple(opened)
        self._free: SimpleQueue[Slice] = SimpleQueue()
        for each in self._all:
            self._free.put(each)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self._all[0].inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self._all[0].outputs

    def run(self, tensors: Sequence[np.ndarray]) -> list[np.ndarray]:
        mine = self._free.get()
        try:
            return mine.run(tensors)
        finally:
            self._free.put(mine)

    def profile(self, tensors: Sequence[np.ndarray], repeat: int) -> Profile:
        return self._all[0].profile(tensors, repeat)

    def info(self) -> dict[str, str]:
        return self._all[0].info()

    def close(self) -> None:
        for each in self._all:
            each.close()
