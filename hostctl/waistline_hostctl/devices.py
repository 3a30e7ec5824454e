"""What is on this machine that a slice can run on, or that can be talked to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from waistline_hostctl import mcu_survey, meter_survey, survey
from waistline_hostctl.results import Device
from waistline_node.sources import _v4l2

FAKE, BLOB = survey.FAKE, "blob"
UNTRIED = mcu_survey.UNTRIED
USABLE = "usable"
_TRIED = {"onnxruntime": ("CPU",), "litert": ("CPU",), "openvino": ("CPU",), BLOB: ("CPU",),
          FAKE: ("CPU",)}  # fmt: skip
"""By engine the devices, by how their names begin, that this project's tests run on."""


def devices(dev: Path = mcu_survey.DEV) -> tuple[Device, ...]:
    """Engines with their devices, emulated boards, cameras, meters, ports, by names that last.

    Args:
        dev: the folder of devices.
    """
    return (
        *engines(),
        *mcu_survey.emulated(),
        *_cameras(dev),
        *meter_survey.devices(meter_survey.rows()),
        *mcu_survey.ports(dev),
    )


def tried(engine: str, device: str) -> str:
    """``yes``, or `UNTRIED` for a device that only documents and stand-ins were seen of."""
    known = _TRIED.get(engine, ())
    return "yes" if not device or device.startswith(known) else UNTRIED


def engines() -> Iterator[Device]:
    """Every device of every backend; what is in the way of one stands in its state."""
    for row in survey.survey((survey.BACKENDS,)):
        state = USABLE if row.state == "ok" else row.state
        yield Device(
            id=engine_id(row.name, row.device),
            name=row.name if plain(row.name, row.device) else f"{row.name} {row.device}",
            kind="engine",
            state=state,
            tried="yes" if row.name in _TRIED and not row.device else tried(row.name, row.device),
            detail=row.detail,
            fix=row.fix,
        )


def plain(engine: str, device: str) -> bool:
    """Whether the engine's name says all: it has one device, or this is the processor."""
    return not device or device.startswith("CPU") or device.lower() == engine


def engine_id(engine: str, device: str) -> str:
    """What chooses it on a command line: the backend, and its option where it has several."""
    if plain(engine, device) or " " in device:
        return engine
    return f"--backend {engine} --backend-option device={device}"


def _cameras(dev: Path) -> Iterator[Device]:
    for found in _v4l2.list_devices(dev):
        yield Device(
            id=f"--source camera:{found.stable}",
            name=found.card,
            kind="camera",
            state="present",
            tried=UNTRIED,
            detail=f"now {found.path}",
        )
