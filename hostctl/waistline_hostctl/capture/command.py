"""The program that a capture is made around."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import msgspec

from waistline.errors import ConfigError
from waistline.trace.events import VARIABLE, SoftwareEvent
from waistline_hostctl.capture.writer import Event

_TERM_S = 5.0
_MOST_BYTES = 1 << 20


class Command:
    """A program and its arguments; it keeps our standard input and process group.

    What it marks with `waistline.trace.events.mark`, or writes so into the file that the
    environment variable of that module names, comes out of `events`.

    Args:
        words: program and arguments.
        log: gets its standard output; None: it goes where ours goes.
        beside: its standard output goes to our standard error.

    Raises:
        ConfigError: there is no such program, or the log cannot be written.
    """

    def __init__(self, words: Sequence[str], log: Path | None = None, beside: bool = False) -> None:
        self.words = list(words)
        self._log, self._beside = log, beside
        self._process: subprocess.Popen[bytes] | None = None
        self._ended_ns = 0
        self._marked = 0
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        if shutil.which(self.words[0]) is None:
            raise ConfigError(
                f"there is no program {self.words[0]!r}",
                cause="it is neither a file that can be run, nor on the PATH",
                fix="check its name after --",
            )

    @property
    def name(self) -> str:
        """Its program, without the folder."""
        return Path(self.words[0]).name

    @property
    def started(self) -> bool:
        return self._process is not None

    def start(self) -> int:
        """Run it; monotonic ns just before it ran."""
        with contextlib.ExitStack() as stack:
            out: IO[bytes] | int | None = None
            if self._log is not None:
                try:
                    out = stack.enter_context(self._log.open("wb"))
                except OSError as error:
                    raise ConfigError(f"{self._log} cannot be written", cause=str(error)) from error
            elif self._beside:
                out = 2
            now = time.monotonic_ns()
            try:
                self._folder = tempfile.TemporaryDirectory(prefix="waistline-events-")
                self._file = Path(self._folder.name) / "events.jsonl"
                process = subprocess.Popen(
                    self.words, stdout=out, env={**os.environ, VARIABLE: str(self._file)}
                )
            except OSError as error:
                raise ConfigError(f"{self.words[0]} does not run", cause=str(error)) from error
        self._process = process
        self._waits = threading.Thread(target=self._wait, args=(process,), daemon=True)
        self._waits.start()
        return now

    def events(self) -> list[Event]:
        """What it has marked since this was asked last; lines that are no events are left out."""
        if self._folder is None:
            return []
        try:
            with self._file.open("rb") as stream:
                stream.seek(self._marked)
                data = stream.read(_MOST_BYTES)
        except OSError:
            return []
        *lines, _ = data.split(b"\n")
        self._marked += sum(len(line) + 1 for line in lines)
        found = []
        for line in lines:
            with contextlib.suppress(msgspec.MsgspecError):
                event = msgspec.json.decode(line, type=SoftwareEvent)
                found.append(Event(event.monotonic_ns, event.text))
        return found

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        process.wait()
        self._ended_ns = time.monotonic_ns()

    @property
    def ended_ns(self) -> int:
        """Monotonic ns right after it ended, 0 before."""
        return self._ended_ns

    def code(self) -> int | None:
        """Its exit code; below 0 the signal it ended by; None while it runs."""
        return None if self._process is None else self._process.poll()

    def end(self) -> None:
        """Ask it to end, then insist."""
        if self._folder is not None:
            self._folder.cleanup()
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_TERM_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
