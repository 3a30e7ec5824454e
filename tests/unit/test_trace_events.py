"""Events by software: what programs write, and where it lies on a trace."""

import json
import threading
from pathlib import Path

import numpy as np
import pytest

from waistline.errors import MarkerMissing, TraceError
from waistline.evidence import Evidence
from waistline.trace.base import SIGNALS, Block, TraceSpec
from waistline.trace.events import VARIABLE, SoftwareEvent, mark, place_events, read_events
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
