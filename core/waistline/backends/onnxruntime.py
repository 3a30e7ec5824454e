"""ONNX on the CPU with onnxruntime; extra ``onnxruntime``.

Idle worker threads never spin: several sessions live in one process, and spinning workers of one
take the cores of the next (60 % slower in a measured pair of slices). The engine's telemetry is
switched off in the environment, which must happen before it is imported: its own call to do so
still wrote a file and asked DNS.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from waistline.backends._checks import check_extra, check_tensors, ordered
from waistline.backends._ort_errors import cannot_open, failed_run
from waistline.backends._ort_profile import node_times
from waistline.backends.base import BackendOptions, Profile
from waistline.errors import BackendError
from waistline.tensors import DTYPES, TensorSpec

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as _state

FATAL_ONLY = 4
"""Log severity: what goes wrong reaches the user as an exception, once."""
_FOREIGN = (
    _state.EPFail,
    _state.Fail,
    _state.InvalidArgument,
    _state.InvalidGraph,
    _state.InvalidProtobuf,
    _state.NoSuchFile,
    _state.NotImplemented,
    _state.RuntimeException,
    RuntimeError,
    ValueError,
)
_TYPES = {
    **{f"tensor({name})": name for name in DTYPES},
    "tensor(float)": "float32",
    "tensor(double)": "float64",
}


class OnnxRuntime:
    formats = ("onnx",)

    def __init__(self, options: BackendOptions) -> None:
        check_extra(options.extra, (), "onnxruntime")
        self.options = options

    def open(
        self,
        path: Path,
        *,
        inputs: Sequence[str] | None = None,
        outputs: Sequence[str] | None = None,
    ) -> OnnxSlice:
        return OnnxSlice(path, self.options, inputs, outputs)


class OnnxSlice:
    def __init__(
        self,
        path: Path,
        options: BackendOptions,
        inputs: Sequence[str] | None,
        outputs: Sequence[str] | None,
    ) -> None:
        self._path = path
        self._options = options
        self._session = _open(path, session_options(options, _service_level(options)))
        got = self._session.get_inputs()
        self.inputs = ordered(
            {arg.name: _spec(arg, tuple(arg.shape), path) for arg in got}, inputs, path, "input"
        )
        self.outputs = ordered(self._output_specs(), outputs, path, "output")
        self._output_names = [spec.name for spec in self.outputs]

    def _output_specs(self) -> dict[str, TensorSpec]:
        """Shapes the file leaves open are learnt from one run on zeros."""
        args = self._session.get_outputs()
        shapes = [tuple(arg.shape) for arg in args]
        if not all(_fixed(shape) for shape in shapes):
            zeros = [np.zeros(spec.shape, spec.numpy_dtype) for spec in self.inputs]
            shapes = [array.shape for array in self._run([arg.name for arg in args], zeros)]
        return {
            arg.name: _spec(arg, shape, self._path) for arg, shape in zip(args, shapes, strict=True)
        }

    def run(self, tensors: Sequence[np.ndarray]) -> list[np.ndarray]:
        check_tensors(self.inputs, tensors, self._path.name)
        return self._run(self._output_names, tensors)

    def _run(self, names: Sequence[str], tensors: Sequence[np.ndarray]) -> list[np.ndarray]:
        feeds = {spec.name: tensor for spec, tensor in zip(self.inputs, tensors, strict=True)}
        try:
            found: list[np.ndarray] = self._session.run(names, feeds)
        except _FOREIGN as error:
            raise failed_run(self._path, str(error)) from error
        return found

    def profile(self, tensors: Sequence[np.ndarray], repeat: int) -> Profile:
        """Layer times by the engine's own profiler, and the time of the slice in service.

        Layers are timed at the basic optimisation level, where they keep the names of the model
        file; the whole is timed at the level used in service, unprofiled. The profiler costs about
        5 µs a node, so layers of that order are overestimated.
        """
        check_tensors(self.inputs, tensors, self._path.name)
        basic = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        level = _service_level(self._options) if self._options.exact else basic
        feeds = {spec.name: tensor for spec, tensor in zip(self.inputs, tensors, strict=True)}

        def profiled(prefix: Path) -> Path:
            options = session_options(self._options, level)
            options.enable_profiling = True
            options.profile_file_prefix = str(prefix)
            session = _open(self._path, options)
            for _ in range(repeat + 1):
                session.run(self._output_names, feeds)
            return Path(session.end_profiling())

        whole = []
        for _ in range(repeat + 1):
            started = time.perf_counter()
            self.run(tensors)
            whole.append(time.perf_counter() - started)
        try:
            layers = node_times(profiled)
        except _FOREIGN as error:
            raise failed_run(self._path, str(error)) from error
        note = "no optimisation" if self._options.exact else "layers at basic optimisation"
        return Profile("native", layers, statistics.median(whole[1:]), repeat, note)

    def info(self) -> dict[str, str]:
        return {
            "engine": "onnxruntime",
            "version": ort.__version__,
            "device": "CPU",
            "precision": "as stored",
            "threads": str(self._options.threads or os.cpu_count()),
            "optimisation": "none" if self._options.exact else "all",
            "telemetry": "off",
        }

    def close(self) -> None:
        del self._session


def session_options(
    options: BackendOptions, level: ort.GraphOptimizationLevel
) -> ort.SessionOptions:
    """Options of every session: quiet, bounded threads, no spinning."""
    made = ort.SessionOptions()
    made.log_severity_level = FATAL_ONLY
    made.graph_optimization_level = level
    made.intra_op_num_threads = options.threads
    made.inter_op_num_threads = 1
    made.add_session_config_entry("session.intra_op.allow_spinning", "0")
    made.add_session_config_entry("session.inter_op.allow_spinning", "0")
    # Else int8 products saturate in pairs on x86 without VNNI: 5 % of a quantized model's answers.
    made.add_session_config_entry("session.x64quantprecision", "1")
    return made


def _service_level(options: BackendOptions) -> ort.GraphOptimizationLevel:
    levels = ort.GraphOptimizationLevel
    return levels.ORT_DISABLE_ALL if options.exact else levels.ORT_ENABLE_ALL


def _open(path: Path, options: ort.SessionOptions) -> ort.InferenceSession:
    if not path.is_file():
        raise BackendError(
            f"{path} cannot be opened",
            cause="it is a folder" if path.exists() else "there is no such file",
            fix="check the path, or write the bundle again with 'waistline split'",
        )
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except _FOREIGN as error:
        raise cannot_open(path, str(error), ort.__version__) from error


def _fixed(shape: Sequence[object]) -> bool:
    return all(isinstance(axis, int) and axis > 0 for axis in shape)


def _spec(arg: ort.NodeArg, shape: tuple[int, ...], path: Path) -> TensorSpec:
    if arg.type not in _TYPES:
        cause = f"{arg.name!r} is a {arg.type}, which is not a tensor that can cross a cut"
    elif not _fixed(shape):
        cause = f"{arg.name!r} has the open shape {list(shape)}"
    else:
        return TensorSpec(arg.name, _TYPES[arg.type], shape)
    raise BackendError(
        f"{path} cannot be run as a slice",
        cause=cause,
        fix=f"fix its shape: 'waistline split {path} --shape {arg.name}=1,..'",
    )


def open_backend(options: BackendOptions) -> OnnxRuntime:
    return OnnxRuntime(options)
