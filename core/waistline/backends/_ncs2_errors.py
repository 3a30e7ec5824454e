"""What can be wrong with an NCS2, told apart: text and facts in, an error with a fix out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from waistline.backends._openvino_errors import cannot_compile, cannot_read, useful_line
from waistline.errors import BackendError, ConfigError, WaistlineError

STICK = "MYRIAD"
INSTALL = "waistline tools install ncs2"
_USB_VENDOR = "03e7"
_USB = Path("/sys/bus/usb/devices")
_FALLBACK = re.compile(
    r"operator set version: (?P<opset>\d+) is unsupported\. Falling back to: (?P<most>\d+)"
)
_OPEN_SHAPE = re.compile(r"has dynamic output shape on \d+ port")
_RULE = (
    'allow it: echo \'SUBSYSTEM=="usb", ATTRS{idVendor}=="03e7", MODE="0666"\' | '
    "sudo tee /etc/udev/rules.d/97-ncs2.rules, then plug it in again"
)


def opset_fallback(printed: str) -> tuple[str, str] | None:
    """The model's opset and the older one the engine read it as, where it had to."""
    match = _FALLBACK.search(printed)
    return (match["opset"], match["most"]) if match else None


def usb_sticks(folder: Path = _USB) -> int:
    """Sticks that the kernel sees on USB, whether or not this user may open them."""
    found = 0
    for path in folder.glob("*/idVendor"):
        try:
            found += path.read_text().strip().lower() == _USB_VENDOR
        except OSError:
            continue
    return found


def no_stick(engine: str, seen_on_usb: int) -> BackendError:
    """The error for an engine that drives sticks and finds none."""
    if seen_on_usb:
        return BackendError(
            "the NCS2 cannot be opened",
            cause=f"USB shows {seen_on_usb}, {engine} finds none: no permission for the device",
            fix=_RULE,
        )
    return BackendError(
        "there is no NCS2",
        cause=f"{engine} finds none, and USB shows no device of vendor {_USB_VENDOR}",
        fix=f"plug it in, on USB 3; 'lsusb -d {_USB_VENDOR}:' shows it",
    )


def choose_stick(sticks: Sequence[str]) -> ConfigError:
    """The error for several sticks of which none was named."""
    return ConfigError(
        f"there are {len(sticks)} NCS2",
        cause=", ".join(f"{STICK}.{stick}" for stick in sticks),
        fix=f"name one: device={STICK}.{sticks[0]}",
    )


def refused(
    kind: str, message: str, *, path: Path, device: str, engine: str, printed: str
) -> WaistlineError:
    """The error for what a worker answered.

    Args:
        kind: the worker's word for where it failed.
        message: the engine's.
        path: the slice.
        device: as asked for.
        engine: what runs in the worker, with its version.
        printed: what it wrote to its standard error.
    """
    if kind == "no_engine":
        return BackendError(
            "the NCS2 worker's interpreter has no OpenVINO", cause=useful_line(message), fix=INSTALL
        )
    if kind == "protocol":
        return BackendError(
            "the NCS2 worker does not speak this version's protocol",
            cause=useful_line(message),
            fix="install waistline again; the worker is part of it",
        )
    if f'"{STICK}" name is not registered' in message:
        return BackendError(
            f"{engine} does not drive an NCS2",
            cause="device MYRIAD is not registered: wheels after 2021.4.2 come without it",
            fix=f"{INSTALL}, or give python= of an interpreter with openvino 2021.4.2",
        )
    if "NC_ERROR" in message:
        return BackendError(
            "the NCS2 did not start",
            cause=useful_line(message),
            fix="unplug it, plug it in again on USB 3, and end what else uses it",
        )
    if kind == "shape" or _OPEN_SHAPE.search(message):
        return BackendError(
            f"{path} cannot be run as a slice",
            cause=useful_line(message),
            fix=f"fix its shape: 'waistline split {path} --shape NAME=1,..'",
        )
    if kind == "read":
        return _unread(message, path, engine, printed)
    if kind == "compile":
        return cannot_compile(path, device, message, engine, [device])
    return BackendError(
        f"the NCS2 worker failed while running {path.name}",
        cause=useful_line(message),
        fix="'waistline verify' runs the bundle on its golden frame",
    )


def _unread(message: str, path: Path, engine: str, printed: str) -> BackendError:
    if fallback := opset_fallback(printed):
        opset, most = fallback
        return BackendError(
            f"{path} cannot be run: its opset {opset} is newer than {engine}",
            cause=f"this engine reads opsets up to {most}: {useful_line(message)}",
            fix=f"export the model again with opset {most}",
        )
    return cannot_read(path, "onnx", message, engine)
