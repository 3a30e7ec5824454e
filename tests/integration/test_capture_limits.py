"""A file that may not grow further, and an instrument that another capture has."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys

import pytest
from capture_rig import PPK2, WAIT_S, capturing, emulator, grown, read
from cli_rig import cli

pytest.importorskip("pyjls")


def test_a_file_at_its_limit_ends_the_capture_and_is_mended(tmp_path):
    words = [
        sys.executable, "-m", "waistline_hostctl", "capture", "--json", "--meter", "sim",
        "--meter-option", "rate=500000", "--buffer", "4", "-o", "run.jls",
    ]  # fmt: skip
    done = subprocess.run(
        ["bash", "-c", f"ulimit -f 44000; exec {shlex.join(words)}"],
        cwd=tmp_path, capture_output=True, text=True, timeout=WAIT_S,
    )  # fmt: skip
    result = json.loads(done.stdout)
    assert (done.returncode, result["ended"], result["trusted"]) == (5, "trace", False)
    with read(tmp_path / "run.jls") as trace:
        assert trace.length == result["samples"] > 1_000_000


def test_an_instrument_in_use_is_refused_and_its_capture_goes_on(tmp_path):
    with emulator(tmp_path) as instrument:
        port = ("--port", instrument.port)
        with capturing(tmp_path, *PPK2, *port, "-o", "one.jls") as capture:
            grown(tmp_path / "one.jls", 150_000)
            second = cli("capture", *PPK2, *port, "--duration", "1s", "-o", "two.jls", cwd=tmp_path)
            assert (second.returncode, "close the program" in second.stderr) == (5, True)
            capture.interrupt()
            _, result = capture.result()
    assert result["ended"] == "interrupted"
    assert not (tmp_path / "two.jls").exists()
    with read(tmp_path / "one.jls") as trace:
        assert trace.length == result["samples"] > 0
