"""Boards that are programs on this machine: start them, wait until they are ready, end them."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from waistline.errors import BridgeError, ConfigError, LinkClosed, WaistlineError
from waistline_bridge.boards.base import Board, Line
from waistline_bridge.places import FIRMWARE_VARIABLE, build_folder

_READY_S = 20.0
_END_S = 5.0
_LAST_BREATH_S = 0.2
_TELLING = re.compile(r"error|fatal|cannot|could not", re.IGNORECASE)
_GUARD = Path(__file__).with_name("_guard.py")
_BEFORE = 6
"""Words in front of the program's own."""


def firmware(board: str, file: str | None, name: str) -> Path:
    """The firmware of ``board``: ``file`` if given, else as built.

    Raises:
        ConfigError: there is none.
    """
    path = Path(file) if file else build_folder() / name
    if not path.is_file():
        raise ConfigError(
            f"there is no firmware for {board}",
            cause=f"{path} is not a file",
            fix=f"waistline mcu build --board {board}, or set {FIRMWARE_VARIABLE} to the folder "
            f"that holds {name}",
        )
    return path


def guarded(command: Sequence[str], *, group: bool = False) -> list[str]:
    """``command`` as a program that ends with the thread that starts it.

    ``group``: so does all that it has started, if it is started in a session of its own.
    """
    how = "group" if group else "alone"
    return [sys.executable, "-I", "-S", str(_GUARD), str(os.getpid()), how, *command]


def launch(command: Sequence[str], keep: Sequence[int] = ()) -> subprocess.Popen[bytes]:
    """Start a program that ends with this thread; ``keep`` are descriptors that it inherits.

    Raises:
        BridgeError: it cannot be started.
    """
    try:
        return subprocess.Popen(
            guarded(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, pass_fds=keep,
        )  # fmt: skip
    except OSError as error:
        raise BridgeError(
            f"cannot start {command[0]}",
            cause=str(error),
            fix="see what is missing: waistline doctor",
        ) from error


def start(
    command: Sequence[str], ready: str, keep: Sequence[int] = ()
) -> tuple[subprocess.Popen[bytes], str]:
    """Start a program; also the rest of the line of its output that begins with ``ready``.

    ``keep`` are descriptors that it inherits.

    Raises:
        BridgeError: it cannot be started, or ends before that line.
    """
    process = launch(command, keep)
    try:
        said = _said(process, ready)
    except BaseException:
        stop(process)
        raise
    return process, said


def _said(process: subprocess.Popen[bytes], ready: str) -> str:
    seen = b""
    deadline = time.monotonic() + _READY_S
    assert process.stdout is not None
    while time.monotonic() < deadline:
        readable, _, _ = select.select([process.stdout], [], [], 0.1)
        if readable:
            part = os.read(process.stdout.fileno(), 4096)
            if not part:
                break
            seen += part
        for line in seen.decode(errors="replace").splitlines(keepends=True):
            if line.startswith(ready) and line.endswith("\n"):
                return line.removeprefix(ready).strip()
    raise failed(process, f"it said {seen[:80]!r}")


def board_of(name: str, process: subprocess.Popen[bytes], open_line: Callable[[], Line]) -> Board:
    """The board that a program is; it ends with it, or at once where its line does not open."""
    try:
        line = open_line()
    except BaseException:
        stop(process)
        raise
    board = Board(name, line, emulated=True, process=process)
    board.on_close(lambda: stop(process))
    return board


def failed(process: subprocess.Popen[bytes], otherwise: str) -> BridgeError:
    """End a program that did not get ready; what it complained of, or else ``otherwise``."""
    how = ended(process)
    said = stop(process).decode(errors="replace").strip().splitlines()
    # Behind what it complains of, QEMU may show every register.
    telling = [line for line in said if _TELLING.search(line)][:1] or said[-1:]
    return BridgeError(
        f"{_name(process)} did not start",
        cause=telling[0] if telling else how or otherwise,
        fix="build its firmware anew (waistline mcu build); waistline doctor says what is missing",
    )


def behind(process: subprocess.Popen[bytes] | None, fault: LinkClosed) -> WaistlineError:
    """Why a line closed before anything was heard: what its program said when it ended, if any."""
    if process is None or not ended(process):
        return fault
    return failed(process, str(fault))


def ended(process: subprocess.Popen[bytes]) -> str:
    """How a program ended, a moment ago at the latest; "" while it runs."""
    try:
        code = process.wait(_LAST_BREATH_S)
    except subprocess.TimeoutExpired:
        return ""
    if code < 0:
        return f"it was ended by signal {-code} ({signal.strsignal(-code)})"
    return f"it ended with exit code {code}"


def _name(process: subprocess.Popen[bytes]) -> str:
    command = process.args
    return Path(command[_BEFORE]).name if isinstance(command, list) else str(command)


def stop(process: subprocess.Popen[bytes]) -> bytes:
    """End it; what it had said on its error output, but only the first time."""
    if process.stderr is not None and process.stderr.closed:
        return b""
    if process.poll() is None:
        process.terminate()
    try:
        _, errors = process.communicate(timeout=_END_S)
    except subprocess.TimeoutExpired as late:
        # Not to the end of its output, which what it started may hold open.
        process.kill()
        process.wait()
        errors = late.stderr or b""
    with contextlib.suppress(ValueError):
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
    return errors
