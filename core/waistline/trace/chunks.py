"""The JLS file format as it lies on disk: headers, chunks, and where everything is.

Source: the format description published with the jls library, ``include/jls/format.h`` (version
1.0). A file is a 32-byte header and a row of chunks, each a 32-byte header with a CRC-32C, a
payload, padding to 8 bytes and the payload's CRC-32C. This module reads; it never writes, holds no
payload in memory, and takes every size as hostile.
"""

from __future__ import annotations

import contextlib
import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from waistline.errors import TraceError
from waistline.files import check_regular
from waistline.trace.crc32c import crc32c, rows_crc

MAGIC = bytes.fromhex("6a6c73666d740d0a200a201a2020b21c")
FILE_HEADER = struct.Struct("<16sQII")
HEADER = struct.Struct("<QQBBHIII")
PAYLOAD_HEADER = struct.Struct("<qIHH")

TAG_SOURCE, TAG_SIGNAL, TAG_USER, TAG_END = 0x01, 0x02, 0x40, 0xFF
TAG_FSR_DATA, TAG_FSR_INDEX, TAG_FSR_SUMMARY = 0x22, 0x23, 0x24
TAG_ANNOTATION, TAG_UTC = 0x32, 0x3A
_TAGS = {TAG_SOURCE, TAG_SIGNAL, TAG_USER, TAG_END} | {
    0x20 | track << 3 | kind for track in range(4) for kind in range(5)
}
_RESYNC_BYTES = (1 << 12, 1 << 20)
"""Looked through at once for a header: first little, for it is near as a rule."""


class Chunk(NamedTuple):
    """One chunk: its tag, its 16 bits of meta, where its payload lies, and the next chunk.

    A tuple: a trace with a million notes has a million chunks.
    """

    offset: int
    tag: int
    meta: int
    length: int
    payload: int
    end: int


def stored_size(length: int) -> int:
    """Bytes a payload takes with its padding and CRC."""
    return (length + 4 + 7) // 8 * 8 if length else 0


class JlsFile:
    """A JLS file mapped for reading; it is never changed.

    A file that another program cuts short meanwhile ends a process that looks behind its new end
    (SIGBUS), as any mapped file does. Nothing of ours cuts one short: a writer appends, a repair
    makes a new file and replaces the old one, which a mapping keeps. Where files of strangers are
    read on their behalf, that is done in a process of its own, as `repair` does.

    Raises:
        TraceError: it is not a JLS file, or it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            check_regular(path)
            with path.open("rb") as stream:
                head = stream.read(FILE_HEADER.size)
                self.size = stream.seek(0, 2)
                if len(head) < FILE_HEADER.size or not head.startswith(MAGIC):
                    raise _not_jls(path, head)
                self.map = mmap.mmap(stream.fileno(), self.size, access=mmap.ACCESS_READ)
        except OSError as error:
            raise TraceError(
                f"{path} cannot be read",
                cause=error.strerror or str(error),
                fix="give the path of a trace (.jls)",
            ) from error
        _, length, version, stored = FILE_HEADER.unpack(head)
        if crc32c(head[:-4]) != stored or version >> 24 != 1:
            raise _not_jls(path, head)
        # The length is the last thing a writer puts in.
        self.closed = length == self.size

    def close(self) -> None:
        """Unmap; arrays that still look into it keep the mapping alive."""
        with contextlib.suppress(BufferError):
            self.map.close()

    def chunks(self, *, resync: bool = False) -> Iterator[Chunk]:
        """Every whole chunk in file order, up to the first that is not.

        Args:
            resync: look for the next sound header behind a damaged one, and go on there.
        """
        offset = FILE_HEADER.size
        while offset + HEADER.size <= self.size:
            chunk = self._chunk(offset)
            if chunk is not None and (not resync or self._header_sound(offset)):
                yield chunk
                offset = chunk.end
                continue
            found = self._next_header(offset + 8) if resync else None
            if found is None:
                return
            offset = found

    def _chunk(self, offset: int) -> Chunk | None:
        _, _, tag, _, meta, length, _, _ = HEADER.unpack_from(self.map, offset)
        payload = offset + HEADER.size
        end = payload + stored_size(length)
        # Checksums are left to `sound`: they cost a thousand times what the rest does.
        if tag not in _TAGS or end > self.size:
            return None
        return Chunk(offset, tag, meta, length, payload, end)

    def sound(self, chunk: Chunk) -> bool:
        """Whether header and payload match their checksums."""
        if not self._header_sound(chunk.offset):
            return False
        if not chunk.length:
            return True
        stored: int = struct.unpack_from("<I", self.map, chunk.end - 4)[0]
        payload = np.frombuffer(self.map, np.uint8, chunk.length, chunk.payload)
        return crc32c(payload) == stored

    def _header_sound(self, offset: int) -> bool:
        raw = self.map[offset : offset + HEADER.size]
        stored: int = HEADER.unpack(raw)[-1]
        return crc32c(raw[:-4]) == stored

    def _next_header(self, offset: int) -> int | None:
        """Offset of the next header with a sound checksum, from ``offset`` on."""
        stretch, most = _RESYNC_BYTES
        while offset + HEADER.size <= self.size:
            stop = min(offset + stretch, self.size)
            stretch = min(2 * stretch, most)
            raw = np.frombuffer(self.map[offset:stop], np.uint8)
            raw = raw[: len(raw) // 8 * 8]
            rows = np.lib.stride_tricks.sliding_window_view(raw, HEADER.size)[::8]
            stored = np.ascontiguousarray(rows[:, -4:]).view("<u4")[:, 0]
            good = np.flatnonzero((rows_crc(rows[:, :-4]) == stored) & rows.any(axis=1))
            for place in good:
                at = offset + int(place) * 8
                if self._chunk(at) is not None:
                    return at
            offset += max(8, len(rows) * 8)
        return None


def _not_jls(path: Path, head: bytes) -> TraceError:
    return TraceError(
        f"{path} is not a trace Waistline can read",
        cause=f"it begins with {head[:8].hex(' ') or 'nothing'}, not with a sound JLS header",
        fix=f"waistline trace import {path} reads CSV, NumPy, Parquet and .ppk2 files",
    )
