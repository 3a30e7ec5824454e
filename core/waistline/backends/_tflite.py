"""A TFLite slice on any engine that has the interpreter's interface; shared by litert and coral."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from waistline.backends import _tflite_profile
from waistline.backends._checks import check_tensors, ordered
from waistline.backends._tflite_errors import cannot_open, failed_run
from waistline.backends._tflite_file import Facts, check_bytes
from waistline.backends._tflite_runtime import FOREIGN, Runtime
from waistline.backends.base import Profile
from waistline.errors import BackendError, BundleError
from waistline.tensors import DTYPES, NHWC_BY_RANK, TensorSpec, check_spec

RESOLVERS = {
    "xnnpack": "BUILTIN",
    "builtin": "BUILTIN_WITHOUT_DEFAULT_DELEGATES",
    "reference": "BUILTIN_REF",
}
"""The engine's name for each choice of kernels."""
_QUANTIZED = frozenset({"int8", "uint8"})


@dataclass(frozen=True)
class Engine:
    """How interpreters are made.

    Attributes:
        runtime: the package.
        threads: of one run, at least 1.
        kernels: a key of `RESOLVERS`.
        delegates: what takes operators over from the kernels.
    """

    runtime: Runtime
    threads: int
    kernels: str
    delegates: tuple[Any, ...] = ()

    def interpreter(self, data: bytes) -> Any:
        """A new interpreter for the model in ``data``; what the engine raises passes through."""
        return self.runtime.interpreter(
            data,
            num_threads=self.threads,
            experimental_op_resolver_type=self.runtime.resolver(RESOLVERS[self.kernels]),
            experimental_delegates=list(self.delegates) or None,
        )

    def info(self) -> dict[str, str]:
        return {
            "engine": self.runtime.name,
            "version": self.runtime.version,
            "device": "CPU",
            "precision": "as stored",
            "threads": str(self.threads),
            "kernels": self.kernels,
        }


