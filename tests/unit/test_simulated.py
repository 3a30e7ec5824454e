"""The simulated device: energies in closed form, on the rail and through the meter."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from waistline.errors import ConfigError
from waistline_hostctl.simulated import device, waveform
from waistline_hostctl.simulated.device import Device, DeviceSpec
from waistline_hostctl.simulated.load import Burst, Layer, Load, Ripple
from waistline_hostctl.simulated.network import BurstMode, Efficiency, Lc, Rc, TwoPoles

LOAD = Load(
    period_s=0.05,
    idle_w=0.2,
    start_s=0.005,
    layers=(Layer("a", 0.01, 1.0, 0.1), Layer("b", 0.0005, 2.0), Layer("c", 0.02, 0.5)),
    ripples=(Ripple(1000, 0.01, 0.3),),
    bursts=(Burst("radio", 0.045, 0.002, 0.8),),
)
LINEAR = [Rc(5e-6), Rc(5e-4), TwoPoles(5e-6, 2e-4, 0.3), Lc(5000, 0.3)]
SUPPLIES = [None, *LINEAR, BurstMode(2e-4, 5.0), Efficiency()]
FIXTURE = Path(__file__).parents[1] / "fixtures" / "supply.csv"


def test_rail_energy_is_the_integral_of_rail_power():
    times = np.linspace(0, 0.12, 1_200_001)
    middles = (times[1:] + times[:-1]) / 2
    summed = np.cumsum(LOAD.power_w(middles)) * 1e-7
    np.testing.assert_allclose(LOAD.energy_j(times[1:]), summed, atol=2e-7)


@pytest.mark.parametrize("supply", SUPPLIES, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("rate_hz", [100_000.0, 77_777.0])
def test_samples_sum_to_the_energy_through_the_meter(supply, rate_hz):
    there = Device(DeviceSpec(load=LOAD, supply=supply), rate_hz)
    count = int(0.13 * rate_hz)
    seen = there.samples(0, count)
    through = there.input_energy_j(np.array([count / rate_hz]))[0]
    assert seen.power_w.sum(dtype=float) / rate_hz == pytest.approx(through, rel=1e-6)
    np.testing.assert_allclose(seen.current_a * seen.voltage_v, seen.power_w, rtol=1e-5)


@pytest.mark.parametrize("supply", LINEAR, ids=lambda one: type(one).__name__)
def test_a_linear_supply_delays_energy_and_keeps_it(supply):
    there = Device(DeviceSpec(load=LOAD, supply=supply), 100_000.0)
    whole = np.array([LOAD.period_s])
    np.testing.assert_allclose(there.input_energy_j(whole), there.rail_energy_j(whole), rtol=1e-6)
    moved = [abs(put - rail) for rail, put in there.layers_j().values()]
    assert max(moved) > 1e-6


def test_an_rc_supply_settles_with_its_time_constant():
    load = Load(period_s=0.1, idle_w=0.0, start_s=0.0, layers=(Layer("on", 0.05, 1.0),))
    there = Device(DeviceSpec(load=load, supply=Rc(1e-3)), 100_000.0)
    power = there.samples(0, 3000).power_w
    times = (np.arange(3000) + 0.5) * 1e-5
    np.testing.assert_allclose(power, 1 - np.exp(-times / 1e-3), atol=2e-3)


def test_a_regulator_takes_more_than_it_gives():
    rail = LOAD.energy_j(np.array([LOAD.period_s]))[0]
    packets = Device(DeviceSpec(load=LOAD, supply=BurstMode(2e-4, 5.0, 0.8)), 100_000.0)
    assert packets.input_energy_j(np.array([0.05]))[0] == pytest.approx(rail / 0.8, rel=1e-6)
    assert packets.samples(0, 5000).power_w.max() == pytest.approx(5.0, rel=1e-5)
    lossy = Device(DeviceSpec(load=LOAD, supply=Efficiency()), 100_000.0)
    assert lossy.input_energy_j(np.array([0.05]))[0] > rail / 0.9


@pytest.mark.parametrize("noise_w", [0.0, 0.01])
@pytest.mark.parametrize("rate_hz", [100_000.0, 77_777.0])
def test_blocks_are_cut_anywhere_without_any_difference(noise_w, rate_hz):
    there = Device(DeviceSpec(load=LOAD, noise_w=noise_w, supply=Rc(5e-6)), rate_hz)
    whole = there.samples(123, 9000)
    for name in ("current_a", "voltage_v", "power_w", "logic"):
        parts = [getattr(there.samples(123 + at, 450), name) for at in range(0, 9000, 450)]
        np.testing.assert_array_equal(np.concatenate(parts), getattr(whole, name))


def test_the_marker_spans_the_layers_and_nothing_else():
    there = Device(DeviceSpec(load=LOAD, marker_bit=3), 100_000.0)
    bit = there.samples(0, 10_000).logic >> 3
    edges = np.flatnonzero(np.diff(bit.astype(int))) + 1
    expected = np.concatenate([there.edges_s(turn)[[0, -1]] for turn in (0, 1)]) * 1e5
    assert np.abs(edges - expected).max() <= 1


def test_wires_drop_a_voltage():
    there = Device(DeviceSpec(load=LOAD, source_ohm=0.5, supply_v=5.0), 100_000.0)
    seen = there.samples(0, 5000)
    np.testing.assert_allclose(seen.voltage_v, 5.0 - 0.5 * seen.current_a, rtol=1e-6)


def test_a_file_waveform_keeps_its_charge():
    played = waveform.read_table(FIXTURE, 100_000.0, 3.3)
    rows = np.loadtxt(FIXTURE, delimiter=",", skiprows=1)
    charge = np.trapezoid(rows[:, 1], rows[:, 0])
    seen = played.samples(0, 3000)
    assert seen.current_a.sum(dtype=float) / 1e5 == pytest.approx(3 * charge, rel=1e-6)
    assert rows[:, 1].max() > 0.2


@pytest.mark.parametrize(
    "text",
    ["", "sine:1", "constant:x", "constant:nan", "device:/no/such", "file:/no/such"],
)
def test_a_waveform_that_is_none_is_refused(text):
    with pytest.raises(ConfigError):
        waveform.open_waveform(text, 1e5)


@pytest.mark.parametrize("rows", ["t,i\n", "t,i\n0,1\n0,2\n", "t,i\n1,1\n2,2\n", "t\n0\n1\n"])
def test_a_file_without_rising_times_is_refused(tmp_path, rows):
    file = tmp_path / "x.csv"
    file.write_text(rows)
    with pytest.raises(ConfigError):
        waveform.read_table(file, 1e5, 3.3)


@pytest.mark.parametrize(
    "change",
    [
        {"load": {"period_s": 0, "idle_w": 1}},
        {"load": {"period_s": 1, "idle_w": 1, "start_s": 2}},
        {"load": {"period_s": 1, "idle_w": 1}, "supply": {"type": "rc", "tau_s": -1}},
        {"load": {"period_s": 1, "idle_w": 1}, "marker_bit": 9},
        {"load": {"period_s": 1, "idle_w": 1}, "colour": "red"},
    ],
)
def test_a_device_that_cannot_be_is_refused(tmp_path, change):
    file = tmp_path / "device.json"
    file.write_bytes(msgspec.json.encode(change))
    with pytest.raises(ConfigError):
        device.read(file)


def test_a_device_file_round_trips(tmp_path):
    spec = DeviceSpec(load=LOAD, supply=Lc(5000, 0.3), noise_w=0.01)
    file = tmp_path / "device.json"
    file.write_bytes(msgspec.json.encode(spec))
    assert device.read(file) == spec
