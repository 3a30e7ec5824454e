"""What this machine can do, and what to do about what it cannot."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from waistline import __version__, provenance
from waistline.codec import native
from waistline.errors import WaistlineError
from waistline_hostctl import devices
from waistline_hostctl.results import DoctorResult, Finding

LIBRARIES = (
    "waistline", "numpy", "msgspec", "zstandard", "pillow", "click", "onnx", "onnxruntime",
    "prometheus-client",
)  # fmt: skip
_EXTRAS = (
    ("prometheus_client", "edge", "Prometheus metrics of the edge"),
    ("torch", "train", "training the example again"),
)
_FREE_BYTES = 200_000_000


def examine() -> DoctorResult:
    """Look at everything; takes as long as importing the engines."""
    return DoctorResult(
        version=__version__,
        commit=provenance.commit(),
        machine=provenance.machine(),
        libraries=provenance.libraries(LIBRARIES),
        findings=tuple(_findings()),
    )


def _findings() -> Iterator[Finding]:
    yield Finding("python", "ok", f"{sys.version.split()[0]} in {sys.prefix}")
    yield _codec()
    yield from _engines()
    yield _onnx()
    for module, extra, purpose in _EXTRAS:
        if importlib.util.find_spec(module) is None:
            fix = f"pip install 'waistline[{extra}]'"
            yield Finding(f"extra {extra}", "info", f"not installed: {purpose}", fix)
        else:
            yield Finding(f"extra {extra}", "ok", purpose)
    yield _governor()
    yield _disk()


def _codec() -> Finding:
    try:
        why_not = native.reason()
    except WaistlineError as error:
        return Finding("codec", "fail", str(error), error.fix)
    if not why_not:
        return Finding("codec", "ok", "compiled (C)")
    return Finding(
        "codec",
        "warn",
        f"NumPy, same bits but slower: {why_not}",
        "install a C compiler, then: pip install --force-reinstall --no-deps waistline",
    )


def _engines() -> Iterator[Finding]:
    found = [row for row in devices.engines() if row.id != devices.FAKE]
    for row in found:
        name = f"engine {row.id}"
        if row.state == devices.USABLE:
            yield Finding(name, "ok", row.detail)
        elif row.state == devices.NOT_INSTALLED:
            yield Finding(name, "info", row.state, row.detail)
        else:
            yield Finding(name, "fail", row.detail, f"pip install 'waistline[{row.id}]'")
    if not any(row.state == devices.USABLE for row in found):
        yield Finding(
            "engines", "fail", "no inference engine", "pip install 'waistline[onnxruntime]'"
        )


def _onnx() -> Finding:
    if importlib.util.find_spec("onnx") is None:
        return Finding(
            "onnx", "fail", "not installed: models cannot be cut", "pip install 'waistline[host]'"
        )
    return Finding("onnx", "ok", "".join(row.version for row in provenance.libraries(["onnx"])))


def _governor() -> Finding:
    machine = provenance.machine()
    text = f"{machine.cores} cores, {machine.processor}, {machine.architecture}"
    if machine.governor in {"", "performance"}:
        return Finding("processor", "ok", text)
    fix = "for steady times: sudo cpupower frequency-set -g performance"
    return Finding("processor", "info", f"{text}, governor {machine.governor}", fix)


def _disk() -> Finding:
    folder = Path.cwd()
    free_bytes = shutil.disk_usage(folder).free
    text = f"{free_bytes / 1e9:.1f} GB free in {folder}"
    if not os.access(folder, os.W_OK):
        return Finding("disk", "warn", f"{folder} is read-only", "run from a folder of your own")
    level = "ok" if free_bytes >= _FREE_BYTES else "warn"
    return Finding("disk", level, text, "" if level == "ok" else "free some space for runs/")
