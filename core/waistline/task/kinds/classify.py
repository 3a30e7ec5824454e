"""Classification: the k most probable classes.

Packed: u16 n, then n rows of {u32 class, f32 probability}, most probable first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from waistline.errors import ConfigError
from waistline.task.kinds.base import bad_answer, finite, read_options
from waistline.task.spec import Preprocess

_ROW = np.dtype([("index", "<u4"), ("probability", "<f4")])
_COUNT_BYTES = 2
_MAX_TOP_K = 1000


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of the kind.

    Attributes:
        top_k: classes in an answer; a model with fewer gives them all.
        classes: names by class index; may be empty.
        softmax: whether the model ends in logits; False: it already gives probabilities.
        output: which of the model's outputs.
    """

    top_k: int = 1
    classes: tuple[str, ...] = ()
    softmax: bool = True
    output: int = 0


@dataclass(frozen=True, slots=True)
class Ranking:
    """Class indices and their probabilities (float32 values), most probable first."""

    classes: tuple[int, ...]
    probabilities: tuple[float, ...]


class Classify:
    raw = False

    def __init__(self, options: Options) -> None:
        if not 1 <= options.top_k <= _MAX_TOP_K or options.output < 0:
            raise ConfigError(
                "the options of classify cannot be used",
                cause=f"top_k = {options.top_k}, output = {options.output}",
                fix=f"top_k is 1..{_MAX_TOP_K}, output an index from 0",
            )
        self.options = options

    @property
    def max_bytes(self) -> int:
        return _COUNT_BYTES + self.options.top_k * _ROW.itemsize

    def postprocess(self, outputs: Sequence[np.ndarray], preprocess: Preprocess | None) -> Ranking:
        """Softmax in float64 over the output's only long axis; ties go to the lower class."""
        if self.options.output >= len(outputs):
            raise ConfigError(
                "classify reads an output that the model does not have",
                cause=f"output = {self.options.output}, the model has {len(outputs)}",
                fix="mend [answer] output in the task file",
            )
        scores = np.asarray(outputs[self.options.output], np.float64)
        named = len(self.options.classes)
        if scores.size != max(scores.shape, default=1) or (named and scores.size != named):
            raise ConfigError(
                f"classify cannot read output {self.options.output} of the model",
                cause=f"its shape is {scores.shape}, expected one score for each of "
                f"{named or 'the'} classes",
                fix="mend classes and output in [answer] of the task file",
            )
        scores = scores.reshape(-1)
        finite(scores, "the model's output")
        if self.options.softmax:
            scores = np.exp(scores - scores.max())
            scores /= scores.sum()
        order = np.argsort(-scores, kind="stable")[: self.options.top_k]
        probabilities = scores[order].astype(np.float32)
        return Ranking(tuple(order.tolist()), tuple(probabilities.tolist()))

    def pack(self, answer: Ranking) -> bytes:
        rows = np.empty(len(answer.classes), _ROW)
        rows["index"] = answer.classes
        rows["probability"] = answer.probabilities
        return len(rows).to_bytes(_COUNT_BYTES, "little") + rows.tobytes()

    def unpack(self, data: bytes | memoryview) -> Ranking:
        count = int.from_bytes(data[:_COUNT_BYTES], "little")
        expected = _COUNT_BYTES + count * _ROW.itemsize
        if not 1 <= count <= self.options.top_k or len(data) != expected:
            raise bad_answer("classify", f"{len(data)} bytes that claim {count} rows")
        rows = np.frombuffer(data, _ROW, count, _COUNT_BYTES)
        if not np.isfinite(rows["probability"]).all():
            raise bad_answer("classify", "a probability is not a number")
        return Ranking(tuple(rows["index"].tolist()), tuple(rows["probability"].tolist()))

    def agrees(self, answer: Ranking, reference: Ranking) -> float:
        """1 if the most probable class is the same, else 0."""
        return float(answer.classes[:1] == reference.classes[:1])

    def describe(self, answer: Ranking) -> str:
        pairs = zip(answer.classes, answer.probabilities, strict=True)
        return ", ".join(f"{self._name(index)} {p:.3f}" for index, p in pairs)

    def _name(self, index: int) -> str:
        names = self.options.classes
        return names[index] if index < len(names) else f"class {index}"


def open_kind(options: Mapping[str, Any]) -> Classify:
    return Classify(read_options(options, Options, "classify"))
