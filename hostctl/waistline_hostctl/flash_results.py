"""What ``waistline flash`` prints with ``--json``."""

from __future__ import annotations

import msgspec

from waistline_hostctl.results import Result

READY = "ready"
"""State of a method that lacks nothing."""


class FlashStep(msgspec.Struct, frozen=True):
    """``command`` is exactly what is run, "" where no program is."""

    text: str
    command: str = ""


class FlashImage(msgspec.Struct, frozen=True):
    """The file and what is in it; ``ranges`` as (first address, bytes), none where it says none."""

    file: str
    format: str
    sha256: str
    size_bytes: int
    ranges: tuple[tuple[int, int], ...]
    board: str = ""


class FlashResult(Result, frozen=True, kw_only=True, tag="flash"):
    """An image was written, or (``dry_run``) would be.

    Attributes:
        tried: what this method was run on before it was released.
        verified: ``read back``, ``device's hash``, ``tool``, ``not possible`` or ``not asked for``.
        detail: the fact behind it.
    """

    method: str
    image: FlashImage
    steps: tuple[FlashStep, ...]
    dry_run: bool
    tried: str
    verified: str = ""
    detail: str = ""


class FlashDevice(msgspec.Struct, frozen=True):
    """``flags`` choose it on the command line."""

    flags: str
    text: str


class FlashMethod(msgspec.Struct, frozen=True):
    """A way to flash; ``state`` is ``ready``, or what is in the way, which ``fix`` mends."""

    name: str
    state: str
    tried: str
    devices: tuple[FlashDevice, ...] = ()
    fix: str = ""


class FlashListResult(Result, frozen=True, kw_only=True, tag="flash --list"):
    methods: tuple[FlashMethod, ...]
