"""The program that a capture is made around.

It is the user's: a capture that ends before it ends it too, with what it started, but where the
control process is killed it goes on, and what it marks goes nowhere. The folder that it marks in
is then held by it alone, and swept by the next capture around a command.
"""

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
from waistline.workfolder import held_folder
from waistline_hostctl.capture.writer import Event

_TERM_S, _LOOK_S = 5.0, 0.05
_MOST_BYTES = 1 << 20
_MOST_EVENTS = 100_000
_MOST_TEXT = 200


class Command:
    """A program and its arguments; it keeps our standard input and process group.

    What it marks with `waistline.trace.events.mark`, or writes so into the file that the
    environment variable of that module names, comes out of `events`, the first 100,000 of it. Where
    we were given such a file it gets the same one, which is kept.

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
        self._marked = self._events = 0
        self._torn = self._cut_short = False
        self._stack = contextlib.ExitStack()
        self._file: Path | None = None
        self._given = os.environ.get(VARIABLE, "")
        if self._given:
            _check_events(Path(self._given))
        if log is not None:
            there = log if log.exists() else log.parent
            if not os.access(there, os.W_OK):
                raise _unwritable(log, OSError(f"no folder or no right to write: {log.parent}"))
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
                    raise _unwritable(self._log, error) from error
            elif self._beside:
                out = 2
            now = time.monotonic_ns()
            try:
                file, held = self._events_file()
                process = subprocess.Popen(
                    self.words, stdout=out, env={**os.environ, VARIABLE: str(file)}, pass_fds=held
                )
            except OSError as error:
                raise ConfigError(f"{self.words[0]} does not run", cause=str(error)) from error
        self._process = process
        self._waits = threading.Thread(target=self._wait, args=(process,), daemon=True)
        self._waits.start()
        return now

    def _events_file(self) -> tuple[Path, tuple[int, ...]]:
        """What the program is told to write into, and the handle that keeps it from being swept.

        What stands in a file that we were given is passed over.
        """
        if self._given:
            self._file = Path(self._given).resolve()
            with contextlib.suppress(OSError):
                self._marked = self._file.stat().st_size
            return self._file, ()
        place = Path(tempfile.gettempdir()) / "waistline-events"
        folder, handle = self._stack.enter_context(held_folder(place))
        self._file = folder / "events.jsonl"
        return self._file, (handle,)

    def events(self) -> list[Event]:
        """What it has marked since this was asked last; lines that are no events are left out."""
        if self._file is None or self._events >= _MOST_EVENTS:
            return []
        try:
            with self._file.open("rb") as stream:
                stream.seek(self._marked)
                data = stream.read(_MOST_BYTES)
        except OSError:
            return []
        *lines, rest = data.split(b"\n")
        self._marked += len(data) - len(rest)
        if self._torn and lines:
            # The end of a line whose begin was passed over.
            self._torn = False
            lines = lines[1:]
        if len(rest) == _MOST_BYTES:
            self._marked += len(rest)
            self._torn = True
        found = []
        for line in lines[: _MOST_EVENTS - self._events]:
            with contextlib.suppress(msgspec.MsgspecError):
                event = msgspec.json.decode(line, type=SoftwareEvent)
                found.append(Event(event.monotonic_ns, event.text[:_MOST_TEXT]))
        self._events += len(found)
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

    def told(self) -> str:
        """How it ended, for people; "" while it runs or has not run."""
        code = self.code()
        if code is None:
            return ""
        if self._cut_short:
            return f"{self.name} was still running, and was ended with the capture"
        if code < 0:
            with contextlib.suppress(ValueError):
                return f"{self.name} was ended by {signal.Signals(-code).name}"
        return f"{self.name} ended with exit code {code}"

    def end(self) -> None:
        """Ask it, and what it has started in our session, to end; then insist."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        self._cut_short = True
        others = [(pid, _begun(pid)) for pid in _descendants(process.pid)]
        process.send_signal(signal.SIGTERM)
        for pid, begun in others:
            _send(pid, begun, signal.SIGTERM)
        limit = time.monotonic() + _TERM_S
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_TERM_S)
        while time.monotonic() < limit and any(_runs(pid, begun) for pid, begun in others):
            time.sleep(_LOOK_S)
        process.kill()
        process.wait()
        for pid, begun in others:
            _send(pid, begun, signal.SIGKILL)

    def close(self) -> None:
        """Leave nothing; what still runs is ended."""
        self.end()
        self._stack.close()


def _check_events(file: Path) -> None:
    """Refuse what no events can be kept in; a pipe would be waited for.

    Raises:
        ConfigError: it is no file, or cannot be one.
    """
    right = file.is_file() if file.exists() else file.parent.is_dir()
    if not right or not os.access(file if file.exists() else file.parent, os.W_OK):
        raise ConfigError(
            f"events cannot be kept in {file}",
            cause=f"{VARIABLE} names it; it is no file that can be written",
            fix=f"unset {VARIABLE}, or name a file in a folder that exists",
        )


def _unwritable(log: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"{log} cannot be written",
        cause=error.strerror or str(error),
        fix="choose another file for --log",
    )


def _descendants(pid: int) -> list[int]:
    """Processes that one has started, and those have; not those that left for another session."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        for task in Path(f"/proc/{waiting.pop()}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                children = [int(word) for word in task.read_text().split()]
                waiting += children
                found += children
    ours = os.getsid(0)
    return [child for child in found if _fields(child)[3:4] == [str(ours)]]


def _fields(pid: int) -> list[str]:
    """Of /proc/PID/stat behind the name: state, parent, group, session, ..; [] for none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _begun(pid: int) -> str:
    """When it began, by which a process is told from one that got its number later; "" for none."""
    fields = _fields(pid)
    return fields[19] if len(fields) > 19 and fields[0] != "Z" else ""


def _runs(pid: int, begun: str) -> bool:
    return bool(begun) and _begun(pid) == begun


def _send(pid: int, begun: str, number: signal.Signals) -> None:
    if _runs(pid, begun):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
