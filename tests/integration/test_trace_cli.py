"""``waistline trace`` as a user runs it, on a short capture of the simulated device."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from capture_rig import read
from cli_rig import cli

from waistline.errors import ConfigError
from waistline_hostctl import api

pytest.importorskip("pyjls")
pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With ``run.jls`` of the simulated device at 100 kHz."""
    made = tmp_path_factory.mktemp("traces")
    done = cli(
        "capture", "--meter", "sim", "--meter-option", "rate=100000", "--duration", "500ms",
        "-o", "run.jls", cwd=made,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (made / "damaged.jls").write_bytes(b"jls" + bytes(100))
    return made


def test_info_and_energy_agree(folder):
    info = json.loads(cli("trace", "info", "run.jls", "--json", cwd=folder).stdout)
    energy = json.loads(cli("trace", "energy", "run.jls", "--json", cwd=folder).stdout)
    assert info["figures"]["energy_j"] == energy["figures"]["energy_j"]
    assert (info["evidence"], info["ledger"]["closes"]) == ("simulated", True)
    parts = [
        json.loads(cli("trace", "energy", "run.jls", *part, "--json", cwd=folder).stdout)
        for part in (("--to", "0.2"), ("--from", "200ms", "--to", "#30000"), ("--from", "#30000"))
    ]
    total = sum(part["figures"]["energy_j"]["value"] for part in parts)
    assert total == pytest.approx(energy["figures"]["energy_j"]["value"], rel=1e-9)


def test_what_is_exported_comes_back(folder):
    done = cli("trace", "export", "run.jls", "part.csv", "--from", "0.1", "--to", "0.2", cwd=folder)
    assert "10,000 rows" in done.stdout
    with (folder / "part.csv").open(newline="") as stream:
        heading = next(csv.reader(stream))
    assert heading == ["time_s", "current_a", "voltage_v", "power_w", "d0", "gap"]
    done = cli("trace", "import", "part.csv", "back.jls", "--json", cwd=folder)
    assert json.loads(done.stdout)["count"] == 10_000, done.stderr
    with read(folder / "run.jls") as first, read(folder / "back.jls") as back:
        assert back.spec.evidence == "replayed"
        assert np.array_equal(first.read("power", 10_000, 20_000), back.read("power"))


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_a_picture(folder, suffix):
    name = f"picture.{suffix}"
    done = cli("trace", "plot", "run.jls", "-o", name, "--to", "20ms", cwd=folder)
    assert (done.returncode, done.stdout.strip()) == (0, name)
    data = (folder / name).read_bytes()
    assert data.startswith(b"\x89PNG" if suffix == "png" else b"<?xml")


def test_a_whole_trace_is_left_alone(folder):
    before = (folder / "run.jls").read_bytes()
    assert "nothing was done" in cli("trace", "repair", "run.jls", cwd=folder).stdout
    assert (folder / "run.jls").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (("info", "nothing.jls"), 2, "nothing.jls"),
        (("energy", "run.jls", "--from", "9"), 2, "not in the trace"),
        (("energy", "run.jls", "--from", "layer"), 5, "no marker"),
        (("plot", "run.jls", "-o", "picture.bmp"), 2, ".png"),
        (("export", "run.jls", "run.xyz"), 2, "xyz"),
        (("import", "run.jls", "other.jls"), 5, "cannot be imported"),
        (("import", "nothing.csv"), 2, "nothing.csv"),
        (("info", "damaged.jls"), 5, "not a trace"),
    ],
)
def test_what_cannot_be_done_is_said(folder, arguments, code, word):
    done = cli("trace", *arguments, cwd=folder)
    assert (done.returncode, done.stdout) == (code, "")
    assert word in done.stderr


def test_a_run_folder_stands_for_its_trace(folder, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "trace.jls").hardlink_to(folder / "run.jls")
    done = cli("trace", "energy", "run", "--to", "0.1", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (tmp_path / "empty").mkdir()
    done = cli("trace", "info", "empty", cwd=tmp_path)
    assert (done.returncode, "a folder without a trace" in done.stderr) == (2, True)


def test_the_same_from_python(folder):
    found = api.trace_energy(folder / "run.jls", 0.1, "200ms")
    assert (found.start_s, found.stop_s) == (0.1, 0.2)
    assert found.figures["energy_j"].value > 0
    assert api.trace_info(folder / "run.jls").samples == 50_000
    with pytest.raises(ConfigError, match="not in the trace"):
        api.trace_energy(folder / "run.jls", 7)


def test_a_report_of_a_trace_alone_says_what_to_do(folder):
    done = cli("report", "run.jls", cwd=folder)
    assert done.returncode == 2
    assert "a report is of a run folder" in done.stderr
    assert "trace info run.jls" in done.stderr


def test_an_energy_that_cannot_be_had_is_told(folder, tmp_path):
    rows = "".join(f"{i / 1000:.3f},0.1\n" for i in range(2000))
    (tmp_path / "räum lich.csv").write_text("t,CH1\n" + rows)
    name = ("räum lich.csv", "no voltage.jls")
    done = cli("trace", "import", *name, "--map", "current=CH1*0.1,time=t:s", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = cli("trace", "info", name[1], cwd=tmp_path).stdout
    assert "no voltage, so no power and no energy" in told
    assert "waistline capture did not make this" in told
    assert "no voltage" not in cli("trace", "energy", "run.jls", cwd=folder).stdout
