"""What coding a waist with `ctx` costs a Cortex-M against `none`, and on which lines that pays.

    python benchmarks/mcu_coder.py [--core m4|m3] [--frames N] [--json FILE]

The example's head of examples/fashion, quantized and lowered as `waistline split --backend mcu`
does, gives the waists; they are coded in QEMU as the firmware does it, and the streams compared
with those of this machine. Counts and cycles as in benchmarks/mcu_kernels.py. Needs cc,
arm-none-eabi-gcc and qemu-system-arm.
"""

from __future__ import annotations

import argparse
import struct
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "unit"))

import accuracy
import coder_steps
import firmware_nets as nets
import mcu_tools
import numpy as np
from coder_steps import CODERS, Step
from lower_help import Firmware, lowered
from mcu_agreement import inputs_of
from mcu_trace import Program, Trace

from waistline.blob.records import read_blob
from waistline.model.frontiers import find_frontier
from waistline.model.load import load_model
from waistline.task.load import load_task
from waistline_bridge.split import split_mcu

CUTS = ("block1_dw", "block2_add")
FRAMES = 2
CLOCK_HZ = 168e6
"""Of the nucleo-f446re; memory without wait states is assumed."""
BAUDS = (115_200, 921_600, 2_000_000)


def steps_of(cut: str, bits: int, frames: int, firmware: Firmware, folder: Path) -> list[Step]:
    """The waists of some frames of the example, to be coded either way."""
    task = load_task(mcu_tools.FASHION / "task.toml")
    model = load_model(mcu_tools.FASHION / "model.onnx")
    made = split_mcu(
        model, find_frontier(model.graph, cut).x, folder / f"{cut}-{bits}.bundle",
        codec=f"i8:b={bits},clip=mse|ctx", task=task,
    )  # fmt: skip
    head = made.lowered.head
    blob = read_blob(made.lowered.data)
    (waist,) = blob.waists
    table = bytes(blob.section((waist.table, 256))) if waist.table else b""
    planes = (waist.planes, waist.rows, waist.columns, int(waist.interleaved))
    ((images, _),) = accuracy.batches(task, "selection", frames)
    inputs = inputs_of(head, images)
    plain = lowered(head, "raw|none")
    whole = firmware.run_many(plain.data, plain.plan.size_bytes, inputs)
    coded = firmware.run_many(made.lowered.data, made.lowered.plan.size_bytes, inputs)
    codec = made.bundle.waist_codec()
    assert codec is not None
    found = []
    for values, payload in zip((one[4:] for one in whole), coded, strict=True):
        value = np.frombuffer(values, np.uint8)
        codes = np.frombuffer(table, np.uint8)[value] if table else value
        packed = np.packbits(
            (codes[:, None] >> np.arange(bits) & 1).astype(np.uint8), bitorder="little"
        ).tobytes()
        both = (packed, payload[4:])
        found += [Step(planes, bits, table, values, k, both[k]) for k in range(len(CODERS))]
    return found


@dataclass
class Row:
    """A width at a cut on a core: means of a frame, of `none` and `ctx`."""

    cut: str
    bits: int
    elements: int
    bytes: list[float]
    instructions: list[float]
    cycles: list[float]
    differ: int

    @property
    def even_bps(self) -> float:
        """Payload bytes per second of the line up to which ctx takes less time."""
        saved = self.bytes[0] - self.bytes[1]
        return saved * CLOCK_HZ / (self.cycles[1] - self.cycles[0])

    @property
    def cells(self) -> list[str]:
        def each(values: list[float], digits: int = 0) -> list[str]:
            return [f"{value / self.elements:.{digits}f}" for value in values]

        spent_s = (self.cycles[1] - self.cycles[0]) / CLOCK_HZ
        return [
            str(self.bits),
            *(f"{size:.0f}" for size in self.bytes),
            *each(self.instructions),
            f"{(self.instructions[1] / self.elements) / self.bits:.1f}",
            *each(self.cycles),
            f"{1e3 * spent_s:.2f}",
            f"{self.even_bps / 1e3:.0f}",
            str(self.differ),
        ]


