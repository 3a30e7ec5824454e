"""Damaged and forged frames, and what an edge may answer to each.

*Damaged*: bytes of a sound DATA frame changed as a bad link would; checksums stay as they were.
The edge may close the connection or refuse; if it answers, the answer is that of the sound frame.
*Forged*: changed on purpose and given right checksums. A payload that still decodes is another
frame, and the answer must be the one computed here from the same bytes; one that does not must end
as an error. A header that lies must be refused or ignored.
"""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable

from waistline.wire import HEADER_BYTES

_CRC = struct.Struct("<I")
_FIELDS = {"session": 8, "seq": 12, "bundle": 16, "payload_len": 20, "raw_len": 24, "budget": 28}
_NASTY = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_FLOATS = tuple(struct.pack("<f", float(text)) for text in ("nan", "inf", "-inf", "1e38", "-0.0"))


def flip_bit(rng: random.Random, data: bytearray) -> None:
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def overwrite(rng: random.Random, data: bytearray) -> None:
    start = rng.randrange(len(data))
    count = min(rng.randint(1, 16), len(data) - start)
    data[start : start + count] = rng.randbytes(count)


def insert(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.randbytes(rng.randint(1, 64))


def delete(rng: random.Random, data: bytearray) -> None:
    start = rng.randrange(len(data))
    del data[start : start + rng.randint(1, 64)]


def swap(rng: random.Random, data: bytearray) -> None:
    count = rng.randint(1, 32)
    first, second = sorted(rng.randrange(max(1, len(data) - count)) for _ in range(2))
    left, right = data[first : first + count], data[second : second + count]
    data[second : second + len(right)] = left[: len(right)]
    data[first : first + len(left)] = right[: len(left)]


def nasty_float(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(max(1, len(data) - 3))
    data[at : at + 4] = rng.choice(_FLOATS)


def nasty_length(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(max(1, len(data) - 3)) if rng.random() < 0.5 else 0
    data[at : at + 4] = _CRC.pack(rng.choice(_NASTY))


Change = Callable[[random.Random, bytearray], None]
DAMAGE: tuple[Change, ...] = (flip_bit, flip_bit, overwrite, insert, delete, swap)
PAYLOAD: tuple[Change, ...] = (*DAMAGE, nasty_float, nasty_length)


def damaged(rng: random.Random, frame: bytes) -> bytes:
    """``frame`` after one to three accidents."""
    data = bytearray(frame)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if data:
            rng.choice(DAMAGE)(rng, data)
    return bytes(data)


def forged_payload(rng: random.Random, frame: bytes) -> bytes:
    """``frame`` with another payload and checksums to match."""
    payload = bytearray(frame[HEADER_BYTES:])
    for _ in range(rng.choice((1, 1, 2))):
        if payload:
            rng.choice(PAYLOAD)(rng, payload)
    head = bytearray(frame[:HEADER_BYTES])
    _CRC.pack_into(head, _FIELDS["payload_len"], len(payload))
    _CRC.pack_into(head, 32, zlib.crc32(payload))
    return signed(head) + bytes(payload)


def forged_header(rng: random.Random, frame: bytes) -> bytes:
    """``frame`` with a header that lies, and a right header checksum."""
    head = bytearray(frame[:HEADER_BYTES])
    if rng.random() < 0.3:
        # Magic, version, type, flags, header length.
        head[rng.randrange(8)] = rng.randrange(256)
    else:
        value = rng.choice((*_NASTY, rng.getrandbits(32)))
        _CRC.pack_into(head, rng.choice(tuple(_FIELDS.values())), value)
    return signed(head) + frame[HEADER_BYTES:]


def signed(head: bytearray) -> bytes:
    """A header with the checksum of what it says."""
    _CRC.pack_into(head, 36, zlib.crc32(head[:36]))
    return bytes(head)
