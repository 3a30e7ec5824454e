"""OpenVINO's performance counters as layer times."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from waistline.backends.base import LayerTime

_NOT_EXECUTED = ("undef", "unknown")
"""How the kernel of a node begins that was fused away, or only stands for memory."""
_RENAMED = "/WithoutBiases"
"""What the engine appends to a layer whose bias it first split off."""

_REORDER = "Reorder"

Row = tuple[str, str, float]
"""Name, operator, seconds."""


class KernelRow(NamedTuple):
    """One line of the engine's counters."""

    name: str
    operator: str
    kernel: str
    duration_s: float


def executed(rows: Iterable[KernelRow]) -> list[Row]:
    """The nodes of one run that a kernel computed, in execution order.

    A node quicker than the counters' 1 µs is listed as not run with no time, as a fused one is;
    only the kernel's name tells them apart.
    """
    return [
        (row.name.removesuffix(_RENAMED), row.operator, row.duration_s)
        for row in rows
        if not row.kernel.startswith(_NOT_EXECUTED)
    ]


def layer_times(runs: Sequence[Sequence[Row]]) -> tuple[LayerTime, ...]:
    """Medians over runs of the same nodes; nodes of one name sum up.

    Changes of a tensor's order in memory that took no time are left out: most of them were made to
    weights, when the slice was opened.
    """
    per_layer: dict[str, list[float]] = {}
    operators: dict[str, str] = {}
    for k, run in enumerate(runs):
        for name, operator, duration_s in run:
            times = per_layer.setdefault(name, [0.0] * len(runs))
            times[k] += duration_s
            operators.setdefault(name, operator)
    return tuple(
        _layer(name, operators[name], times)
        for name, times in per_layer.items()
        if operators[name] != _REORDER or any(times)
    )


def whole_as_layer(name: str, whole_s: float) -> tuple[LayerTime, ...]:
    """Stands for the layers of a slice of which the counters name none."""
    return (LayerTime(name, "Slice", whole_s, 0.0),)


def _layer(name: str, operator: str, times: Sequence[float]) -> LayerTime:
    quartiles = statistics.quantiles(times, n=4) if len(times) > 1 else [times[0]] * 3
    return LayerTime(
        name=name,
        operator=operator,
        duration_s=statistics.median(times),
        spread_s=max(0.0, (quartiles[2] - quartiles[0]) / 2),
    )
