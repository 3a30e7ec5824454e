"""What is said: a 40-byte header, then a payload; no I/O, no session state.

Little-endian, fixed offsets, so that a C struct on a microcontroller reads it:

====== ==== ==================================================================
offset type field
====== ==== ==================================================================
0      u16  magic, the bytes ``WL``
2      u8   major version; a different one is refused
3      u8   message type
4      u16  flags; none is defined in minor version 0, so they must be 0
6      u16  header length: 40 plus extension bytes, which a reader skips
8      u32  session
12     u32  seq; 0 speaks about the connection, frames count from 1
16     u32  bundle: the first 4 bytes of its id
20     u32  payload length
24     u32  raw length: packed bytes of the waist before entropy coding
28     u32  budget: milliseconds that are left of the frame's deadline
32     u32  CRC-32 of the payload
36     u32  CRC-32 of bytes 0-35 and the extension bytes
====== ==== ==================================================================

Every major version keeps magic, major, header length and header CRC where they are, so that a
damaged header (`BadFrame`) is told from a foreign one (`VersionMismatch`). On a byte stream there
is no way to find the next header after a damaged one: any `WireError` ends the connection, and the
session sends again what was lost. CRCs guard against accidents, not against attackers.
"""

from __future__ import annotations

import enum
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from waistline.errors import BadFrame, VersionMismatch, WireError
from waistline.links.base import Buffer

MAGIC = b"WL"
MAJOR = 1
MINOR_MIN = 0
MINOR_MAX = 0
HEADER_BYTES = 40
MAX_HEADER_BYTES = 256
"""Extension bytes are for small additions; more is refused before they are read."""
MAX_CONTROL_BYTES = 1 << 14
"""Of a JSON payload: a HELLO needs about 300 bytes, an ERROR that lists bundles about 1,500."""
MAX_SEQ = 0xFFFF_FFFF

_HEADER = struct.Struct("<2sBBHHIIIIIIII")
_Fields = tuple[Any, ...]
"""A header's, in the order of the table above."""
_GUARDED = struct.Struct("<2sBBHHIIIIIII")
"""What stands in front of the header's own CRC."""
_CRC = struct.Struct("<I")
_CRC_AT = _GUARDED.size


class MessageType(enum.IntEnum):
    HELLO = 1
    """Node: who I am and which bundle I run. JSON."""
    WELCOME = 2
    """Edge: go on. JSON."""
    DATA = 3
    """Node: the waist of one frame."""
    REPLY = 4
    """Edge: five u32 stage times in microseconds, then the answer."""
    ERROR = 5
    """Edge: this frame failed, or (seq 0) this connection ends. JSON."""
    BUSY = 6
    """Edge: this frame was not taken; u32 milliseconds to wait before the next."""
    PING = 7
    PONG = 8
    """Answers a PING, with its seq."""
    ACK = 9
    """Edge: a logged frame is safe. No policy of minor version 0 uses it."""
    BYE = 10
    """Either side: I close on purpose."""


_TYPES = {kind.value: kind for kind in MessageType}


class Message(msgspec.Struct, frozen=True):
    """One message. ``payload`` has passed its CRC; what it says is unchecked."""

    type: MessageType
    session: int = 0
    seq: int = 0
    bundle: int = 0
    payload: bytes = b""
    raw_len: int = 0
    budget_ms: int = 0


def bundle_tag(bundle_id: str) -> int:
    """The u32 that stands for a bundle in each header: the first 4 bytes of its 64-hex id."""
    return int.from_bytes(bytes.fromhex(bundle_id[:8]), "little")


def encode_message(
    kind: MessageType,
    payload: Sequence[Buffer] = (),
    *,
    session: int = 0,
    seq: int = 0,
    bundle: int = 0,
    raw_len: int = 0,
    budget_ms: int = 0,
) -> list[Buffer]:
    """Header and payload as buffers for one gathering write; the payload is not copied.

    Raises:
        ValueError: a field does not fit its place; that is a mistake of the caller.
    """
    crc = size_bytes = 0
    for part in payload:
        crc = zlib.crc32(part, crc)
        size_bytes += memoryview(part).nbytes
    numbers = (session, seq, bundle, size_bytes, raw_len, budget_ms)
    try:
        guarded = _GUARDED.pack(MAGIC, MAJOR, kind, 0, HEADER_BYTES, *numbers, crc)
    except struct.error as error:
        raise ValueError(f"{kind.name} with {numbers} does not fit a header: {error}") from error
    return [guarded + _CRC.pack(zlib.crc32(guarded)), *payload]


