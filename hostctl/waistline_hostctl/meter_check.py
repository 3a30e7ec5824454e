"""Compare a meter with a load that is known, and say what the bench file should hold."""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from waistline.bench import ResolvedBench
from waistline.errors import ConfigError
from waistline.evidence import Evidence, Figure, weakest
from waistline.instrument import Calibration, MeterBench
from waistline.trace.accuracy import trace_figures
from waistline.trace.store import open_trace
from waistline.workfolder import work_folder
from waistline_hostctl.capture.control import run
from waistline_hostctl.capture.record import Captured
from waistline_hostctl.capture.wanted import Wanted
from waistline_hostctl.console import Console, indented
from waistline_hostctl.meters.base import MeterChoice
from waistline_hostctl.results import Result

OPEN = "open"
DURATION_S = 3.0
_LOAD = re.compile(
    r"(?P<number>\d+(\.\d+)?|\.\d+)\s*(?P<prefix>m|k|K|M)?\s*(ohm|ohms|R|Ω)?"
    r"(\s*(±|\+-|:)\s*(?P<limit>\d+(\.\d+)?)\s*%)?\Z"
)
_PREFIXES = {None: 1.0, "m": 1e-3, "k": 1e3, "K": 1e3, "M": 1e6}
_LIMIT = 0.01
"""Of a resistor nobody says more about."""
_COVERAGE = 2.0
"""A difference within twice its standard uncertainty is none."""
_SUPPLY = 0.005
"""Relative, of a supply nobody says more about: half a per cent, a hand-held meter's. It is said
where it counts."""
_ASSUMED = "assumed: state it with --voltage-uncertainty, or in the bench file"

_LEAST_A = 1e-12
"""Below this an offset is the rounding of float32."""
_EXACT = Calibration(
    current_gain_uncertainty=0.0, voltage_gain_uncertainty=0.0, supply_uncertainty_v=0.0
)
"""Of an instrument without fault: what is left is noise."""


@dataclass(frozen=True, slots=True)
class Load:
    """A resistor.

    Attributes:
        ohm: infinite for none.
        limit: relative; its standard uncertainty is that over the root of three.
    """

    ohm: float
    limit: float = _LIMIT

    @property
    def relative(self) -> float:
        return self.limit / math.sqrt(3)


def parse_load(text: str) -> Load:
    """``100ohm``, ``4.7k``, ``0.5R±0.1%``, or ``open`` for nothing at all.

    Raises:
        ConfigError: it is none of these.
    """
    if text == OPEN:
        return Load(math.inf, 0.0)
    found = _LOAD.match(text.strip())
    ohm = float(found["number"]) * _PREFIXES[found["prefix"]] if found else 0.0
    if not found or not ohm:
        raise ConfigError(
            f"{text!r} is no load",
            cause="a load is a resistance with its tolerance, 1 % where none is given",
            fix="use --load 100ohm, --load 4.7k±0.1%, or --load open",
        )
    return Load(ohm, float(found["limit"]) / 100 if found["limit"] else _LIMIT)


@dataclass(frozen=True, slots=True)
class Supply:
    """A voltage.

    Attributes:
        volts: of it.
        spread_v: its standard uncertainty.
        assumed: nobody has stated that one.
    """

    volts: float
    spread_v: float
    assumed: bool

    @classmethod
    def of(cls, volts: float, spread_v: float | None) -> Supply:
        """With half a per cent where nobody states more."""
        return cls(volts, _SUPPLY * abs(volts) if spread_v is None else spread_v, spread_v is None)


