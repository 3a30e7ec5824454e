"""Raw outputs: the model's output tensors themselves.

Packed: each output's elements in the model's order, C order, little-endian, nothing between them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from waistline.errors import ConfigError
from waistline.task.kinds.base import bad_answer, read_options
from waistline.task.spec import Preprocess
from waistline.tensors import TensorSpec, check_spec

TOLERANCE = 1e-3
"""Two float outputs agree within this share of the reference's standard deviation."""


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of the kind: the model's outputs, in its order."""

    outputs: tuple[TensorSpec, ...]


class Tensors:
    raw = True

    def __init__(self, options: Options) -> None:
        self.specs = tuple(check_spec(spec) for spec in options.outputs)
        if not self.specs:
            raise ConfigError("the options of tensors cannot be used", cause="no output is named")
        self._wanted = [(spec.numpy_dtype, spec.shape) for spec in self.specs]

    @property
    def max_bytes(self) -> int:
        return sum(spec.size_bytes for spec in self.specs)

    def postprocess(
        self, outputs: Sequence[np.ndarray], preprocess: Preprocess | None
    ) -> tuple[np.ndarray, ...]:
        got = [(array.dtype, array.shape) for array in outputs]
        if got != self._wanted:
            raise ConfigError(
                "the model's outputs are not those of the answer",
                cause=f"expected {_shown(self._wanted)}, got {_shown(got)}",
                fix="write the bundle again with 'waistline split'",
            )
        return tuple(outputs)

    def pack(self, answer: Sequence[np.ndarray]) -> bytes:
        if sys.byteorder == "big":
            answer = [array.byteswap() for array in answer]
        return b"".join([array.tobytes() for array in answer])

    def unpack(self, data: bytes | memoryview) -> tuple[np.ndarray, ...]:
        """Views into ``data``, read-only."""
        if len(data) != self.max_bytes:
            raise bad_answer("tensors", f"{len(data)} bytes, expected {self.max_bytes}")
        arrays, offset = [], 0
        for spec in self.specs:
            flat = np.frombuffer(data, spec.numpy_dtype.newbyteorder("<"), spec.elements, offset)
            arrays.append(flat.reshape(spec.shape))
            offset += spec.size_bytes
        return tuple(arrays)

    def agrees(self, answer: Sequence[np.ndarray], reference: Sequence[np.ndarray]) -> float:
        """Share of the outputs that agree; see `TOLERANCE`; other types must be equal."""
        pairs = list(zip(answer, reference, strict=True))
        return sum(_same(a, b) for a, b in pairs) / len(pairs)

    def describe(self, answer: Sequence[np.ndarray]) -> str:
        return ", ".join(
            f"{spec.name} {spec.dtype}{list(spec.shape)} {_range(array)}"
            for spec, array in zip(self.specs, answer, strict=True)
        )


def _shown(tensors: Sequence[tuple[np.dtype[Any], tuple[int, ...]]]) -> str:
    return ", ".join(f"{dtype} {shape}" for dtype, shape in tensors) or "nothing"


def _same(answer: np.ndarray, reference: np.ndarray) -> bool:
    if reference.dtype.kind != "f":
        return np.array_equal(answer, reference)
    finite = np.isfinite(reference)
    odd = ~finite
    if not np.array_equal(np.isfinite(answer), finite) or not np.array_equal(
        answer[odd], reference[odd], equal_nan=True
    ):
        return False
    values, expected = answer[finite].astype(np.float64), reference[finite].astype(np.float64)
    if not expected.size:
        return True
    spread = float(expected.std()) or float(np.abs(expected).max())
    return bool(np.abs(values - expected).max() <= TOLERANCE * spread)


def _range(array: np.ndarray) -> str:
    return f"in [{array.min():.4g}, {array.max():.4g}]"


def open_kind(options: Mapping[str, Any]) -> Tensors:
    return Tensors(read_options(options, Options, "tensors"))
