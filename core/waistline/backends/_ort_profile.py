"""onnxruntime's profile (a Chrome trace) as layer times."""

from __future__ import annotations

import json
import statistics
import tempfile
from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path
from typing import Any

from waistline.backends.base import LayerTime

_KERNEL = "_kernel_time"
_US = 1e-6


def node_times(profiled: Callable[[Path], Path]) -> tuple[LayerTime, ...]:
    """Median time of each executed node, in execution order.

    Args:
        profiled: runs the slice with the profile written to files that start with the path it is
            given, and returns the profile's path. The first run warms up and is not counted.
    """
    with tempfile.TemporaryDirectory(prefix="waistline-profile-") as folder:
        events = json.loads(profiled(Path(folder) / "ort").read_text())
    return parse(events)


def parse(events: list[dict[str, Any]]) -> tuple[LayerTime, ...]:
    """Layer times of a Chrome trace with at least two runs; a node run n times in a loop sums up.

    Raises:
        ValueError: the trace holds fewer than two runs.
    """
    starts = sorted(
        event["ts"]
        for event in events
        if event.get("cat") == "Session" and event["name"] == "model_run"
    )
    if len(starts) < 2:
        raise ValueError(f"the profile holds {len(starts)} runs, at least two are needed")
    per_run: dict[str, dict[int, float]] = {}
    facts: dict[str, dict[str, Any]] = {}
    kernels = [
        event
        for event in events
        if event.get("cat") == "Node" and str(event["name"]).endswith(_KERNEL)
    ]
    for event in sorted(kernels, key=lambda event: float(event["ts"])):
        run = bisect_right(starts, event["ts"]) - 1
        if run < 1:
            continue
        name = str(event["name"])[: -len(_KERNEL)]
        runs = per_run.setdefault(name, {})
        runs[run] = runs.get(run, 0.0) + float(event["dur"]) * _US
        facts.setdefault(name, event.get("args", {}))
    return tuple(_layer(name, runs, facts[name]) for name, runs in per_run.items())


def _layer(name: str, runs: dict[int, float], facts: dict[str, Any]) -> LayerTime:
    times = sorted(runs.values())
    quartiles = statistics.quantiles(times, n=4) if len(times) > 1 else [times[0]] * 3
    return LayerTime(
        name=name,
        operator=str(facts.get("op_name", "")),
        duration_s=statistics.median(times),
        spread_s=(quartiles[2] - quartiles[0]) / 2,
        output_bytes=int(facts.get("output_size", 0) or 0),
    )