class Comparison(Result, frozen=True, kw_only=True, tag="meter check"):
    """A meter beside a load that is known.

    Attributes:
        meter: id of the instrument.
        section: of the bench file, which its lines go into.
        load_ohm: None where nothing is connected or known.
        supply_v: across it; None where not known.
        supply_uncertainty_v: standard one of that.
        supply_assumed: nobody has stated that one: half a per cent is taken.
        measured: mean current, or power where the meter knows no current.
        expected: by the load; None where there is none.
        difference: measured less expected.
        state: ``inside``, ``outside`` or ``no load``.
        lines: for the bench file, () where nothing is to be changed.
        problems: why the capture cannot be trusted.
    """

    meter: str
    section: str
    load_ohm: float | None
    supply_v: float | None
    samples: int
    measured: Figure
    supply_uncertainty_v: float | None = None
    supply_assumed: bool = False
    expected: Figure | None = None
    difference: Figure | None = None
    state: Literal["inside", "outside", "no load"] = "no load"
    lines: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def check(
    choice: MeterChoice,
    bench: ResolvedBench,
    console: Console,
    *,
    load: Load | None,
    voltage_v: float | None = None,
    voltage_spread_v: float | None = None,
    duration_s: float = DURATION_S,
) -> Comparison:
    """Capture for some seconds, and compare.

    Args:
        choice: of the meter.
        bench: with its section.
        console: for notes.
        load: connected to the meter; None: only say what is measured.
        voltage_v: across load and meter's shunt, as measured by another instrument; None: what the
            meter samples, was told, or the bench file says.
        voltage_spread_v: standard uncertainty of that voltage, whoever says it; None: that of the
            bench file, or half a per cent, which is said.
        duration_s: of the capture.

    Raises:
        ConfigError: the voltage is not known.
    """
    with work_folder(Path(tempfile.gettempdir()) / "waistline-check") as folder:
        wanted = Wanted(
            choice=choice,
            duration_s=duration_s,
            output=folder / "check.jls",
            allow_slow=True,
            beside=True,
        )
        captured = run(wanted, bench, console)
        return compare(captured, choice.name, bench, load, voltage_v, voltage_spread_v)


def compare(
    captured: Captured,
    section: str,
    bench: ResolvedBench,
    load: Load | None,
    voltage_v: float | None = None,
    voltage_spread_v: float | None = None,
) -> Comparison:
    """A capture beside a load; arguments as those of `check`."""
    entry = bench.bench.meter.get(section, MeterBench())
    with open_trace(captured.trace) as trace:
        found = trace_figures(trace)
        noise = trace_figures(trace, calibration=_EXACT)
    name = "mean_current_a" if "mean_current_a" in found else "mean_power_w"
    measured, scatter = found[name], noise[name].standard_uncertainty
    supply = _supply(captured, entry, found, voltage_v, voltage_spread_v)
    base = Comparison(
        meter=captured.info.id,
        section=section,
        load_ohm=load.ohm if load and math.isfinite(load.ohm) else None,
        supply_v=supply.volts if supply else None,
        supply_uncertainty_v=supply.spread_v if supply else None,
        supply_assumed=supply.assumed if supply else False,
        samples=captured.samples,
        measured=measured,
        problems=captured.problems,
    )
    if load is None:
        return base
    expected = _expected(load, supply, entry, measured.unit)
    spread = _spread(measured, expected, entry, scatter)
    difference = Figure(
        value=measured.value - expected.value,
        unit=measured.unit,
        evidence=weakest([measured.evidence, expected.evidence]),
        source="measured less expected",
        standard_uncertainty=spread,
        n=measured.n,
    )
    inside = abs(difference.value) <= _COVERAGE * spread
    settled = inside and entry.current_gain_uncertainty is not None
    lines = () if settled or measured.unit != "A" else _lines(entry, measured, expected, scatter)
    return msgspec.structs.replace(
        base,
        expected=expected,
        difference=difference,
        state="inside" if inside else "outside",
        lines=lines,
    )


def _spread(measured: Figure, expected: Figure, entry: MeterBench, scatter: float | None) -> float:
    """Standard uncertainty of the two's difference."""
    ours = measured.standard_uncertainty
    if ours is None:
        # A scale that nobody knows is what is to be found out.
        ours = math.hypot(scatter or 0.0, entry.current_offset_uncertainty_a)
    return math.hypot(ours, expected.standard_uncertainty or 0.0)


def _supply(
    captured: Captured,
    entry: MeterBench,
    found: Mapping[str, Figure],
    voltage_v: float | None,
    spread_v: float | None,
) -> Supply | None:
    """The voltage; None where nobody knows it."""
    if voltage_v is not None:
        return Supply.of(voltage_v, spread_v)
    sampled = "voltage" in {signal.name for signal in captured.info.signals}
    current = found["mean_current_a"].value if "mean_current_a" in found else 0.0
    if sampled and current:
        # Of a load that does not change the mean power is the product of the means.
        value, share = found["mean_power_w"].value / current, entry.voltage_gain_uncertainty
        known = spread_v if share is None or spread_v is not None else share * abs(value)
        return Supply.of(value, known)
    told = captured.info.supply_v
    if not told:
        return None
    return Supply.of(told, entry.supply_uncertainty_v if spread_v is None else spread_v)


