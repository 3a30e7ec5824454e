"""The pieces of the control process: what it shows, what it runs, what it makes of an account."""

from __future__ import annotations

import io
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from waistline.bench import resolve
from waistline.errors import ConfigError, MissingExtra, RateTooLow, SamplesLost
from waistline.evidence import Evidence
from waistline.trace.base import SIGNALS
from waistline_hostctl.capture.command import Command
from waistline_hostctl.capture.control import Wanted, check_rate, run
from waistline_hostctl.capture.live import Live
from waistline_hostctl.capture.processes import Child
from waistline_hostctl.capture.record import Captured, problems_of
from waistline_hostctl.capture.ring import Ring
from waistline_hostctl.capture.session import chunk_bytes, ring_bytes
from waistline_hostctl.capture.tasks import Failed, Lines, ReaderTask
from waistline_hostctl.commands.capture import Duration
from waistline_hostctl.console import Console
from waistline_hostctl.meters.base import MeterChoice, MeterInfo

WAIT_S = 60.0


def _info(rate_hz=100_000.0, names=("current",), **more):
    signals = tuple(SIGNALS[name] for name in names)
    return MeterInfo("box", "box:1", rate_hz, signals, Evidence.EMULATED, False, "counter", **more)


class Screen(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def ring():
    made = Ring.make(1 << 16)
    yield made
    made.close()


def test_the_line_shows_the_last_half_second(ring):
    live = Live(ring, _info(supply_v=3.0), Screen())
    for k in range(10):
        ring.say("reader", {"bytes": 1000 * k, "dropped": 0, "full": 0.25})
        # 10 mA for a second, then 20 mA.
        charge = 100.0 * k if k < 5 else 500.0 + 400.0 * (k - 5)
        counts = {"samples": 20_000 * k, "missing": 7, "there": 20_000 * k, "began_ns": 123}
        ring.say("writer", counts | {"charge": charge * 2, "power": charge * 6})
        live.update(10.0 + 0.2 * k)
    text = live.text()
    assert "1.8 s" in text
    assert "40 mA  120 mW" in text
    assert "180,000 samples  7 lost  ring 25%" in text
    assert (live.samples, live.began_ns, live.moved_s) == (180_000, 123, pytest.approx(11.8))
    shown = live._stream.getvalue()
    assert shown.count("\r\x1b[K") > 5
    assert "\n" not in shown
    live.close()
    assert live._stream.getvalue().endswith("\r\x1b[K")


def test_nothing_is_shown_where_nobody_looks(ring):
    stream = io.StringIO()
    live = Live(ring, _info(), stream)
    ring.say("writer", {"samples": 5, "there": 5, "charge": 1.0})
    live.update(1.0)
    live.close()
    assert stream.getvalue() == ""


def test_a_ring_holds_the_seconds_asked_for():
    info = _info(rate_hz=2e6, sample_bytes=13)
    assert ring_bytes(info, 4.0) > 4.0 * 2e6 * 13
    assert chunk_bytes(info) > 0.02 * 2e6 * 13
    assert ring_bytes(_info(), 4.0) >= 4 << 20


def test_a_slow_meter_is_refused_unless_it_will_do():
    check_rate(_info(), allow_slow=False)
    check_rate(_info(rate_hz=1000.0), allow_slow=True)
    with pytest.raises(RateTooLow, match="1000 Hz"):
        check_rate(_info(rate_hz=1000.0), allow_slow=False)


@pytest.mark.parametrize(
    ("ledger", "word"),
    [
        ({"closes": True}, None),
        ({"closes": False, "unknown": 2, "holes": 3}, "2 of 3 holes"),
        ({"closes": False, "unknown": 0, "contradictions": 1}, "took back 1"),
        ({"closes": False, "unknown": 0, "balance": -812.0}, "-812 samples"),
        ({}, "does not close"),
    ],
)
def test_an_account_that_does_not_hold_is_a_problem(ledger, word):
    found = problems_of(ledger)
    assert not found if word is None else word in found[0]
    captured = Captured(
        Path("a.jls"), None, _info(), "duration", {}, ledger, tuple(found), (), 5, 0
    )
    if word is None:
        captured.check()
    else:
        with pytest.raises(SamplesLost) as error:
            captured.check()
        assert word in error.value.cause


@pytest.mark.parametrize(
    ("text", "seconds"), [("60s", 60), ("2.5", 2.5), ("10min", 600), ("250ms", 0.25), ("1h", 3600)]
)
def test_durations(text, seconds):
    assert Duration().convert(text, None, None) == pytest.approx(seconds)


def test_a_command_is_clocked_by_its_own_end(tmp_path):
    command = Command(["sh", "-c", "echo hello; exit 3"], tmp_path / "out.txt")
    began = command.start()
    limit = time.monotonic() + WAIT_S
    while not command.ended_ns and time.monotonic() < limit:
        time.sleep(0.01)
    assert began < command.ended_ns <= time.monotonic_ns()
    assert (command.code(), command.name) == (3, "sh")
    assert (tmp_path / "out.txt").read_text() == "hello\n"
    command.end()


def test_what_a_command_marks_comes_out_once():
    code = "from waistline.trace.events import mark; mark('a'); mark('b')"
    command = Command([sys.executable, "-c", code])
    began = command.start()
    found, limit = [], time.monotonic() + WAIT_S
    while not command.ended_ns and time.monotonic() < limit:
        found += command.events()
        time.sleep(0.01)
    found += command.events()
    assert [event.text for event in found] == ["a", "b"]
    assert began < found[0].host_ns <= found[1].host_ns < command.ended_ns
    assert command.events() == []
    command.end()


def test_a_command_that_goes_on_is_ended():
    command = Command(["sleep", "3600"])
    command.start()
    command.end()
    assert command.code() == -signal.SIGTERM


def test_a_command_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match="no program"):
        Command(["/no/such/program"])


