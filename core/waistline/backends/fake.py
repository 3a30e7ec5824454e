"""An engine that computes nothing: a named deterministic function of its input, in a given time.

For tests, demos and measurements of everything around the engine. A slice is a small JSON file
(format ``fake``) that holds a `FakeModel`; the options ``function`` and ``delay_ms`` override it.
"""

from __future__ import annotations

import statistics
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from waistline.backends._checks import check_extra, check_tensors, ordered
from waistline.backends.base import BackendOptions, LayerTime, Profile
from waistline.errors import BackendError, BundleError, ConfigError
from waistline.files import read_limited
from waistline.tensors import TensorSpec, check_spec

MAX_FILE_BYTES = 1 << 20
MAX_DELAY_MS = 60_000.0


class FakeModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of a ``fake`` slice.

    Attributes:
        inputs, outputs: what is declared; shapes must be fixed.
        function: a key of `FUNCTIONS`.
        delay_ms: what a run lasts at least; the function's own time is part of it, the rest is
            slept without holding the interpreter.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    function: str = "cycle"
    delay_ms: float = 0.0
    format: Literal["waistline-fake"] = "waistline-fake"


def write_fake(path: Path, model: FakeModel) -> None:
    """Store a slice that `open_backend` opens."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(model)) + b"\n")


Function = Callable[[Sequence[np.ndarray], TensorSpec], np.ndarray]


def _cycle(inputs: Sequence[np.ndarray], output: TensorSpec) -> np.ndarray:
    """The inputs' elements one after the other, over and over, until the output is full."""
    flat = np.concatenate([array.ravel().astype(np.float64) for array in inputs])
    with np.errstate(invalid="ignore", over="ignore"):
        return np.resize(flat, output.shape).astype(output.numpy_dtype)


def _noise(inputs: Sequence[np.ndarray], output: TensorSpec) -> np.ndarray:
    """Normal noise (scaled by 64 for integers) that depends on every byte of the inputs."""
    seed = 0
    for array in inputs:
        seed = zlib.crc32(array.tobytes(), seed)
    noise = np.random.default_rng(seed).standard_normal(output.shape)
    if output.numpy_dtype.kind == "f":
        return noise.astype(output.numpy_dtype)
    return (np.abs(noise) * 64).clip(0, 127).astype(output.numpy_dtype)


def _refuse(inputs: Sequence[np.ndarray], output: TensorSpec) -> np.ndarray:
    """As ``cycle``, but the engine fails on an input that begins with a positive element."""
    if inputs[0].ravel()[0] > 0:
        raise BackendError(
            "the fake engine refused its input",
            cause="the first element is positive and the function is 'refuse'",
            fix="choose another function: cycle or noise",
        )
    return _cycle(inputs, output)


FUNCTIONS: dict[str, Function] = {"cycle": _cycle, "noise": _noise, "refuse": _refuse}


class Fake:
    formats = ("fake",)

    def __init__(self, options: BackendOptions) -> None:
        check_extra(options.extra, ("function", "delay_ms"), "fake")
        self._function = options.extra.get("function")
        self._delay_ms = options.extra.get("delay_ms")

    def open(
        self,
        path: Path,
        *,
        inputs: Sequence[str] | None = None,
        outputs: Sequence[str] | None = None,
    ) -> FakeSlice:
        model = _read(path)
        delay_ms = model.delay_ms if self._delay_ms is None else _number(self._delay_ms)
        return FakeSlice(
            path,
            _function(self._function or model.function),
            _checked_delay_s(delay_ms),
            ordered({spec.name: spec for spec in model.inputs}, inputs, path, "input"),
            ordered({spec.name: spec for spec in model.outputs}, outputs, path, "output"),
        )


class FakeSlice:
    def __init__(
        self,
        path: Path,
        function: Function,
        delay_s: float,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
    ) -> None:
        self._path = path
        self._function = function
        self._delay_s = delay_s
        self.inputs = inputs
        self.outputs = outputs

    def run(self, tensors: Sequence[np.ndarray]) -> list[np.ndarray]:
        check_tensors(self.inputs, tensors, self._path.name)
        started = time.monotonic()
        results = [self._function(tensors, spec) for spec in self.outputs]
        left_s = self._delay_s - (time.monotonic() - started)
        if left_s > 0.0:
            time.sleep(left_s)
        return results

    def profile(self, tensors: Sequence[np.ndarray], repeat: int) -> Profile:
        """One layer: the whole function, delay included."""
        times = []
        for _ in range(repeat):
            started = time.perf_counter()
            self.run(tensors)
            times.append(time.perf_counter() - started)
        whole_s = statistics.median(times)
        spread_s = (max(times) - min(times)) / 2
        size_bytes = sum(spec.size_bytes for spec in self.outputs)
        layer = LayerTime(self._path.stem, "Fake", whole_s, spread_s, size_bytes)
        return Profile("native", (layer,), whole_s, repeat, "spread is half the range")

    def info(self) -> dict[str, str]:
        return {
            "engine": "fake",
            "version": "1",
            "device": "none",
            "precision": "exact",
            "threads": "1",
            "function": self._function.__name__.lstrip("_"),
            "delay_s": f"{self._delay_s:g}",
        }

    def close(self) -> None:
        """Nothing to give back."""


def _read(path: Path) -> FakeModel:
    try:
        model = msgspec.json.decode(read_limited(path, MAX_FILE_BYTES), type=FakeModel)
        for spec in (*model.inputs, *model.outputs):
            check_spec(spec)
        if not model.inputs or not model.outputs:
            raise ValueError("it names no input or no output")
    except (OSError, ValueError, BundleError) as error:
        raise BackendError(
            f"{path} is not a fake slice",
            cause=str(error),
            fix="such a file is written by waistline.backends.fake.write_fake",
        ) from error
    return model


def _function(name: str) -> Function:
    if name not in FUNCTIONS:
        raise ConfigError(
            f"the fake backend has no function {name!r}", cause=f"known: {', '.join(FUNCTIONS)}"
        )
    return FUNCTIONS[name]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ConfigError(f"delay_ms={text!r} is not a number of milliseconds") from error


def _checked_delay_s(delay_ms: float) -> float:
    if not 0.0 <= delay_ms <= MAX_DELAY_MS:
        raise ConfigError(f"delay_ms={delay_ms:g} is not between 0 and {MAX_DELAY_MS:g}")
    return delay_ms / 1e3


def open_backend(options: BackendOptions) -> Fake:
    return Fake(options)
