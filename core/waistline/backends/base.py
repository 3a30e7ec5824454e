"""The backend contract: open a slice, run it, profile it, say what runs it.

A backend module exports ``open_backend(options: BackendOptions) -> Backend``. It imports its engine
at its own top, translates the engine's exceptions to `BackendError`, and is found by its file name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from waistline import plugins
from waistline.errors import ConfigError
from waistline.tensors import TensorSpec

PACKAGE = "waistline.backends"
AUTO = "auto"
"""Stands for the engine that a slice's format is at home in."""
_HOME = {"onnx": "onnxruntime", "tflite": "litert", "blob": "blob", "fake": "fake"}
MAX_THREADS = 1024


@dataclass(frozen=True, slots=True)
class BackendOptions:
    """What the user may choose for any engine.

    Attributes:
        threads: worker threads inside one run, up to `MAX_THREADS`; 0 lets the engine decide.
        exact: no graph optimisation, so that a cut cannot change the last bits.
        extra: the engine's own options, as text, checked by the engine's file.

    Raises:
        ConfigError: a number of threads that no engine can have.
    """

    threads: int = 1
    exact: bool = False
    extra: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.threads <= MAX_THREADS:
            raise ConfigError(
                f"an engine cannot run {self.threads} threads",
                cause=f"0 to {MAX_THREADS} are possible; 0 lets the engine decide",
                fix="give --threads N",
            )


@dataclass(frozen=True, slots=True)
class LayerTime:
    """Median run time of one layer, or of the prefix that ends with it.

    Attributes:
        name: the layer's name in the model file where the engine keeps it.
        operator: operator type, such as ``Conv``.
        duration_s: median over the repeats.
        spread_s: half the interquartile range.
        output_bytes: bytes of the layer's outputs, 0 when unknown.
    """

    name: str
    operator: str
    duration_s: float
    spread_s: float
    output_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Profile:
    """Layer times of a slice.

    Attributes:
        method: ``native`` (the engine's own profiler) or ``prefix`` (cumulative prefix times).
        layers: in execution order.
        whole_s: median time of the slice as it runs in service, unprofiled.
        repeat: runs behind each median.
        note: what a reader must know, such as the optimisation level that was profiled.
    """

    method: Literal["native", "prefix"]
    layers: tuple[LayerTime, ...]
    whole_s: float
    repeat: int
    note: str = ""


class Slice(Protocol):
    """An opened part of a model, ready to run. One thread at a time may call it."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]: ...

    @property
    def outputs(self) -> tuple[TensorSpec, ...]: ...

    def run(self, tensors: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Run once. ``tensors`` in the order of `inputs`; the result in the order of `outputs`.

        The caller owns the returned arrays.

        Raises:
            BackendError: wrong number, shape or type of tensors, or the engine failed.
        """
        ...

    def profile(self, tensors: Sequence[np.ndarray], repeat: int) -> Profile:
        """Time each layer over ``repeat`` runs."""
        ...

    def info(self) -> dict[str, str]:
        """Engine name, version, device, precision, threads: what a result must record."""
        ...

    def close(self) -> None:
        """Give the engine's memory back; the slice must not be used afterwards."""
        ...


class Backend(Protocol):
    """An engine with its options."""

    formats: tuple[str, ...]
    """File formats it opens, such as ``("onnx",)``."""

    def open(
        self,
        path: Path,
        *,
        inputs: Sequence[str] | None = None,
        outputs: Sequence[str] | None = None,
    ) -> Slice:
        """Open the slice stored at ``path``.

        Args:
            path: the slice's file.
            inputs: order in which the caller will pass tensors; None: the file's order.
            outputs: order in which the caller wants results; None: the file's order.

        Raises:
            BackendError: not readable, or an operator the engine does not have (named).
        """
        ...


@dataclass(frozen=True, slots=True)
class Probe:
    """One device of an engine, as found on this machine.

    A backend module may export ``probe() -> tuple[Probe, ...]``, which takes seconds at most, never
    raises, and survives a library that crashes.

    Attributes:
        device: what a user would call it, such as ``CPU`` or ``Edge TPU usb:0``.
        state: whether a slice could run there, or what is in the way.
        detail: the fact seen.
        fix: the command that helps, "" where none is needed.
    """

    device: str
    state: Literal[
        "ok", "missing library", "missing device", "no permission", "wrong version", "failed"
    ]
    detail: str
    fix: str = ""


def load_backend(name: str, format_: str, options: BackendOptions | None = None) -> Backend:
    """The backend ``name`` with ``options``.

    Args:
        name: a plug-in of this package, or `AUTO`.
        format_: of the slice to be opened, which decides what `AUTO` means.
        options: None: what node and edge use by default.

    Raises:
        ConfigError: there is no such backend, or none that this version knows for the format.
        MissingExtra: it is not installed.
    """
    if name == AUTO:
        name = home_of(format_)
    backend: Backend = plugins.load(PACKAGE, name).open_backend(options or BackendOptions())
    return backend


def home_of(format_: str) -> str:
    """The backend that opens slices of a format where nobody chose one.

    Raises:
        ConfigError: no backend of this version opens the format.
    """
    if format_ not in _HOME:
        raise ConfigError(
            f"no engine is known for slices of format {format_[:40]!r}",
            cause=f"known: {', '.join(_HOME)}",
            fix="give --backend NAME, or split the model again with this release",
        )
    return _HOME[format_]
