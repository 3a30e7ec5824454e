"""Programs that start programs of their own, and are ended with all of them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

_ASKED_S, _FORCED_S = 3.0, 5.0
_POLL_S = 0.02


def run_group(command: Sequence[str | Path], output: IO[bytes], keep: Sequence[int] = ()) -> int:
    """Run a program to its end; its exit code.

    It gets a session of its own, so an interrupt at the terminal reaches us alone. Whatever ends
    the wait, and whatever kills the program, ends what it started as well.

    Args:
        command: the program and its arguments.
        output: gets what it says, errors included.
        keep: open files that it keeps, such as a lock that is to outlast us if we are killed.
    """
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        pass_fds=keep,
    )
    try:
        code = child.wait()
    except BaseException:
        end_group(child)
        raise
    if code < 0:
        end_group(child)
    return code


def end_group(child: subprocess.Popen[bytes]) -> None:
    """Interrupt the group, so that it may tidy up, and kill what is left of it."""
    try:
        _signal(child.pid, signal.SIGINT)
        _wait(child, _ASKED_S)
    finally:
        _signal(child.pid, signal.SIGKILL)
        _wait(child, _FORCED_S)


def _wait(child: subprocess.Popen[bytes], limit_s: float) -> None:
    """Until nobody of the group is there, at most for a while: a zombie may wait for its reaper."""
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        child.poll()
        if not _signal(child.pid, 0):
            return
        time.sleep(_POLL_S)


def _signal(group: int, number: int) -> bool:
    """Whether there was anybody to tell."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
        return True
    return False
