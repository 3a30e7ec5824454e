"""Tells apart what can stand between a model and an Edge TPU, each with its own fix."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from waistline.backends._coral_devices import USB_IDS, Found, devices
from waistline.backends._tflite_errors import EDGE_TPU
from waistline.backends._tflite_runtime import PACKAGES, Runtime

LIBRARY = "libedgetpu.so.1"
OPEN_TIMEOUT_S = 60.0
"""A stick that is used for the first time loads its firmware and comes back on the bus."""
_TRIAL = Path(__file__).with_name("_coral_trial.py")
_NEWER = re.compile(
    r"requires runtime version \((?P<model>\d+)\).*this runtime version \((?P<library>\d+)\)"
)
_IDLE = re.compile(rf"\w+: Encountered unresolved custom op: {EDGE_TPU}")
State = Literal[
    "ok", "missing library", "missing device", "no permission", "wrong version", "failed"
]


@dataclass(frozen=True)
class Verdict:
    """What a trial found.

    Attributes:
        state: as in `waistline.backends.base.Probe`.
        what: in one line, for an error.
        cause: the fact seen.
        fix: what helps.
        version: of the library, "" where it does not say.
    """

    state: State
    what: str = ""
    cause: str = ""
    fix: str = ""
    version: str = ""


@dataclass(frozen=True)
class Setup:
    """What a user chose: library, device ("" for any), and the runtime that drives it."""

    runtime: Runtime
    library: str
    device: str

    @property
    def options(self) -> dict[str, str]:
        return {"device": self.device} if self.device else {}


def trial(
    setup: Setup,
    model: bytes = b"",
    *,
    timeout_s: float = OPEN_TIMEOUT_S,
    seen: Sequence[Found] | None = None,
) -> Verdict:
    """Load library, device and model in a child process and say how it went.

    Args:
        setup: what to try.
        model: a checked file, or nothing to stop at the device.
        timeout_s: after which the child is ended.
        seen: devices that the system sees; None looks.
    """
    command = [sys.executable, "-P", str(_TRIAL), PACKAGES[setup.runtime.name]]
    try:
        done = subprocess.run(
            [*command, setup.library, setup.device],
            input=model,
            capture_output=True,
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired:
        return Verdict(
            "failed",
            "the Edge TPU does not answer",
            f"{setup.library} did not come back within {timeout_s:g} s",
            "unplug the device, plug it in again, and try once more",
        )
    except OSError as error:
        return Verdict("failed", f"{sys.executable} cannot be started", str(error))
    steps = _steps(done.stdout)
    step, version = steps[-1].get("step", ""), "".join(one.get("version", "") for one in steps)
    if step == "done" and done.returncode == 0:
        return Verdict("ok", version=version)
    if "error" not in steps[-1] and done.returncode < 0:
        return _died(setup, step, -done.returncode)
    told = steps[-1].get("error", "") or done.stderr.decode("utf-8", "replace")
    return _explained(setup, step, told, devices() if seen is None else seen)


def _steps(output: bytes) -> list[dict[str, str]]:
    found = []
    for line in output.splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue  # the library wrote to stdout
        if isinstance(row, dict) and "step" in row:
            found.append({str(key): str(value) for key, value in row.items()})
    return found or [{"step": "runtime"}]


def _died(setup: Setup, step: str, number: int) -> Verdict:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    where = {
        "library": "it was loaded",
        "device": "it opened the device",
        "model": "it was given the model",
    }
    return Verdict(
        "wrong version",
        f"{setup.library} does not fit {setup.runtime.shown}: it ends the process ({name})",
        f"seen in a trial process, when {where.get(step, 'it was released')}; a library built for"
        " another TensorFlow version does that",
        "install libedgetpu and tflite-runtime of the same TensorFlow version",
    )


def _explained(setup: Setup, step: str, told: str, seen: Sequence[Found]) -> Verdict:
    """What a trial's own error means."""
    text = " ".join(told.split())[:300]
    if step == "library":
        return _unloadable(setup, text)
    if step == "symbol":
        return Verdict(
            "missing library",
            f"{setup.library} is not an Edge TPU library",
            text,
            f"give library=PATH of {LIBRARY}",
        )
    if step == "device":
        return no_device(setup, seen, text)
    if step == "model":
        return _refused_model(setup, text)
    return Verdict("failed", f"{setup.runtime.shown} cannot be tried", text)


