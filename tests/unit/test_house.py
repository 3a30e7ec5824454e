"""The house rules that no linter knows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("core", "node", "edge", "firmware_bridge", "planner", "calibration", "hostctl")


def _sources():
    for room in ROOMS:
        yield from (ROOT / room).rglob("*.py")
        yield from (ROOT / room).rglob("*.[ch]")


def test_no_file_outgrows_its_reader():
    long = {
        str(path.relative_to(ROOT)): lines
        for path in _sources()
        if (lines := len(path.read_text().splitlines())) > 400
    }
    assert not long


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("waistline_node", {"onnx", "onnxruntime", "serial", "click", "PIL", "prometheus_client"}),
        ("waistline_node.service", {"onnx", "onnxruntime", "serial", "click"}),
        ("waistline_edge", {"onnx", "onnxruntime", "click", "prometheus_client"}),
        ("waistline_edge.service", {"onnx", "onnxruntime", "click"}),
        ("waistline", {"numpy", "onnx", "onnxruntime", "click"}),
        ("waistline_hostctl.verbs", {"onnx", "onnxruntime"}),
    ],
)
def test_importing_a_room_brings_nothing_heavy(module, forbidden):
    code = f"import sys, {module}; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & forbidden


def test_the_node_service_starts_without_click():
    code = (
        "import sys; sys.modules['click'] = None; sys.argv = ['waistline_node', '--help'];"
        "import runpy; runpy.run_module('waistline_node', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--source" in done.stdout
