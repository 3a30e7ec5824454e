"""Conversations with the firmware over a bad line, and what PROTOCOL.md says must come back.

A talk is a list of arrivals: bytes that reach the device at once. Most are requests in an order
that makes sense (load, commit, infer, read), some are changed and sealed anew, damaged, doubled,
cut in two, or noise. `Model` knows for each arrival whether there is a reply and what it says; that
needs the Python reader's verdict on blobs, and never that of the firmware.
"""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Iterator

import blobs

from waistline_bridge.frames import REPLY, Frame, FrameParser, encode_frame
from waistline_bridge.messages import (
    ALL_LAYERS,
    Area,
    Command,
    Mark,
    Status,
    device_info,
    head_info,
)
from waistline_bridge.shim import Damage

MAX_PAYLOAD = 512
PROGRAM_BYTES = 8
READ_AT_ONCE = 128
SEAL_BYTES = 32
_CHUNK = 504
_INFER, _HEAD_INFO = struct.Struct("<BBHHH"), bytes((1, 0, 0, 0))


class Wrong(AssertionError):
    """The device did what it must not."""


def arrivals(rng: random.Random, pool: list[bytes]) -> Iterator[bytes]:
    """One talk about one or two of the blobs of ``pool``."""
    seq = rng.randrange(256)
    for command, payload in _requests(rng, pool):
        seq = (seq + (rng.random() < 0.97)) % 256
        flags = rng.randrange(256) if rng.random() < 0.01 else 0
        if rng.random() < 0.08:
            payload = _changed(rng, payload)
        if rng.random() < 0.02:
            command = rng.randrange(256)
        yield from _on_the_line(rng, encode_frame(Frame(command, seq, flags, payload)))


def _on_the_line(rng: random.Random, coded: bytes) -> Iterator[bytes]:
    pick = rng.random()
    if pick < 0.80:
        yield coded
    elif pick < 0.84:
        yield from (coded, coded)
    elif pick < 0.88:
        yield coded + coded
    elif pick < 0.91:
        cut = rng.randrange(len(coded))
        yield from (coded[:cut], coded[cut:])
    elif pick < 0.94:
        yield rng.randbytes(rng.choice((1, 20, 700))) + coded
    elif pick < 0.97:
        yield Damage(flip=1e-3, drop=2e-3, insert=2e-3).apply(coded, rng)
    else:
        data = bytearray(coded)
        data[rng.randrange(len(data))] = rng.choice((0, 1, 255, rng.randrange(256)))
        yield bytes(data)


def _changed(rng: random.Random, payload: bytes) -> bytes:
    data = bytearray(payload)
    pick = rng.random()
    if pick < 0.25:
        del data[rng.randrange(len(data) + 1) :]
    elif pick < 0.5 and len(data) < MAX_PAYLOAD:
        data += rng.randbytes(rng.choice((1, 4, MAX_PAYLOAD - len(data))))
    elif data:
        at = rng.randrange(len(data))
        data[at : at + 4] = rng.choice((b"\xff" * 4, bytes(4), rng.randbytes(4)))[: len(data) - at]
    return bytes(data[:MAX_PAYLOAD])


def _requests(rng: random.Random, pool: list[bytes]) -> Iterator[tuple[int, bytes]]:
    yield Command.PING, rng.randbytes(8)
    for blob in rng.choices(pool, k=rng.choice((1, 1, 2))):
        yield from _loads(rng, Area.BLOB, blob)
        yield Command.COMMIT, struct.pack("<II", len(blob), zlib.crc32(blob))
        yield from _uses(rng, blob)
        if rng.random() < 0.1:
            yield Command.RESET, bytes(4)
        yield Command.INFO, bytes(4)


