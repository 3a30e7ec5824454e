"""How near the firmware's integers are to ONNX Runtime's, and what the example loses by them.

    python benchmarks/mcu_agreement.py [--frames N] [--board-frames N] [--json FILE]

The example's float model is cut, its head quantized by ONNX Runtime and lowered to a blob, as
`waistline split --backend mcu` does. ONNX Runtime runs the same quantized head, with all its
optimisations (QLinearConv and its like: *fused*) and with none (*plain*; this one is judged).
The firmware's head is the C built for this machine for all images, and the board in QEMU for the
first of them. Needs cc; the board needs arm-none-eabi-gcc and qemu-system-arm.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import accuracy
import mcu_tools
import numpy as np
import onnx
from lower_help import Firmware, lowered
from mcu_ort import LEVELS, Quantized

from waistline.blob.form import Int8Head
from waistline.blob.interpret import run_layer
from waistline.bundle.cuts import list_cuts, pick_default_cut
from waistline.model.frontiers import find_frontier
from waistline.model.load import CutModel, load_model
from waistline.task.load import Task, load_task
from waistline.tensors import quantize
from waistline_bridge.lower.cut import lower_cut
from waistline_bridge.lower.head import calibration_feeds
from waistline_bridge.split import McuSplit, split_mcu

BOARD = "qemu-mps2-an386"
CUTS = ("block3_pw_relu", "block5_add")
"""Beside the default one."""
CODEC = "i8:b=4,clip=mse|ctx"
LAYER_FRAMES = 200
FRAMES, BOARD_FRAMES = 10_000, 1_000
MAX_STEPS, LEAST_AGREEMENT, MAX_LOSS_POINTS = 1, 0.99, 0.5


@dataclass
class Cut:
    """A cut of the example: what ONNX Runtime quantized, the head made of it, and the bundle."""

    name: str
    qdq: Path
    head: Int8Head
    made: McuSplit

    def __post_init__(self) -> None:
        if [layer.name for layer in self.made.lowered.head.layers] != [
            layer.name for layer in self.head.layers
        ]:
            raise RuntimeError("the head was not quantized the same way twice")


def cut_at(model: CutModel, task: Task, cut: str | int, folder: Path) -> Cut:
    frontier = find_frontier(model.graph, cut)
    work = folder / f"x{frontier.x}"
    work.mkdir()
    frames = task.data("calibration", model.graph.inputs)
    feeds = calibration_feeds(frames, model.graph.inputs, task.preprocess)
    head = lower_cut(model, frontier, work, feeds).head
    made = split_mcu(model, frontier.x, work / "a.bundle", codec=CODEC, task=task)
    return Cut(", ".join(frontier.names), work / "head.int8.onnx", head, made)


def layer_steps(cut: Cut, images: np.ndarray) -> dict[str, dict[str, Counter[int]]]:
    """Per layer, how often it is how far from ONNX Runtime on one and the same input.

    Each layer is run alone, on the codes that the plain engine gives it.
    """
    engine = Quantized(cut.qdq, "plain")
    codes, tensors = engine.run(images), cut.head.tensors
    real = {code: name for name, code in engine.codes.items()}
    apart: dict[str, dict[str, Counter[int]]] = {level: {} for level in LEVELS}
    for layer in cut.head.layers:
        names = [tensors[k].name for k in (*layer.inputs, layer.output)]
        *sources, out = (real.get(name, name) for name in names)
        feeds = {name: codes[name] for name in sources}
        shapes = [tensors[k].shape for k in layer.inputs]
        made = []
        for n in range(len(images)):
            inputs = [codes[s][n].reshape(shape) for s, shape in zip(sources, shapes, strict=True)]
            made.append(run_layer(cut.head, layer, inputs).reshape(-1))
        for level in LEVELS:
            theirs = engine.alone(out, feeds, level).reshape(len(images), -1)
            apart[level][out] = Counter((np.stack(made).astype(int) - theirs).ravel().tolist())
    return apart


def inputs_of(head: Int8Head, images: np.ndarray) -> np.ndarray:
    """Images as the head takes them, int8 (n, h, w, c)."""
    return quantize(head.inputs[0].spec, np.ascontiguousarray(images.transpose(0, 2, 3, 1)))


def judge(cut: Cut, firmware: Firmware, images: np.ndarray, labels: np.ndarray, uncut: np.ndarray,
          board_frames: int, elf: Path | None) -> dict[str, Any]:  # fmt: skip
    """All figures of one cut; ``uncut``: the float model's answers."""
    tail = accuracy.Slice(onnx.load(str(cut.made.bundle.path / "tail.onnx")))
    port = cut.head.outputs[0]

    def answers(codes: np.ndarray) -> np.ndarray:
        shape = (-1, *port.spec.shape[1:])
        parts = [
            tail.run((port.spec.name,), [part.reshape(shape)], ("logits",))[0].argmax(axis=1)
            for part in np.array_split(codes, max(1, len(codes) // accuracy.BATCH))
        ]
        return np.concatenate(parts)

    inputs = inputs_of(cut.head, images)
    whole = lowered(cut.head, "raw|none")
    sent = firmware.run_many(whole.data, whole.plan.size_bytes, inputs)
    codes = np.stack([np.frombuffer(one, np.int8, offset=4) for one in sent])
    row: dict[str, Any] = {"cut": cut.name, "x": cut.made.bundle.cut.partition_point, "ort": {}}
    mine = answers(codes)
    for level in LEVELS:
        other = Quantized(cut.qdq, level, cut.head.tensors[port.tensor].name)
        parts = [
            other.run(part)[other.names[0]].reshape(len(part), -1)
            for part in np.array_split(images, max(1, len(images) // accuracy.BATCH))
        ]
        theirs = np.concatenate(parts)
        steps = Counter((codes.astype(int) - theirs).reshape(-1).tolist())
        row["ort"][level] = {
            "agreement": float((mine == answers(theirs)).mean()),
            "accuracy": float((answers(theirs) == labels).mean()),
            "histogram": dict(sorted(steps.items())),
        }
    row |= _with_codec(cut, firmware, inputs, labels, uncut, answers)
    if elf is not None:
        row["board"] = _on_board(cut, firmware, inputs[:board_frames], elf)
    return row


def _with_codec(cut: Cut, firmware: Firmware, inputs: np.ndarray, labels: np.ndarray,
                uncut: np.ndarray, answers: Any) -> dict[str, Any]:  # fmt: skip
    lowered_head, codec = cut.made.lowered, cut.made.bundle.waist_codec()
    assert codec is not None
    sent = firmware.run_many(lowered_head.data, lowered_head.plan.size_bytes, inputs)
    waists = np.concatenate([codec.decode(one, codec.raw_len)[0] for one in sent])
    found = answers(waists)
    right, wanted = (found == labels).astype(int), (uncut == labels).astype(int)
    loss = wanted - right
    return {
        "float": float(wanted.mean()),
        "accuracy": float(right.mean()),
        "loss_points": 100 * float(loss.mean()),
        "loss_error_points": 100 * float(loss.std(ddof=1)) / len(loss) ** 0.5,
        "agreement_with_float": float((found == uncut).mean()),
        "payload_bytes": float(np.mean([len(one) for one in sent])),
    }


def _on_board(cut: Cut, firmware: Firmware, inputs: np.ndarray, elf: Path) -> dict[str, int]:
    """Images whose bytes from the board are not those of the C built here."""
    head = cut.made.lowered
    wanted = firmware.run_many(head.data, head.plan.size_bytes, inputs)
    different = 0
    with mcu_tools.device(BOARD, elf) as client:
        client.load_blob(head.data)
        for image, right in zip(inputs, wanted, strict=True):
            client.load_input(image.tobytes())
            different += client.infer().output != right
    return {"images": len(inputs), "different": different}


def measure(chosen: argparse.Namespace) -> tuple[str, dict[str, Any], bool]:
    mcu_tools.need("cc")
    task, model = load_task(accuracy.TASK), load_model(accuracy.MODEL)
    data = accuracy.pick_data(task)
    parts = list(accuracy.batches(task, data, chosen.frames))
    images, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
    names = tuple(spec.name for spec in model.graph.inputs)
    whole = accuracy.Slice(onnx.load(str(accuracy.MODEL)))
    runs = [whole.run(names, [part], ("logits",))[0].argmax(axis=1) for part, _ in parts]
    uncut = np.concatenate(runs)
    cuts = [pick_default_cut(list_cuts(model, task)).x, *CUTS]
    rows, steps = [], {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        elf, missing = _board(folder)
        firmware = Firmware(folder)
        for cut in cuts:
            mcu_tools.note(f"  cut {cut} ...")
            one = cut_at(model, task, cut, folder)
            if not steps:
                steps = layer_steps(one, images[:LAYER_FRAMES])
            rows.append(judge(one, firmware, images, labels, uncut, chosen.board_frames, elf))
    figures = {"data": data, "images": len(images), "layers": steps, "cuts": rows}
    page, fine = report(figures, missing)
    return page, figures, fine


def _vnni() -> str:
    flags = Path("/proc/cpuinfo").read_text().split() if Path("/proc/cpuinfo").exists() else []
    has = {"avx_vnni", "avx512_vnni"} & set(flags)
    return "this one has it" if has else "this one has none"


def _board(folder: Path) -> tuple[Path | None, str]:
    """The board's firmware, or why there is none."""
    try:
        mcu_tools.need("make", "arm-none-eabi-gcc", "qemu-system-arm")
        return mcu_tools.firmware(folder, [BOARD])[BOARD], ""
    except mcu_tools.Skip as reason:
        return None, str(reason)


def report(figures: dict[str, Any], missing: str) -> tuple[str, bool]:
    layers, layer_lines = _layers(figures["layers"])
    agreed, agreement = _agreement(figures["cuts"])
    kept, losses = _losses(figures["cuts"])
    full = "" if figures["data"] == "test" else (
        " The full test set is not installed (`apt install dataset-fashion-mnist`)."
    )  # fmt: skip
    lines = [
        "## Firmware against ONNX Runtime\n",
        f"`examples/fashion/model.onnx`, its head quantized from 256 calibration images; "
        f"{figures['images']:,} {figures['data']} images, the head as C built for this machine."
        f"{full} ONNX Runtime {metadata.version('onnxruntime')}: *plain* without optimisations, "
        f"which is judged; *fused* with all of them, whose int8 products saturate in pairs on x86 "
        f"without VNNI ({_vnni()}); *{list(LEVELS)[-1]}* with the option that forbids it.\n",
        *layer_lines,
        "",
        f"Whole heads on the same images, the bytes as they are, behind them the same float tail. "
        f"Goal: same first class in >= {100 * LEAST_AGREEMENT:g} % of the images, "
        f"{mcu_tools.verdict(agreed)}. Codes of the waist that are so many steps apart, in per "
        f"mille:\n",
        *agreement,
        "",
        f"Accuracy through the firmware's head with `{CODEC}`, tail on the host; goal: within "
        f"{MAX_LOSS_POINTS} points of the uncut float model, {mcu_tools.verdict(kept)}.\n",
        *losses,
    ]
    boards = [row["board"] for row in figures["cuts"] if "board" in row]
    images, wrong = (sum(row[key] for row in boards) for key in ("images", "different"))
    if boards:
        lines.append(
            f"\nOn {BOARD} in QEMU {images:,} images (the first of each cut): {wrong} payloads "
            f"differ from those of the C built here, {mcu_tools.verdict(wrong == 0)}."
        )
    else:
        lines.append(f"\nNot run on a board: {missing}.")
    return "\n".join(lines), layers and agreed and kept and wrong == 0


def _layers(steps: dict[str, dict[str, Counter[int]]]) -> tuple[bool, list[str]]:
    rows, fine = [], True
    for level, by_layer in steps.items():
        total: Counter[int] = sum(by_layer.values(), Counter())
        count = sum(total.values())
        most = max(abs(step) for step in total)
        worst = max(by_layer, key=lambda name: 1 - by_layer[name][0] / sum(by_layer[name].values()))
        share = 1 - by_layer[worst][0] / sum(by_layer[worst].values())
        judged = level == "plain"
        fine = fine and (not judged or most <= MAX_STEPS)
        rows.append(
            (level, len(by_layer), f"{count:,}", f"{1000 * (1 - total[0] / count):.3f}", most,
             f"{worst}: {1000 * share:.2f}",
             mcu_tools.verdict(most <= MAX_STEPS) if judged else "")
        )  # fmt: skip
    lines = [
        f"Each layer of the head at its default cut alone, on what ONNX Runtime gives it, "
        f"{LAYER_FRAMES} images; goal: at most {MAX_STEPS} step apart.\n",
        mcu_tools.table(
            ("ONNX Runtime", "layers", "values", "apart, per mille", "steps at most",
             "layer that differs most", ""), rows
        ),
    ]  # fmt: skip
    return fine, lines


def _agreement(cuts: list[dict[str, Any]]) -> tuple[bool, list[str]]:
    rows = []
    for row in cuts:
        for level, found in row["ort"].items():
            count = sum(found["histogram"].values())
            kinds: Counter[str] = Counter()
            for step, times in found["histogram"].items():
                kinds[str(abs(step)) if abs(step) < 4 else "more"] += times
            shares = [f"{1000 * kinds[kind] / count:.2f}" for kind in ("0", "1", "2", "3", "more")]
            most = max(abs(step) for step in found["histogram"])
            rows.append((row["x"], row["cut"], level, f"{100 * found['agreement']:.2f} %", *shares,
                         most))  # fmt: skip
    fine = all(row["ort"]["plain"]["agreement"] >= LEAST_AGREEMENT for row in cuts)
    headings = (
        "x",
        "waist",
        "ONNX Runtime",
        "same first class",
        "0",
        "1",
        "2",
        "3",
        "more",
        "most",
    )
    return fine, [mcu_tools.table(headings, rows)]


def _losses(cuts: list[dict[str, Any]]) -> tuple[bool, list[str]]:
    rows = [
        (row["x"], row["cut"], f"{100 * row['float']:.2f} %", f"{100 * row['accuracy']:.2f} %",
         f"{row['loss_points']:+.2f} +- {row['loss_error_points']:.2f}",
         f"{100 * row['agreement_with_float']:.2f} %", f"{row['payload_bytes']:.0f}")
        for row in cuts
    ]  # fmt: skip
    headings = ("x", "waist", "uncut float", "through the firmware", "points lost",
                "same first class as float", "mean payload, B")  # fmt: skip
    fine = all(row["loss_points"] <= MAX_LOSS_POINTS for row in cuts)
    return fine, [mcu_tools.table(headings, rows)]


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--frames", type=int, default=FRAMES, help="at most this many images")
    parser.add_argument("--board-frames", type=int, default=BOARD_FRAMES, help="in QEMU, a cut")


if __name__ == "__main__":
    sys.exit(mcu_tools.main(__doc__, measure, _options))
