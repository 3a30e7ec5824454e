"""The node's ready line and summary for people at a terminal; programs get the same as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def ready_text(ready: Mapping[str, Any], bundle: Path) -> str:
    """Two lines: what runs here, and what it reads and where its waist goes."""
    frames = "frames" if ready["frames"] is None else f"{ready['frames']} frames"
    head = ready["head"]
    engine = head.get("engine", "none")
    if "board" in head:
        engine += f" on {'emulated ' if head.get('emulated') == 'yes' else ''}{head['board']}"
    return (
        f"node: ready with {bundle.name} cut at x = {ready['partition_point']}, engine {engine}, "
        f"process {ready['pid']}\n"
        f"node: {frames} from {ready['source']} to the edge at {ready['edge']}\n"
    )


def summary_text(summary: Mapping[str, Any]) -> str:
    """How the frames ended; then rate, bytes and latencies of those that were answered."""
    ended = ", ".join(f"{count} {kind}" for kind, count in summary["outcomes"].items() if count)
    duration_s = summary["duration_s"]
    lines = [f"{summary['frames']} frames in {duration_s:.3g} s: {ended or 'none was read'}"]
    lines += [f"{count} frames ended as {why}" for why, count in summary["reasons"].items()]
    lines += [f"{count} frames were lost before they were read: {why}"
              for why, count in summary["lost"].items() if count]  # fmt: skip
    answered = summary["outcomes"].get("remote", 0)
    if answered and "latency_s" in summary:
        latency, stages = summary["latency_s"], summary["stages_s"]
        lines.append(
            f"{answered / duration_s:.3g} answers a second, "
            f"{summary['waist_bytes'] / answered:.0f} bytes a frame, latency "
            f"{_ms(latency['p50'])} ms (median), {_ms(latency['p99'])} ms (99 %)"
        )
        # An emulated board's ticks are no time of a processor, which its ready line says.
        board = f" (board's ticks {_ms(summary['device_s'])})" if "device_s" in summary else ""
        parts = ", ".join(
            f"{name} {_ms(stages[f'{name}_s'])}{board if name == 'head' else ''}"
            for name in ("head", "transit", "tail")
        )
        lines.append(f"median in ms: {parts}; all stages with --json or --records FILE")
    if summary["unrecorded"]:
        lines.append(f"{summary['unrecorded']} records could not be written")
    return "".join(f"node: {line}\n" for line in lines)


def _ms(duration_s: float) -> str:
    return f"{1e3 * duration_s:.3g}"
