"""The raw tables of a run: what was recorded, from which everything else is computed.

``frames``: one row a frame that was sent. ``inputs``: what each frame is in itself, whatever the
link. ``pictures``: the first frames as they could be sent instead. ``samples``: a few to look at.
``cuts``: the model's. ``study``: answers at other code widths. Answers stand in base64.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from waistline.bundle.cuts import CutRow
from waistline.evidence import Evidence
from waistline.run import Cell, Column, Table, table
from waistline_node.records import COLUMNS, FrameRecord, read_records

FRAMES, INPUTS, PICTURES, SAMPLES, CUTS, STUDY = (
    "frames", "inputs", "pictures", "samples", "cuts", "study",
)  # fmt: skip
PICTURE_PREFIX = "picture "
FLOAT_BITS = 32
"""Stands in ``study`` for the waist as it is, neither quantized nor coded."""
ON_LINK = ("latency_s", "transit_s", "node_queue_s")
"""Columns that the link takes part in."""
ON_BOARD = ("latency_s", "head_s", "device_s")
"""Columns that a board takes part in."""

_TYPES: dict[str, Literal["text", "integer", "number"]] = {
    "int": "integer", "float": "number", "str": "text", "bytes": "text",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sent:
    """The frames of one stream: ``waist`` the main one, ``overlap`` pipelined, ``picture``."""

    stream: str
    records: Sequence[FrameRecord]


def frames_table(streams: Iterable[Sent], *, emulated: bool, board_emulated: bool = False) -> Table:
    """Every record with its stream.

    Args:
        streams: of one run.
        emulated: the link was paced.
        board_emulated: the head ran on an emulated board.
    """
    kinds = {field.name: str(field.type) for field in fields(FrameRecord)}
    columns = [Column("stream", "text", meaning="which run of the node")]
    for name, (unit, meaning) in COLUMNS.items():
        evidence = ""
        if unit in {"s", "byte"}:
            unreal = (emulated and name in ON_LINK) or (board_emulated and name in ON_BOARD)
            evidence = (Evidence.EMULATED if unreal else Evidence.MEASURED).value
        columns.append(Column(name, _TYPES[kinds[name]], unit, meaning, evidence))
    rows: list[list[Cell]] = []
    for sent in streams:
        for record in sent.records:
            cells = [getattr(record, name) for name in COLUMNS]
            rows.append([sent.stream, *map(_cell, cells)])
    return table(FRAMES, columns, rows)


@dataclass(frozen=True, slots=True)
class InputRow:
    """One frame of the source.

    Attributes:
        index: position in the source.
        label: text of the ground truth, "" without one.
        answer: of the uncut model, packed; b"" where it has none (NaN).
        float_bytes: the waist as the model has it.
    """

    index: int
    label: str
    answer: bytes
    float_bytes: int


def inputs_table(rows: Iterable[InputRow]) -> Table:
    counted = Evidence.MEASURED.value
    columns = [
        Column("index", "integer", "frame", "position in the source"),
        Column("label", "text", "", "ground truth of the source"),
        Column("answer", "text", "", "answer of the uncut model, base64", counted),
        Column("float_bytes", "integer", "byte", "waist as the model has it", counted),
    ]
    return table(
        INPUTS,
        columns,
        [(row.index, row.label, _cell(row.answer), row.float_bytes) for row in rows],
    )


@dataclass(frozen=True, slots=True)
class PictureRow:
    """One frame as one codec of the sensor frame would send it.

    Attributes:
        index: position in the source.
        codec: such as ``jpeg:75``.
        payload_bytes: on the wire.
        answer: of the uncut model on the picture as it arrives; b"" where it has none.
    """

    index: int
    codec: str
    payload_bytes: int
    answer: bytes


def pictures_table(rows: Iterable[PictureRow]) -> Table:
    counted = Evidence.MEASURED.value
    columns = [
        Column("index", "integer", "frame", "position in the source"),
        Column("codec", "text", "", "of the frame itself"),
        Column("payload_bytes", "integer", "byte", "on the wire", counted),
        Column("answer", "text", "", "of the uncut model on what arrives, base64", counted),
    ]
    cells = [(row.index, row.codec, row.payload_bytes, _cell(row.answer)) for row in rows]
    return table(PICTURES, columns, cells)


def picture_name(codec: str) -> str:
    """``jpeg:75`` as people read it: ``picture JPEG q75``."""
    coder, _, quality = codec.removesuffix("|none").partition(":")
    word = {"png": "PNG", "jpeg": "JPEG", "webp": "WebP"}.get(coder, coder)
    return f"{PICTURE_PREFIX}{word}{f' q{quality}' if quality else ''}"


def figure_name(what: str) -> str:
    """What was sent, as part of a figure's name."""
    return what.lower().replace(" ", "_")


