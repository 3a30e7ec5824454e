"""What the firmware's kernels cost on a Cortex-M: instructions, words loaded, modelled cycles.

    python benchmarks/mcu_kernels.py [--core m4|m3] [--layers] [--json FILE]

Three networks with random weights run in QEMU, layer by layer; every output is compared with the
portable kernels built for this machine. Instructions are counted by SysTick under
`-icount shift=5,sleep=off` and are the same in every run; words and cycles come from a second run
whose blocks QEMU logs (benchmarks/mcu_trace.py says how), and whose instructions must be as many
within 0.2 %. Needs arm-none-eabi-gcc and qemu-system-arm.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "unit"))

import firmware_nets as nets
import mcu_tools
import numpy as np
from mcu_trace import Cost, Program, Trace

HEAD = 9
GOALS = {
    ("m4", "MobileNetV1-0.25 96x96"): 16.0,
    ("m4", "its first 9 layers"): 7.5,
    ("m4", "DS-CNN 49x10"): 5.2,
    ("m4", "Tiny-YOLO-like 96x96, convolutions"): 40.0,
    ("m3", "MobileNetV1-0.25 96x96"): 30.0,
}
CMSIS_NN = {
    ("m4", "MobileNetV1-0.25 96x96"): 22.60,
    ("m4", "its first 9 layers"): 11.44,
    ("m4", "DS-CNN 49x10"): 7.22,
    ("m4", "Tiny-YOLO-like 96x96, convolutions"): 59.50,
    ("m4", "Tiny-YOLO-like 96x96"): 62.09,
    ("m3", "MobileNetV1-0.25 96x96"): 30.41,
    ("m3", "DS-CNN 49x10"): 10.03,
    ("m3", "Tiny-YOLO-like 96x96"): 84.16,
}
"""Millions of instructions of Arm's CMSIS-NN 7.0.0+43 on these layers, GCC 12.2 -O2, requantization
in inline assembly; counted in the same way, once, and not again by this script."""


@dataclass
class Measured:
    layer: nets.Layer
    instructions: float
    cost: Cost
    equal: bool

    @property
    def counts_agree(self) -> bool:
        """Of two counters; SysTick's sees a few instructions around the layer."""
        return abs(self.cost.instructions - self.instructions) <= 50 + 0.002 * self.instructions


def measure_net(net: nets.Net, core: str, program: Path, folder: Path) -> list[Measured]:
    counted = nets.emulate(program, core, net, folder, *nets.COUNTED)
    trace = Trace(Program(program, core), folder)
    nets.emulate(program, core, net, folder, *trace.options)
    return [
        Measured(layer, instructions, cost, bool(np.array_equal(out, wanted)))
        for layer, (instructions, out), cost, wanted in zip(
            net.layers, counted, trace.costs(), net.outputs("portable"), strict=True
        )
    ]


def parts(name: str, rows: list[Measured]) -> dict[str, list[Measured]]:
    """The rows of the summary that a network gives."""
    found = {name: rows}
    if name.startswith("MobileNet"):
        found["its first 9 layers"] = rows[:HEAD]
    if name.startswith("Tiny-YOLO"):
        found[f"{name}, convolutions"] = [row for row in rows if row.layer.kind == "conv"]
    return found


