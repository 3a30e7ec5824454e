"""``waistline mcu emulate``: one ready line, others attach, nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import mcu_cli_help as help_
import pytest
from bridge_help import needs_compiler
from mcu_cli_help import call, head_file, needs_arm, needs_qemu

from waistline_hostctl.mcu_results import McuInfoResult, McuReady
from waistline_hostctl.results import decode

pytest.importorskip("serial", reason="pyserial is not installed (extra mcu)")
WAIT_S = 60


@contextmanager
def emulated(tmp_path, board, *arguments):
    """The process and its ready line."""
    folder = help_.firmware_folder(board)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    environment = {
        **os.environ, "WAISTLINE_FIRMWARE": str(folder), "TMPDIR": str(temporary),
    }  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "waistline_hostctl", "mcu", "emulate", "--board", board, "--json",
         *arguments],
        cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process, decode(process.stdout.readline(), McuReady)
    finally:
        process.kill()
        process.communicate()


def ended(pid):
    """Whether a process is gone, or dead and waited for by nobody yet."""
    for _ in range(1200):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


@needs_compiler
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_board_serves_others_until_it_is_told_to_end(tmp_path, number, code):
    with emulated(tmp_path, "host") as (process, ready):
        assert ready.board == "host"
        blob = head_file(tmp_path / "head.blob")
        assert call("load", blob, "--port", ready.port).exit_code == 0
        done = call("info", "--port", ready.port, "--json")
        device = decode(done.stdout, McuInfoResult).device
        assert (device.emulated, device.head.layers) == (True, 2), "by its own word"
        process.send_signal(number)
        out, errors = process.communicate(timeout=WAIT_S)
        assert process.returncode == code, errors
    assert out == ""
    assert ended(ready.pid)
    assert list((tmp_path / "temporary").iterdir()) == []


@needs_compiler
def test_an_emulator_that_dies_is_said(tmp_path):
    with emulated(tmp_path, "host") as (process, ready):
        os.kill(ready.pid, signal.SIGKILL)
        out, errors = process.communicate(timeout=WAIT_S)
    assert process.returncode == 4
    assert "host ended by itself" in errors
    assert "SIGKILL" in errors
    assert out == "", "the ready line was the one object"


@needs_arm
@needs_qemu
@pytest.mark.parametrize("line", ["tcp", "pty"])
def test_qemu_keeps_its_head_from_one_command_to_the_next(tmp_path, line):
    with emulated(tmp_path, "qemu-mps2-an386", "--line", line) as (process, ready):
        assert ready.port.startswith("socket://" if line == "tcp" else "/dev/")
        blob = head_file(tmp_path / "head.blob")
        loaded = call("load", blob, "--port", ready.port)
        assert loaded.exit_code == 0, loaded.stderr
        assert "it was there already" in call("load", blob, "--port", ready.port).stdout
        process.terminate()
        _, errors = process.communicate(timeout=WAIT_S)
        assert process.returncode == 0, errors
    assert ended(ready.pid)


@needs_compiler
@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("--board", "host", "--line", "tcp"), "--line tcp is not for board host"),
        (("--board", "host", "--icount"), "--icount is not for board host"),
        (("--board", "nothing"), "there is no emulated board 'nothing'"),
    ],
)
def test_what_cannot_be_emulated_ends_with_2(arguments, what, monkeypatch):
    monkeypatch.setenv("WAISTLINE_FIRMWARE", str(help_.firmware_folder("host")))
    done = call("emulate", *arguments)
    assert done.exit_code == 2
    assert what in done.stderr
