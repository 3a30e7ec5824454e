"""ONNX on Intel's Neural Compute Stick 2, through a worker in an interpreter of its own.

The stick's driver is in no OpenVINO wheel after 2021.4.2, which ends at Python 3.9, so another
interpreter runs ``_ncs2_worker.py`` and this end speaks to it over a pipe. The same worker runs
slices on the CPU, with any OpenVINO, which is how it is tested without a stick. The stick computes
in f16, whatever the model holds.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np

from waistline.backends import _ncs2_errors as errors
from waistline.backends._checks import check_extra, check_tensors, ordered
from waistline.backends._ncs2_errors import STICK
from waistline.backends._ncs2_pipe import Worker, worker_file
from waistline.backends._ncs2_worker import PROTOCOL
from waistline.backends._openvino_errors import check_file, useful_line
from waistline.backends._openvino_profile import KernelRow, executed, layer_times, whole_as_layer
from waistline.backends.base import BackendOptions, Probe, Profile
from waistline.errors import BackendError, BundleError, ConfigError, MissingExtra, WaistlineError
from waistline.tensors import TensorSpec, check_spec
from waistline.toolenv import tool_python

TIMEOUT_S = 120.0
"""What one answer may take; compiling a network for the stick takes the longest."""
_PROBE_TIMEOUT_S = 8.0
_T = TypeVar("_T")


class _Hello(msgspec.Struct):
    protocol: int
    dialect: str
    version: str
    python: str
    devices: list[str]


class _Opened(msgspec.Struct):
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]


class _Sticks(msgspec.Struct):
    devices: list[str]


class _Counts(msgspec.Struct):
    rows: list[tuple[str, str, str, float]]


class Ncs2:
    formats = ("onnx",)

    def __init__(self, options: BackendOptions) -> None:
        check_extra(options.extra, ("device", "python", "timeout_s"), "ncs2")
        self._threads = options.threads
        self._device = options.extra.get("device", STICK)
        self._python = options.extra.get("python", "")
        self._timeout_s = _seconds(options.extra.get("timeout_s", f"{TIMEOUT_S:g}"))
        if self._device != "CPU" and self._device.partition(".")[0] != STICK:
            raise ConfigError(
                f"backend ncs2 has no device {self._device!r}",
                cause=f"known: {STICK}, {STICK}.<id>, CPU",
                fix=f"use device={STICK}",
            )

    def open(
        self,
        path: Path,
        *,
        inputs: Sequence[str] | None = None,
        outputs: Sequence[str] | None = None,
    ) -> Ncs2Slice:
        check_file(path)
        worker = Worker([interpreter(self._python), str(worker_file())], self._timeout_s)
        try:
            return Ncs2Slice(worker, path, self._device, self._threads, inputs, outputs)
        except BaseException:
            worker.close()
            raise


class Ncs2Slice:
    def __init__(
        self,
        worker: Worker,
        path: Path,
        device: str,
        threads: int,
        inputs: Sequence[str] | None,
        outputs: Sequence[str] | None,
    ) -> None:
        self._worker = worker
        self._path = path
        self._device = device
        self._threads = threads
        self._hello = greet(worker)
        if device.partition(".")[0] == STICK:
            self._check_sticks()
        opened = self._ask(
            _Opened,
            op="open",
            path=str(path.resolve()),
            device=device,
            threads=threads,
            inputs=inputs,
            outputs=outputs,
        )
        self.inputs = ordered(_named(opened.inputs), inputs, path, "input")
        self.outputs = ordered(_named(opened.outputs), outputs, path, "output")

    def _check_sticks(self) -> None:
        sticks = self._ask(_Sticks, op="sticks").devices
        if not sticks:
            raise errors.no_stick(self._engine, errors.usb_sticks())
        if len(sticks) > 1 and self._device == STICK:
            raise errors.choose_stick(sticks)

    @property
    def _engine(self) -> str:
        return f"openvino {self._hello.version.partition('-')[0]}"

    def run(self, tensors: Sequence[np.ndarray]) -> list[np.ndarray]:
        check_tensors(self.inputs, tensors, self._path.name)
        told, arrays = self._worker.ask({"op": "run"}, tensors, self.outputs)
        self._check(told)
        return arrays

    def _ask(self, kind: type[_T], tensors: Sequence[np.ndarray] = (), **body: Any) -> _T:
        told, _ = self._worker.ask(body, tensors)
        self._check(told)
        return _converted(told, kind)

    def _check(self, told: dict[str, Any]) -> None:
        if "error" in told:
            raise errors.refused(
                str(told["error"]),
                str(told.get("message", "")),
                path=self._path,
                device=self._device,
                engine=self._engine,
                printed=self._worker.printed,
            )

    def profile(self, tensors: Sequence[np.ndarray], repeat: int) -> Profile:
        """Layer times by the engine's own counters, and the time of the slice in service.

        The whole is timed at this end: it has the pipe's time in it, the layers have not.
        """
        whole = []
        for _ in range(repeat + 1):
            started = time.perf_counter()
            self.run(tensors)
            whole.append(time.perf_counter() - started)
        runs = []
        for _ in range(repeat + 1):
            counted = self._ask(_Counts, tensors, op="counts")
            runs.append(executed(KernelRow(n, o, k, us * 1e-6) for n, o, k, us in counted.rows))
        layers = layer_times(runs[1:])
        note = "layers as fused for service, resolution 1 µs; the whole includes the pipe"
        whole_s = statistics.median(whole[1:])
        if not layers:
            note = "the engine's counters name no layer of this slice; it is given as one"
            layers = whole_as_layer(self._path.stem, whole_s)
        return Profile("native", layers, whole_s, repeat, note)

    def info(self) -> dict[str, str]:
        on_cpu = self._device == "CPU"
        found = {
            "engine": "openvino in a worker",
            "version": self._hello.version.partition("-")[0],
            "device": self._device,
            "precision": "f32" if on_cpu else "f16",
            "threads": str(self._threads or "the engine's") if on_cpu else "the stick's",
            "optimisation": "all; this engine cannot switch it off",
            "dialect": self._hello.dialect,
            "python": self._hello.python,
        }
        if fallback := errors.opset_fallback(self._worker.printed):
            found["opset"] = f"{fallback[0]}, read as {fallback[1]}"
        return found

    def close(self) -> None:
        self._worker.close()


def interpreter(chosen: str) -> str:
    """The interpreter that runs the worker: the one chosen, else the one of the tool environment.

    Raises:
        MissingExtra: none was chosen and none is installed.
    """
    if chosen:
        return chosen
    return str(tool_python("ncs2"))


def greet(worker: Worker) -> _Hello:
    """Agree on the protocol with a new worker, and learn what it runs.

    Raises:
        BackendError: it has no engine, or speaks another protocol.
    """
    told, _ = worker.ask({"op": "hello", "protocols": [PROTOCOL]})
    if "error" in told:
        raise errors.refused(
            str(told["error"]),
            str(told.get("message", "")),
            path=worker_file(),
            device="",
            engine="the worker's engine",
            printed=worker.printed,
        )
    hello = _converted(told, _Hello)
    if hello.protocol != PROTOCOL:
        raise BackendError(
            "the NCS2 worker does not speak this version's protocol",
            cause=f"it speaks {hello.protocol}, this end {PROTOCOL}",
            fix="install waistline again; the worker is part of it",
        )
    return hello


def _converted(told: dict[str, Any], kind: type[_T]) -> _T:
    try:
        return msgspec.convert(told, kind)
    except msgspec.ValidationError as error:
        raise BackendError(
            "the NCS2 worker gave an answer that is none", cause=str(error)
        ) from error


def _named(specs: Sequence[TensorSpec]) -> dict[str, TensorSpec]:
    try:
        return {check_spec(spec).name: spec for spec in specs}
    except BundleError as error:
        raise BackendError(
            "the NCS2 worker names a tensor that cannot be one", cause=str(error)
        ) from error


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.0 < seconds <= 3600.0:
        raise ConfigError(f"timeout_s={text} is not between 0 and 3600 seconds")
    return seconds


def probe() -> tuple[Probe, ...]:
    """Every stick that the tool environment's engine finds, or what is in the way."""
    try:
        python = interpreter("")
    except (MissingExtra, ImportError) as error:
        return (Probe("NCS2", "missing library", str(error), errors.INSTALL),)
    try:
        with closing(Worker([python, str(worker_file())], _PROBE_TIMEOUT_S)) as worker:
            hello = greet(worker)
            told, _ = worker.ask({"op": "sticks"})
            engine = f"openvino {hello.version.partition('-')[0]}, Python {hello.python}"
            if "error" not in told:
                return _found(_converted(told, _Sticks).devices, engine)
    except WaistlineError as error:
        return (Probe("NCS2", "failed", str(error), error.fix),)
    message = str(told.get("message", ""))
    unknown = "is not registered" in message
    return (
        Probe(
            "NCS2",
            "wrong version" if unknown else "failed",
            f"{engine}: {useful_line(message)}",
            errors.INSTALL,
        ),
    )


def _found(sticks: Sequence[str], engine: str) -> tuple[Probe, ...]:
    if sticks:
        return tuple(Probe(f"{STICK}.{stick}", "ok", engine) for stick in sticks)
    seen = errors.usb_sticks()
    error = errors.no_stick(engine, seen)
    return (Probe("NCS2", "no permission" if seen else "missing device", error.cause, error.fix),)


def open_backend(options: BackendOptions) -> Ncs2:
    return Ncs2(options)