class TfliteSlice:
    """A slice in an interpreter of its own.

    Args:
        path: named in errors.
        facts: the checked file.
        engine: what runs it.
        inputs, outputs: as `waistline.backends.base.Backend.open` has them.
    """

    def __init__(
        self,
        path: Path,
        facts: Facts,
        engine: Engine,
        inputs: Sequence[str] | None = None,
        outputs: Sequence[str] | None = None,
    ) -> None:
        self._path = path
        self._facts = facts
        self._engine = engine
        try:
            self._interpreter = engine.interpreter(facts.data)
            given = self._named(self._interpreter.get_input_details())
            self.inputs = ordered(self._specs(given), inputs, path, "input")
            self._feeds = [given[spec.name]["index"] for spec in self.inputs]
            self._interpreter.allocate_tensors()
            made = self._output_details()
        except FOREIGN as error:
            raise cannot_open(path, str(error), engine.runtime.shown) from error
        self.outputs = ordered(self._specs(made), outputs, path, "output")
        self._results = [made[spec.name]["index"] for spec in self.outputs]
        self._shapes = [spec.shape for spec in self.outputs]

    def _named(self, details: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
        return {self._facts.names[detail["index"]]: detail for detail in details}

    def _output_details(self) -> dict[str, dict[str, Any]]:
        """Shapes that only a run can tell are learnt from one on zeros."""
        details = self._interpreter.get_output_details()
        if any(min(detail["shape_signature"], default=1) < 1 for detail in details):
            for index, spec in zip(self._feeds, self.inputs, strict=True):
                self._interpreter.set_tensor(index, np.zeros(spec.shape, spec.numpy_dtype))
            self._interpreter.invoke()
            details = self._interpreter.get_output_details()
        return self._named(details)

    def _specs(self, details: Mapping[str, dict[str, Any]]) -> dict[str, TensorSpec]:
        return {name: spec_of(name, detail, self._path) for name, detail in details.items()}

    def run(self, tensors: Sequence[np.ndarray]) -> list[np.ndarray]:
        check_tensors(self.inputs, tensors, self._path.name)
        interpreter = self._interpreter
        try:
            for index, tensor in zip(self._feeds, tensors, strict=True):
                interpreter.set_tensor(index, tensor)
            interpreter.invoke()
            found: list[np.ndarray] = [interpreter.get_tensor(index) for index in self._results]
        except FOREIGN as error:
            raise failed_run(self._path, str(error), self._engine.runtime.shown) from error
        for spec, array in zip(self.outputs, found, strict=True):
            if array.shape != spec.shape:
                raise _changed(self._path, spec, array)
        return found

    def profile(self, tensors: Sequence[np.ndarray], repeat: int) -> Profile:
        """Cumulative times: the engine times no operators, so prefixes are cut off and timed.

        Raises:
            BackendError: the slice cannot be cut, so that there are no prefixes.
            MissingExtra: ai-edge-litert, which the cutter needs, is not installed.
        """
        check_tensors(self.inputs, tensors, self._path.name)
        names = [spec.name for spec in self.inputs]

        def timer(data: bytes, outputs: Sequence[str]) -> _tflite_profile.Timed:
            piece = TfliteSlice(
                self._path, check_bytes(data, self._path), self._engine, names, outputs
            )
            return lambda: _duration_s(piece, tensors)

        return _tflite_profile.by_prefixes(
            self._path, self._facts.data, timer, lambda: _duration_s(self, tensors), repeat
        )

    def info(self) -> dict[str, str]:
        return self._engine.info()

    def close(self) -> None:
        del self._interpreter, self._engine


def _duration_s(piece: TfliteSlice, tensors: Sequence[np.ndarray]) -> float:
    started = time.perf_counter()
    piece.run(tensors)
    return time.perf_counter() - started


def spec_of(name: str, detail: Mapping[str, Any], path: Path) -> TensorSpec:
    """What an interpreter's details say of one input or output.

    Only one scale of an 8-bit tensor is carried. The elements of any other quantized tensor (one
    scale a channel, 16 bits) cross a cut as the integers they are.

    Raises:
        BackendError: the tensor has no fixed size, or elements that cannot cross a cut.
    """
    dtype = np.dtype(detail["dtype"]).name
    shape = tuple(int(axis) for axis in detail["shape"])
    signature = [int(axis) for axis in detail["shape_signature"]]
    unknown = [axis for axis, size in enumerate(signature) if size < 0]
    layout, channel_axis = NHWC_BY_RANK.get(len(shape), ("any", None))
    if dtype not in DTYPES:
        cause = f"{name!r} holds {dtype}, which cannot cross a cut"
    elif unknown and (unknown != [0] or shape[0] != 1):
        cause = f"{name!r} has the open shape {signature}"
    else:
        scale, zero_point = _quantization(detail) if dtype in _QUANTIZED else (None, None)
        try:
            return check_spec(
                TensorSpec(name, dtype, shape, layout, channel_axis, scale, zero_point)
            )
        except BundleError as error:
            cause = f"{name!r}: {error.cause}"
    raise BackendError(
        f"{path} cannot be run as a slice",
        cause=cause,
        fix="convert the model with fixed shapes and numeric inputs and outputs",
    )


def _quantization(detail: Mapping[str, Any]) -> tuple[float, int] | tuple[None, None]:
    found = detail["quantization_parameters"]
    if len(found["scales"]) != 1:
        return None, None
    return float(found["scales"][0]), int(found["zero_points"][0])


def _changed(path: Path, spec: TensorSpec, array: np.ndarray) -> BackendError:
    return BackendError(
        f"output {spec.name!r} of {path.name} changed its shape",
        cause=f"{list(array.shape)} for this input, {list(spec.shape)} for zeros",
        fix="convert the model so that the sizes of its outputs do not depend on its input",
    )
