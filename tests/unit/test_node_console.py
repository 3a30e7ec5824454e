import io
import subprocess
import sys

import pytest

from waistline_node import console as module
from waistline_node.console import Console
from waistline_node.records import FrameRecord


class Terminal(io.StringIO):
    def isatty(self):
        return True


def record(outcome):
    return FrameRecord(0, "", "", 1, outcome, "", 0.0, 0.0)


def test_a_log_file_gets_whole_lines_and_no_counts(monkeypatch):
    monkeypatch.setattr(module, "REDRAW_S", 0.0)
    out = io.StringIO()
    console = Console(out, 2)
    console.count(record("remote"))
    console.say("connected")
    console.close()
    assert out.getvalue() == "node: connected\n"


def test_what_a_terminal_obeys_is_written_out():
    out = io.StringIO()
    Console(out, None).say("edge \x1b[2J said \x07no")
    assert out.getvalue() == "node: edge \\x1b[2J said \\x07no\n"


@pytest.mark.parametrize(
    ("module", "more"),
    [
        ("waistline_node", ("--source", "x", "--edge", "tcp://127.0.0.1:1")),
        ("waistline_edge", ()),
        ("waistline_edge", ("-v",)),
        ("waistline_node.probe", ()),
    ],
)
def test_an_error_does_not_steer_the_terminal(module, more):
    named = "no\x1b]0;title\x07.bundle"
    done = subprocess.run(
        [sys.executable, "-m", module, named, *more], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "no\\x1b]0;title\\x07.bundle" in done.stderr
    assert "\x1b" not in done.stderr


def test_a_terminal_gets_counts_that_give_way_to_lines(monkeypatch):
    monkeypatch.setattr(module, "REDRAW_S", 0.0)
    out = Terminal()
    console = Console(out, 3)
    console.count(record("remote"))
    console.count(record("error"))
    assert out.getvalue().endswith("node: 2/3 frames: 1 error, 1 remote")
    console.say("lost")
    assert out.getvalue().endswith("\r\x1b[Knode: lost\n")
    before = out.getvalue()
    console.close()
    assert out.getvalue() == before


def test_counts_are_not_redrawn_for_every_frame():
    out = Terminal()
    console = Console(out, None)
    for _ in range(100):
        console.count(record("remote"))
    assert out.getvalue() == ""
