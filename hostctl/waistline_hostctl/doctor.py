"""What this machine can do, and what to do about what it cannot. Nothing is written."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from waistline import __version__, provenance, toolenv
from waistline.codec import native
from waistline.errors import WaistlineError
from waistline.plugins import pip_install
from waistline_hostctl import doctor_packages as packages
from waistline_hostctl import mcu_survey, meter_survey, survey, wheels
from waistline_hostctl.devices import BLOB, FAKE, UNTRIED, plain, tried
from waistline_hostctl.results import DoctorResult, Finding

LIBRARIES = (
    "waistline", "numpy", "msgspec", "zstandard", "pillow", "click", "onnx", "onnxruntime",
    "ai-edge-litert", "tflite-runtime", "openvino", "av", "pyserial", "prometheus-client",
)  # fmt: skip
BASE, ENGINES, SOURCES, LINKS, TOOLS, MACHINE = (
    packages.BASE, "engines", "sources", "links", "tools", "machine",
)  # fmt: skip
BOARDS = mcu_survey.BOARDS
METERS = meter_survey.METERS
GROUPS = (
    BASE, ENGINES, BOARDS, METERS, TOOLS, SOURCES, LINKS, packages.EXTRAS, packages.TRAPS, MACHINE,
)  # fmt: skip
"""In the order in which they are shown."""
_FREE_BYTES = 200_000_000
_TROUBLE = {"wrong version", "no permission", "failed"}
"""States of something that is installed, and meant to work."""


def examine(*, only: Iterable[str] | None = None) -> DoctorResult:
    """Look at everything; takes as long as the slowest engine's probe.

    Args:
        only: the base and these engines, for a caller that needs no more.
    """
    return DoctorResult(
        version=__version__,
        commit=provenance.commit(),
        machine=provenance.machine(),
        libraries=provenance.libraries(LIBRARIES),
        findings=tuple(_findings(None if only is None else tuple(only))),
        wheels=wheels.wheels() if only is None else (),
    )


def _findings(only: tuple[str, ...] | None) -> Iterator[Finding]:
    yield _python()
    yield _codec()
    yield from packages.base()
    yield _onnx()
    rows = survey.survey() if only is None else survey.survey_engines(only)
    yield from _engines([row for row in rows if row.package == survey.BACKENDS])
    if only is None:
        yield from mcu_survey.findings()
        yield from meter_survey.findings(meter_survey.rows())
        yield from _tools()
        for package, group in ((survey.SOURCES, SOURCES), (survey.LINKS, LINKS)):
            for row in rows:
                if row.package == package:
                    yield _finding(row, group, f"{group[:-1]} {row.name}", row.detail)
        yield from packages.extras()
    yield from packages.traps()
    yield _processor()
    yield _disk()


def _python() -> Finding:
    version = sys.version.split()[0]
    own = sys.prefix == sys.base_prefix
    kind = "the system's own environment" if own else "virtual environment"
    return Finding("python", "ok", f"{version}, {kind} {sys.prefix}", "", BASE, "ok")


def _codec() -> Finding:
    try:
        why_not = native.reason()
    except WaistlineError as error:
        return Finding("codec", "fail", str(error), error.fix, BASE, "failed")
    if not why_not:
        return Finding("codec", "ok", "compiled (C)", "", BASE, "ok")
    return Finding(
        "codec",
        "warn",
        f"NumPy, same bits but slower: {why_not}",
        "install a C compiler, then: pip install --force-reinstall --no-deps waistline",
        BASE,
        "missing library",
    )


def _onnx() -> Finding:
    if importlib.util.find_spec("onnx") is None:
        return Finding(
            "onnx", "fail", "not installed: models cannot be cut", pip_install("'waistline[host]'"),
            BASE, "missing extra",
        )  # fmt: skip
    version = "".join(row.version for row in provenance.libraries(["onnx"]))
    return Finding("onnx", "ok", version, "", BASE, "ok")


def _engines(rows: list[survey.Surveyed]) -> Iterator[Finding]:
    rows = [row for row in rows if row.name != FAKE]
    for row in rows:
        name = f"engine {row.name}"
        if not plain(row.name, row.device):
            name = f"{name} {row.device}"
        untried = row.state == "ok" and tried(row.name, row.device) == UNTRIED
        yield _finding(row, ENGINES, name, f"{row.detail}; {UNTRIED}" if untried else row.detail)
    # The blob's interpreter runs heads of microcontrollers, and no tail.
    if not any(row.state == "ok" and row.name != BLOB for row in rows):
        yield Finding(
            "engines", "fail", "no inference engine", pip_install("'waistline[onnxruntime]'"),
            ENGINES, "missing extra",
        )  # fmt: skip


def _finding(row: survey.Surveyed, group: str, name: str, detail: str) -> Finding:
    if row.state == "ok":
        return Finding(name, "ok", detail, "", group, "ok")
    level = "warn" if row.state in _TROUBLE else "info"
    return Finding(name, level, f"{row.state}: {detail}", row.fix, group, row.state)


def _tools() -> Iterator[Finding]:
    """Environments of their own, for programs that cannot live in this one."""
    for name, tool in toolenv.TOOLS.items():
        found = toolenv.tool_state(name)
        if found.state == "ready":
            yield Finding(f"tool {name}", "ok", f"{found.detail}, {tool.purpose}", "", TOOLS, "ok")
            continue
        state = "missing extra" if found.state == "absent" else "wrong version"
        size = f"{tool.size_bytes / 1e6:.0f} MB"
        yield Finding(
            f"tool {name}",
            "info" if found.state == "absent" else "warn",
            f"{state}: {tool.purpose}; {found.detail} ({size})",
            f"waistline tools install {name}{'' if found.state == 'absent' else ' --force'}",
            TOOLS,
            state,
        )


def _processor() -> Finding:
    machine = provenance.machine()
    text = f"{machine.cores} cores, {machine.processor}, {machine.architecture}"
    if machine.governor in {"", "performance"}:
        return Finding("processor", "ok", text, "", MACHINE)
    fix = "for steady times: sudo cpupower frequency-set -g performance"
    return Finding("processor", "info", f"{text}, governor {machine.governor}", fix, MACHINE)


def _disk() -> Finding:
    folder = Path.cwd()
    free_bytes = shutil.disk_usage(folder).free
    text = f"{free_bytes / 1e9:.1f} GB free in {folder}"
    if not os.access(folder, os.W_OK):
        fix = "run from a folder of your own"
        return Finding("disk", "warn", f"{folder} is read-only", fix, MACHINE)
    level = "ok" if free_bytes >= _FREE_BYTES else "warn"
    return Finding(
        "disk", level, text, "" if level == "ok" else "free some space for runs/", MACHINE
    )
