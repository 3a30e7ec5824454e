"""Which engines have a ready-made package for which board; names looked up, nothing was run."""

from __future__ import annotations

import csv
from pathlib import Path

import msgspec

from waistline_hostctl.console import grid
from waistline_hostctl.results import Wheel

_TABLE = Path(__file__).with_name("wheels.csv")


def wheels() -> tuple[Wheel, ...]:
    """The table as it was looked up."""
    with _TABLE.open(newline="", encoding="utf-8") as stream:
        return tuple(msgspec.convert(row, Wheel) for row in csv.DictReader(stream))


def text() -> str:
    """The table for people."""
    found = wheels()
    boards = sorted({(one.architecture, one.python) for one in found}, key=_order)
    packages = list(dict.fromkeys((one.package, one.version) for one in found))
    tags = {(one.package, one.architecture, one.python): one.tag for one in found}
    rows = [
        (f"{package} {version}", *(tags[package, *board] for board in boards))
        for package, version in packages
    ]
    headings = ("", *(f"{architecture} {python}" for architecture, python in boards))
    checked = max(one.checked for one in found)
    return "\n".join(
        [
            "ready-made packages, by architecture and Python; glibc: the oldest that will do",
            "",
            grid(headings, rows, indent=0),
            "",
            f"published: checked by name in the package index, {checked}; none was run on a board",
            "armv7: numpy, pillow, zstandard and msgspec are not in the index either; take them",
            "from the distribution, and make the environment with --system-site-packages",
        ]
    )


def _order(board: tuple[str, str]) -> tuple[int, str]:
    return ("x86-64", "aarch64", "armv7").index(board[0]), board[1]