@dataclass
class Row:
    """A line of the summary."""

    core: str
    name: str
    layers: list[Measured]

    def total(self, what: Callable[[Measured], float]) -> float:
        return sum(map(what, self.layers))

    @property
    def goal(self) -> float | None:
        return GOALS.get((self.core, self.name))

    @property
    def reached(self) -> bool:
        fine = all(row.equal and row.counts_agree for row in self.layers)
        return fine and (self.goal is None or self.figures["instructions"] <= self.goal * 1e6)

    @property
    def figures(self) -> dict[str, float]:
        return {
            "macs": self.total(lambda row: row.layer.macs),
            "instructions": self.total(lambda row: row.instructions),
            "words_loaded": self.total(lambda row: row.cost.loaded),
            "modelled_cycles": self.total(lambda row: row.cost.cycles),
            "layers_that_differ": self.total(lambda row: not row.equal),
        }

    @property
    def cells(self) -> list[str]:
        found, anchor = self.figures, CMSIS_NN.get((self.core, self.name))
        macs, count = found["macs"], found["instructions"]
        bracket = "" if anchor is None else f" ({anchor:.2f} M)"
        return [
            self.name,
            f"{macs / 1e6:.3f}",
            f"{count / 1e6:.2f} M{bracket}",
            f"{count / macs:.2f}",
            "" if self.goal is None else f"{self.goal:g} M: {mcu_tools.verdict(self.reached)}",
            f"{found['words_loaded'] / macs:.2f}",
            f"{found['modelled_cycles'] / 1e6:.2f} M",
            f"{found['modelled_cycles'] / macs:.2f}",
            f"{found['layers_that_differ']:.0f}",
        ]


def layer_cells(row: Measured) -> list[str]:
    layer = row.layer
    return [
        layer.name,
        f"{layer.macs / 1e3:.1f}",
        f"{row.instructions / 1e3:.1f}",
        f"{row.instructions / layer.macs:.2f}",
        f"{row.cost.loaded / layer.macs:.2f}",
        f"{row.cost.cycles / layer.macs:.2f}",
        str(layer.scratch),
    ]


def run(core: str) -> list[Row]:
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        program = nets.build(folder, core)
        for name, make in nets.NETS.items():
            mcu_tools.note(f"  {name} on {core} ...")
            found = measure_net(make(), core, program, folder)
            rows += [Row(core, title, some) for title, some in parts(name, found).items()]
    return rows


def measure(chosen: argparse.Namespace) -> tuple[str, dict[str, Any], bool]:
    mcu_tools.need("make", "arm-none-eabi-gcc", "qemu-system-arm", "cc")
    cores = [chosen.core] if chosen.core else list(nets.MACHINES)
    found = {core: run(core) for core in cores}
    figures = {core: {row.name: row.figures for row in rows} for core, rows in found.items()}
    fine = all(row.reached for rows in found.values() for row in rows)
    return report(found, layers=chosen.layers), figures, fine


def report(found: dict[str, list[Row]], *, layers: bool) -> str:
    lines = [
        "## Kernels of the firmware\n",
        "Instructions in QEMU under `-icount shift=5,sleep=off`, the same in every run; words "
        "loaded and cycles as modelled by `benchmarks/mcu_trace.py` (no wait states, no caches): a "
        "double load is one instruction and two words. Random weights; in brackets Arm's CMSIS-NN "
        "7.0.0+43 on these layers, counted in the same way, once (GCC 12.2 `-O2`, requantization "
        f"in inline assembly). {mcu_tools.compiler()}: what multiplies "
        f"`{mcu_tools.flags('SPEED')}`, the rest of the kernels `{mcu_tools.flags('SIZE')}`. "
        f"{mcu_tools.emulator()}. *differ*: layers whose outputs are not those of the portable "
        "kernels on this machine.",
    ]
    headings = ("network", "MMAC", "instructions (CMSIS-NN)", "/MAC", "goal", "words loaded /MAC",
                "modelled cycles", "/MAC", "differ")  # fmt: skip
    detail = ("layer", "kMAC", "k instructions", "/MAC", "words /MAC", "cycles /MAC", "scratch, B")
    for core, rows in found.items():
        machine, cpu = nets.MACHINES[core]
        lines += [f"\n`-mcpu={cpu}` ({machine}):\n"]
        lines.append(mcu_tools.table(headings, [row.cells for row in rows]))
        for row in rows if layers else []:
            if row.name in nets.NETS:
                lines += [f"\n{row.name}:\n", mcu_tools.table(detail, map(layer_cells, row.layers))]
    return "\n".join(lines)


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--core", choices=list(nets.MACHINES), help="only this one")
    parser.add_argument("--layers", action="store_true", help="a table for each network, too")


if __name__ == "__main__":
    sys.exit(mcu_tools.main(__doc__, measure, _options))
