"""The emulated PPK2 read by our driver and by the stock one, and what its faults look like.

The machine that runs this may stall: what is asserted is that the account is true, not that
nothing was lost.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import oracle_help
import pytest
from emulator_help import capture, emulated, lost, mark

from waistline.errors import MeterError
from waistline.evidence import Evidence
from waistline_hostctl.emulators import _faults
from waistline_hostctl.emulators import ppk2 as emulator
from waistline_hostctl.emulators.ppk2 import RATE_HZ, Instrument
from waistline_hostctl.meters import ppk2
from waistline_hostctl.meters._ppk2_calibration import parse
from waistline_hostctl.meters.base import MeterChoice, open_meter
from waistline_hostctl.simulated.waveform import Constant, open_waveform

OPTIONS = {"voltage": "3.3", "mode": "source"}
STOCK = oracle_help.python_with("ppk2_api")
DEVICE = {
    "load": {
        "period_s": 0.0100013,
        "idle_w": 1e-5,
        "start_s": 0.001,
        "layers": [
            {"name": "conv", "duration_s": 0.0012, "power_w": 0.001},
            {"name": "pool", "duration_s": 0.00002, "power_w": 0.01},
            {"name": "dense", "duration_s": 0.001, "power_w": 0.5},
            {"name": "answer", "duration_s": 0.002, "power_w": 0.05, "ramp": 0.2},
        ],
    },
    "supply": {"type": "rc", "tau_s": 4e-6},
    "noise_w": 1e-6,
    "marker_bit": 3,
}


def _check_account(parts, account, truth):
    """Every loss of the instrument is in the account, at its place, or the account is open."""
    assert account["kept"] == sum(len(part) for part in parts if part not in lost(parts))
    if not account["closes"] or account["start_dropped"]:
        return
    true = [row["count"] for row in truth.truth("lost") if row["first"] < parts[-1].first]
    true += [1 for row in truth.truth("byte") if row["sample"] < parts[-1].first]
    # Copies that come in one hole with a loss are told from it in sum only.
    copies = [row["count"] for row in truth.truth("repeated")]
    assert sum(account["lost"].values()) - account["repeated"] == sum(true) - sum(copies)


def test_a_capture_holds_what_was_played(tmp_path):
    device = tmp_path / "device.json"
    device.write_text(json.dumps(DEVICE))
    options = ("--waveform", f"device:{device}", "--ppm", "40", *mark(120_000))
    with emulated("ppk2", tmp_path, *options) as there:
        meter = open_meter(MeterChoice("ppk2", there.port, OPTIONS))
        assert meter.info.evidence is Evidence.EMULATED
        assert meter.info.supply_v == 3.3
        parts, account, ended = capture(meter, lambda: there.at_mark(120_000))
    assert ended is None
    _check_account(parts, account, there)
    played = open_waveform(f"device:{device}", RATE_HZ).samples(0, 200_000)
    first = account["start_dropped"]
    for row in there.truth("lost"):
        first += row["count"] if row["first"] <= first else 0
    for part in parts[:50]:
        if part in lost(parts):
            break
        true = played.current_a[first + part.first :][: len(part)]
        bits = played.logic[first + part.first :][: len(part)]
        # The filter shows averages after a range change; elsewhere the converter's step counts.
        near = np.isclose(part.current_a, true, rtol=0.02, atol=2e-6)
        assert near.mean() > 0.9
        np.testing.assert_array_equal(part.logic, bits)
        assert set(np.unique(bits)) <= {0, 8}


@pytest.mark.parametrize(
    "fault", ["drop@60000:5", "drop@60000:64", "drop@60000:455", "byte@60001", "dup@60000:7"]
)
def test_an_injected_fault_is_in_the_account(tmp_path, fault):
    with emulated("ppk2", tmp_path, "--fault", fault, *mark(130_000)) as there:
        meter = open_meter(MeterChoice("ppk2", there.port, OPTIONS))
        parts, account, _ = capture(meter, lambda: there.at_mark(130_000))
    _check_account(parts, account, there)
    if account["closes"] and account["start_dropped"] < 60_000:
        assert account["holes"] or account["repeated"]


def test_a_full_fifo_drops_while_the_counter_runs_on(tmp_path):
    with emulated("ppk2", tmp_path, "--fault", "stall@60000:0.12", *mark(140_000)) as there:
        meter = open_meter(MeterChoice("ppk2", there.port, OPTIONS))
        parts, account, _ = capture(meter, lambda: there.at_mark(140_000))
    assert any(row["cause"] == "fifo" for row in there.truth("lost"))
    _check_account(parts, account, there)


def test_a_pulled_plug_ends_the_capture_and_keeps_what_came(tmp_path):
    with emulated("ppk2", tmp_path, "--fault", "unplug@40000") as there:
        meter = open_meter(MeterChoice("ppk2", there.port, OPTIONS))
        parts, account, ended = capture(meter)
    assert ended is not None
    assert "plug it in" in ended.fix
    came = account["kept"] + account["invalid"] + account["start_dropped"]
    assert came + sum(row["count"] for row in there.truth("lost")) > 20_000
    assert parts


def test_garbage_instead_of_a_calibration_is_refused(tmp_path):
    with emulated("ppk2", tmp_path, "--bad-metadata") as there, pytest.raises(MeterError) as caught:
        open_meter(MeterChoice("ppk2", there.port, OPTIONS))
    assert "calibration" in caught.value.what


def test_a_port_that_does_not_answer_is_no_ppk2():
    end, other = os.openpty()
    try:
        with pytest.raises(MeterError) as caught:
            open_meter(MeterChoice("ppk2", os.ttyname(other), OPTIONS))
    finally:
        os.close(end)
        os.close(other)
    assert "END" in caught.value.cause


@pytest.mark.parametrize("current_a", [2e-6, 3e-4, 4e-3, 0.05, 0.8])
def test_a_constant_current_comes_back_within_a_step_of_the_converter(current_a):
    instrument = Instrument(Constant(current_a, 3.3))
    instrument.on = True
    words = instrument.encode(0, 100)
    decoder = ppk2.Ppk2Decoder(parse(instrument.metadata()), 3.3)
    parts = decoder.feed(words.tobytes(), 10**9) + decoder.finish(10**9)
    seen = np.concatenate([part.current_a for part in parts])
    step_a = 4 * (1.8 / 163840) / (1031.64, 101.65, 10.15, 0.94, 0.043)[int(words[0, 1]) >> 6 & 3]
    assert np.abs(seen[10:] - current_a).max() < max(step_a, 2e-3 if current_a > 0.06 else 0)


def test_ranges_go_up_at_once_and_down_late():
    instrument = Instrument(Constant(0.0, 3.3))
    ranges = instrument._ranges(np.array([1e-5, 6e-5, 4.5e-5, 3.9e-5, 1.0, 5.5e-2, 4e-2, 1e-6]))
    assert ranges.tolist() == [0, 1, 1, 0, 4, 4, 3, 0]


@pytest.mark.parametrize("text", ["drop", "drop@x", "melt@5", "drop@1:2:3", ""])
def test_a_fault_that_is_none_is_refused(tmp_path, text):
    command = [sys.executable, "-m", "waistline_hostctl.emulators.ppk2", "--fault", text]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "is no fault" in done.stderr


def test_its_help_explains_waveforms_and_every_kind_of_fault(capsys):
    with pytest.raises(SystemExit, match="0"):
        emulator.main(["--help"])
    told = capsys.readouterr().out
    kinds = [f"{kind}@SAMPLE" for kind in get_args(_faults.FaultKind)]
    assert all(word in told for word in ("constant:", "device:FILE", "file:FILE", *kinds))


def test_random_faults_repeat_with_their_seed():
    assert _faults.at_random(20, 200_000, 3) == _faults.at_random(20, 200_000, 3)
    assert _faults.at_random(20, 200_000, 3) != _faults.at_random(20, 200_000, 4)


@pytest.mark.parametrize("name", ["ppk2", "lpm01a"])
@pytest.mark.parametrize("options", [["--fifo", "0"], ["--ppm", "nan"]])
def test_an_instrument_that_cannot_be_is_refused(name, options):
    command = [sys.executable, "-m", f"waistline_hostctl.emulators.{name}", *options]
    assert subprocess.run(command, capture_output=True).returncode == 2


@pytest.mark.parametrize("name", ["ppk2", "lpm01a"])
def test_the_emulator_shares_no_code_with_the_decoder(name):
    code = f"import sys, waistline_hostctl.emulators.{name}; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not [name for name in done.stdout.split() if ".meters" in name]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_ten_random_faults_through_the_line(tmp_path, seed):
    device = tmp_path / "device.json"
    device.write_text(json.dumps(DEVICE))
    options = ["--waveform", f"device:{device}", "--random-faults", "10", "--seed", str(seed)]
    options += ["--random-seconds", "6", *mark(700_000)]
    with emulated("ppk2", tmp_path, *options) as there:
        meter = open_meter(MeterChoice("ppk2", there.port, OPTIONS))
        _, account, _ = capture(meter, lambda: there.at_mark(700_000))
    if account["closes"] and not account["start_dropped"]:
        true = sum(row["count"] for row in there.truth("lost")) + len(there.truth("byte"))
        copies = sum(row["count"] for row in there.truth("repeated"))
        assert sum(account["lost"].values()) - account["repeated"] == true - copies


@pytest.mark.skipif(not STOCK, reason=oracle_help.missing("ppk2_api"))
def test_the_stock_driver_reads_the_emulator_and_agrees_with_ours(tmp_path):
    device = tmp_path / "device.json"
    device.write_text(json.dumps(DEVICE))
    raw_file, samples_file = tmp_path / "raw", tmp_path / "samples.npy"
    script = Path(__file__).with_name("ppk2_stock.py")
    with emulated("ppk2", tmp_path, "--waveform", f"device:{device}") as there:
        command = [str(STOCK), str(script), there.port, "100000", str(raw_file), str(samples_file)]
        subprocess.run(command, check=True, timeout=300)
    raw, theirs = raw_file.read_bytes(), np.load(samples_file)
    assert len(theirs) > 90_000
    decoder = ppk2.Ppk2Decoder(parse(Instrument(Constant(0.0, 3.3)).metadata()), 3.3)
    ours = []
    # Nothing but the samples' values is compared: a loss must not hold any back.
    for one in decoder._words.feed(raw) + decoder._words.finish():
        if isinstance(one, np.ndarray):
            ours.append(decoder._decode(one)[0])
    current = np.concatenate(ours)[: len(theirs)]
    np.testing.assert_allclose(current, theirs, rtol=2e-7, atol=1e-12)
