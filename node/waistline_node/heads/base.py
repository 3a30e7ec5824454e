"""The head contract: a frame goes in, the waist comes out, and how long each stage took.

A head module exports ``open_head(bundle: Bundle, choice: HeadChoice) -> Head``. ``tensor`` runs the
bundle's slice on a backend of this machine; a head on a microcontroller quantizes and packs there,
so that its ``encode`` has nothing left to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from waistline import plugins
from waistline.backends.base import AUTO
from waistline.frame import SensorFrame

if TYPE_CHECKING:
    from waistline.bundle.store import Bundle
    from waistline.codec.waist import EncodedWaist

PACKAGE = "waistline_node.heads"


@dataclass(frozen=True, slots=True)
class HeadChoice:
    """What the user chose.

    Attributes:
        backend: a backend of `waistline.backends`, `AUTO`, or a head of this package.
        threads: inside one run; None: what the bundle hints, else 1.
        options: the backend's own, before what the bundle hints.
    """

    backend: str = AUTO
    threads: int | None = None
    options: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Run times of the stages of one frame, nanoseconds."""

    preprocess_ns: int
    head_ns: int
    encode_ns: int


Waist = Sequence[np.ndarray]
"""Waist tensors in wire order, not yet coded."""


class Head(Protocol):
    """The node's stages. Each may be called from a thread of its own, by one thread at a time."""

    def preprocess(self, frame: SensorFrame) -> Sequence[np.ndarray]: ...

    def head(self, inputs: Sequence[np.ndarray]) -> Waist | EncodedWaist: ...

    def encode(self, waist: Waist | EncodedWaist) -> EncodedWaist: ...

    def run(self, frame: SensorFrame) -> tuple[EncodedWaist, StageTimes]:
        """All three in a row, timed."""
        ...

    def info(self) -> dict[str, str]:
        """What a result must record: engine, version, threads, codec implementation."""
        ...

    def close(self) -> None: ...


def open_head(bundle: Bundle, choice: HeadChoice) -> Head:
    """Open the head that ``choice.backend`` names.

    Raises:
        ConfigError: no such backend, or it cannot open the bundle's head.
        MissingExtra, BackendError: the engine is not installed, or refused the slice.
    """
    own = choice.backend in plugins.names(PACKAGE)
    head: Head = plugins.load(PACKAGE, choice.backend if own else "tensor").open_head(
        bundle, choice
    )
    return head
