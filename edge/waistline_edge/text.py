"""The edge's ready line and summary for people at a terminal; programs get the same as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def ready_text(ready: Mapping[str, Any], bundles: Sequence[Path]) -> str:
    """Where it listens, what it serves, and how to end it."""
    names = ", ".join(path.name for path in bundles)
    workers = "1 worker" if ready["workers"] == 1 else f"{ready['workers']} workers"
    lines = [f"listening at {ready['endpoint']}, {workers}, {ready['backend']}: {names}"]
    if ready["metrics"]:
        lines.append(f"metrics at {ready['metrics']}")
    lines.append(f"end it with Ctrl-C, or: kill {ready['pid']}")
    return _lines(lines)


def summary_text(summary: Mapping[str, Any]) -> str:
    """How the requests ended, and the traffic."""
    frames = ", ".join(f"{count} {kind}" for kind, count in summary["frames"].items())
    turned_away = ", ".join(f"{count} {cause}" for cause, count in summary["rejects"].items())
    lines = [
        f"frames: {frames or 'none'}",
        f"connections: {summary['connections']}, {summary['bytes_in']} bytes in, "
        f"{summary['bytes_out']} bytes out",
    ]
    if turned_away:
        lines.append(f"connections cut off: {turned_away}")
    return _lines(lines)


def _lines(lines: Sequence[str]) -> str:
    return "".join(f"edge: {line}\n" for line in lines)
