"""A slice of a format without names and ranks, shown as its stage in a bundle says."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from waistline.backends._checks import check_tensors
from waistline.backends.base import Profile, Slice
from waistline.errors import BackendError
from waistline.tensors import TensorSpec

_WHAT = "the bundle's head"


class Ranked:
    """A slice whose tensors are given and taken in the shapes of ``inputs`` and ``outputs``.

    Raises:
        BackendError: the slice has others, in number, element type or size; it is closed then.
    """

    def __init__(
        self, opened: Slice, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
    ) -> None:
        self._opened = opened
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        for role, said, held in (
            ("takes", self.inputs, opened.inputs),
            ("makes", self.outputs, opened.outputs),
        ):
            if _sizes(said) != _sizes(held):
                opened.close()
                raise BackendError(
                    f"{_WHAT} is not the one that it describes",
                    cause=f"it says it {role} {_shown(said)}; the slice {role} {_shown(held)}",
                    fix="write the bundle again with 'waistline split'",
                )

    def run(self, tensors: Sequence[np.ndarray]) -> list[np.ndarray]:
        made = self._opened.run(self._given(tensors))
        return [array.reshape(spec.shape) for array, spec in zip(made, self.outputs, strict=True)]

    def profile(self, tensors: Sequence[np.ndarray], repeat: int) -> Profile:
        return self._opened.profile(self._given(tensors), repeat)

    def info(self) -> dict[str, str]:
        return self._opened.info()

    def close(self) -> None:
        self._opened.close()

    def _given(self, tensors: Sequence[np.ndarray]) -> list[np.ndarray]:
        check_tensors(self.inputs, tensors, _WHAT)
        return [
            array.reshape(spec.shape)
            for array, spec in zip(tensors, self._opened.inputs, strict=True)
        ]


def _sizes(specs: Sequence[TensorSpec]) -> list[tuple[str, int]]:
    return [(spec.dtype, math.prod(spec.shape)) for spec in specs]


def _shown(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(f"{spec.dtype}{list(spec.shape)}" for spec in specs) or "nothing"