def test_lines_come_whole():
    out, into = os.pipe()
    try:
        lines = Lines(out)
        assert lines.take() == []
        os.write(into, b"one\ntw")
        assert lines.take(1.0) == [b"one"]
        os.write(into, b"o\n\nthree\n")
        assert lines.take(1.0) == [b"two", b"", b"three"]
        os.close(into)
        into = -1
        assert lines.take(1.0) == []
        assert lines.over
    finally:
        os.close(out)
        if into >= 0:
            os.close(into)


def test_an_error_passes_from_process_to_process():
    error = Failed.of(MissingExtra("no box", cause="seen", fix="do")).error()
    assert isinstance(error, MissingExtra)
    assert error.lines() == ["error: no box", "cause: seen", "fix:   do"]
    assert Failed("os.system", "x", "", "").error().what == "x"


def test_a_child_whose_control_pipe_ends_at_once_ends_too():
    child = Child("reader", ())
    try:
        assert child.end(WAIT_S)
        assert child.complaint() == "exit code 0"
    finally:
        child.close()


def test_a_child_that_cannot_begin_says_why(ring, tmp_path):
    child = Child("reader", (ring.descriptor,))
    settings = {"path": str(tmp_path / "no-port"), "setup": [], "supply_v": 3.3, "calibration": {}}
    task = ReaderTask("ppk2", settings, ring.descriptor, -1, 1 << 16, 0.008, False)
    try:
        with pytest.raises(Exception, match="cannot open the meter"):
            child.begin(task)
        assert child.end(WAIT_S)
    finally:
        child.close()


def test_without_pyjls_the_extra_is_named_before_anything_begins(monkeypatch, tmp_path):
    finder = "waistline_hostctl.capture.control.importlib.util.find_spec"
    monkeypatch.setattr(finder, lambda name: None)
    wanted = Wanted(MeterChoice("sim"), 1.0, tmp_path / "a.jls")
    with pytest.raises(MissingExtra, match="capture needs the Python package 'pyjls'"):
        run(wanted, resolve(), Console(json=True))
    assert not list(tmp_path.iterdir())
