"""Events from a program to its trace, as a user does it; codes and replays of marked traces."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from capture_rig import read
from cli_rig import cli, result

pytest.importorskip("pyjls")
pytest.importorskip("matplotlib")

from waistline.trace.coded import code
from waistline_hostctl.trace_markers_result import TraceMarkersResult

PROGRAM = """
from waistline.trace.events import mark, span
mark("a")
with span("work"):
    sum(range(10_000))
mark("b")
"""
SIM = ("capture", "--meter", "sim", "--meter-option", "rate=100000")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With ``run.jls`` around a program, and the ``events.jsonl`` that it noted."""
    made = tmp_path_factory.mktemp("marked")
    (made / "program.py").write_text(PROGRAM)
    (made / "events.jsonl").write_text("something that stood there before\n")
    done = cli(
        *SIM, "-o", "run.jls", "--", sys.executable, "program.py",
        cwd=made, env={"WAISTLINE_EVENTS": "events.jsonl"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return made


def test_a_programs_events_are_in_its_trace_and_in_its_file(folder: Path) -> None:
    names = ["command-begin", "a", "work-begin", "work-end", "b", "command-end"]
    found = result(cli("trace", "markers", "run.jls", "--json", cwd=folder), TraceMarkersResult)
    assert [note.text for note in found.notes] == names
    assert (found.clock.by, found.outside) == ("host", 0)
    before, *lines = (folder / "events.jsonl").read_text().splitlines()
    assert before == "something that stood there before"
    assert [json.loads(line)["text"] for line in lines] == names[1:-1]
    done = cli("trace", "energy", "run.jls", "--from", "a", "--to", "b", "--json", cwd=folder)
    between = json.loads(done.stdout)
    done = cli("trace", "energy", "run.jls", "--from", "work", "--json", cwd=folder)
    within = json.loads(done.stdout)
    assert between["start"] <= within["start"] < within["stop"] <= between["stop"]


def test_events_are_placed_again_into_a_new_trace(folder: Path) -> None:
    lines = (folder / "events.jsonl").read_text().splitlines()[1:]
    (folder / "own.jsonl").write_text("\n".join(lines) + "\n")
    before = (folder / "run.jls").read_bytes()
    words = ("trace", "markers", "run.jls", "--events", "own.jsonl", "-o", "new.jls")
    done = cli(*words, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "written  new.jls" in done.stdout
    assert (folder / "run.jls").read_bytes() == before
    with read(folder / "run.jls") as old, read(folder / "new.jls") as new:
        assert len(new.annotations) == len(old.annotations) == 6
        assert new.length == old.length
    again = cli(*words, cwd=folder)
    assert (again.returncode, len(again.stderr.splitlines())) == (5, 3)
    assert cli("trace", "plot", "new.jls", "-o", "new.svg", cwd=folder).returncode == 0
    drawn = (folder / "new.svg").read_text()
    assert "<!-- command -->" in drawn
    assert "<!-- a -->" in drawn


def test_a_code_in_the_power_places_events(tmp_path: Path) -> None:
    chips, chip_s, began_s = code(5).tolist(), 0.004, 5000.0
    times = [began_s + k * chip_s for k in range(len(chips) + 1)]
    (tmp_path / "code.json").write_text(json.dumps({"times_s": times, "chips": chips}))
    bursts = [
        {"name": "c", "start_s": 0.05 + k * chip_s, "duration_s": chip_s, "power_w": 0.8}
        for k, chip in enumerate(chips)
        if chip
    ]
    load = {"period_s": 10.0, "idle_w": 0.3, "bursts": bursts}
    (tmp_path / "device.json").write_text(json.dumps({"load": load, "noise_w": 0.05}))
    (tmp_path / "events.txt").write_text(f"{began_s + 0.2} done\n")
    done = cli(
        *SIM, "--meter-option", "waveform=device:device.json", "--duration", "300ms",
        "-o", "run.jls", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    words = ("trace", "markers", "run.jls", "--code", "code.json", "--events", "events.txt")
    found = result(cli(*words, "--json", cwd=tmp_path), TraceMarkersResult)
    (note,) = found.notes
    assert note.at_s == pytest.approx(0.25, abs=4 * note.uncertainty_s)
    done = cli(*words, "--lag", "2ms", "-o", "placed.jls", "--json", cwd=tmp_path)
    lagged = result(done, TraceMarkersResult)
    assert lagged.notes[0].at_s == pytest.approx(note.at_s - 1e-3, abs=1e-9)
    assert lagged.clock.common_s == pytest.approx(2e-3 / 12**0.5)
    assert cli("trace", "energy", "placed.jls", "--to", "done", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize("pace", ["fast", "real"])
def test_a_marked_trace_is_played_again_with_its_markers(folder: Path, pace: str) -> None:
    output = f"{pace}.jls"
    done = cli(
        "capture", "--meter", "replay", "--port", "run.jls", "--meter-option", f"pace={pace}",
        "-o", output, cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with read(folder / "run.jls") as old, read(folder / output) as new:
        assert new.annotations == old.annotations
        assert new.length == old.length


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--jitter", "1ms"), 2, "--jitter goes with --bit"),
        (("--mark", "head"), 2, "--mark goes with --bit"),
        (("--bit", "0", "--code", "x"), 2, "do not go together"),
        (("--bit", "9"), 2, "no logic bit"),
        (("--bit", "0", "--jitter", "-1"), 2, "no time"),
        (("--bit", "3", "--events", "events.jsonl"), 5, "no logic bit D3"),
        (("--events", "program.py"), 5, "is no event"),
        (("--code", "program.py"), 5, "cannot be read"),
        (("-o", "new.csv"), 2, "no name for a trace"),
        (("--from", "b", "--to", "a"), 2, "not behind"),
    ],
)
def test_what_cannot_be_done_is_said(
    folder: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    done = cli("trace", "markers", "run.jls", *words, cwd=folder)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
