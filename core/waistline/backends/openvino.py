"""ONNX and TFLite with OpenVINO, on any of its devices; extra ``openvino``.

Four defaults of the engine are turned here. It computes float models in bf16 or f16 where the
processor has them, so f32 is asked for. Its int8 kernels saturate on processors without VNNI (a
fifth of one layer's elements were wrong, by up to 100 of 256 steps), so quantized models are
computed in float, which gave LiteRT's codes. It would pin threads to cores that other slices need.
And importing it reports to its maker (it writes files in the home folder and asks DNS at once),
which stops when the package that reports cannot be imported, from before it is imported.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from waistline.backends._checks import check_extra, check_tensors, ordered
from waistline.backends._openvino_engine import FOREIGN, core, engine, read, telemetry, version
from waistline.backends._openvino_errors import cannot_compile, failed_run
from waistline.backends._openvino_probe import probe
from waistline.backends._openvino_profile import KernelRow, executed, layer_times, whole_as_layer
from waistline.backends._openvino_tensors import (
    Port,
    named,
    quantizations,
    under_file_names,
)
from waistline.backends._tflite_file import read_checked
from waistline.backends.base import BackendOptions, Profile
from waistline.errors import ConfigError
from waistline.tensors import TensorSpec

__all__ = ["OpenVino", "OpenVinoSlice", "open_backend", "probe"]

PRECISIONS = ("f32", "f16", "bf16")
_ONE_PRECISION = ("NPU",)
"""Devices that have one precision of their own and take no hint."""
_CHOOSERS = ("AUTO", "MULTI", "HETERO", "BATCH")
"""Devices that stand for others, and do not hand on what a slice is compiled with."""
_INT8_KERNELS = "LP_TRANSFORMS_MODE"


class OpenVino:
    formats = ("onnx", "tflite")

    def __init__(self, options: BackendOptions) -> None:
        check_extra(options.extra, ("device", "precision"), "openvino")
        self._threads = options.threads
        self._exact = options.exact
        self._device = options.extra.get("device", "CPU").upper()
        self._precision = options.extra.get("precision", "")
        if self._device.split(":")[0] in _CHOOSERS:
            raise ConfigError(
                f"backend openvino does not take device={self._device}",
                cause="it would choose the device by itself and drop precision and threads",
                fix="name the device: device=CPU, device=GPU, ..; 'waistline devices' lists them",
            )
        if self._precision not in ("", *PRECISIONS):
            raise ConfigError(
                f"backend openvino has no precision {self._precision!r}",
                cause=f"known: {', '.join(PRECISIONS)}",
                fix="use precision=f32",
            )

    def open(
        self,
        path: Path,
        *,
        inputs: Sequence[str] | None = None,
        outputs: Sequence[str] | None = None,
    ) -> OpenVinoSlice:
        return OpenVinoSlice(path, self._device, self.settings(), inputs, outputs)

    def settings(self) -> dict[str, Any]:
        """Properties that a slice is compiled with."""
        made: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
        if self._precision or self._device.split(".")[0] not in _ONE_PRECISION:
            made["INFERENCE_PRECISION_HINT"] = self._precision or "f32"
        if self._exact:
            made["EXECUTION_MODE_HINT"] = "ACCURACY"
        if self._device == "CPU":
            made |= {"NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False, _INT8_KERNELS: False}
            if self._threads:
                made["INFERENCE_NUM_THREADS"] = self._threads
        return made


class OpenVinoSlice:
    def __init__(
        self,
        path: Path,
        device: str,
        settings: Mapping[str, Any],
        inputs: Sequence[str] | None,
        outputs: Sequence[str] | None,
    ) -> None:
        self._path = path
        self._device = device
        self._settings = dict(settings)
        self._model, kind = read(path)
        self._quantized = quantizations(path) if kind == "tflite" else None
        self._compiled = self._compile()
        self._request = self._compiled.create_infer_request()
        given = named(self._model.inputs, inputs)
        made = named(self._model.outputs, outputs)
        passing = set[str]()
        if kind == "tflite":
            made, passing = under_file_names(made, read_checked(path))
        self.inputs = ordered(self._specs(given), inputs, path, "input")
        self._feeds = [given[spec.name].index for spec in self.inputs]
        self.outputs = ordered(self._output_specs(made), outputs, path, "output")
        self._results = [made[spec.name].index for spec in self.outputs]
        places = {spec.name: k for k, spec in enumerate(self.inputs) if spec.name in passing}
        self._passing = [places.get(spec.name) for spec in self.outputs]

    def _compile(self, **more: Any) -> Any:
        try:
            return core().compile_model(self._model, self._device, {**self._settings, **more})
        except FOREIGN as error:
            known = core().available_devices
            raise cannot_compile(self._path, self._device, str(error), engine(), known) from error

    def _output_specs(self, made: Mapping[str, Port]) -> dict[str, TensorSpec]:
        """Shapes the file leaves open are learnt from one run on zeros."""
        if all(port.shape is not None for port in made.values()):
            return self._specs(made)
        found = self._infer([np.zeros(spec.shape, spec.numpy_dtype) for spec in self.inputs])
        return self._specs(
            {name: port.with_shape(found[port.index].shape) for name, port in made.items()}
        )

    def _specs(self, ports: Mapping[str, Port]) -> dict[str, TensorSpec]:
        known = self._quantized
        return {name: port.spec(name, self._path, known) for name, port in ports.items()}

    def run(self, tensors: Sequence[np.ndarray]) -> list[np.ndarray]:
        check_tensors(self.inputs, tensors, self._path.name)
        found = self._infer(tensors)
        taken: set[int] = set()
        results = []
        for index, given in zip(self._results, self._passing, strict=True):
            if given is not None:
                results.append(tensors[given].copy())
                continue
            results.append(found[index].copy() if index in taken else found[index])
            taken.add(index)
        return results

    def _infer(self, tensors: Sequence[np.ndarray], request: Any = None) -> list[np.ndarray]:
        """Copies of all the model's results, in the file's order.

        Inputs are lent, not copied: a copy of 300 kB cost 0.1 ms, three times the call itself.
        """
        feeds = dict(zip(self._feeds, tensors, strict=True))
        try:
            return list((request or self._request).infer(feeds, share_inputs=True).values())
        except FOREIGN as error:
            raise failed_run(self._path, str(error)) from error

    def profile(self, tensors: Sequence[np.ndarray], repeat: int) -> Profile:
        """Layer times by the engine's own counters, and the time of the slice in service.

        Layers carry the engine's names after fusion: those of the file for ONNX, operator numbers
        for TFLite. The counters resolve 1 µs and cost next to nothing; the whole is timed without
        them all the same.
        """
        whole = []
        for _ in range(repeat + 1):
            started = time.perf_counter()
            self.run(tensors)
            whole.append(time.perf_counter() - started)
        request = self._compile(PERF_COUNT=True).create_infer_request()
        runs = []
        for _ in range(repeat + 1):
            self._infer(tensors, request)
            runs.append(
                executed(
                    KernelRow(
                        row.node_name, row.node_type, row.exec_type, row.real_time.total_seconds()
                    )
                    for row in request.get_profiling_info()
                )
            )
        layers = layer_times(runs[1:])
        whole_s = statistics.median(whole[1:])
        note = "layers as fused for service, resolution 1 µs"
        if not layers:
            note = "the engine's counters name no layer of this slice; it is given as one"
            layers = whole_as_layer(self._path.stem, whole_s)
        return Profile("native", layers, whole_s, repeat, note)

    def info(self) -> dict[str, str]:
        return {
            "engine": "openvino",
            "version": version(),
            "device": ", ".join(self._asked("EXECUTION_DEVICES") or [self._device]),
            "precision": self._precision(),
            "threads": str(self._asked("INFERENCE_NUM_THREADS") or "the device's"),
            "optimisation": "all; this engine cannot switch it off",
            "execution": self._settings.get("EXECUTION_MODE_HINT", "PERFORMANCE").lower(),
            "telemetry": telemetry(),
        }

    def _precision(self) -> str:
        found = self._asked("INFERENCE_PRECISION_HINT")
        return "the device's own" if found is None else found.get_type_name()

    def _asked(self, name: str) -> Any:
        """A property as the compiled slice has it; None where the device has no such property."""
        try:
            return self._compiled.get_property(name)
        except FOREIGN:
            return None

    def close(self) -> None:
        del self._request, self._compiled, self._model


def open_backend(options: BackendOptions) -> OpenVino:
    core()
    return OpenVino(options)
