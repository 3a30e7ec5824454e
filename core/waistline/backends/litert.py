"""TFLite on the CPU with LiteRT, else with tflite-runtime; extras ``litert``, ``tflite-runtime``.

Kernels: ``xnnpack`` (the engine's default) fuses neighbours and was 3 to 6 times faster than
``builtin``, which computes each operator by itself, and 17 to 90 times faster than ``reference``.
Cuts of the models tried gave equal bits with all three; with ``builtin`` they must, because what an
operator computes does not depend on its neighbours, so that is what ``exact`` means.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from waistline.backends._checks import check_extra
from waistline.backends._tflite import RESOLVERS, Engine, TfliteSlice
from waistline.backends._tflite_errors import EDGE_TPU, custom_operator
from waistline.backends._tflite_file import read_checked
from waistline.backends._tflite_runtime import DISTRIBUTIONS, PACKAGES, require, runtime
from waistline.backends.base import BackendOptions, Probe
from waistline.errors import BackendError, ConfigError
from waistline.plugins import missing_extra

_INSTALLED = require(("litert", "tflite-runtime"))


class LiteRt:
    formats = ("tflite",)

    def __init__(self, options: BackendOptions) -> None:
        check_extra(options.extra, ("runtime", "kernels"), "litert")
        kernels = options.extra.get("kernels", "builtin" if options.exact else "xnnpack")
        if kernels not in RESOLVERS:
            raise ConfigError(
                f"backend litert has no kernels {kernels!r}",
                cause=f"known: {', '.join(RESOLVERS)}",
                fix="use kernels=xnnpack",
            )
        chosen = _chosen(options.extra.get("runtime", ""))
        self._engine = Engine(runtime(chosen), max(1, options.threads), kernels)

    def open(
        self,
        path: Path,
        *,
        inputs: Sequence[str] | None = None,
        outputs: Sequence[str] | None = None,
    ) -> TfliteSlice:
        facts = read_checked(path)
        if EDGE_TPU in facts.custom_operators:
            raise custom_operator(path, EDGE_TPU, self._engine.runtime.shown)
        return TfliteSlice(path, facts, self._engine, inputs, outputs)


def _chosen(name: str) -> str:
    """The runtime a user asked for, or the best that is installed.

    Raises:
        ConfigError: no such runtime.
        MissingExtra: it is not installed.
    """
    if name and name not in PACKAGES:
        raise ConfigError(
            f"backend litert has no runtime {name!r}",
            cause=f"known: {', '.join(PACKAGES)}",
            fix=f"use runtime={_INSTALLED[0]}",
        )
    if name and name not in _INSTALLED:
        raise missing_extra(PACKAGES[name], needed_by=name)
    return name or _INSTALLED[0]


def probe() -> tuple[Probe, ...]:
    """The CPU, with each runtime that is installed."""
    return tuple(_probed(name) for name in _INSTALLED)


def _probed(name: str) -> Probe:
    try:
        found = runtime(name)
    except BackendError as error:
        wrong = "NumPy" in error.what
        return Probe(f"CPU ({name})", "wrong version" if wrong else "failed", str(error), error.fix)
    return Probe(f"CPU ({name})", "ok", f"{DISTRIBUTIONS[name]} {found.version}")


def open_backend(options: BackendOptions) -> LiteRt:
    return LiteRt(options)
