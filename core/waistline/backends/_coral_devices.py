"""Edge TPUs that the system sees, by the ids it knows them by, without any library."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

USB_IDS = {"1a6e:089a": "before its first use", "18d1:9302": "ready"}
"""A stick shows the first id until the library has loaded its firmware, then the second."""


@dataclass(frozen=True)
class Found:
    """One device.

    Attributes:
        name: as the option ``device`` takes it, such as ``usb:0``.
        node: the file that must be readable and writable to use it.
        detail: what it is known by.
    """

    name: str
    node: Path
    detail: str

    @property
    def permitted(self) -> bool:
        return os.access(self.node, os.R_OK | os.W_OK)


def devices(sys_: Path = Path("/sys"), dev: Path = Path("/dev")) -> tuple[Found, ...]:
    """USB sticks, then PCI cards, each in the order of their numbers."""
    return (*_sticks(sys_ / "bus/usb/devices", dev), *_cards(dev))


def _sticks(folder: Path, dev: Path) -> list[Found]:
    found: list[Found] = []
    for entry in sorted(folder.glob("*")) if folder.is_dir() else []:
        known_as = f"{_text(entry / 'idVendor')}:{_text(entry / 'idProduct')}"
        if known_as in USB_IDS:
            bus, number = _number(entry / "busnum"), _number(entry / "devnum")
            node = dev / f"bus/usb/{bus:03d}/{number:03d}"
            found.append(Found(f"usb:{len(found)}", node, f"{known_as}, {USB_IDS[known_as]}"))
    return found


def _cards(dev: Path) -> list[Found]:
    nodes = sorted(dev.glob("apex_*")) if dev.is_dir() else []
    return [Found(f"pci:{k}", node, str(node)) for k, node in enumerate(nodes)]


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _number(path: Path) -> int:
    text = _text(path)
    return int(text) if text.isdecimal() else 0
