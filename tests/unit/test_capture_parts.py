"""The pieces of the control process: what it shows, what it runs, what it makes of an account."""

from __future__ import annotations

import io
import os
import signal
import sys
import time
from pathlib import Path

import click
import pytest

from waistline.bench import resolve
from waistline.errors import ConfigError, MissingExtra, RateTooLow, SamplesLost
from waistline.evidence import Evidence
from waistline.trace.base import SIGNALS
from waistline_hostctl.capture.command import Command
from waistline_hostctl.capture.control import run
from waistline_hostctl.capture.live import Live
from waistline_hostctl.capture.processes import Child
from waistline_hostctl.capture.record import Captured, problems_of
from waistline_hostctl.capture.ring import Ring
from waistline_hostctl.capture.session import chunk_bytes, ring_bytes
from waistline_hostctl.capture.signals import Signals
from waistline_hostctl.capture.tasks import Failed, Lines, ReaderTask
from waistline_hostctl.capture.wanted import Wanted, check_rate
from waistline_hostctl.commands.capture import Duration
from waistline_hostctl.console import Console
from waistline_hostctl.meters.base import MeterChoice, MeterInfo
from waistline_hostctl.options import Number

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
        ({"closes": False, "unknown": 0, "balance": -81234.0}, "-81,234 samples"),
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
    "text", ["0", "-1", "NaN", "1e9", "0.0s", "99999999999h", "9" * 400, "inf", "soon", ""]
)
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(click.UsageError, match="no duration"):
        Duration().convert(text, None, None)


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "600.1"])
def test_a_number_in_a_range_is_a_number(text):
    assert Number(4, 600).convert("5", None, None) == 5.0
    with pytest.raises(click.UsageError):
        Number(4, 600).convert(text, None, None)


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
    command.close()


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
    command.close()


def test_a_flood_of_marks_is_taken_line_by_line_and_to_a_limit(monkeypatch):
    monkeypatch.setattr("waistline_hostctl.capture.command._MOST_BYTES", 4096)
    monkeypatch.setattr("waistline_hostctl.capture.command._MOST_EVENTS", 50)
    code = (
        "import os\n"
        'line = \'{"monotonic_ns": %d, "utc_ns": 0, "text": "\' + \'a\' * 300 + \'"}\\n\'\n'
        "with open(os.environ['WAISTLINE_EVENTS'], 'w') as file:\n"
        "    file.write('x' * 100_000 + line % 0)\n"
        "    file.write(''.join(line % k for k in range(1, 1000)))\n"
    )
    command = Command([sys.executable, "-c", code])
    command.start()
    found, limit = [], time.monotonic() + WAIT_S
    while len(found) < 50 and time.monotonic() < limit:
        found += command.events()
    assert [event.host_ns for event in found] == list(range(1, 51))
    assert {len(event.text) for event in found} == {200}
    while not command.ended_ns and time.monotonic() < limit:
        time.sleep(0.01)
    assert command.events() == []
    command.close()
    assert command.events() == []


def test_a_command_that_goes_on_is_ended():
    command = Command(["sleep", "3600"])
    command.start()
    command.end()
    assert command.code() == -signal.SIGTERM
    command.close()


def test_what_a_command_started_ends_with_it(tmp_path):
    file = tmp_path / "pids"
    code = f"trap '' TERM; sleep 3600 & echo $! > {file}; sleep 3600; sleep 3600"
    command = Command(["sh", "-c", code])
    command.start()
    limit = time.monotonic() + WAIT_S
    while not (file.exists() and file.read_text().strip()) and time.monotonic() < limit:
        time.sleep(0.01)
    pid = int(file.read_text())
    assert command.told() == ""
    command.end()
    assert command.told() == "sh was still running, and was ended with the capture"
    while Path(f"/proc/{pid}").exists() and time.monotonic() < limit:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        if state == "Z":
            break
        time.sleep(0.01)
    else:
        assert not Path(f"/proc/{pid}").exists()
    command.close()


def test_how_a_command_ended_is_said_in_words():
    for code, words in (("exit 3", "exit code 3"), ("kill -9 $$", "ended by SIGKILL")):
        command = Command(["sh", "-c", code])
        command.start()
        limit = time.monotonic() + WAIT_S
        while not command.ended_ns and time.monotonic() < limit:
            time.sleep(0.01)
        assert words in command.told()
        command.close()


def test_a_log_that_cannot_be_written_is_refused_at_once(tmp_path):
    with pytest.raises(ConfigError, match="cannot be written"):
        Command(["true"], tmp_path / "none" / "log.txt")


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


@pytest.mark.parametrize("ignored", [True, False])
def test_a_closed_terminal_ends_a_capture_in_order_unless_it_is_to_go_on(ignored):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
    try:
        found = Signals()
        with found.taken():
            if ignored:
                signal.raise_signal(signal.SIGHUP)
            signal.raise_signal(signal.SIGTERM)
            if not ignored:
                signal.raise_signal(signal.SIGHUP)
        assert found.received == [signal.SIGTERM] + [signal.SIGHUP] * (not ignored)
    finally:
        signal.signal(signal.SIGHUP, before)
