"""Devices that lie, and lines that end: the host neither waits for ever nor fills its memory."""

from __future__ import annotations

import os
import struct
import tty
import zlib

import pytest

from waistline.errors import BadFrame, LinkClosed, LinkTimeout, VersionMismatch
from waistline_bridge.boards._lines import TerminalLine
from waistline_bridge.client import Client
from waistline_bridge.frames import REPLY, Frame, FrameParser, encode_frame
from waistline_bridge.messages import Command, device_info

HUGE = 0xFFFFFFFF
CLAIMS = {"max_payload": 1, "features": 3, "arena": 5, "slot": 6, "unit": 7}


class Liar:
    """A line to a device that answers everything, and says of itself what it is told to say."""

    name = "liar"

    def __init__(self, **claims):
        self.words = [512, 0, 0, 1, 1 << 20, 1 << 20, 4, 1, 1, 0, 0, 1, 5]
        for name, value in claims.items():
            self.words[CLAIMS[name] - 1] = value
        self.longest, self.blob, self._waiting = 0, b"", b""
        self._parser = FrameParser(1 << 16)

    def send(self, data):
        for frame in self._parser.feed(data):
            self.longest = max(self.longest, len(frame.payload))
            payload = self.answer(frame)
            self._waiting += encode_frame(Frame(frame.command | REPLY, frame.seq, 0, payload))

    def receive(self, timeout_s):
        found, self._waiting = self._waiting, b""
        return found

    def close(self):
        pass

    def answer(self, frame):
        if frame.command == Command.INFO:
            self.words[9] = zlib.crc32(self.blob)
            return struct.pack("<HH13I24s", 1, 1, *self.words, b"\x1b[2J liar")
        if frame.command == Command.LOAD:
            (at,), data = struct.unpack_from("<I", frame.payload, 4), frame.payload[8:]
            self.blob = self.blob[:at] + data
            return struct.pack("<II", zlib.crc32(data), at + len(data))
        return struct.pack("<II", 1, 0) if frame.command == Command.COMMIT else frame.payload


class Endless(Liar):
    """It also never stops talking: ``noise`` fills what lies between its answers."""

    def __init__(self, noise):
        super().__init__()
        self._noise, self.mute = noise, False

    def receive(self, timeout_s):
        return self._noise + (b"" if self.mute else super().receive(timeout_s))


@pytest.mark.parametrize("size_bytes", [2, 4, 80, 84, 500])
def test_another_version_is_named_however_long_its_info_is(size_bytes):
    with pytest.raises(VersionMismatch, match="speaks version 2"):
        device_info((2).to_bytes(2, "little") + bytes(size_bytes - 2))


def test_an_info_of_our_version_has_its_length():
    for size_bytes in (0, 1, 2, 79, 81):
        with pytest.raises(BadFrame):
            device_info((b"\1" + bytes(100))[:size_bytes])


@pytest.mark.parametrize(
    "claims",
    [
        {"max_payload": HUGE},
        {"max_payload": 0},
        {"unit": 0},
        {"unit": HUGE},
        {"arena": HUGE, "slot": HUGE},
        {"features": HUGE, "max_payload": HUGE, "unit": HUGE},
    ],
    ids=str,
)
def test_what_a_device_claims_costs_no_memory(claims):
    line = Liar(**claims)
    client = Client(line, deadline_s=30)
    blob = bytes(range(256)) * 400
    client.load_blob(blob)
    assert line.blob == blob
    assert line.longest <= 1 << 15
    assert client.info.board.isprintable()
    assert all(flag.name for flag in client.info.features)


@pytest.mark.parametrize(
    "noise",
    [
        bytes(4096),
        b"\xff" * 65536,
        encode_frame(Frame(Command.PING | REPLY, 0, 0, b"not this")) * 50,
        encode_frame(Frame(Command.INFO | REPLY, 7, 0, bytes(80)))[:-1] * 50,
    ],
    ids=["delimiters", "no delimiter", "replies to others", "open frames"],
)
def test_a_line_that_never_falls_silent_is_talked_over_and_given_up(noise):
    line = Endless(b"\0" + noise + b"\0")
    client = Client(line, deadline_s=30)
    assert client.ping() >= 0
    line.mute, client.deadline_s = True, 0.05
    with pytest.raises(LinkTimeout, match="no reply to PING"):
        client.ping()


def serial_line(path):
    pytest.importorskip("serial", reason="opens serial ports")
    from waistline_bridge.boards.serial import SerialLine

    return SerialLine(path, 115200)


@pytest.mark.parametrize("kind", [TerminalLine, serial_line], ids=["terminal", "serial"])
@pytest.mark.parametrize("first", ["send", "receive"])
def test_the_other_end_of_a_terminal_dies(kind, first):
    own, other = os.openpty()
    tty.setraw(other)
    line = kind(os.ttyname(other))
    os.close(other)
    line.send(b"heard")
    assert os.read(own, 5) == b"heard"
    os.close(own)
    calls = [lambda: line.receive(0.05), lambda: line.send(b"x")]
    for call in calls if first == "receive" else calls[::-1]:
        with pytest.raises(LinkClosed):
            call()
    line.close()
    line.close()
    with pytest.raises(LinkClosed):
        line.receive(0.05)
