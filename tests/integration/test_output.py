"""Where standard output goes may be full, closed, or read no longer: lines and an exit code."""

from __future__ import annotations

import os
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


@pytest.fixture(autouse=True, params=["buffered", "unbuffered"])
def kept_back(request, monkeypatch):
    """What is said is kept back until there is more of it, or is not: PYTHONUNBUFFERED."""
    monkeypatch.setenv("PYTHONUNBUFFERED", "1" if request.param == "unbuffered" else "")


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


@pytest.mark.parametrize("closed", ["<&- >&- 2>&-", "<&- >&-", "2>&-"])
def test_what_is_opened_later_gets_no_number_of_a_closed_stream(closed, tmp_path):
    """A library that writes to descriptor 1 or 2 would write into it."""
    code = (
        "import os; from waistline import output; output.guard(); "
        "found, said = open('found', 'w'), open('said', 'w'); "
        "print(min(found.fileno(), said.fileno()) > 2, file=said); "
        "os.write(1, b'of a library'); os.write(2, b'of a library'); print('and ours')"
    )
    done = subprocess.run(
        f'"{sys.executable}" -c "$CODE" {closed}', shell=True, timeout=WAIT_S, check=False,
        cwd=tmp_path, env={**os.environ, "CODE": code}, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0
    assert (tmp_path / "said").read_text() == "True\n"
    assert (tmp_path / "found").read_text() == ""


_GUARDED = "import os, sys; from waistline import output; output.guard(); output.guard(); "


def guarded(code, **more):
    return subprocess.run(
        [sys.executable, "-c", _GUARDED + code], capture_output=True, timeout=WAIT_S, check=False,
        **more,
    )  # fmt: skip


def test_unbuffered_is_at_once_and_line_buffered_stays_so():
    """Nothing gets lost in a process that ends without tidying up."""
    unbuffered = os.environ["PYTHONUNBUFFERED"] == "1"
    done = guarded(
        "print('out'); sys.stdout.buffer.write(b'raw'); print('err', file=sys.stderr); os._exit(0)"
    )
    assert done.stdout == (b"out\nraw" if unbuffered else b"")
    assert done.stderr == b"err\n"


def test_a_guarded_stream_is_like_the_one_before():
    done = guarded(
        "print(sys.stdout.name, sys.stdout.encoding, sys.stdout.isatty(), "
        "sys.stdout.fileno(), sys.stderr.errors)",
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    name, *rest = done.stdout.decode().split()
    assert name == "<stdout>"
    assert rest == ["ascii", "False", "1", "backslashreplace"]


def test_a_full_pipe_that_does_not_wait_gets_everything():
    own, other = os.pipe()
    os.set_blocking(other, False)
    size = 1 << 20
    code = f"sys.stdout.write('x' * {size}); sys.stdout.flush()"
    with subprocess.Popen(
        [sys.executable, "-c", _GUARDED + code], stdout=other, stderr=subprocess.PIPE
    ) as process:
        os.close(other)
        with os.fdopen(own, "rb") as stream:
            assert len(stream.read()) == size
        assert process.wait(WAIT_S) == 0
        assert process.stderr.read() == b""
