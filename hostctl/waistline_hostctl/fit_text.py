"""Whether a head fits each board, as a table; bytes to the last one stand in ``--json``."""

from __future__ import annotations

from collections.abc import Sequence

from waistline_bridge.fit import Fit
from waistline_hostctl.console import grid, indented, size

_HEADINGS = ("board", "slot left", "arena left", "flash", "RAM", "")


def fit_text(fits: Sequence[Fit]) -> str:
    """A line a board, flash and RAM as used of what there is; below it why the head fits not all.

    Args:
        fits: of one head, a row at least.
    """
    lines = [
        f"the head takes {size(fits[0].blob_bytes)} of a slot, {size(fits[0].arena_bytes)} of RAM",
        grid(_HEADINGS, [_row(one) for one in fits], indent=0),
    ]
    lines += [
        indented(f"{one.limits.board}: {one.problem}", indent=3) for one in fits if one.problem
    ]
    lines.append("flash, RAM: what the firmware takes, with its two slots where they lie in it")
    return "\n".join([*lines, ""])


def _row(one: Fit) -> tuple[str, ...]:
    limits = one.limits
    return (
        limits.board,
        size(one.blob_left_bytes),
        size(one.arena_left_bytes),
        f"{size(limits.flash_used_bytes)} of {size(limits.flash_bytes)}",
        f"{size(limits.ram_used_bytes)} of {size(limits.ram_bytes)}",
        "does not fit" if one.problem else "fits",
    )