class Parser:
    """Turns a byte stream, in chunks of any size, into messages.

    Memory grows with what was received, never with what was announced, and what may be announced
    is limited by type.

    Args:
        limits: largest payload per message type, in bytes; a type that is not listed is refused
            as soon as its header is complete. `allow` changes it between two messages.
    """

    def __init__(self, limits: Mapping[MessageType, int]) -> None:
        self._limits = dict(limits)
        self._kept = bytearray()
        """The beginning of a header or payload that has not come whole."""
        self._need = HEADER_BYTES
        self._fields: _Fields | None = None
        """Of the message whose payload is awaited."""
        self._error: WireError | None = None

    def allow(self, limits: Mapping[MessageType, int]) -> None:
        """Replace the limits; holds from the next header on."""
        self._limits = dict(limits)

    def feed(self, data: Buffer) -> Iterator[Message]:
        """Messages completed by ``data``; iterate to the end, or bytes are lost.

        Raises:
            BadFrame: the stream is not ours, damaged, or announces more than is allowed.
            VersionMismatch: a sound header of another major version.
        """
        if self._error is not None:
            raise self._error
        view = memoryview(data).cast("B")
        try:
            while True:
                part: Buffer = view[: self._need - len(self._kept)]
                view = view[len(part) :]
                if self._kept or len(part) < self._need:
                    self._kept += part
                    part = self._kept
                if self._fields is None and not MAGIC.startswith(part[:2]):
                    raise _bad("the stream does not start with a Waistline header", part)
                if len(part) < self._need:
                    return
                if self._fields is not None:
                    yield self._take_payload(self._fields, part)
                elif not self._take_header(part):
                    # Extension bytes follow.
                    self._kept = bytearray(part)
                    continue
                if self._kept:
                    self._kept = bytearray()
        except WireError as error:
            self._error = error
            self._kept = bytearray()
            raise

    def _take_header(self, header: Buffer) -> bool:
        """Whether it is whole; if so, it is sound and its payload is awaited."""
        fields = _HEADER.unpack_from(header)
        _, major, kind, flags, header_len, *_, header_crc = fields
        if not HEADER_BYTES <= header_len <= MAX_HEADER_BYTES:
            raise _bad(f"a header of {header_len} bytes", header)
        if len(header) < header_len:
            self._need = header_len
            return False
        crc = zlib.crc32(header[:_CRC_AT])
        if header_len > HEADER_BYTES:
            crc = zlib.crc32(header[HEADER_BYTES:], crc)
        if crc != header_crc:
            raise _bad("the header fails its CRC-32", header)
        if major != MAJOR:
            raise VersionMismatch(
                "the other side speaks another version of the protocol",
                cause=f"its major version is {major}, ours is {MAJOR}",
                fix="install the same release of waistline on both machines",
            )
        if flags:
            raise _bad(f"undefined flags {flags:#06x}", header)
        limit = self._limits.get(kind)
        if limit is None:
            raise _bad(f"a message of type {_type_name(kind)} is out of place here", header)
        payload_len = fields[8]
        if payload_len > limit:
            raise _bad(
                f"{_type_name(kind)} announces {payload_len} bytes, {limit} are allowed", header
            )
        self._fields = fields
        self._need = payload_len
        return True

    def _take_payload(self, fields: _Fields, payload: Buffer) -> Message:
        _, _, kind, _, _, session, seq, bundle, _, raw_len, budget_ms, payload_crc, _ = fields
        if zlib.crc32(payload) != payload_crc:
            raise _bad(f"the payload of a {_type_name(kind)} fails its CRC-32", b"")
        self._fields = None
        self._need = HEADER_BYTES
        return Message(_TYPES[kind], session, seq, bundle, bytes(payload), raw_len, budget_ms)


def _type_name(kind: int) -> str:
    return _TYPES[kind].name if kind in _TYPES else str(kind)


def _bad(what: str, seen: Buffer) -> BadFrame:
    start = bytes(seen[:16])
    return BadFrame(
        what,
        cause=f"it began with {start!r}" if start else "bytes changed on the way",
        fix="check that both ends are Waistline and that nothing else uses the port",
    )