def _expected(load: Load, supply: Supply | None, entry: MeterBench, unit: str) -> Figure:
    """Current or power of the load, by Ohm's law."""
    if math.isinf(load.ohm):
        return Figure(0.0, unit, Evidence.MODELLED, "nothing is connected", 0.0)
    if supply is None:
        raise ConfigError(
            "the voltage across the load is not known",
            cause="the meter samples none, and was told none",
            fix="measure it and say it: --voltage 3.3",
        )
    volts, spread_v, total = supply.volts, supply.spread_v, load.ohm + entry.burden_ohm
    current = volts / total
    ohms = math.hypot(load.relative * load.ohm, entry.burden_uncertainty_ohm) / total
    share, source = math.hypot(spread_v / volts, ohms), f"{volts:.5g} V / {total:.5g} ohm"
    if unit == "A":
        return Figure(current, unit, Evidence.MODELLED, source, share * current)
    power = current**2 * load.ohm
    share = math.hypot(2 * spread_v / volts, ohms)
    return Figure(power, unit, Evidence.MODELLED, f"({source})^2 x load", share * power)


def _lines(
    known: MeterBench, measured: Figure, expected: Figure, scatter: float | None
) -> tuple[str, ...]:
    """What the section should say: an offset by an open input, a gain by a load."""
    noise = scatter or 0.0
    if not expected.value:
        offset = known.current_offset_a - measured.value
        return (
            f"current_offset_a = {offset:.6g}",
            f"current_offset_uncertainty_a = {max(noise, _LEAST_A):.3g}",
        )
    raw = (measured.value - known.current_offset_a) / known.current_gain
    gain = (expected.value - known.current_offset_a) / raw if raw else 0.0
    if not 0.1 < gain / known.current_gain < 10:
        return ()  # another load than the one named, or a wrong range: no calibration
    share = math.hypot(expected.standard_uncertainty or 0.0, noise) / expected.value
    return f"current_gain = {gain:.6g}", f"current_gain_uncertainty = {share:.3g}"


def text(found: Comparison) -> str:
    """For people."""
    rows = [indented(f"{found.meter}, {found.samples:,} samples", "meter")]
    rows.append(indented(_number(found.measured), "measured"))
    if found.expected is not None and found.difference is not None:
        rows.append(indented(f"{_number(found.expected)}; {found.expected.source}", "expected"))
        if found.supply_v is not None and found.load_ohm is not None:
            known = f"± {_figure(found.supply_uncertainty_v or 0.0, 'V')}"
            known += f" ({_ASSUMED})" if found.supply_assumed else ""
            rows.append(indented(f"{_figure(found.supply_v, 'V')} {known}", "supply"))
        apart, spread = found.difference.value, found.difference.standard_uncertainty or 0.0
        share = f" ({100 * apart / found.expected.value:+.2f} %)" if found.expected.value else ""
        verdict = f"{_figure(apart, found.measured.unit)}{share}, {found.state} of "
        limit = _figure(_COVERAGE * spread, found.measured.unit)
        rows.append(indented(f"{verdict}±{limit} (two standard uncertainties)", "apart"))
    elif found.state == "no load":
        rows.append(indented("name a load to compare with: --load 100ohm, --load open", "note"))
    rows += [indented(problem, "PROBLEM") for problem in found.problems]
    if found.lines:
        rows.append(f"\nfor the bench file:\n\n  [meter.{found.section}]")
        rows += [f"  {line}" for line in found.lines]
    return "\n".join(rows)


def _number(figure: Figure) -> str:
    spread = figure.standard_uncertainty
    known = "uncertainty not stated" if spread is None else f"± {_figure(spread, figure.unit)}"
    return f"{_figure(figure.value, figure.unit)} {known} ({figure.evidence})"


def _figure(value: float, unit: str) -> str:
    """Five digits with a prefix: what a calibration needs."""
    for factor, prefix in ((1.0, ""), (1e-3, "m"), (1e-6, "µ")):
        if abs(value) >= factor:
            return f"{value / factor:.5g} {prefix}{unit}"
    return f"{value / 1e-9:.4g} n{unit}"
