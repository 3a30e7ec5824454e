"""Uncertainties of means and energies against cases worked out by hand."""

import math
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from waistline.errors import ConfigError
from waistline.evidence import Evidence
from waistline.instrument import Calibration, calibration_from
from waistline.trace.accuracy import SETTING, Part, Parts, figures_of, trace_figures
from waistline.trace.base import SIGNALS, Block, Gap, TraceSpec
from waistline.trace.budget import CLOCK, EDGES, NOISE, Quantity
from waistline.trace.parts import edges_of, span_of
from waistline.trace.store import create, open_trace

RATE_HZ = 1000.0


def spec(*names: str, supply_v: float | None = None) -> TraceSpec:
    signals = tuple(SIGNALS[name] for name in names)
    return TraceSpec(RATE_HZ, signals, "sim:1", Evidence.SIMULATED, supply_v=supply_v)


def steady(current_a: float, voltage_v: float, power_w: float | None = None) -> Parts:
    """Ten thousand samples, each the same."""
    power = current_a * voltage_v if power_w is None else power_w
    return of_parts([Part(1000, 1000 * current_a, 1000 * voltage_v, 1000 * power)] * 10, 1000)


def of_parts(rows: list[Part], size: int) -> Parts:
    """Parts of so many samples each, as they are given."""
    return Parts(size, size * len(rows), rows)


def grown(sizes: Iterable[int]) -> Parts:
    """Samples 0, 1, 2, .. in pieces of these sizes."""
    parts = Parts()
    for size in sizes:
        cuts = parts.cuts(size)
        rows = [
            Part(end - start, float(sum(range(int(parts.size) + start, int(parts.size) + end))))
            for start, end in pairwise(cuts)
        ]
        parts.add(np.diff(cuts).tolist(), rows)
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
        noise = rng.normal(0, 0.01, (48, 100)) + 1.0
        noise[24:] += step
        parts = of_parts([Part(100, float(row.sum())) for row in noise], 100)
        figure = figures_of(parts, spec("current"), 4800, known)["mean_current_a"]
        assert figure.n == 16
        spreads.append(figure.standard_uncertainty)
    for spread in spreads:
        assert spread == pytest.approx(0.01 / math.sqrt(4800), rel=0.6)


def test_what_a_load_repeats_is_hardly_noise_however_its_parts_lie() -> None:
    known = Calibration(current_gain_uncertainty=0.0)
    for length in (100_000, 123_457, 160_001):
        # 1 A for 30 % of each period, of which there are some two hundred.
        current = (np.arange(length) % 613 < 184).astype(float)
        edges = edges_of(0, length).astype(int)
        rows = [Part(end - at, float(current[at:end].sum())) for at, end in pairwise(edges)]
        parts = Parts(span_of(length), length, rows)
        spread = figures_of(parts, spec("current"), length, known)["mean_current_a"]
        assert spread.standard_uncertainty is not None
        # A period cut at its end shifts a batch by 0.21 of a period at most; there are 16.
        assert spread.standard_uncertainty < 0.21 * 613 / (length / 16) * 2 / math.sqrt(16)


def test_too_few_samples_for_noise_give_no_uncertainty() -> None:
    parts = of_parts([Part(1000, 1.0)] * 3, 1000)
    known = Calibration(current_gain_uncertainty=0.01)
    figure = figures_of(parts, spec("current"), 3000, known)["mean_current_a"]
    assert figure.n == 3
    assert figure.standard_uncertainty is None


def test_a_gap_of_unknown_size_leaves_time_and_energy_without_a_bound() -> None:
    known = Calibration(
        current_gain_uncertainty=0.01, supply_uncertainty_v=0.01, rate_uncertainty=1e-6
    )
    parts = steady(1.0, 2.0)
    found = figures_of(parts, spec("current", supply_v=2.0), 10_000, known, uncertain=True)
    assert found["mean_power_w"].standard_uncertainty is not None
    assert found["duration_s"].standard_uncertainty is None
    assert found["energy_j"].standard_uncertainty is None


@given(st.lists(st.integers(0, 700), max_size=40))
def test_parts_lie_where_the_length_says_and_lose_nothing(sizes: list[int]) -> None:
    length = sum(sizes)
    parts = grown(sizes)
    assert parts.size == parts.total.count == length
    assert parts.total.current == length * (length - 1) / 2
    assert msgspec.convert(msgspec.to_builtins(parts), Parts).total == parts.total
    if length:
        assert parts.span == span_of(length)
        assert len(parts.done) <= 64
        assert [part.count for part in parts.done] == np.diff(edges_of(0, length)).tolist()
        assert parts.done == grown([length]).done


def test_edges_may_lie_between_samples() -> None:
    edges = edges_of(10.25, 1000.75)
    assert edges[0] == 10.25
    assert edges[-1] == 1000.75
    assert set(np.diff(edges)[:-1]) == {16.0}
    assert 0 < np.diff(edges)[-1] <= 16


def test_energy_above_a_baseline_shares_what_the_instrument_is_off_by() -> None:
    scale, noise = "scale of the current", NOISE
    energy = Quantity(10.0, "J", {scale: 0.1, noise: 0.03, CLOCK: 0.001, EDGES: 0.2}, 16)
    idle = Quantity(1.0, "W", {scale: 0.01, noise: 0.01}, 20)
    # 4 s of 1 W: 6 J are left.
    above = energy.above(idle, 4.0)
    assert above.value == pytest.approx(6.0)
    assert above.terms[scale] == pytest.approx(0.06)
    assert above.terms[noise] == pytest.approx(math.hypot(0.03, 0.04))
    assert above.terms[CLOCK] == pytest.approx(0.0006)
    assert above.terms[EDGES] == pytest.approx(0.12)
    unknown = Quantity(1.0, "W", {scale: None, noise: 0.01}, 20)
    assert energy.above(unknown, 4.0).uncertainty is None


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
