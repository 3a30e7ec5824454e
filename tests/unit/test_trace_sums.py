"""Energies of windows against a slow, exact oracle."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trace_help import make

from waistline.errors import TraceError
from waistline.evidence import Evidence
from waistline.trace.base import SIGNALS, Block, Gap, TraceSpec
from waistline.trace.store import create, open_trace
from waistline.trace.sums import window_sums


def oracle(values: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """Sum and lost samples of one window, in exact arithmetic, sample by sample."""
    total, missing = Fraction(0), Fraction(0)
    for place in range(int(low), min(len(values), int(high) + 1)):
        share = min(Fraction(high), place + 1) - max(Fraction(low), place)
        if share <= 0:
            continue
        if np.isnan(values[place]):
            missing += share
        else:
            total += Fraction(float(values[place])) * share
    return float(total), float(missing)


def in_pieces(values: np.ndarray, sizes: list[int]) -> list[tuple[int, np.ndarray]]:
    cuts = np.clip(np.cumsum([0, *sizes]), 0, len(values)).tolist()
    cuts.append(len(values))
    return [(a, values[a:b]) for a, b in pairwise(cuts) if b > a]


@settings(deadline=None)
@given(
    data=st.data(),
    values=st.lists(
        st.one_of(st.floats(-1e3, 1e3, width=32), st.just(float("nan"))), min_size=1, max_size=60
    ),
    sizes=st.lists(st.integers(1, 30), max_size=5),
)
def test_windows_are_what_an_exact_sum_gives(
    data: st.DataObject, values: list[float], sizes: list[int]
) -> None:
    samples = np.array(values, np.float32)
    position = st.one_of(
        st.integers(0, len(values)).map(float), st.floats(0, len(values), allow_subnormal=False)
    )
    edges = np.array(sorted(data.draw(st.lists(position, min_size=2, max_size=12))))
    sums, missing = window_sums(in_pieces(samples, sizes), edges, len(samples))
    for place in range(len(edges) - 1):
        total, lost = oracle(samples, edges[place], edges[place + 1])
        assert sums[place] == pytest.approx(total, rel=1e-9, abs=1e-9)
        assert missing[place] == pytest.approx(lost, abs=1e-9)


@pytest.mark.parametrize("windows", [3, 4000], ids=["few and long", "many and short"])
def test_both_ways_of_summing_are_exact(windows: int) -> None:
    random = np.random.default_rng(1)
    values = random.random(50_000, np.float32)
    values[1000:1100] = np.nan
    values[20_000::977] = np.nan
    edges = np.sort(random.uniform(0, len(values), windows + 1))
    sums, missing = window_sums([(0, values)], edges, len(values))
    for place in range(0, windows, max(1, windows // 50)):
        total, lost = oracle(values, edges[place], edges[place + 1])
        assert sums[place] == pytest.approx(total, rel=1e-9, abs=1e-9)
        assert missing[place] == pytest.approx(lost, abs=1e-9)


def test_samples_in_no_piece_are_missing() -> None:
    ones = np.ones(10, np.float32)
    sums, missing = window_sums([(0, ones), (20, ones)], np.array([5.0, 15.5, 30.0]), 30)
    assert sums.tolist() == [5, 10]
    assert missing.tolist() == [5.5, 4.5]


@pytest.mark.parametrize(
    "edges", [[0.0], [-1.0, 3.0], [0.0, 11.0], [5.0, 2.0], [0.0, float("nan")]]
)
def test_edges_outside_the_trace_are_refused(edges: list[float]) -> None:
    with pytest.raises(TraceError):
        window_sums([(0, np.ones(10, np.float32))], np.array(edges), 10)


def test_energy_of_a_trace(tmp_path: Path) -> None:
    made = make(tmp_path / "t.jls")
    random = np.random.default_rng(4)
    with open_trace(made.path) as trace:
        edges = np.sort(random.uniform(0, 20_000, 20))
        found = trace.windows(edges)
        for place in range(19):
            total, lost = oracle(made.power, edges[place], edges[place + 1])
            assert found.energy_j[place] == pytest.approx(total / 1e5, rel=1e-9)
            assert found.missing[place] == pytest.approx(lost, abs=1e-6)
        assert not found.uncertain.any()
        whole = trace.energy()
        assert whole.energy_j == pytest.approx(np.nansum(made.power, dtype="f8") / 1e5, rel=1e-9)
        assert whole.missing == sum(gap.count for gap in made.gaps)
        assert not whole.whole


def test_a_gap_of_unknown_size_makes_its_windows_uncertain(tmp_path: Path) -> None:
    spec = TraceSpec(1000.0, (SIGNALS["power"],), "test", Evidence.SIMULATED)
    with create(tmp_path / "t.jls", spec) as writer:
        writer.write(Block(0, power_w=np.ones(100, np.float32)))
        writer.gap(Gap(100, 0, "counter", 0, 64))
        writer.write(Block(100, power_w=np.ones(100, np.float32)))
        writer.gap(Gap(200, 50, "host-time", 10, 90))
        writer.write(Block(250, power_w=np.ones(50, np.float32)))
    with open_trace(tmp_path / "t.jls") as trace:
        assert not trace.gaps[0].resolved
        found = trace.windows(np.array([0, 99, 100, 150, 199, 225, 250, 260, 300.0]))
        # A gap that takes no place still spoils what touches it.
        assert found.uncertain.tolist() == [False, True, True, False, True, True, True, False]
        assert found.whole.tolist() == [True, False, False, True, False, False, False, True]


@pytest.mark.parametrize(
    ("names", "supply_v"), [(("current", "voltage"), None), (("current",), 3.3)]
)
def test_power_is_made_from_what_was_sampled(
    tmp_path: Path, names: tuple[str, ...], supply_v: float | None
) -> None:
    signals = tuple(SIGNALS[name] for name in names)
    spec = TraceSpec(1000.0, signals, "test", Evidence.SIMULATED, supply_v=supply_v)
    random = np.random.default_rng(0)
    current, voltage = random.random(5000, np.float32), random.random(5000, np.float32)
    with create(tmp_path / "t.jls", spec) as writer:
        writer.write(Block(0, current_a=current, voltage_v=voltage if len(names) == 2 else None))
    power = current.astype(float) * (supply_v or voltage)
    with open_trace(tmp_path / "t.jls") as trace:
        assert trace.energy().energy_j == pytest.approx(power.sum() / 1000, rel=1e-12)
        assert trace.read("power", 10, 20) == pytest.approx(power[10:20], rel=1e-6)
        view = trace.overview("power", 0, 5000, 10)
        assert view.high.max() == pytest.approx(power.max(), rel=1e-6)


def test_a_current_alone_gives_no_energy(tmp_path: Path) -> None:
    spec = TraceSpec(1000.0, (SIGNALS["current"],), "test", Evidence.SIMULATED)
    with create(tmp_path / "t.jls", spec) as writer:
        writer.write(Block(0, current_a=np.ones(100, np.float32)))
    with open_trace(tmp_path / "t.jls") as trace, pytest.raises(TraceError) as caught:
        trace.energy()
    assert "--supply" in caught.value.fix


def test_stored_statistics_are_no_energies(tmp_path: Path) -> None:
    """Why no energy is made of `fsr_statistics`: over several windows at once it is far off."""
    pyjls = pytest.importorskip("pyjls")
    spec = TraceSpec(100_000.0, (SIGNALS["power"],), "test", Evidence.SIMULATED)
    values = np.where(np.arange(200_000) // 777 % 2, 2.0, 0.5).astype(np.float32)
    with create(tmp_path / "t.jls", spec) as writer:
        writer.write(Block(0, power_w=values))
    size, start, number = 1000, 333, 150
    edges = start + size * np.arange(number + 1, dtype=np.float64)
    true = np.add.reduceat(values, edges.astype(int), dtype=np.float64)[:-1] / size
    with pyjls.Reader(str(tmp_path / "t.jls")) as reader:
        stored = reader.fsr_statistics(1, start, size, number)[:, 0]
    with open_trace(tmp_path / "t.jls") as trace:
        ours = trace.windows(edges).energy_j / (size / 1e5)
    assert np.abs(stored / true - 1).max() > 0.05
    assert ours == pytest.approx(true, rel=1e-12)
