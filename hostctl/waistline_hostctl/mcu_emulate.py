"""``waistline mcu emulate``: a board that others attach to, until it is told to end."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from waistline.errors import BridgeError, ConfigError, LinkClosed
from waistline_bridge import boards
from waistline_bridge.boards import DEFAULT
from waistline_bridge.boards._programs import behind
from waistline_bridge.client import Client
from waistline_hostctl.mcu_results import McuReady

TCP, PTY = "tcp", "pty"
HOST = "host"
_BOOT_S = 20.0
_POLL_S = 0.2
_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def running(
    board: str, line: str, icount: bool, options: dict[str, str]
) -> Iterator[tuple[McuReady, subprocess.Popen[bytes]]]:
    """Start a board, wait until its firmware answers, end it at the end.

    Args:
        board: a name of `waistline_bridge.boards`.
        line: `TCP` or `PTY`.
        icount: one instruction takes 32 ns of the board's time.
        options: more of the board's.

    Raises:
        ConfigError, MissingExtra, BridgeError, LinkError: it cannot be started.
    """
    more = dict(options)
    for asked, flag in ((line == TCP, "--line tcp"), (icount, "--icount")):
        if board == HOST and asked:
            raise ConfigError(
                f"{flag} is not for board {HOST}",
                cause="it is a program of this machine behind a pseudoterminal, not QEMU",
                fix=f"leave it out, or choose a board that begins with qemu- ({DEFAULT})",
            )
    if board != HOST:
        more["line"] = "listen" if line == TCP else PTY
    if icount:
        more["icount"] = "on"
    with boards.open_board(board, **more) as opened:
        process = opened.process
        assert process is not None, "every emulated board is a program"
        try:
            Client(opened.line, deadline_s=_BOOT_S)
        except LinkClosed as error:
            raise behind(process, error) from error
        port = opened.line.name
        if line == TCP:
            # QEMU serves one connection, and that is somebody else's.
            opened.line.close()
        # The pseudoterminal stays open here: when the last end of one is closed, what is set goes.
        yield McuReady(board=board, port=port, icount=icount, pid=process.pid), process


def wait(process: subprocess.Popen[bytes], name: str) -> int:
    """Until SIGINT, SIGTERM or SIGHUP comes, which is given back.

    Raises:
        BridgeError: the emulator ended by itself.
    """
    told = threading.Event()
    number = 0

    def stop(signal_number: int, frame: object) -> None:
        nonlocal number
        number = signal_number
        told.set()

    before = {each: signal.signal(each, stop) for each in _ENDS}
    try:
        while not told.wait(_POLL_S):
            # Ctrl-C reaches both of us, and the emulator may be the faster one.
            if process.poll() is not None and not told.wait(_POLL_S):
                raise _ended(process, name)
        return number
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _ended(process: subprocess.Popen[bytes], name: str) -> BridgeError:
    code = process.returncode
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return BridgeError(
        f"{name} ended by itself",
        cause=f"its emulator: {how}",
        fix=f"start it again: waistline mcu emulate --board {name}",
    )


def text(ready: McuReady) -> str:
    """The ready line."""
    icount = ", ticks count instructions" if ready.icount else ""
    return f"ready     --port {ready.port}   {ready.board} (emulated{icount})"
