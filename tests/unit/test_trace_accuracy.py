"""Uncertainties of means and energies against cases worked out by hand."""

import math
from pathlib import Path

import msgspec
import numpy as np
import pytest

from waistline.errors import ConfigError
from waistline.evidence import Evidence
from waistline.instrument import Calibration, calibration_from
from waistline.trace.accuracy import SETTING, Part, Parts, figures_of, trace_figures
from waistline.trace.base import SIGNALS, Block, Gap, TraceSpec
from waistline.trace.store import create, open_trace

RATE_HZ = 1000.0


def spec(*names: str, supply_v: float | None = None) -> TraceSpec:
    signals = tuple(SIGNALS[name] for name in names)
    return TraceSpec(RATE_HZ, signals, "sim:1", Evidence.SIMULATED, supply_v=supply_v)


def steady(current_a: float, voltage_v: float, power_w: float | None = None) -> Parts:
    """Ten thousand samples, each the same."""
    power = current_a * voltage_v if power_w is None else power_w
    parts = Parts(span=1000)
    for _ in range(10):
        parts.add(Part(1000, 1000 * current_a, 1000 * voltage_v, 1000 * power))
    return parts


def test_a_constant_supply_by_hand() -> None:
    known = Calibration(
        current_gain_uncertainty=0.01, current_offset_uncertainty_a=1e-5, supply_uncertainty_v=0.02
    )
    found = figures_of(steady(0.033, 3.3), spec("current", supply_v=3.3), 10_000, known)
    current, energy = found["mean_current_a"], found["energy_j"]
    assert current.value == pytest.approx(0.033)
    # 1 % of 33 mA is 330 uA; 10 uA beside it.
    assert current.standard_uncertainty == pytest.approx(math.hypot(330e-6, 10e-6))
    # 108.9 mW: 1.089 mW of gain, 33 uW of offset, 660 uW of supply.
    power_w = math.hypot(1.089e-3, 33e-6, 660e-6)
    assert found["mean_power_w"].standard_uncertainty == pytest.approx(power_w)
    assert energy.value == pytest.approx(1.089)
    assert energy.standard_uncertainty == pytest.approx(10 * power_w)
    assert energy.evidence is Evidence.SIMULATED


def test_a_shunt_limit_counts_by_the_root_of_three_and_with_the_gain() -> None:
    known = Calibration(
        shunt_ohm=0.1,
        shunt_tolerance=0.01,
        current_gain_uncertainty=0.002,
        voltage_gain_uncertainty=0.003,
        voltage_offset_uncertainty_v=0.001,
    )
    parts = steady(2.0, 5.0)
    found = figures_of(parts, spec("current", "voltage", "power"), 10_000, known)
    scale = math.hypot(0.01 / math.sqrt(3), 0.002)
    assert found["mean_current_a"].standard_uncertainty == pytest.approx(2 * scale)
    expected = math.hypot(10 * scale, 10 * 0.003, 2 * 0.001)
    assert found["mean_power_w"].standard_uncertainty == pytest.approx(expected)


def test_a_burden_by_hand() -> None:
    # 3.0 V, 1 ohm, 0.1 A: the device gets 0.29 W.
    known = Calibration(
        current_gain_uncertainty=0.01,
        supply_uncertainty_v=0.0,
        burden_ohm=1.0,
        burden_uncertainty_ohm=0.1,
    )
    parts = steady(0.1, 0.0, 0.29)
    found = figures_of(parts, spec("current", "power", supply_v=3.0), 10_000, known)
    # dP = (V I - 2 R I^2) 1 % = 2.8 mW; I^2 dR = 1 mW.
    assert found["mean_power_w"].standard_uncertainty == pytest.approx(math.hypot(2.8e-3, 1e-3))


def test_the_clock_counts_for_energy_and_duration() -> None:
    known = Calibration(
        current_gain_uncertainty=0.0, supply_uncertainty_v=0.0, rate_uncertainty=1e-4
    )
    found = figures_of(steady(1.0, 2.0), spec("current", supply_v=2.0), 10_000, known)
    assert found["duration_s"].standard_uncertainty == pytest.approx(1e-3)
    assert found["energy_j"].standard_uncertainty == pytest.approx(2e-3)
    assert found["mean_power_w"].standard_uncertainty == 0


@pytest.mark.parametrize(
    "known",
    [None, Calibration(), Calibration(current_gain_uncertainty=0.01)],
)
def test_what_is_not_known_gives_no_uncertainty(known: Calibration | None) -> None:
    found = figures_of(steady(1.0, 2.0), spec("current", supply_v=2.0), 10_000, known)
    assert found["mean_power_w"].standard_uncertainty is None
    assert found["energy_j"].standard_uncertainty is None


