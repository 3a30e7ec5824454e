"""What the firmware's kernels cost on a Cortex-M: instructions, words loaded, modelled cycles.

    python benchmarks/mcu_kernels.py [--core m4|m3] [--layers]

Three networks with random weights run in QEMU, layer by layer; every output is compared with the
portable kernels built for this machine. Instructions are counted by SysTick under
`-icount shift=5,sleep=off` and are the same in every run; words and cycles come from a second run
whose blocks QEMU logs (benchmarks/mcu_trace.py says how), and whose instructions must be as many
within 0.2 %. Ends with 1 if an output differs or a
goal is missed. Needs arm-none-eabi-gcc and qemu-system-arm.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "unit"))
import firmware_nets as nets
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


def measure(net: nets.Net, core: str, program: Path, folder: Path) -> list[Measured]:
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


def summary(core: str, name: str, rows: list[Measured]) -> tuple[str, bool]:
    macs = sum(row.layer.macs for row in rows)
    millions = sum(row.instructions for row in rows) / 1e6
    cycles = sum(row.cost.cycles for row in rows)
    goal, anchor = GOALS.get((core, name)), CMSIS_NN.get((core, name))
    cells = [
        name,
        f"{macs / 1e6:.3f}",
        f"{millions:.2f} M",
        f"{millions * 1e6 / macs:.2f}",
        "-" if goal is None else f"{goal:g} M",
        "-" if anchor is None else f"{anchor:.2f} M",
        f"{sum(row.cost.loaded for row in rows) / macs:.2f}",
        f"{cycles / 1e6:.2f} M",
        f"{cycles / macs:.2f}",
        str(sum(not row.equal for row in rows)),
    ]
    fine = all(row.equal and row.counts_agree for row in rows)
    fine = fine and (goal is None or millions <= goal)
    return f"| {' | '.join(cells)} |", fine


def layer_row(row: Measured) -> str:
    layer = row.layer
    cells = [
        layer.name,
        f"{layer.macs / 1e3:.1f}",
        f"{row.instructions / 1e3:.1f}",
        f"{row.instructions / layer.macs:.2f}",
        f"{row.cost.loaded / layer.macs:.2f}",
        f"{row.cost.cycles / layer.macs:.2f}",
        str(layer.scratch),
    ]
    return f"| {' | '.join(cells)} |"


def run(core: str, *, layers: bool) -> bool:
    fine, details = True, []
    print(f"\n{nets.MACHINES[core][1]} ({nets.MACHINES[core][0]})\n")
    print(
        "| network | MMAC | instructions | /MAC | goal | CMSIS-NN | words loaded /MAC "
        "| modelled cycles | /MAC | layers that differ |"
    )
    print("|---" * 10 + "|")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        program = nets.build(folder, core)
        for name, make in nets.NETS.items():
            rows = measure(make(), core, program, folder)
            for title, some in parts(name, rows).items():
                line, good = summary(core, title, some)
                fine = fine and good
                print(line, flush=True)
            details.append((name, rows))
    for name, rows in details if layers else []:
        print(f"\n{name}\n")
        print("| layer | kMAC | k instructions | /MAC | words /MAC | cycles /MAC | scratch, B |")
        print("|---" * 7 + "|")
        print("\n".join(map(layer_row, rows)))
    return fine


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--core", choices=list(nets.MACHINES), help="only this one")
    parser.add_argument("--layers", action="store_true", help="a table for each network, too")
    options = parser.parse_args()
    if nets.GCC is None or nets.QEMU is None:
        print("needs arm-none-eabi-gcc and qemu-system-arm", file=sys.stderr)
        return 2
    cores = [options.core] if options.core else list(nets.MACHINES)
    return 0 if all([run(core, layers=options.layers) for core in cores]) else 1


if __name__ == "__main__":
    sys.exit(main())
