"""Where everything in a JLS file is: signals, data chunks, summaries, notes.

One walk over the chunk headers; payloads of samples are not touched. What a chunk says about
itself is checked against its size before anything is believed.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from waistline.errors import TraceError
from waistline.trace import chunks as fmt
from waistline.trace.base import Annotation, Gap, UtcPoint
from waistline.trace.chunks import Chunk, JlsFile
from waistline.trace.snapshot import (
    MAX_LENGTH,
    USER_LEDGER,
    USER_RUN,
    USER_START,
    from_jls_time,
    parse_annotation,
)

F32, U1 = 0x2004, 0x0103
_SIGNAL = struct.Struct("<HBBIIIIIIII")
_SIGNAL_RESERVED = 92
_NOTE = struct.Struct("<BBBBfI")
_ID_MASK = 0x0FFF


class Run(NamedTuple):
    """``size`` entries from sample ``first`` on; ``place`` is the offset of the first entry.

    ``place`` is negative for bits that are all alike and therefore not stored: -1 all zero, -2 all
    one.
    """

    first: int
    size: int
    place: int

    @property
    def end(self) -> int:
        """First sample after it (of a run of samples)."""
        return self.first + self.size


@dataclass
class Channel:
    """One signal of the file."""

    number: int
    name: str
    unit: str
    kind: int
    rate_hz: int
    row: int
    chunk: int
    higher: int
    runs: list[Run] = field(default_factory=list)
    summaries: dict[int, list[Run]] = field(default_factory=dict)

    @property
    def bits(self) -> int:
        """Size of a sample in bits."""
        return self.kind >> 8 & 0xFF

    @property
    def end(self) -> int:
        """First sample after the last stored one."""
        return self.runs[-1].end if self.runs else 0

    @property
    def certain(self) -> int:
        """First sample that is not stored, for whatever reason."""
        end = self.runs[0].first if self.runs else 0
        for run in self.runs:
            if run.first != end:
                break
            end = run.end
        return end


@dataclass
class Index:
    """All that is known of a file without reading its samples."""

    file: JlsFile
    channels: dict[int, Channel] = field(default_factory=dict)
    start: bytes = b""
    run: bytes = b""
    ledger: bytes = b""
    annotations: list[Annotation] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    utc: list[UtcPoint] = field(default_factory=list)
    ended: bool = False
    damaged: int = 0
    end: int = 0

    def channel(self, name: str) -> Channel | None:
        """The signal called ``name``."""
        return next((row for row in self.channels.values() if row.name == name), None)


def read_index(path: Path, *, salvage: bool = False) -> Index:
    """Walk over a file.

    Args:
        path: of a JLS file.
        salvage: check every checksum, and step over what is damaged.

    Raises:
        TraceError: it is no JLS file, or it contradicts itself.
    """
    index = Index(JlsFile(path))
    try:
        _walk(index, salvage=salvage)
    except BaseException:
        index.file.close()
        raise
    return index


def _walk(index: Index, *, salvage: bool) -> None:
    offset = fmt.FILE_HEADER.size
    pending: dict[int, Chunk] = {}
    for chunk in index.file.chunks(resync=salvage):
        if salvage and not index.file.sound(chunk):
            index.damaged += chunk.end - offset
            offset = chunk.end
            continue
        index.damaged += chunk.offset - offset
        offset = chunk.end
        try:
            _take(index, chunk, pending, salvage=salvage)
        except (struct.error, UnicodeDecodeError, ValueError, OverflowError) as error:
            if not salvage:
                raise TraceError(
                    f"{index.file.path} is damaged",
                    cause=f"the chunk at byte {chunk.offset} contradicts itself: {error}",
                    fix=f"waistline trace repair {index.file.path}",
                ) from error
            index.damaged += chunk.end - chunk.offset
    index.end = offset


def _take(index: Index, chunk: Chunk, pending: dict[int, Chunk], *, salvage: bool) -> None:
    tag, number, level = chunk.tag, chunk.meta & _ID_MASK, chunk.meta >> 12
    if tag == fmt.TAG_SIGNAL:
        _take_signal(index, chunk)
    elif tag == fmt.TAG_USER:
        _take_user(index, chunk)
    elif tag == fmt.TAG_END:
        index.ended = True
    elif tag == fmt.TAG_ANNOTATION:
        _take_note(index, chunk)
    elif tag == fmt.TAG_UTC:
        data = _payload(index, chunk, 24)
        sample, time = struct.unpack_from("<q8xq", data)
        if not index.utc or index.utc[-1].sample < sample:
            index.utc.append(UtcPoint(sample, from_jls_time(time)))
    elif number in index.channels and tag == fmt.TAG_FSR_DATA:
        channel = index.channels[number]
        _append(channel, _run(index, chunk, channel.bits), index, salvage=salvage)
    elif number in index.channels and tag == fmt.TAG_FSR_INDEX:
        pending[number] = chunk
    elif number in index.channels and tag == fmt.TAG_FSR_SUMMARY and level:
        channel = index.channels[number]
        run = _run(index, chunk, 128)
        channel.summaries.setdefault(level, []).append(run)
        if level == 1 and channel.bits == 1 and number in pending:
            _take_omitted(index, channel, pending.pop(number), run)


def _payload(index: Index, chunk: Chunk, least: int, most: int = 1 << 24) -> bytes:
    if not least <= chunk.length <= most:
        raise ValueError(f"{chunk.length} bytes, {least} to {most} expected")
    return index.file.map[chunk.payload : chunk.payload + chunk.length]


def _run(index: Index, chunk: Chunk, bits: int) -> Run:
    first, count, entry, _ = fmt.PAYLOAD_HEADER.unpack_from(index.file.map, chunk.payload)
    size = fmt.PAYLOAD_HEADER.size
    if (
        entry != bits
        or not 0 <= first < MAX_LENGTH
        or size + (count * bits + 7) // 8 > chunk.length
    ):
        raise ValueError(f"{count} entries of {entry} bits at sample {first}")
    return Run(first, count, chunk.payload + size)


def _append(channel: Channel, run: Run, index: Index, *, salvage: bool) -> None:
    """Add a run behind the last one."""
    if not run.size:
        return
    hole = run.first - channel.end if channel.runs else 0
    # Bits that are all alike are filled in by the summary that follows.
    if hole and channel.bits != 1:
        # Damage of n bytes hides n samples at most.
        if not salvage or not 0 < hole <= index.damaged:
            raise ValueError(f"sample {run.first} follows {channel.end}")
    elif hole < 0:
        raise ValueError(f"sample {run.first} follows {channel.end}")
    channel.runs.append(run)


def _take_omitted(index: Index, channel: Channel, entries: Chunk, rows: Run) -> None:
    """Fill in the chunks of bits that were not stored, from the first summary's index."""
    first, count, size, _ = fmt.PAYLOAD_HEADER.unpack_from(index.file.map, entries.payload)
    if size != 64 or 16 + count * 8 > entries.length or first != rows.first:
        raise ValueError("an index that does not fit its summary")
    known = {run.first for run in channel.runs[-count - 1 :]}
    end = rows.first + rows.size * channel.row
    for place in range(count):
        begin = first + place * channel.chunk
        offset = struct.unpack_from("<Q", index.file.map, entries.payload + 16 + place * 8)[0]
        row = place * (channel.chunk // channel.row)
        if offset or begin in known or row >= rows.size:
            continue
        mean = struct.unpack_from("<f", index.file.map, rows.place + row * 16)[0]
        length = min(channel.chunk, end - begin)
        channel.runs.append(Run(begin, length, -2 if mean >= 0.5 else -1))
    channel.runs.sort()


def _take_signal(index: Index, chunk: Chunk) -> None:
    data = _payload(index, chunk, _SIGNAL.size + _SIGNAL_RESERVED)
    fields = _SIGNAL.unpack_from(data)
    _, vsr, _, kind, rate, per_chunk, row, _, higher = fields[:9]
    number = chunk.meta & _ID_MASK
    kind &= 0xFFFF
    if vsr or kind not in (F32, U1) or number in index.channels:
        return
    if not (rate and row and higher > 1 and per_chunk and per_chunk % row == 0):
        raise ValueError(f"signal {number} with {per_chunk} samples a chunk, {row} a row")
    names = data[_SIGNAL.size + _SIGNAL_RESERVED :].split(b"\x00\x1f")
    name, unit = (part.decode() for part in (*names, b"", b"")[:2])
    index.channels[number] = Channel(number, name, unit, kind, rate, row, per_chunk, higher)


def _take_user(index: Index, chunk: Chunk) -> None:
    kind = chunk.meta & _ID_MASK
    if kind not in (USER_START, USER_RUN, USER_LEDGER):
        return
    data = _payload(index, chunk, 0).rstrip(b"\x00\x1f")
    if kind == USER_START:
        index.start = index.start or data
    elif kind == USER_RUN:
        index.run = data
    else:
        index.ledger = data


def _take_note(index: Index, chunk: Chunk) -> None:
    data = _payload(index, chunk, 16 + _NOTE.size)
    sample = struct.unpack_from("<q", data)[0]
    _, storage, _, _, _, size = _NOTE.unpack_from(data, 16)
    text = data[16 + _NOTE.size :][:size].rstrip(b"\x00\x1f")
    if storage not in (2, 3) or not 0 <= sample < MAX_LENGTH:
        return
    note = parse_annotation(sample, text.decode())
    if isinstance(note, Gap):
        index.gaps.append(note)
    else:
        index.annotations.append(note)
