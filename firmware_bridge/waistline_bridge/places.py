"""Where the firmware's C sources lie, and where what is built of them does.

A checkout holds both. An installed package carries the sources under ``_c``, in the folders of the
checkout, so that the same Makefile builds them; what it builds goes to the user's cache.
"""

from __future__ import annotations

import os
from pathlib import Path

from waistline import __version__
from waistline.errors import ConfigError

FIRMWARE_VARIABLE = "WAISTLINE_FIRMWARE"
_ROOM = Path(__file__).parents[1]
_CHECKOUT = _ROOM / "firmware"
_PACKAGED = Path(__file__).parent / "_c" / "firmware_bridge" / "firmware"


def sources() -> Path:
    """The folder of the firmware's Makefile.

    Raises:
        ConfigError: this installation has none.
    """
    for folder in (_CHECKOUT, _PACKAGED):
        if (folder / "Makefile").is_file():
            return folder
    raise ConfigError(
        "this installation has no firmware sources",
        cause=f"there is neither {_CHECKOUT} nor {_PACKAGED}",
        fix="pip install --force-reinstall --no-deps waistline, or work in a checkout",
    )


def build_folder() -> Path:
    """Where firmware is built to and looked for: the environment's, the checkout's, the cache's."""
    chosen = os.environ.get(FIRMWARE_VARIABLE)
    if chosen:
        return Path(chosen)
    if (_CHECKOUT / "Makefile").is_file():
        return _CHECKOUT / "build"
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "waistline" / "firmware" / __version__


def release_fix(more: str = "") -> str:
    """What helps where a device runs other firmware than this release's."""
    return f"flash the firmware of this release: waistline mcu build, waistline flash{more}"


def built_name(board: str) -> str:
    """The file that a board's firmware is run from: an ELF, or a program of this machine."""
    return "waistline-host" if board == "host" else f"{board}.elf"
