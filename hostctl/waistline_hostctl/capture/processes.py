"""The reader and the writer as the control process sees them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

import msgspec

from waistline import interrupts
from waistline.errors import MeterError, WaistlineError
from waistline_hostctl.capture.tasks import Answer, Begun, Failed, Lines, Note, Task

CHILD = "waistline_hostctl.capture.child"
_LEAVE_S = 10.0
READY_S = 60.0
"""Importing on a slow SD card, and an instrument that is asked to start."""


class Child:
    """One of the two.

    Args:
        name: ``reader`` or ``writer``.
        descriptors: it inherits these, and no others.
    """

    def __init__(self, name: str, descriptors: Sequence[int]) -> None:
        self.name = name
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115
        # A process group of its own: an interrupt at the terminal is for us alone,
        # also while it has not left ours yet.
        with interrupts.held_back():
            self._process = subprocess.Popen(
                [sys.executable, "-m", CHILD],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._complaints,
                pass_fds=descriptors,
                process_group=0,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._control = self._process.stdin
        self._answers = Lines(self._process.stdout.fileno())
        self._found: list[Answer] = []

    @property
    def pid(self) -> int:
        return self._process.pid

    def begin(self, task: Task) -> Begun:
        """Give it its task and wait until it works.

        Raises:
            WaistlineError: what kept it from that.
        """
        self._send(msgspec.json.encode(task))
        limit = time.monotonic() + READY_S
        while time.monotonic() < limit:
            found = self.answer(0.2)
            if isinstance(found, Begun):
                return found
            if isinstance(found, Failed):
                raise found.error()
            if found is None and not self.lives():
                raise MeterError(f"the {self.name} process did not begin", cause=self.complaint())
        raise MeterError(
            f"the {self.name} process did not begin", cause=f"it said nothing for {READY_S:g} s"
        )

    def note(self, note: Note) -> None:
        """Tell it something; one that is gone is not told."""
        self._send(msgspec.json.encode(note))

    def stop(self) -> None:
        """End its control pipe, which makes it end."""
        with contextlib.suppress(OSError):
            self._control.close()

    def answer(self, timeout_s: float = 0.0) -> Answer | None:
        """The next thing it said."""
        if not self._found:
            lines = self._answers.take(timeout_s)
            self._found += [msgspec.json.decode(line, type=Answer) for line in lines]
            if self._answers.over and not lines and timeout_s:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(timeout_s)
        return self._found.pop(0) if self._found else None

    def lives(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    def end(self, timeout_s: float) -> bool:
        """Wait for its end, and kill it where that does not come; whether it came by itself."""
        self.stop()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()
            return False
        return True

    def close(self) -> None:
        """Let go of it; one that still runs may end in order."""
        self.end(_LEAVE_S)
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._complaints.close()

    def complaint(self) -> str:
        """How it ended, and the last line it wrote on standard error."""
        code = self._process.returncode
        how = f"exit code {code}"
        if code is not None and code < 0:
            how = f"ended by {signal.Signals(-code).name}"
        self._complaints.seek(0, os.SEEK_END)
        self._complaints.seek(max(0, self._complaints.tell() - 4096))
        lines = self._complaints.read().decode(errors="replace").strip().splitlines()
        return f"{how}: {lines[-1]}" if lines else how

    def failure(self) -> WaistlineError | None:
        """The error it ended with, if it said one."""
        found = self.answer()
        while found is not None:
            if isinstance(found, Failed):
                return found.error()
            found = self.answer()
        return None

    def _send(self, data: bytes) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._control.write(data + b"\n")
            self._control.flush()
