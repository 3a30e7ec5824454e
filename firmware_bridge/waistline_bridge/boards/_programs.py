"""Boards that are programs on this machine: start them, wait until they are ready, end them."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from waistline.errors import BridgeError, ConfigError
from waistline_bridge.places import FIRMWARE_VARIABLE, build_folder

_READY_S = 20.0
_END_S = 5.0
_GUARD = Path(__file__).with_name("_guard.py")
_BEFORE = 5
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


def launch(command: Sequence[str], keep: Sequence[int] = ()) -> subprocess.Popen[bytes]:
    """Start a program that ends with this thread; ``keep`` are descriptors that it inherits.

    Raises:
        BridgeError: it cannot be started.
    """
    guarded = [sys.executable, "-I", "-S", str(_GUARD), str(os.getpid()), *command]
    try:
        return subprocess.Popen(
            guarded, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            pass_fds=keep,
        )  # fmt: skip
    except OSError as error:
        raise BridgeError(
            f"cannot start {command[0]}",
            cause=str(error),
            fix="see what is missing: waistline doctor",
        ) from error


def start(command: Sequence[str], ready: str) -> tuple[subprocess.Popen[bytes], str]:
    """Start a program; also the rest of the line of its output that begins with ``ready``.

    Raises:
        BridgeError: it cannot be started, or ends before that line.
    """
    process = launch(command)
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
                return process, line.removeprefix(ready).strip()
    raise failed(process, f"it said {seen[:80]!r}")


def failed(process: subprocess.Popen[bytes], otherwise: str) -> BridgeError:
    """End a program that did not get ready; what it complained of, or else ``otherwise``."""
    said = stop(process).decode(errors="replace").strip()
    return BridgeError(
        f"{_name(process)} did not start",
        cause=said.splitlines()[-1] if said else otherwise,
        fix="build its firmware anew (waistline mcu build); waistline doctor says what is missing",
    )


def _name(process: subprocess.Popen[bytes]) -> str:
    command = process.args
    return Path(command[_BEFORE]).name if isinstance(command, list) else str(command)


def stop(process: subprocess.Popen[bytes]) -> bytes:
    """End it; what it had said on its error output."""
    if process.poll() is None:
        process.terminate()
    try:
        _, errors = process.communicate(timeout=_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        _, errors = process.communicate()
    with contextlib.suppress(ValueError):
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
    return errors
