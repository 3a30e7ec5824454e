"""A head on a board as the host tells of it: loading, settings, where the time went."""

from __future__ import annotations

import json
import queue
import types

import pytest

from waistline.bench import resolve
from waistline.task.spec import AnswerSpec
from waistline_hostctl import derive, raw, summary
from waistline_hostctl.derived import timing
from waistline_hostctl.page.latency import latency_section
from waistline_hostctl.passing import with_settings
from waistline_hostctl.services import NODE, Service
from waistline_node.records import FrameRecord
from waistline_node.service import Progress


class Screen:
    """A console that keeps what it shows."""

    def __init__(self):
        self.shown = []

    def show(self, text):
        self.shown.append(text)


def test_loading_is_shown_where_it_takes_long(monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr("waistline_node.service.time.monotonic", lambda: now[0])
    screen = Screen()
    progress = Progress(screen, as_json=True)
    for done in range(0, 1000, 100):
        progress(done, 1000)
        now[0] += 0.2
    progress(1000, 1000)
    assert screen.shown == [
        *(f"loading the head onto the board: {n} of 1000 bytes" for n in (300, 600, 900)), "",
    ]  # fmt: skip
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == {"progress": "loading", "done": 300, "of": 1000}
    assert len(lines) == 3
    quick = Progress(Screen(), as_json=True)
    quick(500, 1000)
    quick(1000, 1000)
    progress.as_json = False
    progress(0, 1000)
    now[0] += 5
    progress(1, 1000)
    assert capsys.readouterr().out == ""


def test_what_comes_before_the_ready_line_is_progress():
    service = object.__new__(Service)
    service._module, service._lines = NODE, queue.SimpleQueue()
    for line in ({"progress": "loading", "done": 3, "of": 9}, {"ready": "waistline-node"}):
        service._lines.put(line)
    seen = []
    assert service.ready(progress=seen.append) == {"ready": "waistline-node"}
    assert seen == [3]


def test_a_service_is_told_the_board_of_the_bench_file(tmp_path):
    file = tmp_path / "bench.toml"
    file.write_text('[node]\nboard = "host"\n')
    added = with_settings(NODE, ["b"], resolve(file))
    assert added[-2:] == ["--board", "host"]
    assert "--board" not in with_settings(NODE, ["b", "--port", "x"], resolve(file))
    file.write_text('[node]\nport = "0483:374b:1"\nbaud = 115200\n')
    added = with_settings(NODE, ["b"], resolve(file))
    assert added[-4:] == ["--port", "0483:374b:1", "--baud", "115200"]


def _row(index, **changes):
    values = {"index": index, "name": "f", "label": "", "seq": 1, "outcome": "remote",
              "reason": "", "started_s": 0.0, "latency_s": 0.05, "head_s": 0.04,
              "device_s": 0.01, "transit_s": 0.01, **changes}  # fmt: skip
    return FrameRecord(**values)


@pytest.mark.parametrize(("emulated", "grade"), [(True, "emulated"), (False, "measured")])
def test_the_head_is_parted_into_computing_and_the_way_there(emulated, grade):
    sent = [raw.Sent(derive.MAIN, [_row(k) for k in range(5)])]
    frames = raw.frames_table(sent, emulated=False, board_emulated=emulated)
    graded = {column.name: column.evidence for column in frames.columns}
    assert graded["device_s"] == graded["head_s"] == graded["latency_s"] == grade
    assert graded["tail_s"] == "measured"
    settings = derive.Settings(
        AnswerSpec("tensors", {}), "", "", (), 2, "i8:b=4|none", "nucleo-f446re", emulated
    )
    latency = timing.latency_table(frames.dicts(), settings)
    found = {row["stage"]: row for row in latency.dicts()}
    assert "head" not in found
    assert found["board"]["p50_s"] == pytest.approx(0.01)
    assert found["bridge"]["p50_s"] == pytest.approx(0.03)
    assert found["board"]["evidence"] == found["total"]["evidence"] == grade
    figures = timing.board_figures(latency, settings)
    text = " ".join(summary.board_text(figures).split())
    assert text.startswith(
        "board nucleo-f446re computed 10 ms of each head by its own ticks (25 %)"
    )
    assert ("no time of a processor" in text) == emulated


def test_a_head_on_this_machine_is_one_stage():
    sent = [raw.Sent(derive.MAIN, [_row(0, device_s=0.0)])]
    frames = raw.frames_table(sent, emulated=False)
    settings = derive.Settings(AnswerSpec("tensors", {}), "", "", (), 2, "i8:b=4|none")
    latency = timing.latency_table(frames.dicts(), settings)
    assert "head" in {row["stage"] for row in latency.dicts()}
    assert summary.board_text(timing.board_figures(latency, settings)) == ""


@pytest.mark.parametrize("evidence", ["emulated", "measured"])
def test_the_page_says_where_the_head_ran_and_how_its_time_was_had(evidence):
    rows = [
        {"stream": "waist", "stage": stage, "p50_s": 0.01, "p50_u_s": 0.001, "p99_s": 0.02,
         "p99_u_s": 0.001, "mean_s": 0.01, "n": 9, "evidence": found}
        for stage, found in (("board", evidence), ("tail", "measured"))
    ]  # fmt: skip
    record = types.SimpleNamespace(settings={"link": "", "head": {"board": "nucleo-f446re"}})
    page = latency_section(rows, record, {"waist": "one at a time"})
    heading = page[: page.index("</h2>")]
    assert "The head ran on nucleo-f446re" in page
    assert ("emulated" in heading) == (evidence == "emulated") == ("board was emulated" in page)
    assert "measured" in heading
    assert "The head ran on" not in latency_section(rows[1:], record, {"waist": "one at a time"})
