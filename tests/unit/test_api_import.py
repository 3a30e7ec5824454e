"""The Python API is imported with what every installation has, and nothing else."""

from __future__ import annotations

import subprocess
import sys

OPTIONAL = (
    "ai_edge_litert", "av", "click", "esptool", "gpiod", "matplotlib", "onnx", "onnxruntime",
    "openvino", "prometheus_client", "pyarrow", "pyjls", "pynvml", "pyocd", "serial", "smpclient",
    "tflite_runtime", "uldaq",
)  # fmt: skip
WITHOUT = """
import sys
class Absent:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in sys.argv[1:]:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent)
from waistline_hostctl import api
print(sorted(name for name in api.__all__ if not hasattr(api, name)))
"""


def test_it_needs_no_extra():
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, *OPTIONAL], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
