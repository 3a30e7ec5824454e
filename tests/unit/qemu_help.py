"""QEMU boards with options that users have no need of: traces, and writes into their memory."""

from __future__ import annotations

import contextlib
import shutil
import socket
import time

import pytest
from bridge_help import board_elf

from waistline_bridge.boards import open_board
from waistline_bridge.boards.qemu import PROGRAM
from waistline_bridge.client import Client

QEMU = shutil.which(PROGRAM)
needs_boards = pytest.mark.skipif(
    QEMU is None or shutil.which("arm-none-eabi-gcc") is None or shutil.which("make") is None,
    reason="needs qemu-system-arm, gcc-arm-none-eabi and make",
)


@contextlib.contextmanager
def emulated(folder, board, *arguments, **options):
    """A client of `board`, whose QEMU is given `arguments`, too."""
    program = folder / "qemu"
    words = " ".join(f"'{word}'" for word in arguments)
    program.write_text(f'#!/bin/sh\nexec {QEMU} "$@" {words}\n')
    program.chmod(0o755)
    elf = str(board_elf(board))
    with open_board(board, firmware=elf, qemu=str(program), **options) as opened:
        yield Client(opened.line, deadline_s=60)


class Debugger:
    """GDB's remote protocol at a socket: the little of it that writes memory."""

    ARGUMENTS = ("-chardev", "socket,path={},server=on,wait=off,id=gdb", "-gdb", "chardev:gdb")

    def __init__(self, path):
        self.path = str(path)

    @property
    def arguments(self):
        return [word.format(self.path) for word in self.ARGUMENTS]

    def write(self, address, data):
        """Stop the processor, write, let it go on."""
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(20)
            link.connect(self.path)
            self._ask(link, f"M{address:x},{len(data):x}:{data.hex()}")
            self._ask(link, "D")

    @staticmethod
    def _ask(link, text):
        """The word of its halt, which comes first, is passed over."""
        link.sendall(f"${text}#{sum(text.encode()) % 256:02x}".encode())
        said, until = b"", time.monotonic() + 20
        while b"$OK#" not in said and time.monotonic() < until:
            said += link.recv(256)
        assert b"$OK#" in said, said
        link.sendall(b"+")
