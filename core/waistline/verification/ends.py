"""The two ends of a cut as verification runs them, here or on a far machine behind a pipe."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol, TypeVar

import msgspec
import numpy as np

from waistline import __version__
from waistline.backends.base import AUTO, BackendOptions, Slice, home_of, load_backend
from waistline.blob import FORMAT as BLOB
from waistline.bundle.schema import Stage
from waistline.bundle.store import Bundle
from waistline.errors import ConfigError
from waistline.frame import SensorFrame
from waistline.provenance import Machine, machine
from waistline.stages import HeadStages, TailStages, open_slice

EndT = TypeVar("EndT")


class EndChoice(msgspec.Struct, frozen=True):
    """What runs one end.

    Attributes:
        backend: a plug-in of `waistline.backends`, or ``auto``.
        threads: inside one run; None: what the bundle hints, else 1.
        options: the backend's own, before what the bundle hints.
    """

    backend: str = AUTO
    threads: int | None = None
    options: dict[str, str] = {}


class Place(msgspec.Struct, frozen=True):
    """Where an end ran.

    Attributes:
        name: ``here``, or the command that leads there.
        machine: as it describes itself.
        numpy, waistline: versions.
        codec: implementation, ``c`` or ``numpy``; ``none`` at x = N.
        head_backend, tail_backend: by name; "" where that end was not opened or has no slice.
        head_engine, tail_engine: what the slices say of themselves.
    """

    name: str
    machine: Machine
    numpy: str
    waistline: str
    codec: str
    head_backend: str = ""
    tail_backend: str = ""
    head_engine: dict[str, str] = {}
    tail_engine: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class HeadRun:
    """What a head made of one frame.

    Attributes:
        codes: as `WaistCodec.codes` gives them; b"" at x = N.
        values: the waist tensors before they were quantized; empty at x = N.
        answer: packed; b"" except at x = N.
    """

    codes: bytes
    values: tuple[np.ndarray, ...]
    answer: bytes = b""


class Ends(Protocol):
    """One or both ends of a bundle, opened."""

    @property
    def place(self) -> Place: ...

    def run_head(self, frame: SensorFrame) -> HeadRun:
        """Raises `BackendError`, `NonFinite` or `LinkError`."""
        ...

    def run_tail(self, codes: bytes) -> bytes:
        """The packed answer from a frame's codes; b"" at x = N."""
        ...

    def close(self) -> None: ...


class LocalEnds:
    """Ends on this machine.

    Args:
        bundle: a checked bundle.
        head, tail: what runs them; None: that end is not opened.

    Raises:
        ConfigError, MissingExtra, BackendError: no such backend, not installed, slice refused.
    """

    def __init__(self, bundle: Bundle, *, head: EndChoice | None, tail: EndChoice | None) -> None:
        self._codec = bundle.waist_codec()
        self._opened = ExitStack()
        with ExitStack() as stack:
            head_name, head_slice = _open(bundle, bundle.head if head else None, head, stack)
            tail_name, tail_slice = _open(bundle, bundle.tail if tail else None, tail, stack)
            self._head = HeadStages(bundle, head_slice) if head else None
            self._tail = TailStages(bundle, tail_slice) if tail else None
            self._opened = stack.pop_all()
        self.place = Place(
            name="here",
            machine=machine(),
            numpy=np.__version__,
            waistline=__version__,
            codec=self._codec.implementation if self._codec else "none",
            head_backend=head_name,
            tail_backend=tail_name,
            head_engine=self._head.engine if self._head else {},
            tail_engine=self._tail.engine if self._tail else {},
        )

    def run_head(self, frame: SensorFrame) -> HeadRun:
        head = _opened(self._head, "head")
        return self.run_inputs(head.preprocess(frame))

    def run_inputs(self, inputs: list[np.ndarray]) -> HeadRun:
        """As `run_head`, from what `HeadStages.preprocess` would have made of a frame."""
        head = _opened(self._head, "head")
        waist = head.head(inputs)
        if self._codec is None:
            return HeadRun(b"", (), head.encode(waist).payload)
        return HeadRun(self._codec.codes(waist), tuple(waist))

    def preprocess(self, frame: SensorFrame) -> list[np.ndarray]:
        """The model's inputs; at x = 0 the frame."""
        return _opened(self._head, "head").preprocess(frame)

    def run_tail(self, codes: bytes) -> bytes:
        tail = _opened(self._tail, "tail")
        if self._codec is None:
            return b""
        tensors = tail.preprocess(self._codec.decode_codes(codes))
        return tail.postprocess(tail.tail(tensors))

    def close(self) -> None:
        self._opened.close()

    def __enter__(self) -> LocalEnds:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _opened(end: EndT | None, role: str) -> EndT:
    if end is None:
        raise ConfigError(f"the {role} was not opened", fix=f"choose an engine for the {role}")
    return end


def _open(
    bundle: Bundle, stage: Stage | None, choice: EndChoice | None, stack: ExitStack
) -> tuple[str, Slice | None]:
    """Name of the backend and the slice; ("", None) where there is nothing to run."""
    if stage is None or choice is None:
        return "", None
    own = stage.format == BLOB and choice.backend not in (AUTO, home_of(BLOB))
    if own:  # no engine that is chosen for the other end runs one
        choice = EndChoice()
    name = home_of(stage.format) if choice.backend == AUTO else choice.backend
    hints = dict(stage.hints.get(name, {}))
    hinted = hints.pop("threads", "1")
    if not hinted.isdecimal() or len(hinted) > 4:
        raise ConfigError(f"the bundle hints {hinted[:20]!r} threads", fix="give --threads N")
    threads = int(hinted) if choice.threads is None else choice.threads
    options = BackendOptions(threads=threads, extra={**hints, **choice.options})
    slice_ = open_slice(load_backend(name, stage.format, options), bundle, stage)
    if slice_ is not None:
        stack.callback(slice_.close)
    return name, slice_
