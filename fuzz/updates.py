"""Uploads of heads by SMP to firmware that has the update mode, changed, damaged and out of order.

PROTOCOL.md section 7. A session turns the line over to SMP, uploads blobs, and comes back to the
bridge with a PING; then the active head is read back, and must be one that the Python reader takes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import random
import struct
import zlib
from collections.abc import Callable, Iterator

import blobs
from talks import MAX_PAYLOAD, Wrong

from waistline_bridge.frames import Frame, FrameParser, encode_frame
from waistline_bridge.messages import Area, Command, Status, device_info, head_info
from waistline_bridge.shim import Damage

_LINE_BYTES = 124
_CHUNK = 296
_READ, _WRITE, _OS, _IMAGE = 0, 2, 0, 1
_NASTY = (
    *(bytes([value]) for value in (0x5F, 0x80, 0x9F, 0xA0, 0xBF, 0xF7, 0xFF)),
    *(bytes([value]) + b"\xff" * 8 for value in (0x1B, 0x5B)),
    *(bytes([value]) + b"\xff" * 4 for value in (0x1A, 0x7A)),
    b"\x82" * 40,
)

Take = Callable[[bytes], tuple[int, bytes]]
"""Bytes that arrive together -> layers run, bytes that came back."""


def cbor(value: object) -> bytes:
    """Numbers, texts, bytes, truths and maps of these."""
    if isinstance(value, bool):
        return b"\xf5" if value else b"\xf4"
    if isinstance(value, int):
        return _head(0, value)
    if isinstance(value, bytes):
        return _head(2, len(value)) + value
    if isinstance(value, str):
        return _head(3, len(value.encode())) + value.encode()
    assert isinstance(value, dict)
    pairs = b"".join(cbor(key) + cbor(item) for key, item in value.items())
    return _head(5, len(value)) + pairs


def _head(major: int, number: int) -> bytes:
    if number < 24:
        return bytes([major << 5 | number])
    size = next(size for size in (1, 2, 4, 8) if number < 1 << 8 * size)
    return bytes([major << 5 | 23 + size.bit_length()]) + number.to_bytes(size, "big")


def message(
    write: bool, group: int, command: int, body: bytes, seq: int, version: int = 1
) -> bytes:
    operation = _WRITE if write else _READ
    head = struct.pack(">BBHHBB", operation | version << 3, 0, len(body), group, seq % 256, command)
    return head + body


def lines(content: bytes) -> bytes:
    """A message as it goes over the line."""
    whole = struct.pack(">H", len(content) + 2) + content
    whole += struct.pack(">H", binascii.crc_hqx(content, 0))
    text = base64.b64encode(whole)
    parts = [text[at : at + _LINE_BYTES] for at in range(0, len(text), _LINE_BYTES)]
    return b"".join(
        (b"\x04\x14" if k else b"\x06\x09") + part + b"\n" for k, part in enumerate(parts)
    )


def _messages(rng: random.Random, blob: bytes) -> Iterator[bytes]:
    seq, version = rng.randrange(256), rng.choice((0, 1, 1, 2))
    yield message(False, _OS, 6, b"", seq)
    yield message(True, _OS, 0, cbor({"d": "hello"}), seq)
    sha = hashlib.sha256(blob).digest()
    size = rng.choice((*(_CHUNK,) * 6, 64, 64, 7)) if len(blob) < 4000 else _CHUNK
    for at in range(0, len(blob), size):
        body: dict[str, object] = {"off": at, "data": blob[at : at + size]}
        if at == 0:
            body |= {"len": len(blob)} | ({"sha": sha} if rng.random() < 0.7 else {})
            body |= {"image": 0} if rng.random() < 0.5 else {}
        if rng.random() < 0.02:
            body["off"] = rng.choice((0, at + 8, 0xFFFFFFFF, 1 << 40))
        yield message(True, _IMAGE, 1, cbor(body), seq + at, version)
    yield message(False, _IMAGE, 0, b"", seq, version)


def arrivals(rng: random.Random, pool: list[bytes]) -> Iterator[bytes]:
    """One session in the update mode, as bytes that arrive together."""
    yield encode_frame(Frame(Command.RESET, rng.randrange(256), 0, b"\1\0\0\0"))
    rate = rng.choice((0.0, 0.0, 0.03, 0.3))
    for blob in rng.choices(pool, k=rng.choice((1, 2))):
        for content in _messages(rng, blob):
            made = _changed(rng, content) if rng.random() < rate else content
            line = lines(made)
            if rng.random() < rate / 3:
                line = Damage(flip=1e-3, drop=2e-3, insert=2e-3).apply(line, rng)
            yield line
    if rng.random() < 0.1:
        yield lines(message(True, _OS, 5, b"", 1))


def _changed(rng: random.Random, content: bytes) -> bytes:
    """With another CBOR or header; lengths mostly right again."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2)) if data else 0):
        at = rng.randrange(len(data))
        pick = rng.random()
        if pick < 0.4:
            data[at] = rng.randrange(256)
        elif pick < 0.7:
            piece = rng.choice(_NASTY)
            data[at : at + rng.choice((0, len(piece)))] = piece
        else:
            del data[max(at, 1) : at + rng.choice((1, 4, 50))]
    if len(data) >= 8 and rng.random() < 0.8:
        struct.pack_into(">H", data, 2, max(0, len(data) - 8) % 65536)
    return bytes(data)


def check(take: Take, said: list[bytes], arena_bytes: int) -> str:
    """Carry a session out; how it ended.

    Raises:
        Wrong: a head is in force that must not be, or the device does not answer.
    """
    for arrival in said:
        layers, _ = take(arrival)
        if layers:
            raise Wrong(f"{layers} layers ran during an update")
    take(b"\0" * 200)  # whatever line or frame was begun ends here
    if _ask(take, 1, Command.PING, b"12345678").payload != b"12345678":
        raise Wrong("no PING after an update")
    info = device_info(_ask(take, 2, Command.INFO, bytes(4)).payload)
    if info.active_crc == 0:
        return "no head"
    blob, at = b"", 0
    while at < info.active_bytes:
        count = min(MAX_PAYLOAD, info.active_bytes - at)
        asked = struct.pack("<B3xII", Area.BLOB, at, count)
        blob += _ask(take, 3 + at // MAX_PAYLOAD % 200, Command.READ, asked).payload
        at += count
    if zlib.crc32(blob) != info.active_crc:
        raise Wrong("the active head is not what INFO says")
    reason, record, _ = blobs.verdict(blob, arena_bytes)
    if reason:
        raise Wrong(f"a head is in force that is refused for reason {reason} of {record}")
    wanted = head_info(_ask(take, 210, Command.INFO, bytes((1, 0, 0, 0))).payload)
    if wanted.goldens:
        reply = _ask(take, 211, Command.INFER, struct.pack("<BBHHH", 1, 0, 0, 0xFFFF, 0))
        if reply.status != Status.OK:
            raise Wrong(f"the head in force does not run: {Status(reply.status).name}")
    return f"a head, commit {min(info.sequence, 9)}"


def _ask(take: Take, seq: int, command: Command, payload: bytes) -> Frame:
    _, sent = take(encode_frame(Frame(command, seq, 0, payload)))
    replies = FrameParser(MAX_PAYLOAD).feed(sent)
    if len(replies) != 1 or replies[0].seq != seq:
        raise Wrong(f"{len(replies)} replies to {command.name}")
    return replies[0]
