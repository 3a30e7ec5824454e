"""Figures of stretches of a trace: current, power, energy, each with its standard uncertainty.

`budget` says what an uncertainty is made of, `parts` what is added up for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from waistline.errors import WaistlineError
from waistline.evidence import Figure
from waistline.instrument import Calibration, calibration_from
from waistline.trace.base import Doubles, TraceSpec
from waistline.trace.budget import Quantity, has_power, quantities
from waistline.trace.jls_read import JlsTrace
from waistline.trace.parts import PARTS, Part, Parts
from waistline.trace.sums import window_sums

__all__ = [
    "SETTING", "Part", "Parts", "Stretch", "Summed", "calibration_of", "figures_of", "summed",
    "trace_figures",
]  # fmt: skip

SETTING = "bench_calibration"
"""Key of a calibration in ``MeterInfo.details``, hence in the run.json inside a trace."""


def figures_of(
    parts: Parts,
    spec: TraceSpec,
    samples: float,
    calibration: Calibration | None = None,
) -> dict[str, Figure]:
    """Figures of a stretch; names and arguments as those of `quantities`."""
    found = quantities(parts, spec, samples, calibration)
    return as_figures(found, spec, parts.total.count, samples)


def as_figures(
    found: Mapping[str, Quantity], spec: TraceSpec, count: float, samples: float
) -> dict[str, Figure]:
    """Quantities of ``count`` samples, out of so many with those that were lost."""
    lost = f", {samples - count:.12g} lost" if samples > count else ""
    source = f"{spec.source}, {count:.12g} samples{lost}"
    return {
        name: Figure(one.value, one.unit, spec.evidence, source, one.uncertainty, one.n)
        for name, one in found.items()
    }


@dataclass(frozen=True, slots=True)
class Stretch:
    """From ``start`` to ``stop``, in samples, each with the standard uncertainty ``edge_sigma``."""

    start: float
    stop: float
    edge_sigma: float = 0.0


@dataclass(frozen=True, slots=True)
class Summed:
    """One stretch.

    Attributes:
        parts: of it.
        missing: samples lost in it, fractions at its edges included.
        uncertain: touched by a gap whose size is not known.
        quantities: as `budget.quantities` makes them.
    """

    parts: Parts
    missing: float
    uncertain: bool
    quantities: dict[str, Quantity]


def summed(
    trace: JlsTrace, stretches: Sequence[Stretch], calibration: Calibration | None
) -> list[Summed]:
    """Stretches that do not overlap, in order; each sample between them is read once.

    Raises:
        TraceError: one lies outside the trace, or they are not in order.
    """
    if not stretches:
        return []
    cuts = [
        np.linspace(row.start, row.stop, min(PARTS - 1, max(1, int(row.stop - row.start))) + 1)
        for row in stretches
    ]
    edges = np.concatenate(cuts)
    columns, missing, uncertain = _sums(trace, edges)
    there = np.diff(edges) - missing
    found = []
    for at, row, cut in zip(_begins(cuts), stretches, cuts, strict=True):
        here = slice(at, at + len(cut) - 1)
        size = row.stop - row.start
        rows = {name: sums[here].tolist() for name, sums in columns.items()}
        done = [
            Part(count, **{name: values[k] for name, values in rows.items()})
            for k, count in enumerate(there[here].tolist())
        ]
        parts = Parts(max(1, int(size) // PARTS), done)
        found.append(
            Summed(
                parts,
                float(missing[here].sum()),
                bool(uncertain[here].any()),
                quantities(parts, trace.spec, size, calibration, row.edge_sigma),
            )
        )
    return found


def _begins(cuts: Sequence[Doubles]) -> Iterator[int]:
    """Where each cut's edges begin among those of all."""
    at = 0
    for cut in cuts:
        yield at
        at += len(cut)


def _sums(trace: JlsTrace, edges: Doubles) -> tuple[dict[str, Doubles], Doubles, Any]:
    """By signal the sums between consecutive edges; samples missing there, and what is invalid."""
    low, high = int(edges[0]), min(trace.length, math.ceil(edges[-1]))
    columns: dict[str, Doubles] = {}
    missing = np.zeros(len(edges) - 1)
    for name in ("current", "voltage"):
        if name in trace.spec.floats:
            pieces = trace.pieces(name, low, high)
            columns[name], missing = window_sums(pieces, edges, trace.length)
    if has_power(trace.spec):
        windows = trace.windows(edges)
        columns["power"] = windows.energy_j * trace.spec.rate_hz
        missing = windows.missing
    return columns, missing, trace.uncertain(edges)


def trace_figures(
    trace: JlsTrace,
    start: float = 0,
    stop: float | None = None,
    calibration: Calibration | None = None,
) -> dict[str, Figure]:
    """As `figures_of`, for the samples from ``start`` to ``stop``, fractions at the edges included.

    Args:
        trace: an open trace.
        start: in samples.
        stop: in samples; None is the end.
        calibration: None takes the one that the trace was captured with.

    Raises:
        TraceError: the stretch lies outside the trace.
    """
    stop = float(trace.length) if stop is None else stop
    (one,) = summed(trace, [Stretch(start, stop)], calibration or calibration_of(trace))
    return as_figures(one.quantities, trace.spec, one.parts.total.count, stop - start)


def calibration_of(trace: JlsTrace) -> Calibration | None:
    """The calibration a trace was captured with; None where it tells of none."""
    try:
        run: Any = msgspec.json.decode(trace.run)
        stored = run["settings"]["capture"]["meter"]["details"][SETTING]
        return calibration_from(stored)
    except (msgspec.MsgspecError, KeyError, TypeError, WaistlineError):
        return None
