"""Frames of the bridge: COBS(header + payload + CRC-32) between zero bytes.

``PROTOCOL.md`` section 1. Pure: bytes in, bytes out. What does not check is dropped and counted,
and the next zero byte starts anew.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from waistline.errors import BadFrame

OVERHEAD_BYTES = 8
"""Header and CRC."""
REPLY = 0x80
_HEADER = struct.Struct("<BBBB")
_CRC = struct.Struct("<I")
_FULL = 254


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame; ``status`` is the header's flags: 0 in requests."""

    command: int
    seq: int
    status: int
    payload: bytes


def cobs_encode(data: bytes) -> bytes:
    """``data`` without zero bytes, at most one byte in 254 longer, and one."""
    out = bytearray()
    parts = data.split(b"\0")
    for number, part in enumerate(parts):
        at = 0
        while len(part) - at >= _FULL:
            out.append(_FULL + 1)
            out += part[at : at + _FULL]
            at += _FULL
        if at == 0 or at < len(part) or number < len(parts) - 1:
            out.append(len(part) - at + 1)
            out += part[at:]
    return bytes(out)


def cobs_decode(data: bytes) -> bytes:
    """The reverse.

    Raises:
        BadFrame: a zero byte, or a block that goes on after the end.
    """
    out = bytearray()
    at, pending = 0, False
    while at < len(data):
        code = data[at]
        block = data[at + 1 : at + code]
        if code == 0 or len(block) != code - 1 or 0 in block:
            raise BadFrame("not a COBS stream", cause=f"block of {code} at byte {at}")
        if pending:
            out.append(0)
        out += block
        pending = code != _FULL + 1
        at += code
    return bytes(out)


def encode_frame(frame: Frame) -> bytes:
    """What goes over the line, delimiters included."""
    body = _HEADER.pack(frame.command, frame.seq, frame.status, 0) + frame.payload
    return b"\0" + cobs_encode(body + _CRC.pack(zlib.crc32(body))) + b"\0"


def decode_frame(coded: bytes, max_payload: int) -> Frame:
    """The frame between two delimiters.

    Raises:
        BadFrame: it does not check.
    """
    # An encoded frame of the longest payload; more is not looked at.
    limit = max_payload + OVERHEAD_BYTES
    if len(coded) > limit + limit // _FULL + 2:
        raise BadFrame("frame too long", cause=f"{len(coded)} bytes on the line")
    body = cobs_decode(coded)
    if not OVERHEAD_BYTES <= len(body) <= limit:
        raise BadFrame("frame of an impossible length", cause=f"{len(body)} bytes")
    content = body[: -_CRC.size]
    if zlib.crc32(content) != _CRC.unpack(body[-_CRC.size :])[0]:
        raise BadFrame("damaged frame", cause="its CRC differs")
    command, seq, status, reserved = _HEADER.unpack_from(content)
    if reserved:
        raise BadFrame("frame of another version", cause=f"reserved byte is {reserved}")
    return Frame(command, seq, status, bytes(content[_HEADER.size :]))


class FrameParser:
    """Takes bytes as they come, gives the frames that check.

    Attributes:
        max_payload: longest payload accepted; may be raised after INFO.
        damaged: sequences between delimiters that were no frames.
    """

    def __init__(self, max_payload: int) -> None:
        self.max_payload = max_payload
        self.damaged = 0
        self._pending = bytearray()
        self._skipping = False

    def feed(self, data: bytes) -> list[Frame]:
        """Frames that ``data`` completes."""
        frames = []
        *ended, rest = data.split(b"\0")
        for part in ended:
            self._extend(part)
            if self._skipping:
                self.damaged += 1
            elif self._pending:
                try:
                    frames.append(decode_frame(bytes(self._pending), self.max_payload))
                except BadFrame:
                    self.damaged += 1
            self._pending.clear()
            self._skipping = False
        self._extend(rest)
        return frames

    def _extend(self, part: bytes) -> None:
        """Keep ``part``, unless no frame is this long: a noisy line must not fill the memory."""
        if self._skipping or len(self._pending) + len(part) > 2 * self.max_payload + 64:
            self._skipping = bool(self._skipping or part)
            self._pending.clear()
        else:
            self._pending += part
