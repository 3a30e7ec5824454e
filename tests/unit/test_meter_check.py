"""Meters beside known loads, and the list of them."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

pytest.importorskip("pyjls", reason="needs the extra capture")

from waistline.bench import Bench
from waistline.errors import ConfigError, MeterError, MissingExtra
from waistline.instrument import MeterBench
from waistline_hostctl import meter_list
from waistline_hostctl.meter_check import Comparison, Load, parse_load
from waistline_hostctl.meters import base
from waistline_hostctl.meters.base import Found
from waistline_hostctl.results import decode
from waistline_hostctl.verbs import group

SIM = ("--meter", "sim", "--meter-option", "rate=100000", "--duration", "0.5")
CURRENT = ("--meter-option", "waveform=constant:0.033")
Call = Callable[..., Result]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(group, ["meter", *arguments])

    return run


def check(call: Call, *arguments: str, code: int = 0) -> Comparison:
    done = call("check", "--json", *SIM, *arguments)
    assert done.exit_code == code, done.output
    return decode(done.stdout.encode(), Comparison)


@pytest.mark.parametrize(
    ("text", "ohm", "limit"),
    [
        ("100ohm", 100, 0.01),
        ("100", 100, 0.01),
        ("4.7k±0.1%", 4700, 0.001),
        ("4.7 k ohm +-5 %", 4700, 0.05),
        ("0.5R:0.5%", 0.5, 0.005),
        ("10m", 0.01, 0.01),
        ("1Mohm", 1e6, 0.01),
        ("open", math.inf, 0),
    ],
)
def test_loads_are_read(text: str, ohm: float, limit: float) -> None:
    found = parse_load(text)
    assert found.ohm == pytest.approx(ohm)
    assert found.limit == pytest.approx(limit)
    assert Load(1, 0.03).relative == pytest.approx(0.03 / math.sqrt(3))


@pytest.mark.parametrize("text", ["", "0ohm", "-5", "x", "100 volts", "nan", "1e3"])
def test_what_is_no_load_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="no load"):
        parse_load(text)


def test_a_meter_that_is_right_is_inside(call: Call) -> None:
    found = check(call, *CURRENT, "--load", "100ohm")
    assert found.state == "inside"
    assert found.expected is not None
    # 3.3 V (half a per cent) over 100 ohm (1 % over the root of three).
    assert found.expected.value == pytest.approx(0.033)
    relative = math.hypot(0.005, 0.01 / math.sqrt(3))
    assert found.expected.standard_uncertainty == pytest.approx(0.033 * relative, rel=1e-3)
    assert found.measured.standard_uncertainty is None


def test_a_supply_nobody_states_is_said_and_can_be_stated(call: Call, tmp_path: Path) -> None:
    arguments = (*CURRENT, "--load", "100ohm±0.001%")
    found = check(call, *arguments)
    assert found.supply_assumed
    assert found.supply_uncertainty_v == pytest.approx(0.0165)
    text = call("check", *SIM, *arguments).output
    assert "assumed: state it with --voltage-uncertainty" in text
    stated = check(call, *arguments, "--voltage", "3.3", "--voltage-uncertainty", "0.0033")
    assert (stated.supply_assumed, stated.supply_uncertainty_v) == (False, 0.0033)
    assert stated.expected is not None
    assert stated.expected.standard_uncertainty == pytest.approx(0.033 * 0.001, rel=1e-3)
    (tmp_path / "bench.toml").write_text("[meter.sim]\nvoltage_gain_uncertainty = 0.002\n")
    by_bench = check(call, *arguments)
    assert not by_bench.supply_assumed
    assert by_bench.supply_uncertainty_v == pytest.approx(0.0066, rel=1e-3)


def test_a_meter_that_is_off_is_mended_by_its_lines(call: Call, tmp_path: Path) -> None:
    bench = tmp_path / "bench.toml"
    bench.write_text("[meter.sim]\ncurrent_gain = 0.9\ncurrent_offset_a = 0.001\n")
    arguments = (*CURRENT, "--load", "100ohm±0.1%", "--voltage", "3.3")
    found = check(call, *arguments, code=5)
    assert found.state == "outside"
    assert found.difference is not None
    assert found.difference.value == pytest.approx(0.9 * 0.033 + 0.001 - 0.033, rel=1e-3)
    kept = "current_offset_a = 0.001\n"
    bench.write_text("[meter.sim]\n" + kept + "\n".join(found.lines))
    again = check(call, *arguments)
    assert again.state == "inside"
    assert again.lines == ()
    assert again.measured.value == pytest.approx(0.033, rel=1e-4)
    assert again.measured.standard_uncertainty == pytest.approx(0.033 * 0.005, rel=0.02)


def test_an_open_input_gives_the_offset(call: Call, tmp_path: Path) -> None:
    (tmp_path / "bench.toml").write_text("[meter.sim]\ncurrent_offset_a = 2e-6\n")
    none = ("--meter-option", "waveform=constant:0")
    found = check(call, *none, "--load", "open", code=5)
    assert found.lines[0].startswith("current_offset_a = ")
    assert float(found.lines[0].split("=")[1]) == pytest.approx(0, abs=1e-11)
    (tmp_path / "bench.toml").write_text("[meter.sim]\n" + "\n".join(found.lines))
    assert check(call, *none, "--load", "open").state == "inside"


def test_the_voltage_decides_what_is_expected(call: Call) -> None:
    found = check(call, *CURRENT, "--load", "100ohm", "--voltage", "5", code=5)
    assert found.expected is not None
    assert found.expected.value == pytest.approx(0.05)


def test_another_load_than_the_one_named_is_no_calibration(call: Call) -> None:
    assert check(call, *CURRENT, "--load", "1ohm", code=5).lines == ()


def test_without_a_load_it_only_measures(call: Call) -> None:
    found = check(call, *CURRENT)
    assert (found.state, found.expected, found.lines) == ("no load", None, ())
    done = call("check", *SIM, *CURRENT)
    assert "33 mA" in done.output
    assert "--load 100ohm" in done.output


def test_people_get_what_the_bench_file_needs(call: Call) -> None:
    done = call("check", *SIM, "--meter-option", "waveform=constant:0.030", "--load", "100ohm")
    assert done.exit_code == 5
    assert "outside" in done.output
    assert "-9.09 %" in done.output
    assert "[meter.sim]\n  current_gain = 1.1\n" in done.output


def test_a_slow_counter_can_be_checked_too(call: Call, tmp_path: Path) -> None:
    folder = tmp_path / "sys/class/hwmon/hwmon0"
    folder.mkdir(parents=True)
    for name, value in {"name": "ina226", "curr1_input": "50", "in1_input": "5000"}.items():
        (folder / name).write_text(value + "\n")
    root = f"root={tmp_path / 'sys'}"
    done = call("check", "--json", "--meter", "counter", "--meter-option", root,
                "--load", "100ohm", "--duration", "1")  # fmt: skip
    assert done.exit_code == 0, done.output
    found = decode(done.stdout.encode(), Comparison)
    assert found.supply_v == pytest.approx(5.0)
    assert found.measured.evidence == "emulated"


def test_every_meter_is_listed_with_what_can_be_pasted(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str) -> list[Found]:
        if name == "joulescope":
            raise MissingExtra("x", cause="no module", fix="pip install it")
        if name == "mccdaq":
            raise MeterError("the list failed", cause="BUSY", fix="unplug it")
        return [Found("1915:c00a:7", "/dev/ttyACM0", "Kit", True)] if name == "ppk2" else []

    monkeypatch.setattr(base, "find", find)
    bench = Bench(
        meter={
            "left": MeterBench(kind="ppk2", id="ppk2:1915:c00a:7", date="2026-01-02"),
            "typo": MeterBench(),
        }
    )
    result = meter_list.meters(bench)
    states = {row.name: row.state for row in result.meters}
    assert states["joulescope"] == "missing extra"
    assert states["mccdaq"] == states["typo"] == "failed"
    assert states["lpm01a"] == "nothing plugged in"
    assert states["sim"] == "ok"
    text = meter_list.text(result)
    assert "nothing plugged in, untried on hardware" in text
    assert "ok: a simulated device" in text
    assert "--meter ppk2 --port 1915:c00a:7" in text
    assert "untried on hardware" in text
    assert "[meter.left] for ppk2:1915:c00a:7, calibrated 2026-01-02" in text


def test_the_list_is_json_too(call: Call) -> None:
    done = call("list", "--json")
    assert done.exit_code == 0
    names = {row["name"] for row in json.loads(done.stdout)["meters"]}
    assert names >= {"ppk2", "lpm01a", "joulescope", "mccdaq", "counter", "sim", "replay"}
