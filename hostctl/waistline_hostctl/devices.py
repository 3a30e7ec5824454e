"""What is on this machine that a slice can run on, or that can be talked to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from waistline import plugins, provenance
from waistline.errors import MissingExtra, WaistlineError
from waistline_hostctl.results import Device

BACKENDS = "waistline.backends"
FAKE = "fake"
UNTRIED = "untried on hardware"
USABLE, NOT_INSTALLED, BROKEN = "usable", "not installed", "broken"
_TRIED = {"onnxruntime", FAKE}
"""Engines that this project's tests run on the hardware they are for."""
_SERIAL = Path("/dev/serial/by-id")


def devices(serial_folder: Path = _SERIAL) -> tuple[Device, ...]:
    """Engines of this machine, then its serial ports by their lasting names."""
    return (*engines(), *_ports(serial_folder))


def engines() -> Iterator[Device]:
    """Every backend; the detail of one that is not installed is what installs it."""
    for name in plugins.names(BACKENDS):
        tried = "yes" if name in _TRIED else UNTRIED
        try:
            plugins.load(BACKENDS, name)
        except MissingExtra as error:
            yield Device(name, "engine", NOT_INSTALLED, tried, error.fix)
        except (WaistlineError, ImportError, OSError) as error:
            yield Device(name, "engine", BROKEN, tried, str(error))
        else:
            version = "".join(row.version for row in provenance.libraries([name]))
            detail = "stand-in for tests and demos" if name == FAKE else f"{version} CPU".strip()
            yield Device(name, "engine", USABLE, tried, detail)


def _ports(folder: Path) -> Iterator[Device]:
    """Names in by-id survive replugging; ttyACM0 and ttyUSB0 do not."""
    try:
        found = sorted(folder.iterdir())
    except OSError:
        return
    for path in found:
        target = f"now {path.resolve()}; this version drives nothing over serial"
        yield Device(str(path), "serial", "present", UNTRIED, target)
