"""The services as this program starts them: replaced into, or as child processes.

Node and edge know their own options; nothing here repeats them.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

from waistline import errors, interrupts
from waistline.arguments import PROGRAM
from waistline.errors import WaistlineError

NODE, EDGE = "waistline_node", "waistline_edge"
CHILD = "waistline_hostctl.child"
READY_S = 60.0
"""Importing an engine and opening a slice on a slow SD card."""
STOP_S = 10.0
JITTER_SEED = 1
"""Of a paced link's jitter; stored with each run."""
_KILLED = -signal.SIGKILL
_CLASSES: dict[int, type[WaistlineError]] = {
    2: errors.ConfigError,
    3: errors.BackendError,
    4: errors.LinkError,
    5: errors.CodecError,
}


def become(module: str, arguments: Sequence[str]) -> NoReturn:
    """Replace this process by ``python -m module``: signals and exit code are then its own."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.environ[PROGRAM] = f"waistline {module.removeprefix('waistline_')}"
    with interrupts.held_back():
        os.execv(sys.executable, [sys.executable, "-m", module, *arguments])


def paced(endpoint: str, profile: str) -> str:
    """``endpoint`` slowed down to ``profile``; unchanged without one."""
    return f"paced:{endpoint}?profile={profile}&seed={JITTER_SEED}" if profile else endpoint


@contextlib.contextmanager
def ending_on_sigterm() -> Iterator[None]:
    """SIGTERM becomes KeyboardInterrupt, so that services are ended before this process.

    So does SIGHUP, unless somebody wants us to outlive the terminal (nohup).
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> NoReturn:
        raise KeyboardInterrupt

    ends = [signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
        ends.append(signal.SIGHUP)
    before = {each: signal.signal(each, stop) for each in ends}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


class Service:
    """A node or an edge as a child process.

    It says one JSON line when it is ready and one when it is done; its standard error goes to a
    file, which is searched for the error if it fails. Leaving the context ends it, and so does the
    end of the thread that made it (see `waistline_hostctl.child`).

    Args:
        module: `NODE` or `EDGE`.
        arguments: its command line.
        log: gets its standard error.
    """

    def __init__(self, module: str, arguments: Sequence[str], log: Path) -> None:
        self._module = module
        self._log = log
        with log.open("wb") as stream, interrupts.held_back():
            # A session of its own: an interrupt at the terminal reaches us alone, and we end both
            # services in order, the node first.
            self._process = subprocess.Popen(
                [sys.executable, "-m", CHILD, str(os.getpid()), module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stream,
                start_new_session=True,
            )
        self._lines: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def _name(self) -> str:
        return self._module.removeprefix("waistline_")

    def ready(
        self, timeout_s: float = READY_S, *, progress: Callable[[int], None] = lambda done: None
    ) -> dict[str, Any]:
        """The ready line; ``progress`` is told what comes before, while a board is loaded.

        Raises:
            WaistlineError: it failed to start; the error it reported.
        """
        try:
            line = self._next(timeout_s)
            while line is not None and "progress" in line:
                progress(int(line["done"]))
                line = self._next(timeout_s)
        except TimeoutError as error:
            raise WaistlineError(
                f"the {self._name} did not start",
                cause=f"it said nothing for {timeout_s:g} s",
                fix=f"see {self._log} for what it said",
            ) from error
        if line is None:
            raise self._failure("did not start")
        return line

    def check(self) -> None:
        """Refuse to go on without it.

        Raises:
            WaistlineError: it has ended; the error it reported.
        """
        if self._process.poll() is not None:
            raise self._failure("ended early")

    def result(self, waiting: Callable[[], None] = lambda: None) -> dict[str, Any]:
        """Wait for its end; the summary line. ``waiting`` is called a few times a second.

        Raises:
            WaistlineError: it failed; the error it reported.
        """
        summary: dict[str, Any] | None = None
        while summary is None and (self._process.poll() is None or self._reader.is_alive()):
            with contextlib.suppress(TimeoutError):
                summary = self._next(0.2)
            waiting()
        if summary is None:
            with contextlib.suppress(TimeoutError):
                summary = self._next(0.0)
        if summary is None or self._exit_code() != 0:
            raise self._failure("failed")
        return summary

    def _exit_code(self) -> int | None:
        """None: it still runs, long after it should have ended."""
        try:
            return self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            return None

    def stop(self) -> int:
        """Ask it to end (SIGTERM), insist after a while; its exit code."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            code = self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._reader.join(STOP_S)
        if self._process.stdout is not None:
            self._process.stdout.close()
        return code

    def __enter__(self) -> Service:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            # An engine may print there too.
            with contextlib.suppress(ValueError):
                if isinstance(found := json.loads(line), dict):
                    self._lines.put(found)
        self._lines.put(None)

    def _next(self, timeout_s: float) -> dict[str, Any] | None:
        """The next JSON line; None at the end of its output.

        Raises:
            TimeoutError: none came in time.
        """
        try:
            line = self._lines.get(timeout_s > 0, timeout_s or None)
        except queue.Empty:
            raise TimeoutError(f"{self._module} said nothing for {timeout_s:g} s") from None
        if line is None:
            self._lines.put(None)
        return line

    def _failure(self, what: str) -> WaistlineError:
        """What the service itself said went wrong, as an error of the same exit code."""
        code = self._exit_code()
        parts = reported_error(self._log.read_text(encoding="utf-8", errors="replace"))
        name = self._name
        if "error" in parts:
            kind = _CLASSES.get(code or 0, WaistlineError)
            # What stood above it on the service's own terminal is in the log here.
            fix = parts.get("fix", "").replace("the lines above", str(self._log))
            return kind(f"{name}: {parts['error']}", cause=parts.get("cause", ""), fix=fix)
        how = {None: "does not end", _KILLED: "was killed for memory or by hand"}.get(
            code, f"ended with code {code}"
        )
        return WaistlineError(
            f"the {name} {what}", cause=f"it {how}", fix=f"see {self._log} for what it said"
        )


def reported_error(log: str) -> dict[str, str]:
    """The last error of a service's log: its lines by ``error``, ``cause``, ``fix``."""
    parts: dict[str, str] = {}
    for line in log.splitlines():
        word, colon, text = line.partition(":")
        if colon and word in {"error", "cause", "fix"}:
            if word == "error":
                parts = {}
            parts[word] = text.strip()
    return parts
