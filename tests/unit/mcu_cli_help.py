"""Shared by the tests of ``waistline mcu``: the command line here, firmware, devices that lie."""

from __future__ import annotations

import os
import pty
import select
import shutil
import struct
import threading
import tty
import zlib
from pathlib import Path

import pytest
from bridge_help import board_elf, host_program, payload_of, small_head
from click.testing import CliRunner

from waistline_bridge.boards.qemu import PROGRAM
from waistline_bridge.frames import REPLY, Frame, FrameParser, encode_frame
from waistline_bridge.messages import Command
from waistline_hostctl.verbs import group

PLANES = (6, 4, 5)
needs_arm = pytest.mark.skipif(
    shutil.which("arm-none-eabi-gcc") is None or shutil.which("make") is None,
    reason="there is no compiler for Arm (gcc-arm-none-eabi)",
)
needs_qemu = pytest.mark.skipif(
    shutil.which(PROGRAM) is None, reason=f"there is no {PROGRAM} on PATH"
)


def call(*arguments):
    return CliRunner().invoke(group, ["mcu", *map(str, arguments)])


def firmware_folder(*boards):
    """Where the firmware of these boards lies, built if need be."""
    paths = [host_program() if board == "host" else board_elf(board) for board in boards]
    return paths[0].parent


def head_file(path, *, bits=4, coder="none", seed=1, wrong=0):
    """Write a blob of two layers with a golden input, whose CRC is ``wrong`` by that much."""
    blob, values, codes = small_head(bits, coder, seed)
    output = payload_of(codes, bits, PLANES, coder)
    blob.golden(values.tobytes(), zlib.crc32(output) ^ wrong)
    Path(path).write_bytes(blob.bytes())
    return Path(path)


class FakeDevice:
    """What hangs on a pseudoterminal and is no board of ours: ``answer(frame)`` gives bytes.

    Args:
        answer: to each frame that is understood; None: to nothing.
        noise: sent all the time.
    """

    def __init__(self, answer=None, noise=b""):
        self._answer, self._noise = answer, noise
        self._own, other = pty.openpty()
        tty.setraw(other)
        self._other = other
        self.path = os.ttyname(other)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    def _serve(self):
        parser = FrameParser(1 << 16)
        while not self._ended.is_set():
            readable, writable, _ = select.select(
                [self._own], [self._own] if self._noise else [], [], 0.02
            )
            if readable:
                for frame in parser.feed(os.read(self._own, 4096)):
                    os.write(self._own, self._answer(frame) if self._answer else b"")
            if writable:
                os.write(self._own, self._noise)

    def __enter__(self):
        os.set_blocking(self._own, False)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()
        os.close(self._own)
        os.close(self._other)


def reply(frame, payload):
    return encode_frame(Frame(frame.command | REPLY, frame.seq, 0, payload))


def other_version(frame):
    """A board that speaks version 9 of the bridge."""
    if frame.command == Command.PING:
        return reply(frame, frame.payload)
    return reply(frame, struct.pack("<HH13I24s", 9, 1, *[512] * 13, b"some-board"))


def short_info(frame):
    """A board whose INFO is cut off."""
    return reply(frame, frame.payload if frame.command == Command.PING else b"\1\0")


class TakesAll:
    """A board that takes every head; what it says of its output and its head may be a lie."""

    def __init__(self, output_bytes=0, active_crc=None):
        self._output_bytes, self._active_crc = output_bytes, active_crc
        self._blob = b""
        self.reads = 0

    def __call__(self, frame):
        if frame.command == Command.INFO:
            crc = zlib.crc32(self._blob) if self._active_crc is None else self._active_crc
            words = (512, 0, 0, 1, 1 << 22, 1 << 20, 4, 1, 1, crc, len(self._blob), 1, 5)
            return reply(frame, struct.pack("<HH13I24s", 1, 2, *words, b"liar"))
        if frame.command == Command.LOAD:
            (at,), data = struct.unpack_from("<I", frame.payload, 4), frame.payload[8:]
            self._blob = self._blob[:at] + data
            return reply(frame, struct.pack("<II", zlib.crc32(data), at + len(data)))
        if frame.command == Command.COMMIT:
            return reply(frame, struct.pack("<II", 1, 0))
        if frame.command == Command.INFER:
            return reply(frame, struct.pack("<6I", self._output_bytes, 0, 0, 0, 0, 0))
        if frame.command == Command.READ:
            self.reads += 1
            return reply(frame, bytes(struct.unpack_from("<I", frame.payload, 8)[0]))
        return reply(frame, frame.payload)
