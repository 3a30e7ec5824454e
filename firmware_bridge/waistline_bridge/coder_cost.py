"""What coding a waist costs a Cortex-M: instructions and cycles, by coder, width and core.

``coder_cost.json`` holds a line for each; ``python benchmarks/mcu_coder_table.py --write`` counts
in QEMU, fits and writes it, and says in it how. A tensor costs

    fixed + element * elements + root * sqrt(elements) + row * rows + byte * coded bytes

where rows are those of all planes. The root stands for what the context coder pays while it knows
little: every node takes its first 60 decisions the slow way, and a larger tensor meets more nodes,
but not in proportion. Memory without wait states is assumed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import msgspec

from waistline.errors import ConfigError

TABLE = Path(__file__).with_name("coder_cost.json")


class Line(msgspec.Struct, frozen=True):
    """Coefficients of one unit (``instructions``, ``cycles``) of a coder on a core.

    Attributes:
        worst: largest error of a tensor that it was fitted on, of its count.
    """

    core: str
    coder: str
    bits: int
    unit: str
    fixed: float
    element: float
    root: float
    row: float
    byte: float
    worst: float

    def of(self, elements: int, rows: int, coded_bytes: int) -> float:
        """The cost of a tensor."""
        size = self.element * elements + self.root * math.sqrt(elements)
        return self.fixed + size + self.row * rows + self.byte * coded_bytes


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file.

    Attributes:
        made_by: command that wrote it.
        compiler, flags, emulator: what was counted with.
        instructions, cycles: how they were obtained.
        tensors: what was coded, with their shapes.
    """

    made_by: str
    compiler: str
    flags: dict[str, str]
    emulator: str
    instructions: str
    cycles: str
    tensors: dict[str, tuple[int, int, int]]
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Processor:
    """What a board computes with; its clock as its firmware or its FPGA image has it."""

    board: str
    core: str
    clock_hz: float

    @property
    def name(self) -> str:
        return f"Cortex-{self.core.upper()}"


@dataclass(frozen=True, slots=True)
class CodingCost:
    """Of coding one or more tensors."""

    instructions: float = 0.0
    cycles: float = 0.0

    def __add__(self, other: CodingCost) -> CodingCost:
        return CodingCost(self.instructions + other.instructions, self.cycles + other.cycles)


PROCESSORS = (
    Processor("qemu-mps2-an386", "m4", 25e6),
    Processor("qemu-mps2-an385", "m3", 25e6),
    Processor("qemu-mps2-an505", "m33", 20e6),
    Processor("qemu-mps2-an547", "m55", 32e6),
    Processor("qemu-netduinoplus2", "m4", 168e6),
    Processor("nucleo-f446re", "m4", 168e6),
)


def processor_of(board: str) -> Processor:
    """Core and clock of a board.

    Raises:
        ConfigError: nothing is known of it.
    """
    for found in PROCESSORS:
        if found.board == board:
            return found
    raise ConfigError(
        f"nothing is known about the processor of board {board!r}",
        cause=f"there are: {', '.join(item.board for item in PROCESSORS)}",
        fix="choose the one of these that has your processor, with --board",
    )


@cache
def table() -> Table:
    """The file beside this one."""
    return msgspec.json.decode(TABLE.read_bytes(), type=Table)


def coding_cost(
    core: str, coder: str, bits: int, *, elements: int, rows: int, sent_bytes: int
) -> CodingCost:
    """What a tensor costs.

    Args:
        core: of a `Processor`.
        coder: ``none`` or ``ctx``.
        bits: of a code; with 8 and without a table ``none`` is a copy.
        elements: codes.
        rows: of all planes together, as `waistline.codec.coders` takes the tensor's shape.
        sent_bytes: of the payload. As many as the packed codes have: the context coder gave up on
            them near their end, and they were packed after that.

    Raises:
        ConfigError: a coder or width that the firmware does not have.
    """
    packed = -(-elements * bits // 8)
    cost = _cost(core, coder, bits, elements, rows, min(sent_bytes, packed))
    if coder != "none" and sent_bytes >= packed:
        cost += _cost(core, "none", bits, elements, rows, packed)
    return cost


def _cost(core: str, coder: str, bits: int, elements: int, rows: int, size: int) -> CodingCost:
    found = _by_unit().get((core, coder, bits))
    if found is None:
        raise ConfigError(
            f"nothing is known about the cost of {coder!r} with {bits} bits on {core!r}",
            cause="the table has none and ctx with 1 to 8 bits on m3, m4, m33 and m55",
            fix="choose a codec that the firmware has, such as i8:b=4|ctx",
        )
    return CodingCost(*(line.of(elements, rows, size) for line in found))


@cache
def _by_unit() -> dict[tuple[str, str, int], tuple[Line, Line]]:
    units: dict[str, dict[tuple[str, str, int], Line]] = {"instructions": {}, "cycles": {}}
    for line in table().lines:
        units[line.unit][line.core, line.coder, line.bits] = line
    return {key: (line, units["cycles"][key]) for key, line in units["instructions"].items()}