def _unloadable(setup: Setup, text: str) -> Verdict:
    absent = re.search(r"(\S+): cannot open shared object file: No such file", text)
    if absent and absent[1] != setup.library and "/" not in absent[1]:
        return Verdict(
            "missing library",
            f"{setup.library} needs {absent[1]}, which is not installed",
            text,
            "apt install libusb-1.0-0" if "usb" in absent[1] else f"install {absent[1]}",
        )
    if absent:
        return Verdict(
            "missing library",
            f"the Edge TPU library {setup.library} is not installed",
            text,
            "install libedgetpu1-std of the runtime's TensorFlow version, or give library=PATH",
        )
    return Verdict(
        "wrong version",
        f"{setup.library} cannot be loaded",
        text,
        "install libedgetpu for this processor and system",
    )


def no_device(setup: Setup, seen: Sequence[Found], told: str = "") -> Verdict:
    """Why the library found no device it could open, from what the system sees.

    Args:
        setup: what was tried.
        seen: devices the system sees.
        told: by the library, often nothing.
    """
    bus = setup.device.partition(":")[0]
    usable = [one for one in seen if not bus or one.name.startswith(bus)]
    if ":" in setup.device and bus:
        usable = [one for one in usable if one.name == setup.device]
    if not usable:
        others = ", ".join(one.name for one in seen)
        return Verdict(
            "missing device",
            f"there is no Edge TPU{f' {setup.device}' if setup.device else ''}",
            f"found: {others}"
            if others
            else f"no {' or '.join(USB_IDS)} in /sys/bus/usb/devices, no /dev/apex_*",
            f"give device={seen[0].name}" if seen else "plug it in; 'lsusb' must list it",
        )
    barred = [one for one in usable if not one.permitted]
    if barred:
        return Verdict(
            "no permission",
            f"this user may not open the Edge TPU {barred[0].name}",
            f"{barred[0].node} ({barred[0].detail}) is not readable and writable",
            _permission(barred[0]),
        )
    return Verdict(
        "failed",
        f"the Edge TPU {usable[0].name} cannot be opened",
        f"{usable[0].node} is there and permitted; {told or 'the library gave no reason'}",
        "end the other program that uses it, or plug it in again",
    )


def _permission(found: Found) -> str:
    if found.name.startswith("pci"):
        return "sudo usermod -aG apex $USER, log in again, and check the udev rule for apex"
    return (
        "sudo usermod -aG plugdev $USER, log in again, and give both ids to plugdev by a udev"
        ' rule: SUBSYSTEM=="usb", ATTRS{idVendor}=="18d1", ATTRS{idProduct}=="9302",'
        ' MODE="0660", GROUP="plugdev"'
    )


def _refused_model(setup: Setup, text: str) -> Verdict:
    if match := _NEWER.search(text):
        return Verdict(
            "wrong version",
            "the model was compiled for a newer Edge TPU library",
            f"it needs runtime version {match['model']}, {setup.library} has {match['library']}",
            f"edgetpu_compiler --min_runtime_version {match['library']} MODEL, or upgrade it",
        )
    if _IDLE.match(text):
        return Verdict(
            "missing library",
            f"{setup.library} is a delegate, but not the Edge TPU's",
            f"it left the operator {EDGE_TPU} to the runtime",
            f"give library=PATH of {LIBRARY}",
        )
    # The runtime goes on without the delegate and fails once more, which says nothing new.
    text = text.partition("Encountered unresolved")[0].strip()
    return Verdict("failed", "the Edge TPU refused the model", text, "compile the model again")
