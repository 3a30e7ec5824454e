"""Whether a head fits a board, before anything is loaded.

``fit.csv`` holds each board's limits: those of its part, and what its firmware sets aside; a test
compares them with what the build leaves. Firmware is counted with the limit that its build keeps,
both slots with their whole size.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from waistline.blob.records import Blob
from waistline.errors import ConfigError, ModelError

SEAL_BYTES = 32
"""In front of the blob in its slot; PROTOCOL.md section 6."""
NO_CUT_FITS = "no cut of this model will fit: it takes a smaller input or a larger board"
_TABLE = Path(__file__).with_name("fit.csv")


@dataclass(frozen=True)
class BoardLimits:
    """Bytes of a board.

    Attributes:
        flash_bytes, ram_bytes: of the part.
        firmware_bytes: of flash that the firmware takes at most.
        arena_bytes: for tensors, scratch and the coded waist.
        slot_bytes, second_slot_bytes: of the two slots for heads. A board with two unequal ones
            takes a head above the second when it holds none, or one that lies in the second.
        slots: where they lie, ``flash`` or ``ram``.
        stack_bytes: set aside; what a head needs of it does not depend on the head.
        link_bytes: buffers of the link.
        variables_bytes: all else the firmware keeps in RAM, at most.
        max_payload: bytes that a request or reply carries at most.
    """

    board: str
    flash_bytes: int
    ram_bytes: int
    firmware_bytes: int
    arena_bytes: int
    slot_bytes: int
    second_slot_bytes: int
    slots: str
    stack_bytes: int
    link_bytes: int
    variables_bytes: int
    max_payload: int

    @property
    def slots_bytes(self) -> int:
        return self.slot_bytes + self.second_slot_bytes

    @property
    def flash_used_bytes(self) -> int:
        return self.firmware_bytes + (self.slots_bytes if self.slots == "flash" else 0)

    @property
    def ram_used_bytes(self) -> int:
        slots = self.slots_bytes if self.slots == "ram" else 0
        own = self.stack_bytes + self.link_bytes + self.variables_bytes
        return self.arena_bytes + own + slots


@dataclass(frozen=True)
class Fit:
    """A head on a board.

    Attributes:
        blob_left_bytes: free in a slot behind the blob; negative: missing.
        arena_left_bytes: free in the arena.
        problem: why it does not fit, "" if it does.
    """

    limits: BoardLimits
    blob_bytes: int
    arena_bytes: int

    @property
    def blob_left_bytes(self) -> int:
        return self.limits.slot_bytes - SEAL_BYTES - self.blob_bytes

    @property
    def arena_left_bytes(self) -> int:
        return self.limits.arena_bytes - self.arena_bytes

    @property
    def problem(self) -> str:
        missing = []
        if self.blob_left_bytes < 0:
            room = self.limits.slot_bytes - SEAL_BYTES
            missing.append(f"the blob has {self.blob_bytes} bytes, a slot takes {room}")
        if self.arena_left_bytes < 0:
            room = self.limits.arena_bytes
            missing.append(f"its tensors take {self.arena_bytes} bytes, the arena has {room}")
        return "; ".join(missing)


@cache
def all_limits() -> tuple[BoardLimits, ...]:
    """Every board of the table."""
    with _TABLE.open(newline="", encoding="utf-8") as file:
        return tuple(
            BoardLimits(**{key: _number(value) for key, value in row.items()})  # type: ignore[arg-type]
            for row in csv.DictReader(file)
        )


def _number(text: str) -> int | str:
    return int(text) if text.isdigit() else text


def limits_of(board: str) -> BoardLimits:
    """The limits of one board.

    Raises:
        ConfigError: it is not in the table.
    """
    for found in all_limits():
        if found.board == board:
            return found
    raise ConfigError(
        f"nothing is known about the memory of board {board!r}",
        cause=f"the table has {', '.join(item.board for item in all_limits())}",
        fix="choose one of these, or ask the board itself: waistline mcu info",
    )


def fit(blob: Blob, boards: Iterable[BoardLimits] | None = None) -> list[Fit]:
    """A row for each board, by default for all of the table.

    Args:
        blob: of the head.
        boards: those to look at.
    """
    chosen = all_limits() if boards is None else boards
    return [Fit(limits, len(blob.data), blob.arena_bytes) for limits in chosen]


def require_fit(blob: Blob, limits: BoardLimits) -> Fit:
    """The row of a board on which the head fits.

    Raises:
        ModelError: it does not; says which memory lacks how much.
    """
    (found,) = fit(blob, [limits])
    if found.problem:
        raise ModelError(
            f"the head does not fit {limits.board}",
            cause=found.problem,
            fix=smaller_fix(blob, limits.arena_bytes),
        )
    return found


def smaller_fix(blob: Blob, arena_bytes: int) -> str:
    """What makes a head fit that does not: another cut, unless every head of its model is too big.

    Args:
        blob: of the head; a broken one does no harm.
        arena_bytes: of the board.
    """
    if first_layer_bytes(blob) > arena_bytes:
        return NO_CUT_FITS
    return "choose an earlier or narrower cut (waistline split MODEL --backend mcu --list)"


def first_layer_bytes(blob: Blob) -> int:
    """Bytes of the arena that the first layer uses: heads of earlier cuts begin with it too."""
    if not blob.layers:
        return blob.input_bytes
    layer = blob.layers[0]
    used = [layer.scratch]
    numbers = {*layer.inputs, layer.output} & set(range(len(blob.tensors)))
    used += [(blob.tensors[k].offset, blob.tensors[k].size_bytes) for k in numbers]
    taken = end = 0
    for start, size_bytes in sorted(used):
        taken += max(0, start + size_bytes - max(start, end))
        end = max(end, start + size_bytes)
    return taken
