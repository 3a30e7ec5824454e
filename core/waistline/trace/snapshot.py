"""What a trace file says about itself: the start snapshot, annotations, gaps.

The snapshot is user data written before the first sample, so that a file whose writer was killed
still says what it is. Annotations keep what a JLS marker cannot hold (fractions of a sample, the
end of a segment, the size of a gap) as JSON behind ASCII 28, where the format puts such metadata.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from waistline.errors import TraceError
from waistline.evidence import Evidence
from waistline.trace.base import SIGNALS, Annotation, AnnotationKind, Gap, GapKind, TraceSpec

USER_START, USER_RUN, USER_LEDGER = 0x10, 0x11, 0x12
"""The 12 application bits of a JLS user data chunk."""
SCHEMA = 1
MAX_LENGTH = 1 << 48
"""Samples; more than any file can hold, little enough for arithmetic."""
SEPARATOR = "\x1c"
TEXT_LIMIT = 1000
# 2018-01-01, where JLS time begins; its unit is 2**-30 s.
_JLS_EPOCH_NS = 1_514_764_800 * 1_000_000_000


class Start(msgspec.Struct, frozen=True, forbid_unknown_fields=False):
    """The start snapshot as stored."""

    waistline_trace: int
    rate_hz: float
    signals: list[str]
    source: str
    evidence: Evidence
    start_utc_ns: int = 0
    start_monotonic_ns: int = 0
    supply_v: float | None = None


class _Note(msgspec.Struct, frozen=True, omit_defaults=True):
    kind: AnnotationKind
    at: float
    end: float | None = None


class _Hole(msgspec.Struct, frozen=True, omit_defaults=True):
    gap: GapKind
    count: int
    low: int | None = None
    high: int | None = None


_Meta = TypeVar("_Meta", _Note, _Hole)
_NOTES, _HOLES = msgspec.json.Decoder(_Note), msgspec.json.Decoder(_Hole)
_GAP = '"gap"'


def encode_start(spec: TraceSpec) -> bytes:
    """The snapshot of ``spec`` as JSON."""
    start = Start(
        waistline_trace=SCHEMA,
        rate_hz=spec.rate_hz,
        signals=[signal.name for signal in spec.signals],
        source=plain(spec.source),
        evidence=spec.evidence,
        start_utc_ns=spec.start_utc_ns,
        start_monotonic_ns=spec.start_monotonic_ns,
        supply_v=spec.supply_v,
    )
    return msgspec.json.encode(start)


def decode_start(data: bytes, where: str) -> TraceSpec:
    """The spec in a snapshot.

    Raises:
        TraceError: it is not one, or of a newer version.
    """
    try:
        start = msgspec.json.decode(data, type=Start)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise TraceError(
            f"{where} does not say what it holds",
            cause=f"its start snapshot cannot be read: {error}",
            fix="use a trace written by waistline capture or waistline trace import",
        ) from error
    if start.waistline_trace > SCHEMA:
        raise TraceError(
            f"{where} was written by a newer Waistline",
            cause=f"its snapshot is of version {start.waistline_trace}, this reads {SCHEMA}",
            fix="install a newer waistline",
        )
    known = tuple(SIGNALS[name] for name in start.signals if name in SIGNALS)
    return TraceSpec(
        rate_hz=start.rate_hz,
        signals=known,
        source=start.source,
        evidence=start.evidence,
        start_utc_ns=start.start_utc_ns,
        start_monotonic_ns=start.start_monotonic_ns,
        supply_v=start.supply_v,
    )


def plain(text: str) -> str:
    """Text as a marker may hold it: printable, one line, bounded."""
    clean = "".join(char if char.isprintable() else " " for char in text)
    return clean[:TEXT_LIMIT]


def annotation_text(annotation: Annotation) -> str:
    """Name and metadata of an annotation."""
    note = _Note(kind=annotation.kind, at=annotation.sample, end=annotation.end_sample)
    return plain(annotation.text) + SEPARATOR + msgspec.json.encode(note).decode()


def gap_text(gap: Gap) -> str:
    """Name and metadata of a gap."""
    size = f"{gap.count}" if gap.resolved else f"{gap.low}..{gap.high}"
    hole = _Hole(gap=gap.kind, count=gap.count, low=gap.low, high=gap.high)
    return f"{size} samples lost ({gap.kind})" + SEPARATOR + msgspec.json.encode(hole).decode()


def parse_annotation(sample: int, text: str) -> Annotation | Gap:
    """What is stored at ``sample``; text of other programs is a marker."""
    name, _, meta = text.partition(SEPARATOR)
    if _GAP in meta:
        hole = _decoded(meta, _HOLES)
        if hole is not None and _possible(hole):
            return Gap(sample, hole.count, hole.gap, hole.low, hole.high)
    elif meta:
        note = _decoded(meta, _NOTES)
        if note is not None and _inside(note):
            return Annotation(note.at, note.kind, name, note.end)
    return Annotation(float(sample), "marker", plain(name))


def _possible(hole: _Hole) -> bool:
    low = hole.count if hole.low is None else hole.low
    high = hole.count if hole.high is None else hole.high
    return 0 <= hole.count < MAX_LENGTH and low <= high < MAX_LENGTH


def _inside(note: _Note) -> bool:
    ends = (note.at,) if note.end is None else (note.at, note.end)
    fits = (note.kind == "segment") == (note.end is not None) and ends[0] <= ends[-1]
    return fits and abs(ends[0]) < MAX_LENGTH and abs(ends[-1]) < MAX_LENGTH


def _decoded(meta: str, decoder: msgspec.json.Decoder[_Meta]) -> _Meta | None:
    try:
        return decoder.decode(meta)
    except (msgspec.MsgspecError, RecursionError):
        # JSON may be nested deeper than its reader goes.
        return None


def to_jls_time(utc_ns: int) -> int:
    """UTC nanoseconds since 1970 -> JLS time, to the nearest, so that it comes back the same."""
    return (((utc_ns - _JLS_EPOCH_NS) << 30) + 500_000_000) // 1_000_000_000


def from_jls_time(time: int) -> int:
    """JLS time -> UTC nanoseconds since 1970, to the nearest."""
    return (time * 1_000_000_000 + (1 << 29) >> 30) + _JLS_EPOCH_NS
