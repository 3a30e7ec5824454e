"""Intel HEX: record types 00 to 05 (Intel, Hexadecimal Object File Format, 1988)."""

from __future__ import annotations

import binascii

from waistline_bridge.flash._parts import Bad, Segment, joined

_DATA, _END, _SEGMENT, _START_SEGMENT, _LINEAR, _START_LINEAR = range(6)
_LONGEST = 1 + 2 * (5 + 255)
_SIZES = {_END: 0, _SEGMENT: 2, _START_SEGMENT: 4, _LINEAR: 2, _START_LINEAR: 4}
_SEGMENT_BYTES = 1 << 16
_MAX_BYTES = 16 << 20
"""Of text: a record may carry a single byte, and each of them takes memory."""


def read(data: bytes) -> tuple[Segment, ...]:
    """Parse a file.

    Raises:
        Bad: a record is damaged, or the end record is missing.
    """
    if len(data) > _MAX_BYTES:
        raise Bad(f"over {_MAX_BYTES} bytes of text")
    parts: list[Segment] = []
    base, wraps, ended = 0, False, False
    for number, line in enumerate(data.splitlines(), start=1):
        line = line.strip()
        if not line:
            continue
        if ended:
            raise Bad(f"line {number}: text behind the end record")
        kind, offset, body = _record(line, number)
        if kind == _DATA:
            if wraps and offset + len(body) > _SEGMENT_BYTES:
                raise Bad(f"line {number}: data past the end of its 64 KiB segment")
            parts.append(Segment(base + offset, body))
        elif kind == _END:
            ended = True
        elif kind == _SEGMENT:
            base, wraps = int.from_bytes(body, "big") << 4, True
        elif kind == _LINEAR:
            base, wraps = int.from_bytes(body, "big") << 16, False
    if not ended:
        raise Bad("the end record is missing: the file is cut off")
    return joined(parts)


def _record(line: bytes, number: int) -> tuple[int, int, bytes]:
    """Type, offset and data of a line."""
    if not line.startswith(b":") or len(line) > _LONGEST:
        raise Bad(f"line {number} is not a record of Intel HEX")
    try:
        raw = binascii.unhexlify(line[1:])
    except binascii.Error:
        raise Bad(f"line {number}: not pairs of hexadecimal digits") from None
    if len(raw) < 5 or len(raw) != raw[0] + 5:
        raise Bad(f"line {number}: its length is not the one it gives")
    if sum(raw) & 0xFF:
        raise Bad(f"line {number}: its checksum is wrong")
    kind = raw[3]
    if kind > _START_LINEAR or (kind in _SIZES and raw[0] != _SIZES[kind]):
        raise Bad(f"line {number}: a record of type {kind} with {raw[0]} bytes")
    return kind, int.from_bytes(raw[1:3], "big"), raw[4:-1]
