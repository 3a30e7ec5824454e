"""What the uncertainty of a stretch of trace is made of, term by term.

Two kinds of term, added in quadrature. *Type B* is what the instrument may be off by: scale and
offset of current and voltage, the supply, a burden, the sample clock; each is an input's standard
uncertainty times what the value changes by with that input, so it keeps its sign and does not
shrink with time. *Type A* is noise and drift, by batch means: of all pairs of batches side by side,
each about a sixteenth of the stretch, the means differ by sqrt(2) times the scatter of one. It
assumes that batches that long differ by chance alone. What a load repeats within one averages out
but for the period that is cut at its end, which makes the term too large rather than too small;
what changes from one to the next counts as noise. The median of the differences is taken, so that
a few steps of the load do not. A term that is not known makes the whole unknown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from waistline.instrument import Calibration
from waistline.trace.base import Doubles, TraceSpec
from waistline.trace.parts import Part, Parts

NOISE = "noise and drift"
CLOCK = "sample clock"
EDGES = "edges"
"""Of a stretch whose ends are not known to the sample."""
HOLE = "gap of unknown size"
_OF_TIME = (CLOCK, EDGES, HOLE)
BATCHES = 16
"""Of a stretch of so many samples or more; up to half as many again."""
_LEAST_BATCHES = 4
# The median of |d|, d normal with deviation sqrt(2) s, is 0.6745 sqrt(2) s.
_MEDIAN = 0.6744897501960817 * math.sqrt(2)

Terms = Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Quantity:
    """A value with the terms of its uncertainty.

    Attributes:
        value: in ``unit``.
        terms: by name, signed, in ``unit``; None where a term is not known.
        n: batches that its noise rests on.
    """

    value: float
    unit: str
    terms: Terms
    n: int = 1

    @property
    def uncertainty(self) -> float | None:
        """All terms in quadrature; None where one is not known."""
        known = [term for term in self.terms.values() if term is not None]
        return math.hypot(*known) if len(known) == len(self.terms) else None

    def above(self, power: Quantity, time_s: float) -> Quantity:
        """This energy less what a power of the same instrument takes in so much of its time.

        All terms are shared but noise; those of time act on what is left.
        """
        value = self.value - time_s * power.value
        left = value / self.value if self.value else 0.0
        terms: dict[str, float | None] = {}
        for name in {**self.terms, **power.terms}:
            mine, its = self.terms.get(name, 0.0), power.terms.get(name, 0.0)
            if mine is None or its is None:
                terms[name] = None
            elif name in _OF_TIME:
                terms[name] = mine * left
            elif name == NOISE:
                terms[name] = math.hypot(mine, time_s * its)
            else:
                terms[name] = mine - time_s * its
        return Quantity(value, self.unit, terms, min(self.n, power.n))


def has_power(spec: TraceSpec) -> bool:
    """Whether a trace of these signals gives a power."""
    voltage = "voltage" in spec.floats or spec.supply_v is not None
    return "power" in spec.floats or ("current" in spec.floats and voltage)


def quantities(
    parts: Parts,
    spec: TraceSpec,
    samples: float,
    calibration: Calibration | None,
    edge_sigma: float = 0.0,
    uncertain: bool = False,
) -> dict[str, Quantity]:
    """``duration_s``, ``mean_current_a``, ``mean_power_w``, ``energy_j`` of a stretch.

    The energy is that of the samples that are there. Current and power are left out where the
    trace does not give them.

    Args:
        parts: of the stretch.
        spec: of the trace.
        samples: the stretch is long, lost ones included.
        calibration: of the instrument; None: not known.
        edge_sigma: standard uncertainty of each of its two ends, samples.
        uncertain: a gap of unknown size touches it: neither its duration nor what it took are
            known to any bound.
    """
    known = calibration or Calibration()
    clock = None if calibration is None else known.rate_uncertainty
    edges_s = math.sqrt(2) * edge_sigma / spec.rate_hz
    duration_s = samples / spec.rate_hz
    hole: dict[str, None] = {HOLE: None} if uncertain else {}
    terms = {CLOCK: None if clock is None else clock * duration_s, **_edges(edges_s), **hole}
    out = {"duration_s": Quantity(duration_s, "s", terms)}
    total = parts.total
    if not total.count:
        return out
    if "current" in spec.floats:
        noise, n = _scatter(parts, "current")
        current_a = total.current / total.count
        terms = {**current_terms(current_a, known), NOISE: noise}
        out["mean_current_a"] = Quantity(current_a, "A", terms, n)
    if has_power(spec):
        noise, n = _scatter(parts, "power")
        power_w = total.power / total.count
        terms = {**power_terms(total, spec, known), NOISE: noise}
        out["mean_power_w"] = Quantity(power_w, "W", terms, n)
        there_s = total.count / spec.rate_hz
        energy_j = power_w * there_s
        over = {name: None if one is None else one * there_s for name, one in terms.items()}
        over[CLOCK] = None if clock is None else clock * energy_j
        over |= {**_edges(edges_s * power_w), **hole}
        out["energy_j"] = Quantity(energy_j, "J", over, n)
    return out


def _edges(term: float) -> dict[str, float]:
    return {EDGES: term} if term else {}


def current_terms(current_a: float, known: Calibration) -> dict[str, float | None]:
    """Type B of a current, A."""
    scale = known.relative_current
    return {
        "scale of the current": None if scale is None else scale * current_a,
        "offset of the current": known.current_offset_uncertainty_a,
    }


def power_terms(total: Part, spec: TraceSpec, known: Calibration) -> dict[str, float | None]:
    """Type B of the mean power, W: every input times what the power changes by with it."""
    power_w = total.power / total.count
    if not {"current", "voltage"} & set(spec.floats):
        whole = known.relative_power
        return {"scale of the power": None if whole is None else whole * power_w}
    current_a = total.current / total.count
    scale = known.relative_current
    names = ("scale of the current", "offset of the current")
    if "voltage" in spec.floats or spec.supply_v is None:
        gain = known.voltage_gain_uncertainty
        voltage_v = total.voltage / total.count
        if "voltage" not in spec.floats:
            voltage_v = power_w / current_a if current_a else 0.0
        return {
            names[0]: None if scale is None else power_w * scale,
            names[1]: voltage_v * known.current_offset_uncertainty_a,
            "scale of the voltage": None if gain is None else power_w * gain,
            "offset of the voltage": current_a * known.voltage_offset_uncertainty_v,
        }
    supply, supply_v, burden = known.supply_uncertainty_v, spec.supply_v, known.burden_ohm
    # P = V I - R I^2, whose mean of squares follows from what the burden took.
    square = (supply_v * current_a - power_w) / burden if burden else current_a**2
    return {
        names[0]: None if scale is None else (power_w - burden * square) * scale,
        names[1]: (supply_v - 2 * burden * current_a) * known.current_offset_uncertainty_a,
        "supply voltage": None if supply is None else current_a * supply,
        "burden": -square * known.burden_uncertainty_ohm,
    }


def _scatter(parts: Parts, name: str) -> tuple[float | None, int]:
    """Type A of a mean, and the number of batches it rests on."""
    size = max(1, len(parts.done) // BATCHES)
    counts = _slid([part.count for part in parts.done], size)
    sums = _slid([getattr(part, name) for part in parts.done], size)
    there = counts >= size * parts.span / 2
    means = np.where(there, sums, np.nan) / np.maximum(counts, 1)
    steps = np.abs(means[size:] - means[:-size])
    steps = steps[np.isfinite(steps)]
    batches = parts.total.count / (size * parts.span)
    if batches < _LEAST_BATCHES or not len(steps):
        return None, max(1, int(batches))
    return float(np.median(steps)) / _MEDIAN / math.sqrt(batches), round(batches)


def _slid(values: Sequence[float], size: int) -> Doubles:
    """Sums of ``size`` of them in a row, float64; of more than there are none."""
    return np.convolve(values, np.ones(size), "valid") if len(values) >= size else np.empty(0)
