"""Fit what coding costs a Cortex-M, by coder, width and core; and say how well it fits.

    python benchmarks/mcu_coder_table.py [--write] [--json FILE]

Tensors of the example's int8 head, some of them flat, are coded in QEMU as the firmware does it;
--write puts the fit where `waistline study codec` reads it, `waistline_bridge/coder_cost.json`.
Needs arm-none-eabi-gcc and qemu-system-arm.
"""

from __future__ import annotations

import argparse
import struct
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "unit"))

import coder_steps
import firmware_nets as nets
import mcu_tools
import msgspec
import numpy as np
from coder_steps import CODERS, Step
from mcu_trace import Program, Trace

from waistline_bridge import coder_cost
from waistline_bridge.coder_cost import Line, Table

TRACED = ("m4", "m3")
"""Cores whose cycles the model of mcu_trace.py is for."""
LIKE = "m4"
"""Whose cycles an instruction the others are taken to have."""
UNITS = ("instructions", "cycles")
TERMS = ("fixed", "element", "root", "row", "byte")
PLAIN = ("fixed", "element")
"""Terms of `none`, which looks at no code's value."""
FLAGS = ("SPEED", "SIZE")


@dataclass(frozen=True)
class Sample:
    """A step, and what it was counted to take of each unit."""

    step: Step
    counts: tuple[float, float]

    @property
    def terms(self) -> dict[str, float]:
        step = self.step
        values = (1, step.elements, step.elements**0.5, step.rows, len(step.payload))
        return dict(zip(TERMS, values, strict=True))


def fit(
    samples: Sequence[Sample], unit: int, names: Sequence[str]
) -> tuple[dict[str, float], float]:
    """Coefficients of least squared relative error, none negative; and the worst error."""
    counts = np.array([sample.counts[unit] for sample in samples])
    used = list(names)
    while True:
        terms = np.array([[sample.terms[name] for name in used] for sample in samples])
        found, *_ = np.linalg.lstsq(terms / counts[:, None], np.ones(len(counts)), rcond=None)
        if (found >= 0).all():
            break
        used.remove(used[int(np.argmin(found * terms.mean(0)))])
    worst = float(np.abs(terms @ found / counts - 1).max())
    return dict.fromkeys(TERMS, 0.0) | dict(zip(used, found.tolist(), strict=True)), worst


def counted(core: str, steps: list[Step], folder: Path) -> list[float]:
    """Instructions of each step; the streams must be those of this machine."""
    program = nets.build(folder, core)
    sizes = [step.room for step in steps]
    made = nets.run_image(program, core, coder_steps.image(steps), sizes, folder, *nets.COUNTED)
    for step, (_, out) in zip(steps, made, strict=True):
        (size,) = struct.unpack_from("<I", out)
        assert out[4 : 4 + size] == step.payload, f"{core} made another stream"
    return [count for count, _ in made]


def cycles(core: str, steps: list[Step], folder: Path) -> list[float]:
    program = nets.build(folder, core)
    trace = Trace(Program(program, core), folder)
    sizes = [step.room for step in steps]
    nets.run_image(program, core, coder_steps.image(steps), sizes, folder, *trace.options)
    return [float(cost.cycles) for cost in trace.costs()]


def samples_of(steps: list[Step], folder: Path) -> Iterator[tuple[str, list[Sample]]]:
    instructions, traced = {}, {}
    for core in nets.CORES:
        mcu_tools.note(f"  {len(steps)} tensors on {core} ...")
        instructions[core] = counted(core, steps, folder)
        if core in TRACED:
            traced[core] = cycles(core, steps, folder)
    each = np.array(traced[LIKE]) / np.array(instructions[LIKE])
    for core, counts in instructions.items():
        spent = traced.get(core) or (np.array(counts) * each).tolist()
        pairs = zip(steps, zip(counts, spent, strict=True), strict=True)
        yield core, [Sample(step, both) for step, both in pairs]


def lines_of(core: str, samples: list[Sample]) -> Iterator[Line]:
    for place, coder in enumerate(CODERS):
        for bits in range(1, 9):
            # What is stored after all costs both ways, see coder_cost.coding_cost.
            some = [sample for sample in samples
                    if (sample.step.coder, sample.step.bits) == (place, bits)
                    and (not place or len(sample.step.payload) < sample.step.packed)]  # fmt: skip
            for unit, name in enumerate(UNITS):
                found, worst = fit(some, unit, TERMS if place else PLAIN)
                numbers = {term: round(value, 3) for term, value in found.items()}
                yield Line(core, coder, bits, name, **numbers, worst=round(worst, 4))


def measure(chosen: argparse.Namespace) -> tuple[str, dict[str, Any], bool]:
    mcu_tools.need("make", "arm-none-eabi-gcc", "qemu-system-arm")
    tensors = coder_steps.fitted()
    steps = [step for tensor in tensors for step in coder_steps.steps_of(tensor)]
    with tempfile.TemporaryDirectory() as folder:
        found = list(samples_of(steps, Path(folder)))
    made = Table(
        made_by="python benchmarks/mcu_coder_table.py --write",
        compiler=mcu_tools.compiler(),
        flags={name: mcu_tools.flags(name) for name in FLAGS},
        emulator=mcu_tools.emulator(),
        instructions="-icount shift=5,sleep=off, by SysTick",
        cycles=f"benchmarks/mcu_trace.py on {' and '.join(TRACED)}; the others are taken to need "
        f"{LIKE}'s cycles an instruction; no wait states",
        tensors={one.name: one.shape for one in tensors},
        lines=tuple(line for core, samples in found for line in lines_of(core, samples)),
    )
    if chosen.write:
        coder_cost.TABLE.write_bytes(compact(made))
    return report(made), {"table": msgspec.to_builtins(made)}, True


def compact(table: Table) -> bytes:
    """A line for each entry."""
    found = msgspec.to_builtins(table)
    lines = []
    for name, value in found.items():
        text = _json(value)
        if isinstance(value, dict):
            pairs = (f"  {_json(key)}: {_json(one)}" for key, one in value.items())
            text = "{\n" + ",\n".join(pairs) + "\n }"
        elif isinstance(value, (list, tuple)):
            text = "[\n" + ",\n".join(f"  {_json(one)}" for one in value) + "\n ]"
        lines.append(f" {_json(name)}: {text}")
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def report(made: Table) -> str:
    headings = ("core", "coder", "b", "unit", *TERMS, "worst error, %")
    rows = [
        (line.core, line.coder, line.bits, line.unit,
         *(f"{getattr(line, term):.1f}" for term in TERMS), f"{100 * line.worst:.1f}")
        for line in made.lines
    ]  # fmt: skip
    return (
        "## The cost of coders as a formula\n\n"
        f"Fitted on {len(made.tensors)} tensors. {made.compiler}; {made.emulator}; "
        f"{made.instructions}; cycles: {made.cycles}.\n\n{mcu_tools.table(headings, rows)}"
    )


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--write", action="store_true", help="into coder_cost.json")


if __name__ == "__main__":
    sys.exit(mcu_tools.main(__doc__, measure, _options))
