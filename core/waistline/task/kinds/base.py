"""The answer contract: from the last stage's outputs to an answer, and to bytes and back.

A kind module exports ``open_kind(options: Mapping[str, Any]) -> Kind``. Its options stand in a
bundle, so they are plain data and checked here; a kind never names code. The layout of its bytes
is fixed and little-endian, and is written in the module's docstring.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

import msgspec
import numpy as np

from waistline import plugins
from waistline.errors import CodecError, ConfigError, NonFinite
from waistline.task.spec import AnswerSpec, Preprocess

PACKAGE = "waistline.task.kinds"

OptionsT = TypeVar("OptionsT", bound=msgspec.Struct)


class Kind(Protocol):
    """How one task's answers are made, sent and compared. Stateless; any thread may call it.

    Attributes:
        raw: outputs are taken as the engine gives them; otherwise as real values, those of four
            axes in the order (1, C, H, W), whatever the model holds (`waistline.stages`).
    """

    raw: bool

    @property
    def max_bytes(self) -> int:
        """No packed answer is longer; what the node reserves for a reply."""
        ...

    def postprocess(self, outputs: Sequence[np.ndarray], preprocess: Preprocess | None) -> Any:
        """The answer to one frame; ``outputs`` are the model's, in the model's order.

        Raises:
            ConfigError: the outputs do not have the shape that the options call for.
            NonFinite: they hold NaN or infinity where an answer needs numbers.
        """
        ...

    def pack(self, answer: Any) -> bytes: ...

    def unpack(self, data: bytes | memoryview) -> Any:
        """The answer packed in ``data``; ``data`` may come from a hostile peer.

        Raises:
            CodecError: it is not an answer of this kind.
        """
        ...

    def agrees(self, answer: Any, reference: Any) -> float:
        """How far two answers say the same, 0..1."""
        ...

    def describe(self, answer: Any) -> str:
        """The answer in one line, for people."""
        ...


def load_kind(spec: AnswerSpec) -> Kind:
    """Open the kind that ``spec`` names.

    Raises:
        ConfigError: there is no such kind, or its options cannot be used.
    """
    kind: Kind = plugins.load(PACKAGE, spec.kind).open_kind(spec.options)
    return kind


def read_options(options: Mapping[str, Any], into: type[OptionsT], what: str) -> OptionsT:
    """``options`` as the struct ``into``; unknown keys are errors that name the key.

    Raises:
        ConfigError: a key is unknown or missing, or a value is of the wrong type.
    """
    try:
        return msgspec.convert(dict(options), into, strict=True)
    except msgspec.ValidationError as error:
        keys = ", ".join(into.__struct_fields__)
        raise ConfigError(
            f"the options of {what} cannot be used", cause=str(error), fix=f"known keys: {keys}"
        ) from error


def finite(output: np.ndarray, what: str) -> np.ndarray:
    """``output`` unchanged.

    Raises:
        NonFinite: it holds NaN or infinity.
    """
    if not np.isfinite(output).all():
        raise NonFinite(
            f"{what} holds NaN or infinity",
            cause="the tail computed it from the waist it was given",
            fix="check the model on this frame with 'waistline verify'",
        )
    return output


def bad_answer(what: str, cause: str) -> CodecError:
    """The error for bytes that are not a packed answer."""
    return CodecError(
        f"these bytes are not a packed {what} answer",
        cause=cause,
        fix="compare the bundles of node and edge with 'waistline verify'",
    )
