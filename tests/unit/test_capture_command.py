"""What the kill of a capture leaves of the program it was made around: all of it, undisturbed."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from waistline.trace.events import VARIABLE
from waistline_hostctl.capture.command import Command

WAIT_S = 60.0
HOLDER = """
import sys
from waistline_hostctl.capture.command import Command
Command(sys.argv[1:]).start()
sys.stdin.read()
"""
PROGRAM = f"echo $$ ${VARIABLE}; exec sleep 3600"


def _runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def orphan(tmp_path, monkeypatch):
    """(pid, file of events) of a program whose capture was killed."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, "sh", "-c", PROGRAM],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    pid, file = holder.stdout.readline().split()
    holder.kill()
    holder.wait(WAIT_S)
    holder.stdin.close()
    try:
        yield int(pid), Path(file)
    finally:
        if _runs(pid):
            os.kill(int(pid), signal.SIGKILL)
        holder.stdout.close()


def _ran():
    command = Command(["true"])
    command.start()
    limit = time.monotonic() + WAIT_S
    while not command.ended_ns and time.monotonic() < limit:
        time.sleep(0.01)
    command.close()
    assert command.code() == 0


def test_its_folder_stays_while_it_goes_on_and_is_swept_by_the_next_capture(orphan, tmp_path):
    pid, file = orphan
    assert _runs(pid)
    with file.open("a") as stream:
        stream.write("nobody reads this\n")
    _ran()
    assert _runs(pid)
    assert [folder.name for folder in tmp_path.iterdir()] == [file.parent.name]
    os.kill(pid, signal.SIGKILL)
    limit = time.monotonic() + WAIT_S
    while _runs(pid) and time.monotonic() < limit:
        time.sleep(0.01)
    _ran()
    assert not list(tmp_path.iterdir())
