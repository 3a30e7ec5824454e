"""What node and edge say to a person about a run that did not go well, or not at all."""

from pathlib import Path

from waistline_edge import text as edge
from waistline_edge.stats import EdgeStats
from waistline_node import text as node
from waistline_node.records import FrameRecord
from waistline_node.summary import Summary


def ended(outcome, reason=""):
    return FrameRecord(0, "", "", 1, outcome, reason, 0.0, 0.25, head_s=0.002, waist_bytes=500)


def test_a_node_says_how_frames_ended_and_why():
    summary = Summary()
    for record in (ended("remote"), ended("dropped", "queue"), ended("dropped", "queue")):
        summary.add(record)
    summary.unrecorded = 2
    lines = node.summary_text(summary.as_json()).splitlines()
    assert lines[0].startswith("node: 3 frames in ")
    assert lines[0].endswith(": 1 remote, 2 dropped")
    assert lines[1] == "node: 2 frames ended as dropped(queue)"
    assert "500 bytes a frame, latency 250 ms (median), 250 ms (99 %)" in lines[2]
    assert "head 2, transit 0, tail 0" in lines[3]
    assert lines[4] == "node: 2 records could not be written"


def test_a_node_that_read_nothing_says_so():
    (line,) = node.summary_text(Summary().as_json()).splitlines()
    assert line.endswith("none was read")


def test_an_edge_says_what_it_answered_and_whom_it_cut_off():
    stats = EdgeStats(accepted=3, bytes_in=10, bytes_out=20)
    stats.frames.update({"remote": 4, "busy": 1})
    stats.reject("protocol", 0.0)
    assert edge.summary_text(stats.summary()).splitlines() == [
        "edge: frames: 1 busy, 4 remote",
        "edge: connections: 3, 10 bytes in, 20 bytes out",
        "edge: connections cut off: 1 protocol",
    ]
    assert "frames: none" in edge.summary_text(EdgeStats().summary())


def test_an_edge_names_its_bundles_and_its_metrics():
    ready = {"endpoint": "tcp://h:1", "workers": 1, "backend": "fake", "metrics": "http://h:2/m"}
    said = edge.ready_text({**ready, "pid": 7}, [Path("x/a.bundle"), Path("b.bundle")])
    assert "tcp://h:1, 1 worker, fake: a.bundle, b.bundle\n" in said
    assert "metrics at http://h:2/m\n" in said
    assert "kill 7" in said
