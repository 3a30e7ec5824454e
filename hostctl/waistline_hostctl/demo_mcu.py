"""The demo's act on a microcontroller: the clothes again, the head on an emulated Cortex-M4.

The head is quantized to int8, lowered to a blob and loaded over the bridge; the board quantizes and
packs the waist, and the node passes it on. It needs QEMU and the built firmware, and is left out,
saying why, where they are not there.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from waistline.bench import ResolvedBench
from waistline.bundle.cuts import CutRow, list_cuts, pick_default_cut
from waistline.model.load import load_model
from waistline.run import new_run
from waistline_bridge.boards import open_board
from waistline_bridge.client import Client
from waistline_bridge.split import McuSplit, split_mcu
from waistline_hostctl import running
from waistline_hostctl.console import Console, indented, size
from waistline_hostctl.example import FASHION, find_example

NAME = "mcu"
TITLE = "Fashion-MNIST again, the head on a microcontroller"
BOARD = "qemu-mps2-an386"
CODEC = "i8:b=4,clip=mse|ctx"
FRAMES = 100


@dataclass(frozen=True, slots=True)
class McuDemo:
    """What the act made.

    Attributes:
        run: the streamed frames.
        split: the bundle, and what its head takes of each board.
        cut: that was chosen, the one of the clothes' act.
    """

    run: running.Run
    split: McuSplit
    cut: CutRow


def check_board() -> None:
    """Start the board and greet it, before anything else is done.

    Raises:
        WaistlineError: what is missing here.
    """
    with open_board(BOARD) as board:
        Client(board.line).close()


def run_act(
    bench: ResolvedBench, console: Console, *, frames: int | None = None, runs: str | Path = "runs"
) -> McuDemo:
    """Split for the board, run both ends, report.

    Args:
        bench: settings in force.
        console: is told each result as soon as there is one.
        frames: report images to stream, at most.
        runs: folder of run folders.

    Raises:
        WaistlineError: a part failed.
    """
    example = find_example(FASHION)
    model = load_model(example.model)
    chosen = pick_default_cut(list_cuts(model, example.task))
    with new_run(runs, f"demo-{NAME}") as folder:
        split = split_mcu(
            model,
            chosen.x,
            folder.path / "waist.bundle",
            codec=CODEC,
            task=example.task,
            board=BOARD,
        )
        console.say(_split_text(split))
        source = example.write_source(folder.path / "frames.npz", min(FRAMES, frames or FRAMES))
        run = running.run_pair(
            split.bundle.path, source=str(source), name=f"demo-{NAME}", folder=folder, bench=bench,
            console=console, board=BOARD, model=example.model,
        )  # fmt: skip
        return McuDemo(run, split, chosen)


def _split_text(split: McuSplit) -> str:
    bundle = split.bundle
    (row,) = [found for found in split.fits if found.limits.board == BOARD]
    fitting = [found.limits.board for found in split.fits if not found.problem]
    codec = ", ".join(f"{item.tensor.name} as {item.codec}" for item in bundle.cut.tensors)
    return "\n".join(
        [
            f"split    {bundle.path}",
            f"         x = {bundle.cut.partition_point}, {codec}",
            f"         head in int8: {len(split.lowered.head.layers)} layers, "
            f"blob {size(row.blob_bytes)}, arena {size(row.arena_bytes)}",
            indented(f"fits {', '.join(fitting)}", ""),
            "",
            f"run      {BOARD}, a Cortex-M4F at work in QEMU, behind an emulated UART",
        ]
    )
