"""Which devices OpenVINO finds on this machine, asked in a process of its own.

A device's driver may take the process down that loads it, so the one that asks is a child.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Literal

import msgspec

from waistline.backends._openvino_errors import missing_library, useful_line
from waistline.backends.base import Probe

TIMEOUT_S = 9.0
_SCRIPT = """
import json, sys
sys.modules["openvino_telemetry"] = None
import openvino as ov
core, seen = ov.Core(), []
found = core.available_devices
for device in [*found, *(name for name in ("GPU", "NPU") if name not in
                         {one.split(".")[0] for one in found})]:
    try:
        seen.append([device, True, core.get_property(device, "FULL_DEVICE_NAME")])
    except Exception as error:
        seen.append([device, False, str(error)])
print(json.dumps(seen))
"""
_FIX = {
    "GPU": "install the GPU's compute driver (Debian: intel-opencl-icd)",
    "NPU": "install the NPU's driver and compiler",
}


def probe() -> tuple[Probe, ...]:
    """Every device that the engine lists, and what is missing for GPU and NPU."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _SCRIPT],
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=TIMEOUT_S,
        )
        if done.returncode:
            return (_failed(done.returncode, done.stderr),)
        rows = msgspec.json.decode(done.stdout.splitlines()[-1], type=list[tuple[str, bool, str]])
    except subprocess.TimeoutExpired:
        return (Probe("OpenVINO", "failed", f"no answer within {TIMEOUT_S:g} s"),)
    except (OSError, IndexError, msgspec.MsgspecError) as error:
        return (Probe("OpenVINO", "failed", useful_line(str(error))),)
    return tuple(_device(device, there, text) for device, there, text in rows)


def _failed(code: int, text: str) -> Probe:
    last = (text.strip().splitlines() or [""])[-1]
    if "has no attribute 'Core'" in last:
        return Probe("OpenVINO", "wrong version", last, "pip install 'waistline[openvino]'")
    told = f"ended by signal {-code}" if code < 0 else f"exit {code}"
    return Probe("OpenVINO", "failed", f"{told}; {last}"[:300])


def _device(device: str, there: bool, text: str) -> Probe:
    if there:
        return Probe(device, "ok", text)
    library = missing_library(text)
    state: Literal["missing library", "missing device"]
    state = "missing library" if library else "missing device"
    return Probe(device, state, library or useful_line(text), _FIX.get(device, ""))
