"""Install each extra alone and check the light-install promise.

For every extra: which modules must import, which must not be there at all. Also counts what a node
without a runtime pulls in. Needs a package registry, so it is no test; `make extras` runs it.

    python .ci/extras.py [EXTRA ...]     those alone; "" is the base
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
import venv
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MAX_NODE_PACKAGES = 8


@dataclass(frozen=True)
class Case:
    """One extra.

    Attributes:
        extra: its name, "" for the base.
        must_import: modules, imported in this order in one process.
        must_be_absent: top-level packages.
        below: Python versions for which its packages exist; () for any.
        pins: (package, bound) that must hold, such as ("numpy", 2): a major version below 2.
        runs: a statement that must not raise.
        script: a file of the tree and its arguments, run beside the installed packages.
    """

    extra: str
    must_import: tuple[str, ...]
    must_be_absent: tuple[str, ...]
    below: tuple[int, int] | tuple[()] = ()
    pins: tuple[tuple[str, int], ...] = ()
    runs: str = "pass"
    script: tuple[str, ...] = ()


_ENGINES = ("onnxruntime", "ai_edge_litert", "tflite_runtime", "openvino")


def others(*kept: str) -> tuple[str, ...]:
    """Engines and host packages that an extra must not bring."""
    return tuple(name for name in (*_ENGINES, "onnx", "click", "av", "pycoral") if name not in kept)


PROBED = (
    "from waistline.backends import {0} as engine; found = engine.probe(); "
    "assert any(one.state == 'ok' for one in found), found"
)
FINDS = "from waistline_hostctl.meters import {0}; {0}.find()"
LIBRARIES = "tests/unit/meter_libraries.py"
"""Compares what our files call with the real packages; the tests have stand-ins alone."""
UNLESS_NATIVE = """
from waistline.errors import MissingExtra
from waistline_hostctl.meters.base import find
try:
    find("mccdaq")
except MissingExtra as error:
    assert "libuldaq" in str(error) + error.fix, error.lines()
"""
CASES = (
    Case(
        "",
        (
            "waistline_node",
            "waistline_node.__main__",
            "waistline_node.probe",
            "waistline_edge",
            "waistline.codec.waist",
            "waistline_node.sources.wav",
            "waistline_node.sources.csv",
        ),
        (*others(), "prometheus_client"),
    ),
    Case("onnxruntime", ("waistline.backends.onnxruntime",), others("onnxruntime")),
    Case(
        "litert",
        ("waistline.backends.litert", "waistline.model.tflite_graph"),
        others("ai_edge_litert"),
        runs=PROBED.format("litert"),
    ),
    Case(
        "tflite-runtime",
        ("waistline.backends.litert",),
        others("tflite_runtime"),
        below=(3, 12),
        pins=(("numpy", 2),),
        runs=PROBED.format("litert"),
    ),
    Case(
        "coral",
        ("waistline.backends.coral",),
        others("tflite_runtime"),
        below=(3, 12),
        pins=(("numpy", 2),),
        runs="from waistline.backends import coral; assert coral.probe()",
    ),
    Case(
        "openvino",
        ("waistline.backends.openvino",),
        others("openvino"),
        runs=PROBED.format("openvino"),
    ),
    Case(
        "mcu",
        ("waistline_bridge.client", "waistline_bridge.boards.serial", "waistline_node.heads.mcu"),
        others(),
    ),
    # One package for both: installed once.
    Case(
        "camera",
        ("waistline_node.sources.camera", "waistline_node.sources.video"),
        others("av"),
    ),
    Case(
        "host",
        (
            "waistline_hostctl.verbs",
            "waistline.model.onnx_graph",
            "waistline_hostctl.verifying",
            "waistline_hostctl.doctor",
        ),
        (*others("onnx", "click"), "prometheus_client"),
    ),
    Case("edge", ("waistline_edge.metrics", "prometheus_client"), others()),
    Case("capture", ("waistline.trace.jls_write", "waistline.trace.plot"), others()),
    # What they need beside their Python packages, libuldaq.so above all, no registry brings.
    Case(
        "joulescope",
        ("waistline_hostctl.meters.joulescope",),
        others(),
        runs=FINDS.format("joulescope"),
        script=(LIBRARIES, "joulescope"),
    ),
    Case(
        "counter",
        ("pynvml", "waistline_hostctl.meters.counter"),
        others(),
        runs=FINDS.format("counter"),
    ),
    Case("mccdaq", (), others(), runs=UNLESS_NATIVE, script=(LIBRARIES, "mccdaq")),
    Case("gpio", ("gpiod", "waistline_hostctl.markers.gpio"), others()),
    Case("parquet", ("waistline.trace.importers.parquet",), others()),
    Case("smp", ("waistline_bridge.flash.smp",), others()),
    Case("pyocd", ("waistline_bridge.flash.pyocd",), others()),
    Case("esptool", ("waistline_bridge.flash.esptool",), others("click")),
)

PROBE = """
import importlib, importlib.util, sys
from importlib import metadata
must, absent, pins, runs = sys.argv[1:5]
for name in filter(None, must.split(",")):
    importlib.import_module(name)
there = [name for name in filter(None, absent.split(",")) if importlib.util.find_spec(name)]
if there:
    sys.exit(f"must not be installed: {there}")
for pin in filter(None, pins.split(",")):
    package, _, below = pin.partition("<")
    if int(metadata.version(package).split(".")[0]) >= int(below):
        sys.exit(f"{package} {metadata.version(package)} is not below {below}")
exec(runs)
"""


def run(*command: str | Path) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command[:4]))} ... failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def check(case: Case, folder: Path, wheel: Path) -> int:
    """Install ``case`` into an empty environment; returns how many packages came along."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    target = f"{wheel}[{case.extra}]" if case.extra else str(wheel)
    run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", target)
    run(
        python, "-c", PROBE, ",".join(case.must_import), ",".join(case.must_be_absent),
        ",".join(f"{package}<{major}" for package, major in case.pins), case.runs,
    )  # fmt: skip
    if case.script:
        file, *arguments = case.script
        run(python, ROOT / file, *arguments)
    listed = run(python, "-m", "pip", "list", "--format=freeze", "--disable-pip-version-check")
    return sum(not line.startswith(("pip==", "setuptools==")) for line in listed.splitlines())


def main() -> None:
    wanted = sys.argv[1:]
    if unknown := set(wanted) - {case.extra for case in CASES}:
        sys.exit(f"no such extra: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory() as temp:
        run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", temp, ROOT)
        wheel = next(Path(temp).glob("waistline-*.whl"))
        print(f"wheel: {wheel.name}, {wheel.stat().st_size // 1024} kB")
        for case in CASES:
            if wanted and case.extra not in wanted:
                continue
            name = case.extra or "(none)"
            if case.below and sys.version_info[:2] >= case.below:
                below = ".".join(map(str, case.below))
                print(f"extra {name:<15} skipped: its packages exist for Python below {below}")
                continue
            began = time.monotonic()
            folder = Path(temp) / "venv"
            count = check(case, folder, wheel)
            shutil.rmtree(folder)
            print(f"extra {name:<15} ok, {count} packages, {time.monotonic() - began:.0f} s")
            if not case.extra and count > MAX_NODE_PACKAGES:
                sys.exit(
                    f"a node without a runtime has {count} packages, {MAX_NODE_PACKAGES} allowed"
                )


if __name__ == "__main__":
    main()
