"""Where standard output goes may be full, closed, or read no longer: lines and an exit code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

WAIT_S = 120.0
FULL = Path("/dev/full")
WAISTLINE = (sys.executable, "-m", "waistline_hostctl")
NODE = (sys.executable, "-m", "waistline_node")
full = pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full, which Linux has")
SAYING = pytest.mark.parametrize(
    "words",
    [
        (*WAISTLINE, "--help"),
        (*WAISTLINE, "split", "--help"),
        (*WAISTLINE, "mcu", "info"),
        (*WAISTLINE, "mcu", "info", "--json"),
        (*NODE, "--help"),
        (sys.executable, "-m", "waistline_edge", "--version"),
    ],
    ids=lambda words: " ".join(words[2:]),
)


def call(words, **streams):
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    return subprocess.run(words, text=True, timeout=WAIT_S, check=False, **streams)


@full
@SAYING
def test_a_full_disk_is_three_lines(words):
    with FULL.open("w") as stream:
        done = call(words, stdout=stream)
    what, cause, fix = done.stderr.splitlines()
    assert what == "error: the result cannot be written to standard output"
    assert cause.startswith("cause: ")
    assert "errno 28, ENOSPC" in cause
    assert fix.startswith("fix:   ")
    assert done.returncode == 2


@full
def test_a_failure_keeps_its_exit_code_where_it_cannot_be_told():
    with FULL.open("w") as stream:
        assert call((*WAISTLINE, "verify", "nowhere"), stderr=stream).returncode == 2
        found = call((*WAISTLINE, "verify", "nowhere", "--json"), stdout=stream)
    # What failed, and that the object saying so has not arrived.
    assert found.returncode == 2
    assert [line for line in found.stderr.splitlines() if line.startswith("error: ")] == [
        "error: nowhere is not a bundle",
        "error: the result cannot be written to standard output",
    ]


@SAYING
def test_a_pipe_that_nobody_reads_is_no_word(words):
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=0
    )
    assert process.stdout is not None
    process.stdout.close()
    _, said = process.communicate(timeout=WAIT_S)
    assert said == ""
    assert process.returncode == 1


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams_are_no_failure(closed):
    command = f"{sys.executable} -m waistline_hostctl mcu info --json {closed}"
    done = subprocess.run(
        command, shell=True, capture_output=True, text=True, timeout=WAIT_S, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