def measure_core(core: str, waists: dict[tuple[str, int], list[Step]], folder: Path) -> list[Row]:
    program = nets.build(folder, core)
    rows = []
    for (cut, bits), steps in waists.items():
        mcu_tools.note(f"  {cut}, {bits} bits on {core} ...")
        sizes, net = [step.room for step in steps], coder_steps.image(steps)
        counted = nets.run_image(program, core, net, sizes, folder, *nets.COUNTED)
        trace = Trace(Program(program, core), folder)
        nets.run_image(program, core, net, sizes, folder, *trace.options)
        costs = trace.costs()

        def each(values: list[float]) -> list[float]:
            return [float(np.mean(values[k :: len(CODERS)])) for k in range(len(CODERS))]

        differ = 0
        for step, (_, out) in zip(steps, counted, strict=True):
            (size,) = struct.unpack_from("<I", out)
            differ += out[4 : 4 + size] != step.payload
        rows.append(
            Row(
                cut, bits, len(steps[0].values),
                each([len(step.payload) for step in steps]),
                each([count for count, _ in counted]),
                each([cost.cycles for cost in costs]),
                differ,
            )
        )  # fmt: skip
    return rows


def measure(chosen: argparse.Namespace) -> tuple[str, dict[str, Any], bool]:
    mcu_tools.need("make", "arm-none-eabi-gcc", "qemu-system-arm", "cc")
    cores = [chosen.core] if chosen.core else list(nets.MACHINES)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        firmware = Firmware(folder)
        waists = {
            (cut, bits): steps_of(cut, bits, chosen.frames, firmware, folder)
            for cut in CUTS
            for bits in range(1, 9)
        }
        found = {core: measure_core(core, waists, folder) for core in cores}
    figures = {core: [asdict(row) for row in rows] for core, rows in found.items()}
    fine = not any(row.differ for rows in found.values() for row in rows)
    return report(found, chosen.frames), figures, fine


def report(found: dict[str, list[Row]], frames: int) -> str:
    lines = [
        "## The context coder on a microcontroller\n",
        f"Coding the waist of the example's int8 head, means of {frames} frames: table and packing "
        "(`none`), or table and context coder (`ctx`). Instructions in QEMU under "
        "`-icount shift=5,sleep=off`, the same in every run; cycles as modelled by "
        "`benchmarks/mcu_trace.py`, milliseconds from them at the "
        f"{CLOCK_HZ / 1e6:.0f} MHz of a nucleo-f446re, both without wait states. *pays below*: the "
        "rate of the line (kB/s of payload) up to which `ctx` saves more time than it takes; 8N1 "
        "carries " + ", ".join(f"{baud / 10_000:g} kB/s at {baud} baud" for baud in BAUDS) + ". "
        f"{mcu_tools.compiler()}; {mcu_tools.emulator()}. *differ*: streams that are not those of "
        "this machine.",
    ]
    headings = (
        "b", "none, B", "ctx, B", "instructions /element, none", "ctx", "ctx /bit",
        "cycles /element, none", "ctx", "ctx takes, ms more", "pays below, kB/s", "differ",
    )  # fmt: skip
    for core, rows in found.items():
        machine, cpu = nets.MACHINES[core]
        for cut in CUTS:
            of_cut = [row for row in rows if row.cut == cut]
            lines.append(f"\n`-mcpu={cpu}` ({machine}), {cut}, {of_cut[0].elements} elements:\n")
            lines.append(mcu_tools.table(headings, [row.cells for row in of_cut]))
    return "\n".join(lines)


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--core", choices=list(nets.MACHINES), help="only this one")
    parser.add_argument("--frames", type=int, default=FRAMES, help="of the selection data")


if __name__ == "__main__":
    sys.exit(mcu_tools.main(__doc__, measure, _options))
