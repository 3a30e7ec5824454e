"""Trace Event JSON for ui.perfetto.dev: mean power at 1 kHz at most, segments as slices.

The format is the one of Chrome's tracing; its viewers grow slow beyond some 100 MB, hence no more
than a point a millisecond. The energies in the slices' arguments are from all samples.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import numpy as np

from waistline.trace.base import Trace
from waistline.trace.exporters.base import Part, new_file

MAX_RATE_HZ = 1000.0
_WINDOWS = 1 << 14
_PROCESS, _POWER, _SEGMENTS, _GAPS = 1, 1, 2, 3


def export(trace: Trace, path: Path, part: Part) -> int:
    """Write a JSON file; how many points of power it has."""
    start, stop = part.bounds(trace)
    step = max(part.every, math.ceil(trace.spec.rate_hz / MAX_RATE_HZ))
    count = 0
    with new_file(path) as raw, TextIOWrapper(raw, "ascii") as stream:
        stream.write('{"displayTimeUnit":"ns","traceEvents":[\n')
        stream.write(",\n".join(json.dumps(row) for row in _names(trace)))
        for rows in (_power(trace, start, stop, step), _notes(trace, start, stop)):
            for row in rows:
                count += row["ph"] == "C"
                stream.write(",\n" + json.dumps(row, allow_nan=False))
        stream.write("\n]}\n")
    return count


def _names(trace: Trace) -> Iterator[dict[str, Any]]:
    source = f"{trace.spec.source} ({trace.spec.evidence})"
    yield {"ph": "M", "pid": _PROCESS, "name": "process_name", "args": {"name": source}}
    for thread, name in ((_SEGMENTS, "segments"), (_GAPS, "gaps")):
        yield {
            "ph": "M",
            "pid": _PROCESS,
            "tid": thread,
            "name": "thread_name",
            "args": {"name": name},
        }


def _power(trace: Trace, start: int, stop: int, step: int) -> Iterator[dict[str, Any]]:
    period_s = step / trace.spec.rate_hz
    for first in range(start, stop, step * _WINDOWS):
        edges = np.arange(first, min(first + step * _WINDOWS, stop) + 1, step, dtype=np.float64)
        if len(edges) < 2:
            return
        found = trace.windows(edges)
        there_s = period_s - found.missing / trace.spec.rate_hz
        for edge, energy_j, time_s in zip(edges, found.energy_j, there_s, strict=False):
            if time_s > 0:
                yield {
                    "ph": "C",
                    "pid": _PROCESS,
                    "name": "power",
                    "ts": _us(trace, edge),
                    "args": {"W": float(f"{energy_j / time_s:.6g}")},
                }


def _notes(trace: Trace, start: int, stop: int) -> Iterator[dict[str, Any]]:
    for gap in trace.gaps:
        if start <= gap.first < stop:
            yield _slice(trace, f"gap ({gap.kind})", gap.first, gap.end, _GAPS, {"lost": gap.count})
    for note in trace.annotations:
        if not start <= note.sample < stop:
            continue
        if note.end_sample is None:
            yield {
                "ph": "i",
                "s": "p",
                "pid": _PROCESS,
                "tid": _SEGMENTS,
                "name": note.text,
                "ts": _us(trace, note.sample),
            }
        elif note.sample <= note.end_sample <= trace.length:
            energy = trace.energy(note.sample, note.end_sample)
            args = {"energy_j": energy.energy_j, "missing": energy.missing}
            yield _slice(trace, note.text, note.sample, note.end_sample, _SEGMENTS, args)


def _slice(
    trace: Trace, name: str, first: float, end: float, thread: int, args: dict[str, Any]
) -> dict[str, Any]:
    return {
        "ph": "X",
        "pid": _PROCESS,
        "tid": thread,
        "name": name,
        "ts": _us(trace, first),
        "dur": _us(trace, end - first),
        "args": args,
    }


def _us(trace: Trace, samples: float) -> float:
    return round(samples / trace.spec.rate_hz * 1e6, 3)
