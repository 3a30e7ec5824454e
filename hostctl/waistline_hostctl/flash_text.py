"""``waistline flash`` in the terminal."""

from __future__ import annotations

from pathlib import Path

from waistline_hostctl.console import indented, size
from waistline_hostctl.flash_results import READY, FlashListResult, FlashResult

_ABOUT = 10
"""Columns in front of what is said of a method."""


def list_text(result: FlashListResult) -> str:
    """Each method with what it was tried on, and what it finds, to be pasted."""
    name = max(len(row.name) for row in result.methods)
    lines = []
    for row in result.methods:
        nothing = "" if row.devices or row.state != READY else ", no device found"
        lines.append(f"{row.name.ljust(name)}  {row.state}{nothing}")
        lines.append(indented(row.tried, indent=_ABOUT))
        lines += [f"  fix     {row.fix}"] if row.fix else []
        flags = max((len(one.flags) for one in row.devices), default=0)
        lines += [
            f"  choose  --via {row.name} {one.flags.ljust(flags)}  {one.text}".rstrip()
            for one in row.devices
        ]
    return "\n".join(lines)


def text(result: FlashResult) -> str:
    """The plan with its commands, or what was done."""
    image = result.image
    where = ", ".join(f"{address:#010x}" for address, _ in image.ranges[:4])
    head = f"{Path(image.file).name}: {image.format}, {size(image.size_bytes)}"
    lines = [f"{head} at {where}" if where else head]
    if result.dry_run:
        lines.append(f"by {result.method} ({result.tried}); nothing is written:")
        for number, step in enumerate(result.steps, start=1):
            lines.append(indented(step.text, f"  {number}.", 5))
            lines += [f"     {step.command}"] if step.command else []
    else:
        lines.append(f"written by {result.method}; verified: {result.verified} ({result.detail})")
    return "\n".join(lines)