def _loads(rng: random.Random, area: Area, data: bytes) -> Iterator[tuple[int, bytes]]:
    size = _CHUNK if area == Area.INPUT or rng.random() < 0.7 else rng.choice((8, 16, 104))
    size = max(size, -(-len(data) // 30 // 8) * 8)
    for at in range(0, len(data), min(size, _CHUNK)):
        yield Command.LOAD, struct.pack("<B3xI", area, at) + data[at : at + min(size, _CHUNK)]


def _uses(rng: random.Random, blob: bytes) -> Iterator[tuple[int, bytes]]:
    _, _, found = blobs.verdict(blob, 1 << 30)
    inputs = found.input_bytes if found and found.input_bytes < 5000 else rng.randrange(600)
    for _ in range(rng.randint(1, 5)):
        layers = ALL_LAYERS if rng.random() < 0.8 else rng.randrange(6)
        source = int(rng.random() < 0.3)
        if rng.random() < 0.1:
            yield Command.MARK, struct.pack("<BBH", rng.choice(list(Mark)), 0, rng.randrange(300))
        if not source:
            yield from _loads(rng, Area.INPUT, rng.randbytes(inputs))
        yield Command.INFER, _INFER.pack(source, 0, 0, layers, 0)
        for _ in range(rng.randrange(3)):
            where = rng.randrange(6), rng.choice((0, 0, rng.randrange(3000))), rng.randrange(600)
            yield Command.READ, struct.pack("<B3xII", *where)
        yield Command.INFO, _HEAD_INFO


class Model:
    """What a device knows, by what it was sent and answered."""

    def __init__(self, arena_bytes: int, slot_bytes: int, second_bytes: int) -> None:
        self.arena_bytes, self.slots_bytes = arena_bytes, (slot_bytes, second_bytes)
        self._inactive = 0
        self.active: bytes | None = None
        self.layers = 0
        self.commits = 0
        self.asked: set[str] = set()
        self._marks = False
        self._loading: bytes | None = None
        self._parser = FrameParser(MAX_PAYLOAD)
        self._last: tuple[int, int, bytes] | None = None

    def request(self, arrival: bytes) -> Frame | None:
        """The request that the device answers, if one is in it."""
        for at in range(0, len(arrival), READ_AT_ONCE):
            chunk = arrival[at : at + READ_AT_ONCE]
            for part in chunk.split(b"\0")[:-1]:
                for frame in self._parser.feed(part + b"\0"):
                    if not 0 < frame.command < REPLY:
                        break  # what follows it in what was read is thrown away
                    self._parser = FrameParser(MAX_PAYLOAD)
                    return frame
                else:
                    continue
                break
            else:
                self._parser.feed(chunk.rpartition(b"\0")[2])
        return None

    def check(self, arrival: bytes, sent: bytes, layers_run: int) -> None:
        """Raises `Wrong` unless ``sent`` is what must come back."""
        request = self.request(arrival)
        parser = FrameParser(MAX_PAYLOAD)
        replies = parser.feed(sent)
        if parser.damaged or len(replies) != (request is not None):
            raise Wrong(f"{len(replies)} replies, {parser.damaged} damaged, to {request}")
        if request is None:
            if layers_run:
                raise Wrong(f"{layers_run} layers ran without a request")
            return
        self._check_reply(request, replies[0], sent, layers_run)

    def _check_reply(self, request: Frame, reply: Frame, sent: bytes, layers_run: int) -> None:
        body = bytes((request.command, request.seq, request.status, 0)) + request.payload
        key = request.seq, zlib.crc32(body)
        if self._last is not None and self._last[:2] == key:
            if sent != self._last[2] or layers_run:
                raise Wrong(f"a repeated {request} was carried out or answered anew")
            return
        self._last = (*key, sent)
        if (reply.command, reply.seq) != (request.command | REPLY, request.seq):
            raise Wrong(f"{reply} answers {request}")
        status = Status(reply.status)
        if status != Status.OK and len(reply.payload) != 8:
            raise Wrong(f"{status.name} with {len(reply.payload)} bytes")
        if layers_run and (request.command != Command.INFER or status != Status.OK):
            raise Wrong(f"{layers_run} layers ran for {request}, {status.name}")
        self.asked.add(f"{_name(request.command)}: {status.name.lower()}")
        if request.status:
            wanted: Status | None = Status.ARGUMENT
        elif request.command not in list(Command):
            wanted = Status.UNKNOWN
        else:
            rule = getattr(self, f"_{Command(request.command).name.lower()}")
            wanted = rule(request.payload, reply.payload, status, layers_run)
        if wanted not in (None, status):
            raise Wrong(f"{status.name} instead of {wanted} to {request}")

    def _ping(self, asked: bytes, said: bytes, status: Status, _: int) -> Status:
        if status == Status.OK and said != asked:
            raise Wrong("PING came back changed")
        return Status.OK if len(asked) <= 64 else Status.LENGTH

    def _info(self, asked: bytes, said: bytes, status: Status, _: int) -> Status:
        if len(asked) != 4:
            return Status.LENGTH
        if any(asked[1:]) or asked[0] > 1:
            return Status.ARGUMENT
        if asked[0] and self.active is None:
            return Status.NOT_NOW
        if asked[0]:
            self.layers = head_info(said).layers
        elif (found := device_info(said).active_crc) != zlib.crc32(self.active or b""):
            raise Wrong(f"the active blob has the CRC {found:08x}")
        return Status.OK

    def _load(self, asked: bytes, said: bytes, status: Status, _: int) -> Status | None:
        if len(asked) < 8:
            return Status.LENGTH
        area, offset, data = asked[0], int.from_bytes(asked[4:8], "little"), asked[8:]
        if any(asked[1:4]) or area > 1:
            return Status.ARGUMENT
        if area == Area.INPUT and self.active is None:
            return Status.NOT_NOW
        if status == Status.OK and said != struct.pack("<II", zlib.crc32(data), offset + len(data)):
            raise Wrong("LOAD did not read back what it wrote")
        if area == Area.INPUT:
            return None
        room = self.slots_bytes[self._inactive] - SEAL_BYTES
        if offset > room or len(data) > room - offset:
            return Status.NO_ROOM
        if offset and offset != (0 if self._loading is None else len(self._loading)):
            return Status.ORDER
        if offset % PROGRAM_BYTES:
            return Status.ARGUMENT
        self._loading = data if offset == 0 else (self._loading or b"") + data
        return Status.OK

    def _commit(self, asked: bytes, said: bytes, status: Status, _: int) -> Status:
        if len(asked) != 8:
            return Status.LENGTH
        size, crc = struct.unpack("<II", asked)
        if self._loading is None or size != len(self._loading):
            return Status.NOT_NOW
        if crc != zlib.crc32(self._loading):
            return Status.CRC
        reason, record, _blob = blobs.verdict(self._loading, self.arena_bytes)
        if reason == 19:
            return Status.CRC
        if reason:
            if status == Status.REFUSED and said != struct.pack("<II", reason, record):
                raise Wrong(f"refused for {said.hex()}, not for reason {reason} of {record}")
            return Status.REFUSED
        self.active, self._loading = self._loading, None
        self._inactive = 1 - self._inactive
        self.commits += 1
        return Status.OK

    def _infer(self, asked: bytes, said: bytes, status: Status, layers_run: int) -> Status | None:
        if len(asked) != 8:
            return Status.LENGTH
        if self.active is None:
            return Status.NOT_NOW
        if status != Status.OK:
            return None
        _, _, blob = blobs.verdict(self.active, self.arena_bytes)
        assert blob is not None
        wanted = min(_INFER.unpack(asked)[3], len(blob.layers))
        if layers_run != (0 if self._marks else wanted):
            raise Wrong(f"{layers_run} layers ran instead of {wanted}")
        output_bytes, _, crc, _, _, inline = struct.unpack_from("<6I", said)
        if inline == output_bytes and crc != zlib.crc32(said[24:]):
            raise Wrong("the output has another CRC")
        return Status.OK

    def _read(self, asked: bytes, said: bytes, status: Status, _: int) -> Status | None:
        if len(asked) != 12:
            return Status.LENGTH
        if self.active is None:
            return Status.NOT_NOW
        offset, count = struct.unpack_from("<II", asked, 4)
        if status == Status.OK and len(said) != count:
            raise Wrong(f"READ of {count} bytes gave {len(said)}")
        right = self.active[offset : offset + count]
        if status == Status.OK and asked[0] == Area.BLOB and said != right:
            raise Wrong("READ gave something else than the blob")
        return None

    def _mark(self, asked: bytes, said: bytes, status: Status, _: int) -> Status:
        if len(asked) != 4:
            return Status.LENGTH
        if asked[0] > Mark.PULSES or asked[1]:
            return Status.ARGUMENT
        self._marks = asked[0] != Mark.OFF
        return Status.OK

    def _reset(self, asked: bytes, said: bytes, status: Status, _: int) -> Status | None:
        if len(asked) != 4:
            return Status.LENGTH
        if status == Status.OK:
            self._loading, self._marks, self._last = None, False, None
            self._parser = FrameParser(MAX_PAYLOAD)
        return Status.OK if not any(asked) else None


def _name(command: int) -> str:
    return Command(command).name if command in list(Command) else "others"
