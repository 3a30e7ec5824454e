"""Captures as a user runs them, around an emulated PPK2 and the simulated device.

The machine may stall: what is asserted is that the account is true, not that nothing was lost.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from capture_rig import PPK2, capturing, emulator, grown, read
from cli_rig import cli

pytest.importorskip("pyjls")

from waistline_hostctl.meters.sim import Device, layers

AMPERE = 0.01
SIM = ("--meter", "sim", "--meter-option", "rate=200000", "--meter-option", "fifo=60")
"""Loses nothing while the machine stands still."""


def _account_is_true(result, instrument):
    """What the instrument dropped while the trace lasted is in the account, or that is open."""
    ledger = result["ledger"]
    assert ledger["kept"] + result["missing"] == result["samples"]
    if not ledger["closes"]:
        assert ledger["unknown"] or ledger["contradictions"]
        return
    rows = instrument.truth("lost")
    counted = sum(ledger["lost"].values())
    # Some may have been lost before the trace began, or after it ended.
    assert counted <= sum(row["count"] for row in rows)
    if not ledger["start_dropped"]:
        inside = [row["count"] for row in rows if row["first"] < result["samples"]]
        assert sum(inside) - counted <= sum(inside[-1:])


def test_a_capture_for_a_time(tmp_path):
    with emulator(tmp_path, "--waveform", f"constant:{AMPERE}") as instrument:
        with capturing(
            tmp_path, *PPK2, "--port", instrument.port, "--duration", "2s", "-o", "run.jls"
        ) as capture:
            code, result = capture.result()
        _account_is_true(result, instrument)
    assert (code == 0) == result["trusted"] == (not result["problems"])
    assert (result["ended"], result["evidence"]) == ("duration", "emulated")
    with read(tmp_path / "run.jls") as trace:
        assert trace.length == result["samples"] == 200_000
        assert json.loads(trace.ledger) == result["ledger"]
        current = trace.read("current")
        there = ~np.isnan(current)
        assert there.sum() == result["samples"] - result["missing"]
        assert current[there].mean() == pytest.approx(AMPERE, rel=0.01)
        energy = trace.energy()
        assert energy.energy_j == pytest.approx(result["figures"]["energy_j"]["value"], rel=1e-9)
        assert energy.energy_j == pytest.approx(3.3 * AMPERE * there.sum() / 1e5, rel=0.01)


def test_a_command_that_the_duration_leaves_no_time_is_noted(tmp_path):
    arguments = (*SIM, "--duration", "20ms", "-o", "run.jls", "--json", "--", "true")
    done = cli("capture", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    remarks = json.loads(done.stdout)["remarks"]
    assert any("ended before true began" in remark for remark in remarks)


@pytest.mark.parametrize(("duration", "samples"), [("1ms", 200), ("730.005ms", 146_001)])
def test_a_duration_is_honoured_to_the_sample(tmp_path, duration, samples):
    done = cli("capture", *SIM, "--duration", duration, "-o", "run.jls", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["ended"], result["samples"], result["trusted"]) == ("duration", samples, True)
    assert result["ledger"]["kept"] == samples
    with read(tmp_path / "run.jls") as trace:
        assert trace.length == samples
        assert not np.isnan(trace.read("power")).any()


def test_unplugging_ends_it_and_keeps_the_trace(tmp_path):
    with (
        emulator(tmp_path, "--fault", "unplug@200000") as instrument,
        capturing(
            tmp_path, *PPK2, "--port", instrument.port, "--duration", "1h", "-o", "run.jls"
        ) as capture,
    ):
        code, result = capture.result()
    assert (code, result["ended"], result["trusted"]) == (5, "meter", False)
    assert "gone" in result["problems"][0]
    with read(tmp_path / "run.jls") as trace:
        assert 0 < trace.length == result["samples"] <= 200_000


def test_the_page_of_a_failed_capture_says_what_failed(tmp_path):
    with (
        emulator(tmp_path, "--fault", "unplug@300000") as instrument,
        capturing(tmp_path, *PPK2, "--port", instrument.port, "--duration", "1h") as capture,
    ):
        code, result = capture.result()
    assert (code, result["ended"], result["trusted"]) == (5, "meter", False)
    page = (tmp_path / result["report"]).read_text()
    head = page[: page.index("<h2>")]
    assert "cannot be trusted" in head
    assert "the meter is gone" in head
    assert "Emulated:" in head


def test_an_interrupt_is_how_a_capture_without_an_end_ends(tmp_path):
    with emulator(tmp_path) as instrument:
        for arguments, wanted in (((), 0), (("--duration", "1h"), 130)):
            path = tmp_path / f"run{wanted}.jls"
            with capturing(
                tmp_path, *PPK2, "--port", instrument.port, *arguments, "-o", path.name
            ) as capture:
                grown(path, 150_000)
                capture.interrupt()
                code, result = capture.result()
            assert result["ended"] == "interrupted"
            assert code == (wanted if result["trusted"] else 5)
            with read(path) as trace:
                assert trace.length == result["samples"] > 0


def test_a_run_folder_tells_everything_about_it(tmp_path):
    done = cli("capture", *SIM, "--duration", "500ms", "--name", "first", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.endswith("-first")
    record = json.loads((folder / "run.json").read_text())
    tables = [row["name"] for row in record["tables"]]
    assert {"overview", "account", "terms"} <= set(tables)
    files = [f"{name}{end}" for name in tables for end in (".csv", ".schema.json")]
    files += ["report.html", "run.json", "trace.jls"]
    assert sorted(file.name for file in folder.iterdir()) == sorted(files)
    assert result["report"] == str(folder.relative_to(tmp_path) / "report.html")
    capture = record["settings"]["capture"]
    assert capture["ledger"] == result["ledger"]
    assert capture["meter"]["id"] == "sim:layers"
    assert (capture["ended"], record["evidence"]["trace"]) == ("duration", "simulated")
    assert record["machine"]["kernel"]
    assert record["bench"]["bench"]["node"]
    page = (folder / "report.html").read_text()
    assert "Simulated:" in page
    assert "sim:layers" in page
    done = cli("report", str(folder), "--recompute", "--json", cwd=tmp_path)
    assert (done.returncode, json.loads(done.stdout)["changed"]) == (0, [])
    assert (folder / "report.html").read_text() == page
    with read(folder / "trace.jls") as trace:
        assert json.loads(trace.run)["settings"]["capture"]["ended"] == "duration"
        true = Device(layers(), 200_000.0)
        energy = trace.energy()
        wanted = true.input_energy_j(np.array([energy.duration_s]))[0]
        assert energy.energy_j == pytest.approx(wanted, rel=1e-6)


def test_a_command_lies_between_its_markers(tmp_path):
    done = cli(
        "capture", *SIM, "-o", "run.jls", "--json", "--",
        "sh", "-c", "echo from the command; sleep 0.3; exit 7", cwd=tmp_path,
    )  # fmt: skip
    result = json.loads(done.stdout)
    assert (done.returncode, result["ended"], result["command_code"]) == (0, "command", 7)
    assert "from the command" in done.stderr
    assert any("exit code 7" in remark for remark in result["remarks"])
    with read(tmp_path / "run.jls") as trace:
        marks = {note.text: note.sample for note in trace.annotations}
        passed_s = (marks["command-end"] - marks["command-begin"]) / trace.spec.rate_hz
        assert 0.29 < passed_s < 30
    found = cli(
        "trace", "energy", "run.jls", "--from", "command-begin", "--to", "command-end", "--json",
        cwd=tmp_path,
    )  # fmt: skip
    energy = json.loads(found.stdout)
    assert energy["stop_s"] - energy["start_s"] == pytest.approx(passed_s)
    assert energy["figures"]["energy_j"]["evidence"] == "simulated"


def test_the_commands_output_can_go_to_a_log(tmp_path):
    done = cli(
        "capture", *SIM, "-o", "run.jls", "--log", "out.txt", "--", "echo", "hello", cwd=tmp_path
    )
    assert done.returncode == 0
    assert (tmp_path / "out.txt").read_text() == "hello\n"
    assert "hello" not in done.stdout


def test_what_a_command_marks_is_in_the_trace(tmp_path):
    code = "from waistline.trace.events import mark; mark('begin'); mark('end')"
    done = cli("capture", *SIM, "-o", "run.jls", "--", sys.executable, "-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with read(tmp_path / "run.jls") as trace:
        names = [note.text for note in trace.annotations]
    assert names == ["command-begin", "begin", "end", "command-end"]


def test_a_command_that_does_not_run_ends_the_capture(tmp_path):
    (tmp_path / "bad").write_bytes(b"\x7fELF nothing")
    (tmp_path / "bad").chmod(0o755)
    done = cli("capture", *SIM, "-o", "run.jls", "--json", "--", "./bad", cwd=tmp_path)
    result = json.loads(done.stdout)
    assert (done.returncode, result["ended"]) == (5, "no command")
    assert "does not run" in result["problems"][0]
    with read(tmp_path / "run.jls") as trace:
        assert trace.length == result["samples"] > 0


def test_a_replay_gives_the_same_samples_and_no_better_evidence(tmp_path):
    assert cli("capture", *SIM, "--duration", "1s", "-o", "a.jls", cwd=tmp_path).returncode == 0
    done = cli(
        "capture", "--meter", "replay", "--port", "a.jls", "--meter-option", "pace=fast",
        "-o", "b.jls", "--json", cwd=tmp_path,
    )  # fmt: skip
    result = json.loads(done.stdout)
    assert (done.returncode, result["ended"], result["evidence"]) == (0, "source", "simulated")
    with read(tmp_path / "a.jls") as first, read(tmp_path / "b.jls") as second:
        assert first.length == second.length
        for name in ("current", "voltage", "power"):
            assert np.array_equal(first.read(name), second.read(name))
        assert np.array_equal(first.bits("d0"), second.bits("d0"))


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (("--meter", "sim", "--meter-option", "rate=1000"), 5, "--allow-slow"),
        (("--meter", "sim", "--meter-option", "pace=1"), 2, "no option"),
        (("--meter", "nothing"), 2, "known:"),
        (("--meter", "ppk2", "--port", "/dev/null", "--meter-option", "voltage=3.3"), 5, "error:"),
        ((*SIM, "--", "no-such-program-here"), 2, "no program"),
        ((*SIM, "-o", "there.jls"), 2, "exists"),
        ((*SIM, "-o", "missing/run.jls"), 2, "mkdir -p missing"),
        ((*SIM, "-o", "run.csv"), 2, "-o run.jls"),
        ((*SIM, "--buffer", "nan"), 2, "--buffer"),
        ((*SIM, "-o", "new.jls", "--log", "none/a.txt", "--", "true"), 2, "--log"),
        ((*SIM, "--duration", "soon"), 2, "no duration"),
    ],
)
def test_what_cannot_begin_leaves_nothing(tmp_path, arguments, code, word):
    (tmp_path / "there.jls").write_bytes(b"a measurement")
    done = cli("capture", "--duration", "1s", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (code, "")
    assert word in done.stderr
    runs = tmp_path / "runs"
    assert not runs.exists() or not any(runs.iterdir())
    assert (tmp_path / "there.jls").read_bytes() == b"a measurement"
    assert [file.name for file in tmp_path.glob("*.jls")] == ["there.jls"]
