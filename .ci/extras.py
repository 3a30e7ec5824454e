"""Install each extra alone and check the light-install promise.

For every extra: which modules must import, which must not be there at all. Also counts what a node
without a runtime pulls in. Needs a package registry, so it is no test; `make extras` runs it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MAX_NODE_PACKAGES = 8


@dataclass(frozen=True)
class Case:
    extra: str
    must_import: tuple[str, ...]
    must_be_absent: tuple[str, ...]


CASES = (
    Case(
        "",
        ("waistline_node", "waistline_node.__main__", "waistline_edge", "waistline.codec.waist"),
        ("onnx", "onnxruntime", "click", "prometheus_client"),
    ),
    Case("onnxruntime", ("waistline.backends.onnxruntime",), ("onnx", "click")),
    Case(
        "host",
        ("waistline_hostctl.cli", "waistline.model.onnx_graph"),
        ("onnxruntime", "prometheus_client"),
    ),
    Case("edge", ("waistline_edge.metrics", "prometheus_client"), ("onnx", "click", "onnxruntime")),
)

PROBE = """
import importlib, importlib.util, sys
must, absent = (part.split(",") if part else [] for part in sys.argv[1:3])
for name in must:
    importlib.import_module(name)
there = [name for name in absent if importlib.util.find_spec(name)]
sys.exit(f"must not be installed: {there}" if there else 0)
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
    run(python, "-c", PROBE, ",".join(case.must_import), ",".join(case.must_be_absent))
    listed = run(python, "-m", "pip", "list", "--format=freeze", "--disable-pip-version-check")
    return sum(not line.startswith(("pip==", "setuptools==")) for line in listed.splitlines())


def main() -> None:
    with tempfile.TemporaryDirectory() as temp:
        run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", temp, ROOT)
        wheel = next(Path(temp).glob("waistline-*.whl"))
        print(f"wheel: {wheel.name}, {wheel.stat().st_size // 1024} kB")
        for case in CASES:
            count = check(case, Path(temp) / f"venv-{case.extra or 'base'}", wheel)
            print(f"extra {case.extra or '(none)':<12} ok, {count} packages")
            if not case.extra and count > MAX_NODE_PACKAGES:
                sys.exit(
                    f"a node without a runtime has {count} packages, {MAX_NODE_PACKAGES} allowed"
                )


if __name__ == "__main__":
    main()
