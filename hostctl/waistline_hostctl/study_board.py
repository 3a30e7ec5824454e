"""What a codec costs a microcontroller: its processor, and the line from it to the bridge."""

from __future__ import annotations

from dataclasses import dataclass, replace

from waistline.bench import NodeBench
from waistline.codec.coders._planes import planes_of
from waistline.codec.coders.base import CodeShape
from waistline.errors import ConfigError
from waistline_bridge.boards import DEFAULT
from waistline_bridge.coder_cost import CodingCost, Processor, coding_cost, processor_of
from waistline_bridge.fit import limits_of
from waistline_bridge.frames import OVERHEAD_BYTES

BITS_PER_BYTE = 10
"""8N1: start, eight, stop."""
_INFER_HEAD_BYTES, _READ_BYTES = 24, 12
"""In front of INFER's output; what a READ asks with. PROTOCOL.md section 3."""
_COBS_BLOCK = 254


@dataclass(frozen=True, slots=True)
class StudyBoard:
    """The board that a study is for.

    Attributes:
        processor: core and clock.
        baud: of the line to the bridge.
        max_payload: bytes that a reply carries at most.
        by: who chose the board, for people.
    """

    processor: Processor
    baud: int
    max_payload: int
    by: str

    def cost(self, shape: CodeShape, coder: str, sent_bytes: int) -> CodingCost:
        """Of coding one tensor into ``sent_bytes``."""
        planes = planes_of(shape)
        rows = planes.planes * planes.rows
        return coding_cost(
            self.processor.core, coder, shape.bits,
            elements=rows * planes.columns, rows=rows, sent_bytes=sent_bytes,
        )  # fmt: skip

    def line_bytes(self, output_bytes: int) -> int:
        """What crosses the line for a coded waist: the reply to INFER, READs of the rest."""
        inline = min(output_bytes, self.max_payload - _INFER_HEAD_BYTES)
        total = framed(_INFER_HEAD_BYTES + inline)
        left = output_bytes - inline
        while left > 0:
            part = min(left, self.max_payload)
            total += framed(_READ_BYTES) + framed(part)
            left -= part
        return total

    @property
    def remark(self) -> str:
        """How its times come about, for people."""
        one = self.processor
        return (
            f"encode times are those of {one.board}, a {one.name} at {one.clock_hz / 1e6:g} MHz"
            f"{self.by}: instructions fitted to counts in QEMU, cycles by a model of the pipeline "
            f"without wait states; the line to the bridge has {self.baud} baud (8N1, frames of "
            "the bridge), its checksums and the adapter's delays are left out"
        )


def framed(payload_bytes: int) -> int:
    """Bytes of a frame on the line, at most."""
    body = payload_bytes + OVERHEAD_BYTES
    return body + 1 + body // _COBS_BLOCK + 2


def study_board(
    board: str | None, clock_hz: float | None, baud: int | None, bench: NodeBench
) -> StudyBoard:
    """The board that was asked for, else that of the bench, else the one for everything.

    Raises:
        ConfigError: nothing is known of its processor.
    """
    name = board or bench.board or DEFAULT
    processor = processor_of(name)
    if clock_hz is not None:
        processor = replace(processor, clock_hz=clock_hz)
    by = "" if board else " (of bench.toml)" if bench.board else " (the default; --board chooses)"
    return StudyBoard(processor, baud or bench.baud, limits_of(name).max_payload, by)


def check_unused(board: str | None, clock_hz: float | None, baud: int | None) -> None:
    """Refuse what is for boards where the head is for another device.

    Raises:
        ConfigError: some of it was given.
    """
    if board is not None or clock_hz is not None or baud is not None:
        raise ConfigError(
            "--board, --clock and --baud are for heads on a microcontroller",
            cause="the head of this bundle is not a blob",
            fix="leave them out (--slowdown K says how much slower the node is than this "
            "machine), or split with --backend mcu",
        )
