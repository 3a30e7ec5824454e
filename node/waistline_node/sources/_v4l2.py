"""What the kernel says about cameras: which there are, and which sizes each gives.

Struct layouts and request numbers of linux/videodev2.h; all fields are of fixed width, so they are
the same on 32 and 64 bits.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_QUERYCAP, _ENUM_FMT, _ENUM_FRAMESIZES = 0x80685600, 0xC0405602, 0xC02C564A
_CAPABILITY = struct.Struct("<16s32s32sIII12x")
_FMTDESC = struct.Struct("<III32sI16x")
_FRMSIZE = struct.Struct("<III6I8x")
_CAP_VIDEO_CAPTURE, _CAP_DEVICE_CAPS = 0x1, 0x80000000
_BUF_TYPE_VIDEO_CAPTURE = 1
_DISCRETE = 1
_MOST = 256
"""No driver lists so many formats, or sizes of one."""


@dataclass(frozen=True, slots=True)
class Device:
    """A device that captures video.

    Attributes:
        path: /dev/videoN.
        stable: a name under /dev/v4l/by-id or by-path that stays when devices change; else path.
        card: what it calls itself.
    """

    path: str
    stable: str
    card: str


def list_devices(dev: Path = Path("/dev")) -> list[Device]:
    """Devices that capture video, in the order of their numbers; those not readable are left out.

    Encoders, decoders and metadata nodes are video devices too, and are left out.
    """
    names = [entry for entry in dev.glob("video*") if entry.name[5:].isdecimal()]
    stable = _stable_names(dev)
    found = []
    for path in sorted(names, key=lambda entry: int(entry.name[5:])):
        card = _capture_card(path)
        if card is not None:
            found.append(Device(str(path), stable.get(path.name, str(path)), card))
    return found


def list_sizes(path: str) -> list[str]:
    """Formats and sizes that a device offers, for people; [] where it does not say."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    except OSError:
        return []
    try:
        return [
            f"{name} {size}"
            for pixels, name in _formats(handle)
            for size in _sizes_of(handle, pixels)
        ]
    finally:
        os.close(handle)


def _stable_names(dev: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for folder in ("by-id", "by-path"):
        for link in sorted((dev / "v4l" / folder).glob("*")):
            found.setdefault(link.resolve().name, str(link))
    return found


def _capture_card(path: Path) -> str | None:
    try:
        handle = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        data = bytearray(_CAPABILITY.size)
        fcntl.ioctl(handle, _QUERYCAP, data)
    except OSError:
        return None
    finally:
        os.close(handle)
    _, card, _, _, capabilities, of_node = _CAPABILITY.unpack(data)
    if capabilities & _CAP_DEVICE_CAPS:
        capabilities = of_node
    return _text(card) if capabilities & _CAP_VIDEO_CAPTURE else None


def _formats(handle: int) -> Iterator[tuple[int, str]]:
    for index in range(_MOST):
        data = bytearray(_FMTDESC.pack(index, _BUF_TYPE_VIDEO_CAPTURE, 0, b"", 0))
        try:
            fcntl.ioctl(handle, _ENUM_FMT, data)
        except OSError:
            return
        *_, pixels = _FMTDESC.unpack(data)
        yield pixels, struct.pack("<I", pixels).decode("ascii", "replace").strip()


def _sizes_of(handle: int, pixels: int) -> Iterator[str]:
    for index in range(_MOST):
        data = bytearray(_FRMSIZE.pack(index, pixels, 0, *[0] * 6))
        try:
            fcntl.ioctl(handle, _ENUM_FRAMESIZES, data)
        except OSError:
            return
        _, _, kind, *sides = _FRMSIZE.unpack(data)
        if kind != _DISCRETE:
            # Stepwise and continuous: least, most and step of width, then of height.
            yield f"{sides[0]}x{sides[3]} to {sides[1]}x{sides[4]}"
            return
        yield f"{sides[0]}x{sides[1]}"


def _text(data: bytes) -> str:
    return data.split(b"\0")[0].decode("utf-8", "replace")
