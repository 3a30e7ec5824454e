"""NumPy interpreter of head blobs: the integers that a board computes, without the board.

What makes a bundle's golden codes and judges a board by them; far slower than an engine. A blob
holds neither names nor ranks: its tensors are int8 (1, H, W, C), called as the caller calls them.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from waistline.backends._checks import check_extra, check_tensors
from waistline.backends.base import BackendOptions, LayerTime, Profile
from waistline.blob import form, records
from waistline.blob.form import Int8Head, Layer, Port
from waistline.blob.interpret import run_layer
from waistline.blob.layers import head_of
from waistline.blob.pack import VERSION as KERNELS
from waistline.blob.records import read_blob
from waistline.errors import BackendError, BundleError
from waistline.files import read_limited
from waistline.tensors import TensorSpec

MAX_FILE_BYTES = 16 << 20
"""Eight times the largest slot of any board."""
MAX_ARENA_BYTES = 32 << 20
"""Four times the largest arena."""
MAX_TAPS = 1 << 26
"""Elements that a layer's windows hold side by side; each is 8 bytes here, twice."""


class Interpreter:
    formats = ("blob",)

    def __init__(self, options: BackendOptions) -> None:
        check_extra(options.extra, (), "blob")

    def open(
        self,
        path: Path,
        *,
        inputs: Sequence[str] | None = None,
        outputs: Sequence[str] | None = None,
    ) -> BlobSlice:
        """As the contract says, but that names are given in the blob's order and taken as they are.

        Raises:
            BackendError: no blob that a board would take, too large, or with another number of
                tensors than there are names.
        """
        head = _read(path)
        return BlobSlice(
            path,
            head,
            _specs(head.inputs, inputs, path, "input"),
            _specs(head.outputs, outputs, path, "output"),
        )


class BlobSlice:
    """As the backend contract says; nothing is kept between runs."""

    def __init__(
        self,
        path: Path,
        head: Int8Head,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
    ) -> None:
        self._path = path
        self._head = head
        self.inputs = inputs
        self.outputs = outputs

    def run(self, tensors: Sequence[np.ndarray]) -> list[np.ndarray]:
        check_tensors(self.inputs, tensors, self._path.name)
        known = self._given(tensors)
        for layer in self._head.layers:
            self._step(layer, known)
        return [
            np.array(known[port.tensor]).reshape(port.spec.shape) for port in self._head.outputs
        ]

    def profile(self, tensors: Sequence[np.ndarray], repeat: int) -> Profile:
        """Times of this machine's NumPy; they say nothing of a board's."""
        check_tensors(self.inputs, tensors, self._path.name)
        runs = [self._timed(tensors) for _ in range(repeat + 1)][1:]  # the first one warms up
        whole_s = statistics.median(self._whole_s(tensors) for _ in range(repeat))
        layers = tuple(
            LayerTime(
                layer.name,
                type(layer).__name__,
                statistics.median(times),
                _spread_s(times),
                self._head.tensors[layer.output].size_bytes,
            )
            for layer, times in zip(self._head.layers, zip(*runs, strict=True), strict=True)
        )
        return Profile("native", layers, whole_s, repeat, "interpreted on this machine")

    def info(self) -> dict[str, str]:
        return {
            "engine": "interpreter",
            "version": f"{records.VERSION}.{KERNELS}",
            "device": "CPU",
            "precision": "int8",
            "threads": "1",
            "numpy": np.__version__,
        }

    def close(self) -> None:
        """Nothing to give back."""

    def _given(self, tensors: Sequence[np.ndarray]) -> dict[int, np.ndarray]:
        return {
            port.tensor: array.reshape(self._head.tensors[port.tensor].shape)
            for port, array in zip(self._head.inputs, tensors, strict=True)
        }

    def _step(self, layer: Layer, known: dict[int, np.ndarray]) -> None:
        known[layer.output] = run_layer(self._head, layer, [known[k] for k in layer.inputs])

    def _timed(self, tensors: Sequence[np.ndarray]) -> list[float]:
        known, times = self._given(tensors), []
        for layer in self._head.layers:
            started = time.perf_counter()
            self._step(layer, known)
            times.append(time.perf_counter() - started)
        return times

    def _whole_s(self, tensors: Sequence[np.ndarray]) -> float:
        started = time.perf_counter()
        self.run(tensors)
        return time.perf_counter() - started


def _spread_s(times: Sequence[float]) -> float:
    """Half the interquartile range; of a single time 0."""
    if len(times) == 1:
        return 0.0
    low, _, high = statistics.quantiles(times, n=4, method="inclusive")
    return (high - low) / 2


def _read(path: Path) -> Int8Head:
    try:
        head = head_of(read_blob(read_limited(path, MAX_FILE_BYTES), MAX_ARENA_BYTES))
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error
    except ValueError as error:
        raise _unreadable(path, str(error)) from error
    except BundleError as error:
        raise _unreadable(path, error.cause or error.what) from error
    for layer, taps in _windows(head):
        if taps > MAX_TAPS:
            cause = f"the windows of {layer.name} hold {taps} elements, the limit is {MAX_TAPS}"
            raise _unreadable(path, cause)
    return head


def _windows(head: Int8Head) -> Iterator[tuple[Layer, int]]:
    """Elements that the windows of each layer hold side by side."""
    for layer in head.layers:
        if isinstance(layer, form.Conv | form.Depthwise | form.Pool):
            high, wide, channels = head.tensors[layer.output].shape
            depth = (
                head.tensors[layer.inputs[0]].shape[2] if isinstance(layer, form.Conv) else channels
            )
            yield layer, high * wide * depth * math.prod(layer.window.kernel)


def _specs(
    ports: Sequence[Port], names: Sequence[str] | None, path: Path, role: str
) -> tuple[TensorSpec, ...]:
    given = [f"{role} {k}" for k in range(len(ports))] if names is None else names
    if len(given) != len(ports) or len(set(given)) != len(given):
        raise BackendError(
            f"{path} does not have the {role}s it should have",
            cause=f"wanted {', '.join(given)}; the blob has {len(ports)}",
            fix="write the bundle again with 'waistline split'",
        )
    return tuple(
        TensorSpec(name, "int8", port.spec.shape, "NHWC", 3)
        for name, port in zip(given, ports, strict=True)
    )


def _unreadable(path: Path, cause: str) -> BackendError:
    return BackendError(
        f"{path} is no head blob that can be run",
        cause=cause,
        fix="write the bundle again: waistline split MODEL --backend mcu",
    )


def open_backend(options: BackendOptions) -> Interpreter:
    return Interpreter(options)
