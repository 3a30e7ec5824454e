"""Words and settings that every computed table shares."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any

import msgspec

from waistline import words
from waistline.errors import CodecError
from waistline.evidence import mean
from waistline.task.boxes import Boxes
from waistline.task.kinds.base import Kind
from waistline.task.spec import AnswerSpec
from waistline_hostctl import raw

ON_BOARD, ON_LINE = words.ON_BOARD.key, words.ON_LINE.key
"""Stages of a head on a board: what it computed by its own ticks, and all the rest of the head."""
LATENCY, BYTES, QUALITY, RADIO, BITS, OUTCOMES = (
    "latency", "bytes", "quality", "radio", "bits", "outcomes",
)  # fmt: skip
MAIN, OVERLAP, PICTURE = "waist", "overlap", "picture"
"""Streams: the waist one frame at a time, the waist pipelined, the picture itself."""
WAIST, FLOAT, UNCUT = "waist as sent", "waist uncoded", "uncut model"
ANSWERED = ("remote", "local")
DETECTION = "detect"

Rows = Sequence[dict[str, Any]]


class Settings(msgspec.Struct, frozen=True):
    """What deriving needs to know besides the tables; stored in run.json.

    Attributes:
        answer: kind and options of the bundle's answers.
        metric: a metric of `waistline.task.metrics`; "" where frames have no labels it could use.
        link: profile that paced the link, "" for loopback as it is.
        radios: profiles whose energy is modelled.
        partition_point, codec: of the main stream; no codec at x = N, where the answer is sent.
        board: microcontroller that ran the head, "" for none.
        board_emulated: it is a program.
    """

    answer: AnswerSpec
    metric: str
    link: str
    radios: tuple[str, ...]
    partition_point: int
    codec: str
    board: str = ""
    board_emulated: bool = False

    @property
    def sends_answer(self) -> bool:
        """Whether the main stream was cut at x = N: the node answers, the reply acknowledges."""
        return not self.codec


def main_rows(frames: Rows) -> list[dict[str, Any]]:
    """Answered frames of the main stream."""
    return [row for row in frames if row["stream"] == MAIN and row["outcome"] in ANSWERED]


def measure_of(settings: Settings) -> str:
    """What people call the metric's figure."""
    return "accuracy" if settings.metric in {"", "top1"} else settings.metric


def unpacked(kind: Kind, cell: str) -> Any:
    """The answer in a text cell; None for none, or for one that is not of the kind."""
    data = next(raw.answers([cell]))
    if not data:
        return None
    try:
        return kind.unpack(data)
    except CodecError:
        return None


def label_text(kind: Kind, label: object) -> str:
    """A frame's ground truth as it stands in a raw table; `label_of` reads it."""
    if isinstance(label, Boxes):
        return base64.b64encode(kind.pack(label)).decode()
    return "" if label is None else str(label)


def label_of(text: str, kind: Kind, settings: Settings) -> int | Boxes | None:
    """A class by number or name, or the boxes of a detection task; None for anything else."""
    if settings.answer.kind == DETECTION:
        try:
            found = kind.unpack(base64.b64decode(text, validate=True))
        except (CodecError, binascii.Error, ValueError):
            return None
        return found if isinstance(found, Boxes) else None
    if text.isascii() and text.isdigit():
        return int(text)
    classes = list(settings.answer.options.get("classes", ()))
    return classes.index(text) if text in classes else None


def mean_of(values: Sequence[float]) -> tuple[float, float | None, int]:
    """Mean, its standard uncertainty, and the number of values."""
    return *mean(values), len(values)
