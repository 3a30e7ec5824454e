"""Captures that are killed, starved or left by their children: what stays is a trace, and no more.

Which process is which is seen from the files it has open.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from capture_rig import (
    CHILD,
    PPK2,
    alive,
    capturing,
    children_of,
    command_of,
    emulator,
    gone,
    grown,
    open_files,
    read,
)
from cli_rig import cli

pytest.importorskip("pyjls")

SIM = ("--meter", "sim", "--meter-option", "rate=200000", "--meter-option", "fifo=60")
"""Loses nothing while the machine stands still."""


def _shared_memory():
    return {entry.name for entry in Path("/dev/shm").iterdir()}


@pytest.mark.parametrize("who", ["reader", "writer", "control"])
def test_a_killed_process_leaves_a_trace_and_nothing_else(tmp_path, who):
    path = tmp_path / "run.jls"
    before = _shared_memory()
    with capturing(tmp_path, *SIM, "--duration", "1h", "-o", path.name) as capture:
        pids = capture.children() | {"control": capture.pid}
        assert any("waistline-ring" in name for name in open_files(pids["reader"]))
        grown(path, 2_000_000)
        os.kill(pids[who], signal.SIGKILL)
        if who == "control":
            gone([pids["reader"], pids["writer"]])
        else:
            code, result = capture.result()
            assert (code, result["ended"], result["trusted"]) == (5, who, False)
            assert "SIGKILL" in result["problems"][0]
            assert not any(alive(pid) for pid in pids.values())
    assert _shared_memory() == before
    assert [file.name for file in tmp_path.iterdir()] == ["run.jls"]
    with read(path) as trace:
        assert trace.length > 100_000
        assert not trace.gaps
        # Only who was killed itself cannot say how it went.
        assert bool(trace.ledger) == (who != "writer")
        again = trace.read("power", 0, trace.length)
    period = 2000
    whole = again[: len(again) // period * period].reshape(-1, period)
    assert np.array_equal(whole, np.broadcast_to(whole[0], whole.shape))


def test_a_stopped_writer_makes_counted_gaps(tmp_path):
    """Stopped for longer than the ring holds, then let go on."""
    path = tmp_path / "run.jls"
    with capturing(
        tmp_path, "--meter", "sim", "--meter-option", "rate=1000000", "--buffer", "4",
        "-o", path.name,
    ) as capture:  # fmt: skip
        pids = capture.children()
        grown(path, 2_000_000)
        os.kill(pids["writer"], signal.SIGSTOP)
        time.sleep(7)
        os.kill(pids["writer"], signal.SIGCONT)
        grown(path, path.stat().st_size + 60_000_000)
        capture.interrupt()
        code, result = capture.result()
    # A hole that is counted can be trusted; it is a hole all the same.
    assert (code, result["trusted"]) == (0, True)
    assert result["ledger"]["lost"]["ring"] > 0
    assert sum(result["ledger"]["lost"].values()) == result["missing"]
    with read(path) as trace:
        lost = np.isnan(trace.read("power"))
        assert lost.sum() == result["missing"]
        assert np.array_equal(lost, trace.bits("gap").astype(bool))
        for gap in trace.gaps:
            assert lost[gap.first : gap.end].all()


def test_an_instrument_that_falls_silent_ends_the_capture(tmp_path):
    with emulator(tmp_path) as instrument:
        path = tmp_path / "run.jls"
        with capturing(
            tmp_path, *PPK2, "--port", instrument.port, "--duration", "1h", "-o", path.name
        ) as capture:
            grown(path, 150_000)
            os.kill(instrument.process.pid, signal.SIGSTOP)
            try:
                code, result = capture.result()
            finally:
                os.kill(instrument.process.pid, signal.SIGCONT)
    assert (code, result["ended"]) == (5, "silent")
    assert "no byte came" in result["problems"][0]
    with read(path) as trace:
        assert trace.length == result["samples"] > 0


def test_a_machine_that_stood_still_ends_no_capture_too_soon(tmp_path):
    """For longer than an instrument may be silent, and past the end of the capture."""
    with emulator(tmp_path) as instrument:
        path = tmp_path / "run.jls"
        with capturing(
            tmp_path, *PPK2, "--port", instrument.port, "--duration", "4s", "-o", path.name
        ) as capture:
            pids = [capture.pid, *capture.children().values(), instrument.process.pid]
            grown(path, 50_000)
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            time.sleep(6)
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
            _, result = capture.result()
    assert result["ended"] == "duration"
    with read(path) as trace:
        assert trace.length == result["samples"] == 400_000


@pytest.mark.skipif(os.geteuid() != 0, reason="a full disk is made with a small tmpfs, as root")
def test_a_full_disk_ends_the_capture_and_the_trace_opens(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    # The writer keeps 160 MiB free for closing the file.
    mount = ["mount", "-t", "tmpfs", "-o", "size=170m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this machine does not let a tmpfs be mounted")
    try:
        with capturing(
            tmp_path, "--meter", "sim", "--duration", "1h", "-o", "disk/run.jls"
        ) as capture:
            code, result = capture.result()
        assert (code, result["ended"]) == (5, "trace")
        assert "is full" in result["problems"][0]
        with read(disk / "run.jls") as trace:
            assert trace.length == result["samples"] > 100_000
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_command_in_the_midst_ends_with_the_capture(tmp_path):
    path = tmp_path / "run.jls"
    with capturing(tmp_path, *SIM, "-o", path.name, "--", "sleep", "3600") as capture:
        capture.children()
        grown(path, 3_000_000)
        (command,) = [pid for pid in children_of(capture.pid) if CHILD not in command_of(pid)]
        capture.process.send_signal(signal.SIGTERM)
        code, result = capture.result()
    assert (code, result["ended"], result["command_code"]) == (130, "interrupted", -signal.SIGTERM)
    gone([command])


def test_a_capture_that_is_killed_is_mended_by_its_command(tmp_path):
    path = tmp_path / "run.jls"
    with capturing(tmp_path, *SIM, "--duration", "1h", "-o", path.name) as capture:
        pids = capture.children()
        grown(path, 2_000_000)
        for pid in (pids["writer"], capture.pid):
            os.kill(pid, signal.SIGKILL)
        gone([*pids.values()])
    refused = cli("trace", "info", path.name, cwd=tmp_path)
    assert refused.returncode == 5
    assert f"waistline trace repair {path.name}" in refused.stderr
    assert cli("trace", "repair", path.name, cwd=tmp_path).returncode == 0
    found = cli("trace", "info", path.name, cwd=tmp_path)
    assert "sim:layers, simulated" in found.stdout
    assert "did not close it" in found.stdout
