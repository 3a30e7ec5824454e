"""The head contract: a frame goes in, the waist comes out, and how long each stage took.

A head module exports ``open_head(bundle: Bundle, choice: HeadChoice) -> Head``. ``tensor`` runs the
bundle's slice on a backend of this machine; a head on a microcontroller quantizes and packs there,
so that its ``encode`` has nothing left to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from waistline import plugins
from waistline.backends.base import AUTO
from waistline.blob import FORMAT
from waistline.codec.waist import EncodedWaist
from waistline.frame import SensorFrame

if TYPE_CHECKING:
    from waistline.bundle.store import Bundle

PACKAGE = "waistline_node.heads"
MCU = "mcu"
"""The head that runs a blob on a board; also where nobody chose one."""

Say = Callable[[str], None]
"""Told in one line what a person should know."""
Progress = Callable[[int, int], None]
"""Told bytes done, and bytes in all."""


def quiet(text: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class HeadChoice:
    """What the user chose.

    Attributes:
        backend: a backend of `waistline.backends`, `AUTO`, or a head of this package.
        threads: inside one run; None: what the bundle hints, else 1.
        options: the backend's own, before what the bundle hints; of ``mcu`` the board's.
        budget_s: of a frame; a board that is gone is waited for so long.
        say: told what becomes of a board.
        progress: told how far a head is loaded onto a board.
    """

    backend: str = AUTO
    threads: int | None = None
    options: dict[str, str] = field(default_factory=dict)
    budget_s: float = 5.0
    say: Say = quiet
    progress: Progress | None = None


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Run times of the stages of one frame, nanoseconds."""

    preprocess_ns: int
    head_ns: int
    encode_ns: int


Waist = Sequence[np.ndarray]
"""Waist tensors in wire order, not yet coded."""


@dataclass(frozen=True, slots=True)
class DeviceWaist(EncodedWaist):
    """A waist that another device coded.

    Attributes:
        device_s: that device's computing by its own clock; the rest of the stage is the way there.
    """

    device_s: float = 0.0


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
    head: Head = plugins.load(PACKAGE, head_name(bundle, choice.backend)).open_head(bundle, choice)
    return head


def head_name(bundle: Bundle, backend: str) -> str:
    """The head of this package that runs ``bundle`` where ``backend`` was chosen."""
    if backend == AUTO and bundle.head is not None and bundle.head.format == FORMAT:
        return MCU
    return backend if backend in plugins.names(PACKAGE) else "tensor"


def board_options(
    board: str, port: str, baud: int | None, more: Iterable[tuple[str, str]] = ()
) -> dict[str, str]:
    """The choice of a board as options of the head `MCU`; {} where nothing was chosen."""
    named = {"board": board, "port": port, "baud": str(baud or "")}
    return {**{key: value for key, value in named.items() if value}, **dict(more)}


def board_by_default(name: str) -> str:
    """What is said where nobody chose the board that is used."""
    return f"no board was chosen: {name} is emulated (--board NAME, or --port for a real one)"


@runtime_checkable
class Interruptible(Protocol):
    """A head that may wait for a device."""

    def interrupt(self) -> None:
        """Stop waiting, for good; from any thread."""
        ...


def let_go(head: Head) -> None:
    """Let the thread that waits in ``head`` go, if one does."""
    if isinstance(head, Interruptible):
        head.interrupt()
