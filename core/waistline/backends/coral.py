"""TFLite compiled for the Edge TPU, through libedgetpu; extra ``coral``.

Driven by tflite-runtime, else LiteRT (which no one has confirmed with libedgetpu). The library is
tried in a child process first, each time a slice is opened, because one that does not fit ends the
process. The package named ``pycoral`` on PyPI has nothing to do with Coral; nothing here imports
it, and Google's own is a thin layer over what is done here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from waistline.backends._checks import check_extra
from waistline.backends._coral import LIBRARY, Setup, Verdict, no_device, trial
from waistline.backends._coral_devices import devices
from waistline.backends._tflite import Engine, TfliteSlice
from waistline.backends._tflite_errors import EDGE_TPU
from waistline.backends._tflite_file import read_checked
from waistline.backends._tflite_runtime import FOREIGN, PACKAGES, Runtime, require, runtime
from waistline.backends.base import BackendOptions, Probe
from waistline.errors import BackendError, ConfigError
from waistline.plugins import missing_extra

_INSTALLED = require(("tflite-runtime", "litert"))
_DEVICE = re.compile(r"((usb|pci)(:\d{1,2})?)?")
_PROBE_TIMEOUT_S = 4.0


@dataclass(frozen=True)
class EdgeTpu(Engine):
    """As `Engine`; its delegate lives as long as the interpreters that use it."""

    device: str = ""
    library: str = ""
    library_version: str = ""

    def info(self) -> dict[str, str]:
        return {
            **super().info(),
            "device": f"Edge TPU {self.device}".rstrip(),
            "library": self.library,
            "library_version": self.library_version or "not said",
        }


class Coral:
    formats = ("tflite",)

    def __init__(self, options: BackendOptions) -> None:
        check_extra(options.extra, ("library", "device", "runtime"), "coral")
        self._threads = max(1, options.threads)
        self._kernels = "builtin" if options.exact else "xnnpack"
        device = options.extra.get("device", "")
        if not _DEVICE.fullmatch(device):
            raise ConfigError(
                f"{device!r} is not an Edge TPU",
                cause="usb, usb:0, pci:0 and so on can be given",
                fix="'waistline devices' lists what is there",
            )
        library = options.extra.get("library", LIBRARY)
        self._setup = Setup(_chosen(options.extra.get("runtime", "")), library, device)

    def open(
        self,
        path: Path,
        *,
        inputs: Sequence[str] | None = None,
        outputs: Sequence[str] | None = None,
    ) -> TfliteSlice:
        facts = read_checked(path)
        if EDGE_TPU not in facts.custom_operators:
            raise BackendError(
                f"{path} was not compiled for the Edge TPU",
                cause=f"it has no operator {EDGE_TPU}",
                fix=f"edgetpu_compiler {path.name}, on x86-64 Linux, from an int8 model; or use"
                " --backend litert",
            )
        verdict = trial(self._setup, facts.data)
        if verdict.state != "ok":
            raise BackendError(verdict.what, cause=verdict.cause, fix=verdict.fix)
        engine = EdgeTpu(
            self._setup.runtime,
            self._threads,
            self._kernels,
            (self._delegate(),),
            self._setup.device,
            self._setup.library,
            verdict.version,
        )
        return TfliteSlice(path, facts, engine, inputs, outputs)

    def _delegate(self) -> Any:
        setup = self._setup
        try:
            return setup.runtime.module.load_delegate(setup.library, setup.options)
        except FOREIGN as error:
            verdict = no_device(setup, devices(), " ".join(str(error).split()))
            raise BackendError(verdict.what, cause=verdict.cause, fix=verdict.fix) from error


def _chosen(name: str) -> Runtime:
    """The runtime a user asked for, or the first that works.

    Raises:
        ConfigError: no such runtime.
        MissingExtra: it is not installed.
        BackendError: it does not work here.
    """
    if name and name not in PACKAGES:
        raise ConfigError(
            f"backend coral has no runtime {name!r}",
            cause=f"known: {', '.join(PACKAGES)}",
            fix=f"use runtime={_INSTALLED[0]}",
        )
    if name and name not in _INSTALLED:
        raise missing_extra(PACKAGES[name], needed_by="coral")
    *others, last = (name,) if name else _INSTALLED
    for other in others:
        try:
            return runtime(other)
        except BackendError:
            continue
    return runtime(last)


def probe() -> tuple[Probe, ...]:
    """Every Edge TPU the system sees, or what keeps any from being used."""
    try:
        chosen = _chosen("")
    except BackendError as error:
        return (Probe("Edge TPU", "wrong version", str(error), error.fix),)
    seen = devices()
    if not seen:
        setup = Setup(chosen, LIBRARY, "")
        return (_probed("Edge TPU", trial(setup, timeout_s=_PROBE_TIMEOUT_S, seen=seen)),)
    found = []
    for one in seen[:2]:
        setup = Setup(chosen, LIBRARY, one.name)
        verdict = (
            trial(setup, timeout_s=_PROBE_TIMEOUT_S, seen=seen)
            if one.permitted
            else no_device(setup, seen)
        )
        found.append(_probed(f"Edge TPU {one.name}", verdict))
    return tuple(found)


def _probed(device: str, verdict: Verdict) -> Probe:
    if verdict.state == "ok":
        return Probe(device, "ok", verdict.version or f"{LIBRARY} opened it")
    return Probe(device, verdict.state, f"{verdict.what}; {verdict.cause}", verdict.fix)


def open_backend(options: BackendOptions) -> Coral:
    return Coral(options)
