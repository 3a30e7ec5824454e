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
from waistline.trace.parts import Part, Parts, edges_of, span_of
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
    *,
    uncertain: bool = False,
) -> dict[str, Figure]:
    """Figures of a stretch; names and arguments as those of `quantities`."""
    found = quantities(parts, spec, samples, calibration, uncertain=uncertain)
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
    cuts = [edges_of(row.start, row.stop) for row in stretches]
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
        unsure = bool(uncertain[here].any())
        parts = Parts(span_of(size), size, done)
        found.append(
            Summed(
                parts,
                float(missing[here].sum()),
                unsure,
                quantities(parts, trace.spec, size, calibration, row.edge_sigma, unsure),
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
    found: dict[str, tuple[Doubles, Doubles]] = {}
    for name in ("current", "voltage"):
        if name in trace.spec.floats:
            found[name] = window_sums(trace.pieces(name, low, high), edges, trace.length)
    if has_power(trace.spec):
        windows = trace.windows(edges)
        found["power"] = windows.energy_j * trace.spec.rate_hz, windows.missing
    missing = [*found.values()][-1][1]
    there = np.diff(edges) - missing
    columns = {}
    for name, (sums, lost) in found.items():
        # Files of others may lack a value of one signal alone: its mean is that of its own.
        own = np.diff(edges) - lost
        columns[name] = sums * np.divide(there, own, out=np.ones_like(own), where=own > 0)
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
