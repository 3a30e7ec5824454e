"""QEMU as a board: ``qemu-mps2-an386`` and its like.

Options: ``firmware`` (an ELF), ``line`` (``tcp``; ``pty``; ``listen``: a TCP port that others can
connect to when this end has closed its line), ``icount`` (``on``: one instruction
takes 32 ns, so that ticks count instructions, the same each time), ``qemu`` (the program).
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Mapping

from waistline.errors import ConfigError, MissingExtra
from waistline_bridge.boards import _programs
from waistline_bridge.boards._lines import TcpLine, TerminalLine, connected
from waistline_bridge.boards.base import SOCKET, Board, Line, no_option

PROGRAM = "qemu-system-arm"
NS_PER_INSTRUCTION = 32
_MACHINES = {
    "qemu-mps2-an385": "mps2-an385",
    "qemu-mps2-an386": "mps2-an386",
    "qemu-mps2-an505": "mps2-an505",
    "qemu-mps2-an547": "mps3-an547",
    "qemu-netduinoplus2": "netduinoplus2",
}
_OPTIONS = ("firmware", "icount", "line", "qemu")
_VALUES = {"line": ("tcp", "pty", "listen"), "icount": ("off", "on")}
_CONNECT_S = 20.0


def names() -> list[str]:
    return sorted(_MACHINES)


def open_board(name: str, options: Mapping[str, str]) -> Board:
    """Start it.

    Raises:
        ConfigError: an unknown board or option, or its firmware was not built.
        MissingExtra: QEMU is not installed.
        BridgeError, LinkError: it does not start.
    """
    start = command(name, options)
    if options.get("line") == "pty":
        return _on_terminal(name, start)
    if options.get("line") == "listen":
        return _listening(name, start)
    return _on_tcp(name, start)


def command(name: str, options: Mapping[str, str]) -> list[str]:
    """What starts it, but for the line to it.

    Raises:
        ConfigError, MissingExtra: as `open_board`.
    """
    if unknown := set(options) - set(_OPTIONS):
        raise no_option(name, min(unknown), _OPTIONS)
    for key, known in _VALUES.items():
        if options.get(key, known[0]) not in known:
            raise ConfigError(
                f"board {name} has no {key}={options[key]}",
                cause=f"known: {', '.join(known)}",
                fix="use one of these, or leave it out",
            )
    program = shutil.which(options.get("qemu", PROGRAM))
    if program is None:
        raise MissingExtra(
            f"board {name} needs QEMU",
            cause=f"there is no {options.get('qemu', PROGRAM)} on PATH",
            fix="sudo apt install qemu-system-arm",
        )
    elf = _programs.firmware(name, options.get("firmware"), f"{name}.elf")
    start = [program, "-M", _MACHINES[name], "-kernel", str(elf), "-display", "none"]
    start += ["-monitor", "none", "-nodefaults"]
    if options.get("icount") == "on":
        # 2^5 ns; sleep=off: idle time passes at once.
        start += ["-icount", "shift=5,sleep=off"]
    return start


def _on_terminal(name: str, command: list[str]) -> Board:
    command += ["-chardev", "pty,id=line", "-serial", "chardev:line"]
    process, said = _programs.start(command, "char device redirected to ")
    return _programs.board_of(name, process, lambda: TerminalLine(said.split(" ")[0]))


def _on_tcp(name: str, command: list[str]) -> Board:
    # We listen and QEMU connects: no port can be taken by another between choice and use.
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        port = server.getsockname()[1]
        command += ["-serial", f"tcp:127.0.0.1:{port},nodelay=on"]
        process = _programs.launch(command)
        where = f"{name} at port {port}"
        return _programs.board_of(name, process, lambda: _accept(server, process, where))


def _listening(name: str, command: list[str]) -> Board:
    # QEMU inherits a socket that listens already: nothing can be lost between start and connect.
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"{SOCKET}127.0.0.1:{server.getsockname()[1]}"
        chardev = f"socket,id=line,fd={server.fileno()},server=on,wait=off,nodelay=on"
        command += ["-chardev", chardev, "-serial", "chardev:line"]
        process = _programs.launch(command, keep=(server.fileno(),))
    return _programs.board_of(name, process, lambda: connected(address))


def _accept(server: socket.socket, process: subprocess.Popen[bytes], name: str) -> Line:
    deadline = time.monotonic() + _CONNECT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            connection, _ = server.accept()
        except TimeoutError:
            continue
        return TcpLine(connection, name)
    raise _programs.failed(process, "it did not connect")