def test_noise_is_told_from_its_parts_and_steps_are_not_noise() -> None:
    rng = np.random.default_rng(1)
    known = Calibration(current_gain_uncertainty=0.0)
    spreads = []
    for step in (0.0, 0.5):
        parts = Parts(span=100)
        noise = rng.normal(0, 0.01, (48, 100)) + 1.0
        noise[24:] += step
        for row in noise:
            parts.add(Part(100, float(row.sum())))
        figure = figures_of(parts, spec("current"), 4800, known)["mean_current_a"]
        assert figure.n == 48
        spreads.append(figure.standard_uncertainty)
    for spread in spreads:
        assert spread == pytest.approx(0.01 / math.sqrt(4800), rel=0.5)


def test_too_few_samples_for_noise_give_no_uncertainty() -> None:
    parts = Parts(span=1000)
    parts.add(Part(3000, 3.0))
    known = Calibration(current_gain_uncertainty=0.01)
    assert figures_of(parts, spec("current"), 3000, known)["mean_current_a"].n == 1
    figure = figures_of(parts, spec("current"), 3000, known)["mean_current_a"]
    assert figure.standard_uncertainty is None


def test_parts_stay_few_and_lose_nothing() -> None:
    parts = Parts(span=10)
    for k in range(10_001):
        parts.add(Part(7, float(k)))
    assert len(parts.done) < 64
    assert parts.total.count == 70_007
    assert parts.total.current == sum(range(10_001))
    sizes = {part.count for part in parts.done}
    assert min(sizes) >= parts.span
    assert msgspec.convert(msgspec.to_builtins(parts), Parts).total == parts.total


def test_a_trace_gives_what_its_samples_do(tmp_path: Path) -> None:
    pytest.importorskip("pyjls", reason="needs the extra capture")
    rng = np.random.default_rng(2)
    current = rng.normal(0.02, 0.001, 50_000).astype(np.float32)
    known = Calibration(current_gain_uncertainty=0.01, supply_uncertainty_v=0.01)
    run = {"settings": {"capture": {"meter": {"details": {SETTING: msgspec.to_builtins(known)}}}}}
    path = tmp_path / "a.jls"
    with create(path, spec("current", supply_v=3.0)) as writer:
        writer.user_data(msgspec.json.encode(run))
        writer.write(Block(0, current_a=current[:20_000]))
        writer.gap(Gap(20_000, 500, "counter"))
        writer.write(Block(20_500, current_a=current[20_500:]))
    kept = np.delete(current.astype(np.float64), np.s_[20_000:20_500])
    with open_trace(path) as trace:
        found = trace_figures(trace)
        part = trace_figures(trace, 1000.5, 2000.25)
    assert found["mean_current_a"].value == pytest.approx(kept.mean(), rel=1e-9)
    assert found["energy_j"].value == pytest.approx(kept.sum() * 3 / RATE_HZ, rel=1e-9)
    assert "500 lost" in found["energy_j"].source
    noise = 0.001 / math.sqrt(len(kept))
    expected = math.hypot(kept.mean() * 0.01, noise)
    assert found["mean_current_a"].standard_uncertainty == pytest.approx(expected, rel=0.01)
    inside = current[1001:2000].sum(dtype=np.float64) + 0.5 * current[1000] + 0.25 * current[2000]
    assert part["energy_j"].value == pytest.approx(inside * 3 / RATE_HZ, rel=1e-9)
    assert part["duration_s"].value == pytest.approx(0.99975)


def test_a_trace_without_a_calibration_says_so(tmp_path: Path) -> None:
    pytest.importorskip("pyjls", reason="needs the extra capture")
    path = tmp_path / "a.jls"
    with create(path, spec("current", supply_v=3.0)) as writer:
        writer.user_data(b'{"settings": []}')
        writer.write(Block(0, current_a=np.ones(100, np.float32)))
    with open_trace(path) as trace:
        assert trace_figures(trace)["energy_j"].standard_uncertainty is None
        known = Calibration(current_gain_uncertainty=0.1, supply_uncertainty_v=0.0)
        figure = trace_figures(trace, calibration=known)["energy_j"]
        assert figure.standard_uncertainty == pytest.approx(0.03)
        assert set(trace_figures(trace, 5, 5)) == {"duration_s"}


@pytest.mark.parametrize("value", [{"shunt_ohm": 0}, {"current_gain": "x"}, {"supply_v": -1}, 7])
def test_a_stored_calibration_is_checked(value: object) -> None:
    with pytest.raises(ConfigError):
        calibration_from(value)
