"""What host and far side say to each other over a pipe: framed, versioned, checked; no I/O here.

The far side is ``python -m waistline_node.probe``, started by whatever leads to the device (ssh,
``docker exec``, ``adb shell``). It speaks first::

    far  HELLO                    who and what it is
    host OPEN, CHUNK..            the bundle's files one after the other, or a path over there
    far  OPENED                   what runs the ends
    host RUN, CHUNK..             a frame for the head, or codes for the tail; as often as wanted
    far  RESULT, CHUNK..          codes, values, answer
    host BYE

An ERROR of the far side takes the place of any of its answers. A frame is a 24-byte little-endian
header (the magic, u8 major version, u8 type, u16 flags = 0, u32 payload length, u32 CRC-32 of the
payload, u32 CRC-32 of the 20 bytes before it), then the payload. The magic holds both line ends, a
control character and a byte above 127, so that a terminal in between is found out at once.
"""

from __future__ import annotations

import enum
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import msgspec

from waistline.bundle.schema import StoredFile
from waistline.errors import BadFrame, VersionMismatch
from waistline.provenance import Machine
from waistline.verification.ends import EndChoice, Place

MAGIC = b"\x89WLP\r\n\x1a\n"
MAJOR = 1
HEADER_BYTES = 24
CHUNK_BYTES = 1 << 18
MAX_JSON_BYTES = 1 << 16
MAX_FILES = 16

_HEADER = struct.Struct("<8sBBHIII")
_CRC = struct.Struct("<I")
_CRC_AT = HEADER_BYTES - _CRC.size

ReadExactly = Callable[[int], bytes]
"""Gives exactly so many bytes, or raises."""
MessageT = TypeVar("MessageT", bound=msgspec.Struct)


class Kind(enum.IntEnum):
    HELLO = 1
    OPEN = 2
    CHUNK = 3
    OPENED = 4
    RUN = 5
    RESULT = 6
    ERROR = 7
    BYE = 8


LIMITS = {kind: CHUNK_BYTES if kind is Kind.CHUNK else MAX_JSON_BYTES for kind in Kind}
"""Largest payload by type, in bytes."""


class Hello(msgspec.Struct, frozen=True):
    """The far side, before anything is opened.

    Attributes:
        software: name and version.
        machine: as it describes itself.
        numpy: version.
        backends: installed or not, those that it knows by name.
        max_bytes: of a bundle that it takes.
    """

    software: str
    machine: Machine
    numpy: str
    backends: tuple[str, ...]
    max_bytes: int


class Open(msgspec.Struct, frozen=True):
    """The bundle to open.

    Attributes:
        bundle_id: it must have; the SHA-256 of the first file.
        files: what follows as chunks, ``bundle.json`` first; empty with ``path``.
        path: of a bundle that lies at the far side already; "" with ``files``.
        head, tail: what is to run them; None: that end is not opened.
    """

    bundle_id: str
    files: tuple[StoredFile, ...]
    path: str
    head: EndChoice | None
    tail: EndChoice | None


class Opened(msgspec.Struct, frozen=True):
    place: Place


class Run(msgspec.Struct, frozen=True):
    """One frame for the head, or its codes for the tail; ``size_bytes`` follow as chunks."""

    role: str
    size_bytes: int


class Result(msgspec.Struct, frozen=True):
    """What follows as chunks: codes, then values, then the answer."""

    codes_bytes: int
    values_bytes: int
    answer_bytes: int
    duration_s: float


class Failure(msgspec.Struct, frozen=True):
    """An error as the far side raised it; ``kind`` is its class."""

    kind: str
    what: str
    cause: str
    fix: str


def frame(kind: Kind, payload: bytes | memoryview = b"") -> bytes:
    """Header and payload."""
    start = _HEADER.pack(MAGIC, MAJOR, kind, 0, len(payload), zlib.crc32(payload), 0)[:_CRC_AT]
    return b"".join((start, _CRC.pack(zlib.crc32(start)), payload))


def message(kind: Kind, content: msgspec.Struct) -> bytes:
    """A frame that carries JSON."""
    return frame(kind, msgspec.json.encode(content))


def chunks(parts: Sequence[bytes | memoryview]) -> Iterator[bytes]:
    """``parts`` one after the other, as frames of type CHUNK; no part spans two frames."""
    for part in parts:
        view = memoryview(part).cast("B") if part else memoryview(b"")
        for start in range(0, len(view), CHUNK_BYTES):
            yield frame(Kind.CHUNK, view[start : start + CHUNK_BYTES])


def read_frame(
    read: ReadExactly, allowed: Sequence[Kind], limits: Mapping[Kind, int] = LIMITS
) -> tuple[Kind, bytes]:
    """The next frame, which must be of a type in ``allowed``.

    Raises:
        BadFrame: not ours, damaged, out of place, or announcing more than is allowed.
        VersionMismatch: a sound header of another major version.
    """
    header = read(HEADER_BYTES)
    magic, major, number, flags, length, payload_crc, header_crc = _HEADER.unpack(header)
    if magic != MAGIC:
        raise bad("the pipe carries something else than this conversation", header)
    if zlib.crc32(header[:_CRC_AT]) != header_crc:
        raise bad("a header on the pipe fails its CRC-32", header)
    if major != MAJOR:
        raise VersionMismatch(
            "the far side speaks another version of the conversation",
            cause=f"its major version is {major}, ours is {MAJOR}",
            fix="install the same release of waistline on both machines",
        )
    kind = next((kind for kind in allowed if kind == number), None)
    if kind is None or flags:
        raise bad(f"a frame of type {number} is out of place here", header)
    if length > limits[kind]:
        raise bad(f"{kind.name} announces {length} bytes, {limits[kind]} are allowed", header)
    payload = read(length)
    if zlib.crc32(payload) != payload_crc:
        raise bad(f"the payload of {kind.name} fails its CRC-32", b"")
    return kind, payload


def read_chunks(read: ReadExactly, size_bytes: int) -> Iterator[bytes]:
    """Payloads of CHUNK frames until exactly ``size_bytes`` have come; the caller checked that.

    Raises:
        BadFrame: more came, or none where some were due.
    """
    left = size_bytes
    while left:
        _, payload = read_frame(read, (Kind.CHUNK,))
        if not 0 < len(payload) <= left:
            raise bad(f"a chunk of {len(payload)} bytes where {left} are left", b"")
        left -= len(payload)
        yield payload


def decode(payload: bytes, into: type[MessageT]) -> MessageT:
    """The JSON of a frame, strictly.

    Raises:
        BadFrame: it is something else.
    """
    try:
        return msgspec.json.decode(payload, type=into, strict=True)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise bad(f"{into.__name__} does not read: {error}", payload) from error


def bad(what: str, seen: bytes) -> BadFrame:
    start = seen[:HEADER_BYTES]
    return BadFrame(
        what,
        cause=f"it began with {start!r}" if start else "bytes changed on the way",
        fix="check that the command starts 'python3 -m waistline_node.probe' and adds no terminal",
    )
