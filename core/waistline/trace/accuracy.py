"""Mean current, power and energy of a stretch of trace, each with its standard uncertainty.

Two parts in quadrature. *Type B* is what the instrument may be off by: scale and offset of current
and voltage, the supply, a burden, the sample clock; it follows from a `Calibration` and does not
shrink with time. *Type A* is noise and drift: the stretch is cut into up to 64 equal parts, whose
means differ from one to the next by sqrt(2) times the scatter of one. The median of those
differences is taken, so that a few steps of the load are not mistaken for noise. Where either part
is not known, the whole is not.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np

from waistline.errors import WaistlineError
from waistline.evidence import Figure
from waistline.instrument import Calibration, calibration_from
from waistline.trace.base import TraceSpec
from waistline.trace.jls_read import JlsTrace
from waistline.trace.sums import window_sums

_PARTS = 64
_LEAST_PARTS = 4
# The median of |d|, d normal with deviation sqrt(2) s, is 0.6745 sqrt(2) s.
_MEDIAN = 0.6744897501960817 * math.sqrt(2)
SETTING = "bench_calibration"
"""Key of a calibration in ``MeterInfo.details``, hence in the run.json inside a trace."""


class Part(msgspec.Struct, frozen=True, array_like=True):
    """Sums over consecutive samples; lost ones are not among them.

    Attributes:
        count: samples that are there.
        current, voltage, power: sums of samples, SI; 0.0 where there is no such signal.
    """

    count: float = 0.0
    current: float = 0.0
    voltage: float = 0.0
    power: float = 0.0

    def __add__(self, other: Part) -> Part:
        return Part(
            self.count + other.count,
            self.current + other.current,
            self.voltage + other.voltage,
            self.power + other.power,
        )


class Parts(msgspec.Struct):
    """A stretch cut into at most 64 parts of equal size, however long it gets.

    Attributes:
        span: samples in each part but the last; doubles when there are 64.
        done: parts that are full.
        last: the one that grows.
    """

    span: int
    done: list[Part] = []
    last: Part = Part()

    def add(self, part: Part) -> None:
        """Append sums over the samples that come next, at most ``span`` of them or so."""
        self.last += part
        if self.last.count >= self.span:
            self.done.append(self.last)
            self.last = Part()
        if len(self.done) >= _PARTS:
            pairs = zip(self.done[::2], self.done[1::2], strict=True)
            self.done = [first + second for first, second in pairs]
            self.span *= 2

    @property
    def total(self) -> Part:
        """Sums over everything."""
        return sum(self.done, self.last)


def figures_of(
    parts: Parts,
    spec: TraceSpec,
    samples: float,
    calibration: Calibration | None = None,
) -> dict[str, Figure]:
    """Figures of a stretch: ``duration_s``, ``mean_current_a``, ``mean_power_w``, ``energy_j``.

    The energy is that of the samples that are there. Current and power are left out where the
    trace does not give them.

    Args:
        parts: of the stretch.
        spec: of the trace.
        samples: the stretch is long, lost ones included.
        calibration: of the instrument; None: not known.
    """
    known = calibration or Calibration()
    total = parts.total
    count = total.count
    lost = f", {samples - count:.12g} lost" if samples > count else ""
    source = f"{spec.source}, {count:.12g} samples{lost}"

    def figure(value: float, unit: str, *spreads: float | None, n: int = 1) -> Figure:
        found = [one for one in spreads if one is not None]
        sure = len(found) == len(spreads)
        spread = math.hypot(*found) if sure else None
        return Figure(value, unit, spec.evidence, source, spread, n)

    clock = known.rate_uncertainty
    duration_s = samples / spec.rate_hz
    rate = None if calibration is None else clock * duration_s
    out = {"duration_s": figure(duration_s, "s", rate)}
    if not count:
        return out
    if "current" in spec.floats:
        noise, n = _scatter(parts, "current")
        current_a = total.current / count
        spread = _current_spread(current_a, known)
        out["mean_current_a"] = figure(current_a, "A", spread, noise, n=n)
    if _has_power(spec):
        noise, n = _scatter(parts, "power")
        power_w = total.power / count
        spread = _power_spread(total, spec, known)
        out["mean_power_w"] = figure(power_w, "W", spread, noise, n=n)
        there_s = count / spec.rate_hz
        energy_j = power_w * there_s
        over = [None if one is None else one * there_s for one in (spread, noise)]
        out["energy_j"] = figure(energy_j, "J", *over, clock * energy_j, n=n)
    return out


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
    size = stop - start
    edges = np.linspace(start, stop, min(_PARTS - 1, max(1, int(size))) + 1)
    low, high = int(edges[0]), min(trace.length, math.ceil(edges[-1]))
    columns: dict[str, Any] = {}
    there = np.zeros(len(edges) - 1)
    for name in ("current", "voltage"):
        if name in trace.spec.floats:
            sums, missing = window_sums(trace.pieces(name, low, high), edges, trace.length)
            columns[name], there = sums, np.diff(edges) - missing
    if _has_power(trace.spec):
        windows = trace.windows(edges)
        columns["power"] = windows.energy_j * trace.spec.rate_hz
        there = np.diff(edges) - windows.missing
    parts = Parts(span=max(1, int(size) // _PARTS))
    for k, count in enumerate(there.tolist()):
        row = {name: float(sums[k]) for name, sums in columns.items()}
        parts.done.append(Part(count, **row))
    return figures_of(parts, trace.spec, size, calibration or calibration_of(trace))


def calibration_of(trace: JlsTrace) -> Calibration | None:
    """The calibration a trace was captured with; None where it tells of none."""
    try:
        run: Any = msgspec.json.decode(trace.run)
        stored = run["settings"]["capture"]["meter"]["details"][SETTING]
        return calibration_from(stored)
    except (msgspec.MsgspecError, KeyError, TypeError, WaistlineError):
        return None


def _has_power(spec: TraceSpec) -> bool:
    voltage = "voltage" in spec.floats or spec.supply_v is not None
    return "power" in spec.floats or ("current" in spec.floats and voltage)


def _current_spread(current_a: float, known: Calibration) -> float | None:
    scale = known.relative_current
    if scale is None:
        return None
    return math.hypot(scale * current_a, known.current_offset_uncertainty_a)


def _power_spread(total: Part, spec: TraceSpec, known: Calibration) -> float | None:
    """Type B of the mean power, W: every input times what the power changes by with it."""
    power_w = total.power / total.count
    current_a = total.current / total.count
    scale = known.relative_current
    if scale is None:
        return None
    if "voltage" in spec.floats or spec.supply_v is None:
        if known.voltage_gain_uncertainty is None:
            return None
        voltage_v = total.voltage / total.count
        if "voltage" not in spec.floats:
            voltage_v = power_w / current_a if current_a else 0.0
        return math.hypot(
            power_w * scale,
            power_w * known.voltage_gain_uncertainty,
            voltage_v * known.current_offset_uncertainty_a,
            current_a * known.voltage_offset_uncertainty_v,
        )
    if known.supply_uncertainty_v is None:
        return None
    supply_v, burden = spec.supply_v, known.burden_ohm
    # P = V I - R I^2, whose mean of squares follows from what the burden took.
    square = (supply_v * current_a - power_w) / burden if burden else current_a**2
    return math.hypot(
        (power_w - burden * square) * scale,
        (supply_v - 2 * burden * current_a) * known.current_offset_uncertainty_a,
        current_a * known.supply_uncertainty_v,
        square * known.burden_uncertainty_ohm,
    )


def _scatter(parts: Parts, name: str) -> tuple[float | None, int]:
    """Type A of a mean, and the number of parts it rests on."""
    rows = [part for part in parts.done if part.count >= parts.span / 2]
    if len(rows) < _LEAST_PARTS:
        return None, max(1, len(rows))
    means = [getattr(part, name) / part.count for part in rows]
    return float(np.median(np.abs(np.diff(means)))) / _MEDIAN / math.sqrt(len(means)), len(means)
