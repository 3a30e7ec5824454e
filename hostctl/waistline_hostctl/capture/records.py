"""Records in the ring: one producer puts them there, one consumer takes them out.

Python gives no memory barriers, and an Arm core may show the writer a record's header before its
bytes. So nothing is believed for its position alone: every record carries its sequence number and a
CRC over header and payload, and what does not fit together is not there yet. The CRC covers the
header, the sum of the payload's 64-bit words and the bytes behind them: bytes that are not there
yet change that as surely as a CRC over all of them, which takes eight times as long. A ring that is
full refuses; nothing is ever overwritten unread.

A record lies at a multiple of 8 and in one piece; one that would not fit before the end is preceded
by a filler.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from waistline_hostctl.capture.ring import PAGE, Ring

_RECORD = struct.Struct("<IHHQqIIQ")
"""Magic, kind, zero, sequence, host_ns, payload bytes, CRC-32, bytes thrown away."""
RECORD_BYTES = _RECORD.size
_MAGIC = 0x574C5231
_TAIL_AT = 64
"""In the ring's first page: what the consumer has released, and its complement."""
_WORD = 0xFFFF_FFFF_FFFF_FFFF


class Kind(IntEnum):
    """What a record says."""

    FILLER = 0
    DATA = 1
    DROPPED = 2
    """So many bytes were read while the ring was full, and are gone."""
    END = 3
    """The reader's last word; the payload is its reason as text, empty where all went well."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record.

    Attributes:
        kind: of it.
        host_ns: monotonic time right after its last byte was read.
        dropped_bytes: of `Kind.DROPPED`.
        payload: a view into the ring; use it before `Consumer.release`.
    """

    kind: Kind
    host_ns: int
    dropped_bytes: int
    payload: memoryview


class Producer:
    """The reader's end.

    Attributes:
        dropped_bytes: what was thrown away in all because there was no room.
    """

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self._head = 0
        self._tail = 0
        self._sequence = 0
        self._owed, self._owed_ns = 0, 0  # thrown away and not yet said
        self.dropped_bytes = 0

    @property
    def waiting_bytes(self) -> int:
        """Records that the consumer has not released."""
        self._tail = max(self._tail, _published(self._ring.memory))
        return self._head - self._tail

    def reserve(self, size_bytes: int) -> memoryview | None:
        """Room for a payload of up to ``size_bytes`` in one piece; None: the ring is full."""
        # What is owed is said before anything else, so that the stream keeps its order.
        wanted = _rounded(size_bytes) + RECORD_BYTES
        if self._owed:
            if self._place(RECORD_BYTES + wanted) is None:
                return None
            self._put(Kind.DROPPED, 0, self._owed_ns, self._owed)
            self._owed = 0
        at = self._place(wanted)
        return None if at is None else self._ring.memory[at + RECORD_BYTES :][:size_bytes]

    def commit(self, size_bytes: int, host_ns: int, kind: Kind = Kind.DATA) -> None:
        """Hand over the first bytes of what `reserve` gave."""
        self._put(kind, size_bytes, host_ns, 0)

    def drop(self, size_bytes: int, host_ns: int) -> None:
        """Bytes that were read into nowhere."""
        self._owed += size_bytes
        self._owed_ns = host_ns
        self.dropped_bytes += size_bytes

    def end(self, reason: str, host_ns: int) -> bool:
        """The last record; False while there is no room for it."""
        data = reason.encode()[:512]
        view = self.reserve(len(data))
        if view is None:
            return False
        view[:] = data
        self.commit(len(data), host_ns, Kind.END)
        return True

    def _place(self, size_bytes: int) -> int | None:
        """Offset of free memory in one piece; fillers go before it where they must."""
        ring = self._ring
        offset = self._head % ring.capacity
        left = ring.capacity - offset
        needed = size_bytes + (left if size_bytes > left else 0)
        if self._head + needed - self._tail > ring.capacity:
            self._tail = max(self._tail, _published(ring.memory))
            if self._head + needed - self._tail > ring.capacity:
                return None
        if size_bytes > left:
            if left >= RECORD_BYTES:
                self._put(Kind.FILLER, left - RECORD_BYTES, 0, 0)
            else:
                self._head += left  # too short to say so; the consumer knows
            offset = 0
        return PAGE + offset

    def _put(self, kind: Kind, size_bytes: int, host_ns: int, dropped: int) -> None:
        memory = self._ring.memory
        at = PAGE + self._head % self._ring.capacity
        fields = (_MAGIC, kind, 0, self._sequence, host_ns, size_bytes)
        begin = at + RECORD_BYTES
        # A filler's bytes are not written, so they are not checked.
        body = memory[begin : begin + (0 if kind == Kind.FILLER else size_bytes)]
        crc = _seal(_RECORD.pack(*fields, 0, dropped), body)
        _RECORD.pack_into(memory, at, *fields, crc, dropped)
        self._sequence += 1
        self._head += RECORD_BYTES + _rounded(size_bytes)


class Consumer:
    """The writer's end."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self._tail = 0
        self._sequence = 0
        self._next = 0

    def take(self) -> Record | None:
        """The next record, None: there is none yet. `release` it before taking another."""
        while True:
            found = self._look()
            if found is None or found.kind != Kind.FILLER:
                return found
            self.release()

    def release(self) -> None:
        """Give the memory of the record back to the producer."""
        self._tail, self._sequence = self._next, self._sequence + 1
        struct.pack_into("<QQ", self._ring.memory, _TAIL_AT, self._tail, ~self._tail & _WORD)

    def _look(self) -> Record | None:
        ring = self._ring
        left = ring.capacity - self._tail % ring.capacity
        tail = self._tail + (left if left < RECORD_BYTES else 0)
        at = PAGE + tail % ring.capacity
        magic, kind, zero, sequence, host_ns, size, crc, dropped = _RECORD.unpack_from(
            ring.memory, at
        )
        room = ring.capacity - tail % ring.capacity - RECORD_BYTES
        if magic != _MAGIC or sequence != self._sequence or size > room:
            return None
        payload = ring.memory[at + RECORD_BYTES : at + RECORD_BYTES + size]
        body = payload if kind != Kind.FILLER else payload[:0]
        fields = (magic, kind, zero, sequence, host_ns, size, 0, dropped)
        if _seal(_RECORD.pack(*fields), body) != crc:
            return None
        self._next = tail + RECORD_BYTES + _rounded(size)
        return Record(Kind(kind), host_ns, dropped, payload)


def _seal(header: bytes, body: memoryview) -> int:
    words = len(body) // 8
    total = int(np.add.reduce(np.frombuffer(body[: 8 * words], np.uint64))) if words else 0
    rest = zlib.crc32(body[8 * words :], total & 0xFFFF_FFFF)
    return zlib.crc32(header, rest ^ (total >> 32))


def _published(memory: memoryview) -> int:
    """What the consumer has released; 0 while it is just being written."""
    tail, check = struct.unpack_from("<QQ", memory, _TAIL_AT)
    return int(tail) if tail == ~check & _WORD else 0


def _rounded(size_bytes: int) -> int:
    return -(-size_bytes // 8) * 8
