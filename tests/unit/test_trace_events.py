"""Events by software: what programs write, and where it lies on a trace."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from waistline.errors import MarkerMissing, TraceError
from waistline.evidence import Evidence
from waistline.trace.base import SIGNALS, Block, TraceSpec
from waistline.trace.events import (
    VARIABLE,
    SoftwareEvent,
    mark,
    place_events,
    read_events,
    span,
)
from waistline.trace.store import create, open_trace

UTC_NS = 1_790_000_000_000_000_000


def test_events_are_written_whole_by_many_at_once(tmp_path: Path) -> None:
    path = tmp_path / "events"

    def work(number: int) -> None:
        for k in range(50):
            mark(f"{number}-{k}", path)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    found = read_events(path)
    assert len({event.text for event in found}) == 200
    times = [event.monotonic_ns for event in found]
    assert times == sorted(times)


def test_the_file_is_named_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert mark("nowhere").text == "nowhere"
    monkeypatch.setenv(VARIABLE, str(tmp_path / "events"))
    mark("x" * 500)
    assert [len(event.text) for event in read_events(tmp_path / "events")] == [200]


def test_a_line_that_was_cut_off_is_left_out_and_a_bad_one_named(tmp_path: Path) -> None:
    path = tmp_path / "events"
    mark("a", path)
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:20])
    assert [event.text for event in read_events(path)] == ["a"]
    path.write_bytes(whole + json.dumps({"monotonic_ns": "x"}).encode() + b"\n")
    with pytest.raises(TraceError, match="line 2"):
        read_events(path)
    with pytest.raises(TraceError, match="cannot be read"):
        read_events(tmp_path / "none")


def test_events_lie_where_their_time_is(tmp_path: Path) -> None:
    pytest.importorskip("pyjls", reason="needs the extra capture")
    path = tmp_path / "a.jls"
    with create(path, TraceSpec(1000.0, (SIGNALS["power"],), "sim:1", Evidence.SIMULATED)) as out:
        out.write(Block(0, power_w=np.zeros(10_000, np.float32)))
        # The meter's clock is 1 % fast between these two.
        out.utc(1010, UTC_NS)
        out.utc(5050, UTC_NS + 4 * 10**9)
    seconds = {"before": -2.0, "out": 60.0, "first": -0.5, "mid": 1.0, "last": 5.0}
    events = [SoftwareEvent(0, UTC_NS + int(at * 1e9), text) for text, at in seconds.items()]
    with open_trace(path) as trace:
        notes = place_events(trace, events)
    assert {note.text: note.sample for note in notes} == {
        "first": pytest.approx(510),
        "mid": pytest.approx(2020),
        "last": pytest.approx(6050),
    }


def test_a_trace_without_time_cannot_take_events(tmp_path: Path) -> None:
    pytest.importorskip("pyjls", reason="needs the extra capture")
    path = tmp_path / "a.jls"
    with create(path, TraceSpec(1000.0, (SIGNALS["power"],), "sim:1", Evidence.SIMULATED)) as out:
        out.write(Block(0, power_w=np.zeros(10, np.float32)))
    with open_trace(path) as trace, pytest.raises(MarkerMissing, match="when"):
        place_events(trace, [SoftwareEvent(0, UTC_NS, "a")])


def test_a_file_of_lines_is_read(tmp_path: Path) -> None:
    path = tmp_path / "events"
    path.write_text("# a comment\n2.5 second, with blanks\n\n  1.25,first\n1e1\t✓ done\n12 last")
    found = read_events(path)
    assert [(event.text, event.monotonic_ns) for event in found] == [
        ("first", 1_250_000_000),
        ("second, with blanks", 2_500_000_000),
        ("✓ done", 10_000_000_000),
        ("last", 12_000_000_000),
    ]
    assert read_events(path, clock_hz=1000.0)[0].monotonic_ns == 1_250_000


@pytest.mark.parametrize(
    "line",
    ["nan a", "inf a", "1e400 a", "a 1.5", "1e10 a", "1_0 a", '{"monotonic_ns": 1}',
     '{"monotonic_ns": 1e999, "utc_ns": 0, "text": "a"}', "[" * 100_000,
     '{"monotonic_ns": 99999999999999999999, "utc_ns": 0, "text": "a"}'],
)  # fmt: skip
def test_what_is_no_event_is_named_by_its_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "events"
    path.write_text(f"1.5 good\n{line}\n2.5 good\n")
    with pytest.raises(TraceError, match="line 2") as caught:
        read_events(path)
    assert caught.value.cause
    assert caught.value.fix


def test_pipes_and_folders_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero"), tmp_path / "none"):
        with pytest.raises(TraceError, match="cannot be read"):
            read_events(path)


def test_a_span_has_a_begin_and_an_end_also_where_it_fails(tmp_path: Path) -> None:
    path = tmp_path / "events"
    with pytest.raises(KeyError), span("conv", path):
        raise KeyError
    assert [event.text for event in read_events(path)] == ["conv-begin", "conv-end"]
    earlier = mark("before", path, monotonic_ns=1)
    assert earlier.utc_ns < read_events(path)[1].utc_ns
    assert read_events(path)[0] == earlier


def test_a_script_notes_events(tmp_path: Path) -> None:
    path = tmp_path / "events"
    words = [sys.executable, "-m", "waistline.trace.events", "ready", "set"]
    subprocess.run(words, check=True, timeout=60, env={**os.environ, VARIABLE: str(path)})
    assert [event.text for event in read_events(path)] == ["ready", "set"]


def test_events_of_another_clock_cannot_go_by_the_hosts(tmp_path: Path) -> None:
    pytest.importorskip("pyjls", reason="needs the extra capture")
    path = tmp_path / "a.jls"
    with create(path, TraceSpec(1000.0, (SIGNALS["power"],), "sim:1", Evidence.SIMULATED)) as out:
        out.write(Block(0, power_w=np.zeros(10, np.float32)))
        out.utc(0, UTC_NS)
    with open_trace(path) as trace, pytest.raises(MarkerMissing, match="host's clock"):
        place_events(trace, [SoftwareEvent(5, 0, "a")])
