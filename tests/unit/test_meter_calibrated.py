"""Sections ``[meter.NAME]`` of the bench: which instrument they mean and what they change."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from waistline.bench import FILE, resolve
from waistline.errors import ConfigError
from waistline.evidence import Evidence
from waistline.instrument import Calibration, MeterBench
from waistline.trace.accuracy import SETTING, Part, Parts, figures_of
from waistline.trace.base import SIGNALS, Block, Gap
from waistline_hostctl.capture.record import calibration_of
from waistline_hostctl.capture.writer import spec_of
from waistline_hostctl.meters._calibrated import CalibratedMeter, calibrated, choice_of
from waistline_hostctl.meters.base import MeterChoice, MeterInfo
from waistline_hostctl.meters.base import Part as Piece

INFO = MeterInfo(
    name="ppk2",
    id="ppk2:serial:7",
    rate_hz=1e5,
    signals=(SIGNALS["current"], SIGNALS["d0"]),
    evidence=Evidence.EMULATED,
    untried=True,
    ledger="counter",
    supply_v=3.3,
    details={"mode": "source"},
)


class OneMeter:
    """A meter that is open, and says when it is closed."""

    def __init__(self, info: MeterInfo = INFO) -> None:
        self.info = info
        self.closed = False

    def settings(self) -> dict[str, object]:
        return {"path": "/dev/null"}

    def close(self) -> None:
        self.closed = True


class Plays:
    """A decoder that gives the same parts at each call."""

    def __init__(self, parts: list[Piece]) -> None:
        self.parts = parts

    def feed(self, raw: bytes | memoryview, host_ns: int) -> list[Piece]:
        return self.parts

    def skip(self, size_bytes: int, host_ns: int) -> list[Piece]:
        return self.parts

    def finish(self, host_ns: int) -> list[Piece]:
        return self.parts

    def ledger(self) -> dict[str, object]:
        return {"kept": 3}


def settings_of(entry: MeterBench, info: MeterInfo = INFO) -> Mapping[str, object]:
    """As they reach another process."""
    settings = CalibratedMeter(OneMeter(info), "ppk2", entry).settings()
    decoded: Mapping[str, object] = msgspec.json.decode(msgspec.json.encode(settings))
    return decoded


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_a_section_of_the_file_is_read_and_its_origin_kept(tmp_path: Path) -> None:
    path = tmp_path / "bench.toml"
    path.write_text('[meter.left]\nkind = "ppk2"\nsupply_v = 3\noptions = {mode = "source"}\n')
    resolved = resolve(path, environment={}, flags={})
    entry = resolved.bench.meter["left"]
    assert (entry.kind, entry.supply_v, entry.options) == ("ppk2", 3.0, {"mode": "source"})
    assert resolved.origins["meter.left.supply_v"] == FILE
    assert "meter.left.port" not in resolved.origins


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[meter.ppk2]\ncurrent_gian = 2\n", "current_gain"),
        ("[meter]\nppk2 = 3\n", "[meter.NAME]"),
        ("meter = 3\n", "[meter.NAME]"),
        ("[meter.ppk2]\ncurrent_gain = 0\n", "current_gain"),
        ("[meter.ppk2]\nsupply_v = nan\n", "supply_v"),
        ("[meter.ppk2]\nshunt_tolerance = -0.1\n", "shunt_tolerance"),
    ],
)
def test_a_section_that_cannot_be_names_what_is_wrong(
    tmp_path: Path, text: str, named: str
) -> None:
    path = tmp_path / "bench.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        resolve(path)
    assert named in caught.value.cause + caught.value.fix


def test_what_the_user_says_beats_the_section() -> None:
    entry = MeterBench(
        kind="mccdaq", id="mccdaq:77", options={"range": "5", "rate": "1"}, shunt_ohm=0.1
    )
    choice = choice_of(entry, MeterChoice("lab", options={"rate": "500000"}))
    assert (choice.name, choice.port) == ("mccdaq", "77")
    assert choice.options == {"range": "5", "rate": "500000", "shunt": "0.1"}
    assert choice_of(entry, MeterChoice("lab", port="9")).port == "9"


def test_samples_are_corrected_and_gaps_left_alone() -> None:
    settings = settings_of(MeterBench(current_gain=2.0, current_offset_a=0.5))
    logic = np.array([1, 0, 1], np.uint8)
    block, gap = Block(0, current_a=floats(1, 2, np.nan), logic=logic), Gap(3, 2, "counter")
    decoder = calibrated(Plays([block, gap]), settings)
    for parts in (decoder.feed(b"", 1), decoder.skip(1, 1), decoder.finish(1)):
        corrected, same = parts
        assert isinstance(corrected, Block)
        np.testing.assert_array_equal(corrected.current_a, floats(2.5, 4.5, np.nan))
        assert corrected.current_a is not None
        assert corrected.current_a.dtype == np.float32
        assert corrected.logic is logic
        assert same is gap
    assert decoder.ledger() == {"kept": 3}


def test_a_burden_takes_its_share_of_the_power() -> None:
    entry = MeterBench(burden_ohm=2.0)
    meter = CalibratedMeter(OneMeter(), "ppk2", entry)
    assert [signal.name for signal in meter.info.signals] == ["current", "power", "d0"]
    block = Block(0, current_a=floats(0.0, 0.1))
    (found,) = calibrated(Plays([block]), settings_of(entry)).feed(b"", 1)
    assert isinstance(found, Block)
    np.testing.assert_allclose(found.power_w, [0.0, (3.3 - 0.2) * 0.1], rtol=1e-6)


def test_power_follows_from_corrected_current_and_voltage() -> None:
    entry = MeterBench(current_gain=1.1, voltage_gain=0.9, voltage_offset_v=1.0)
    info = replace(INFO, signals=tuple(SIGNALS[name] for name in ("current", "voltage", "power")))
    block = Block(0, current_a=floats(1), voltage_v=floats(10), power_w=floats(10))
    (found,) = calibrated(Plays([block]), settings_of(entry, info)).feed(b"", 1)
    assert isinstance(found, Block)
    np.testing.assert_allclose(found.power_w, [11.0], rtol=1e-6)
    alone = Block(0, power_w=floats(10))
    (found,) = calibrated(Plays([alone]), settings_of(entry, info)).feed(b"", 1)
    assert isinstance(found, Block)
    np.testing.assert_allclose(found.power_w, [9.9], rtol=1e-6)


@pytest.mark.parametrize(
    ("stated", "relative"),
    [
        ({"power_gain_uncertainty": 0.02}, 0.02),
        ({"current_gain_uncertainty": 0.03, "voltage_gain_uncertainty": 0.04}, 0.05),
        # What is said of the power itself holds, whatever is said of its factors.
        ({"power_gain_uncertainty": 0.02, "current_gain_uncertainty": 0.03}, 0.02),
        ({"power_gain_uncertainty": 0.0, "voltage_gain_uncertainty": 0.04}, 0.0),
        ({"current_gain_uncertainty": 0.03}, None),
        ({"supply_uncertainty_v": 0.01}, None),
    ],
)
def test_a_meter_of_power_alone_is_known_by_its_own_scale_or_both_gains(
    tmp_path: Path, stated: dict[str, float], relative: float | None
) -> None:
    lines = "\n".join(f"{name} = {value}" for name, value in stated.items())
    (tmp_path / FILE).write_text(f"[meter.counter]\n{lines}\n")
    entry = resolve(tmp_path / FILE).bench.meter["counter"]
    info = replace(INFO, name="counter", id="counter:0", signals=(SIGNALS["power"],), supply_v=None)
    known = calibration_of(CalibratedMeter(OneMeter(info), "counter", entry).info)
    parts = Parts(1000, 10_000, [Part(1000, power=2000.0)] * 10)
    found = figures_of(parts, spec_of(info), 10_000, known)
    power, energy = found["mean_power_w"], found["energy_j"]
    assert (power.value, energy.value) == pytest.approx((2.0, 0.2))
    if relative is None:
        assert power.standard_uncertainty is energy.standard_uncertainty is None
    else:
        assert power.standard_uncertainty == pytest.approx(2.0 * relative, abs=1e-12)
        assert energy.standard_uncertainty == pytest.approx(0.2 * relative, abs=1e-12)


def test_what_changes_nothing_costs_nothing() -> None:
    decoder = Plays([])
    assert calibrated(decoder, {}) is decoder
    assert calibrated(decoder, settings_of(MeterBench(supply_v=3.2))) is decoder


def test_the_calibration_goes_into_the_trace() -> None:
    meter = CalibratedMeter(OneMeter(), "left", MeterBench(date="2026-01-02", supply_v=3.27))
    assert meter.info.supply_v == 3.27
    details = meter.info.details
    assert details["mode"] == "source"
    assert details["bench_section"] == "left"
    assert msgspec.convert(details[SETTING], Calibration).date == "2026-01-02"


@pytest.mark.parametrize(
    ("entry", "info", "says"),
    [
        (MeterBench(id="ppk2:serial:8"), INFO, "another instrument"),
        (MeterBench(supply_v=5.0), INFO, "5 V"),
        (MeterBench(burden_ohm=1.0), replace(INFO, supply_v=None), "burden_ohm"),
    ],
)
def test_a_section_that_does_not_fit_the_instrument_is_refused(
    entry: MeterBench, info: MeterInfo, says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        CalibratedMeter(OneMeter(info), "ppk2", entry)


@pytest.mark.parametrize("identity", ["ppk2:serial:7", "serial:7", ""])
def test_an_id_with_or_without_its_kind_fits(identity: str) -> None:
    assert CalibratedMeter(OneMeter(), "ppk2", MeterBench(id=identity)).info.supply_v == 3.3
