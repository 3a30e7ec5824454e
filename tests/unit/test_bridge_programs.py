"""Boards and tools that are programs: how they end, and that nothing is left of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bridge_help import host_program, needs_compiler
from mcu_cli_help import call, needs_qemu

from waistline.errors import BridgeError
from waistline_bridge.boards import _programs
from waistline_bridge.flash import _tool

BOARD = """
import sys, time
from waistline_bridge.boards import open_board
board = open_board("host", firmware=sys.argv[1])
print(board.process.pid, flush=True)
time.sleep(600)
"""
TOOL = """
import sys
from waistline_bridge.flash import _tool
_tool.run([sys.executable, "-c", "import os, time; print(os.getpid(), file=open(%r, 'w'), "
           "flush=True); time.sleep(600)"])
"""
GROUP = """
import sys
from waistline_bridge.flash import _tool
_tool.run(["/bin/sh", "-c", sys.argv[1]])
"""
BUILD = """
from pathlib import Path
from waistline_hostctl import mcu_build
mcu_build.build(["host"], out=Path("out"))
"""
HUNG_UP = """
import time
from waistline_hostctl.services import ending_on_sigterm
with ending_on_sigterm():
    try:
        print("ready", flush=True)
        time.sleep(600)
    except KeyboardInterrupt:
        print("ended in order", flush=True)
"""


def python(code, *arguments, **more):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        **more,
    )


def gone(pid):
    """Whether a process is gone, or dead and waited for by nobody yet."""
    for _ in range(600):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


@needs_compiler
def test_nothing_is_left_of_a_host_board_whose_user_is_killed(tmp_path):
    owner = python(BOARD, host_program(), env={**os.environ, "TMPDIR": str(tmp_path)})
    pid = int(owner.stdout.readline())
    assert not list(tmp_path.iterdir())
    owner.kill()
    owner.communicate()
    assert gone(pid)
    assert not list(tmp_path.iterdir())


def test_a_tool_that_flashes_ends_when_we_are_killed(tmp_path):
    owner = python(TOOL % str(tmp_path / "pid"))
    until = time.monotonic() + 60
    while not (text := _read(tmp_path / "pid")) and time.monotonic() < until:
        time.sleep(0.02)
    owner.kill()
    owner.communicate()
    assert gone(int(text))


def test_what_such_a_tool_has_started_ends_with_it(tmp_path):
    helper = tmp_path / "helper"
    script = f"trap '' INT; sleep 600 & echo $! > {helper}.new; mv {helper}.new {helper}; wait"
    owner = python(GROUP, script)
    until = time.monotonic() + 60
    while not (text := _read(helper)) and time.monotonic() < until:
        time.sleep(0.02)
    owner.kill()
    owner.communicate()
    assert gone(int(text))


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", -9)])
def test_a_tool_ends_as_its_program_did(script, code):
    assert _tool.run(["/bin/sh", "-c", script]).code == code


def test_a_build_ends_when_we_are_killed(tmp_path):
    for name, script in (("cc", ""), ("make", "echo $$ > pid; exec /bin/sleep 600")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    owner = python(BUILD, cwd=tmp_path, env={"PATH": str(tmp_path)})
    until = time.monotonic() + 60
    while not (text := _read(tmp_path / "pid")) and time.monotonic() < until:
        time.sleep(0.02)
    owner.kill()
    owner.communicate()
    assert gone(int(text))


def _read(path):
    return path.read_text().strip() if path.exists() else ""


def test_a_closed_terminal_ends_what_was_begun_in_order():
    # The tests themselves may run under nohup.
    process = python(HUNG_UP, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL))
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGHUP)
    assert process.communicate()[0] == "ended in order\n"


def test_who_wants_to_outlive_the_terminal_does():
    def ignore():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    process = python(HUNG_UP, preexec_fn=ignore)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    assert process.communicate()[0] == "ended in order\n"
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("script", "cause"),
    [
        ("echo no luck >&2; exit 3", "no luck"),
        ("exit 3", "it ended with exit code 3"),
        ("kill -BUS $$", "it was ended by signal 7"),
        ("echo hello; sleep 30", "it said b'hello"),
    ],
)
def test_how_a_program_ended_is_said(tmp_path, monkeypatch, script, cause):
    # What ends by itself has the time that it takes on a slow machine.
    monkeypatch.setattr(_programs, "_READY_S", 5.0 if "hello" in script else 60.0)
    monkeypatch.setattr(_programs, "_END_S", 0.5)
    path = tmp_path / "board"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    with pytest.raises(BridgeError, match="board did not start") as refused:
        _programs.start([str(path)], "ready ")
    assert cause in refused.value.cause


@needs_qemu
def test_what_an_emulator_complained_of_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "no.elf").write_text("no firmware")
    for verb in ("info", "emulate"):
        done = call(verb, "--board", "qemu-mps2-an386", "--board-option", "firmware=no.elf")
        assert done.exit_code == 4
        assert "cause: qemu: fatal: " in done.stderr


def test_an_interrupt_before_a_program_is_ready_ends_it(monkeypatch):
    """Whoever goes on after it, as a notebook does, keeps no emulator."""
    started = []

    def launch(*given):
        started.append(launched(*given))
        return started[0]

    def interrupted(*_):
        raise KeyboardInterrupt

    launched = _programs.launch
    monkeypatch.setattr(_programs, "launch", launch)
    monkeypatch.setattr(_programs.select, "select", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _programs.start([sys.executable, "-c", "import time; time.sleep(600)"], "ready ")
    assert started[0].returncode is not None