@dataclass(frozen=True, slots=True)
class SampleRow:
    """A frame to look at: why it was chosen, and the picture as a file of type ``media``."""

    index: int
    why: str
    width: int
    height: int
    media: str
    picture: bytes


def samples_table(rows: Iterable[SampleRow]) -> Table:
    columns = [
        Column("index", "integer", "frame", "position in the source"),
        Column("why", "text", "", "why this one"),
        Column("width", "integer", "", "pixels"),
        Column("height", "integer", "", "pixels"),
        Column("media", "text", "", "type of the file"),
        Column("picture", "text", "", "to look at, base64"),
    ]
    cells = [
        (row.index, row.why, row.width, row.height, row.media, _cell(row.picture)) for row in rows
    ]
    return table(SAMPLES, columns, cells)


def cuts_table(cuts: Iterable[CutRow], chosen_x: int) -> Table:
    counted = Evidence.MEASURED.value
    columns = [
        Column("x", "integer", "", "partition point"),
        Column("waist", "text", "", "tensors at the cut"),
        Column("after", "text", "", "last layer before the cut"),
        Column("float_bytes", "integer", "byte", "waist as the model has it", counted),
        Column("packed_bytes", "integer", "byte",
               "at 4 bit before entropy coding; x = 0: mean PNG; last: answer", counted),
        Column("head_macs_share", "number", "1", "multiply-accumulates on the node", counted),
        Column("breaks_fusion", "text", "", "operators an engine would have fused"),
        Column("chosen", "flag", "", "the cut of this run"),
    ]  # fmt: skip
    rows = [
        (row.x, ",".join(tensor.name for tensor in row.tensors), row.after, row.size_bytes,
         row.packed_bytes, row.macs_share, row.breaks_fusion, row.x == chosen_x)
        for row in cuts
    ]  # fmt: skip
    return table(CUTS, columns, rows)


@dataclass(frozen=True, slots=True)
class StudyRow:
    """One frame at one code width; ``bits`` = `FLOAT_BITS`: uncoded."""

    bits: int
    index: int
    label: str
    payload_bytes: int
    answer: bytes


def study_table(rows: Iterable[StudyRow]) -> Table:
    columns = [
        Column("bits", "integer", "bit", f"code width; {FLOAT_BITS}: neither coded nor quantized"),
        Column("index", "integer", "frame", "position in the selection data"),
        Column("label", "text", "", "ground truth"),
        Column("payload_bytes", "integer", "byte", "on the wire", Evidence.MEASURED.value),
        Column("answer", "text", "", "base64", Evidence.MEASURED.value),
    ]
    return table(
        STUDY,
        columns,
        [(row.bits, row.index, row.label, row.payload_bytes, _cell(row.answer)) for row in rows],
    )


def answers(cells: Iterable[str]) -> Iterator[bytes]:
    """Packed answers of a text column; b"" for none."""
    return (base64.b64decode(cell, validate=True) for cell in cells)


def _cell(value: Any) -> Cell:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value  # type: ignore[no-any-return]


def records_of(path: Path) -> list[FrameRecord]:
    """Records of a node's file in the order of the source."""
    return sorted(read_records(path), key=lambda record: record.index)
