"""What a head takes of a board: arena, flash, and whether the example's fits the small one.

    python benchmarks/mcu_fit.py [--json FILE]

Needs arm-none-eabi-gcc; what runs needs qemu-system-arm, too.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

import mcu_models
import mcu_tools
import tflite_help
from lower_help import lowered

from waistline.blob.records import read_blob
from waistline.bundle.cuts import list_cuts, pick_default_cut
from waistline.bundle.store import Bundle
from waistline.model.load import load_model
from waistline.task.load import load_task
from waistline_bridge.fit import Fit, limits_of
from waistline_bridge.lower.tflite import lower_tflite
from waistline_bridge.split import McuSplit, split_mcu

SMALL = "qemu-netduinoplus2"
MAX_RATIO = 1.25
MAX_FIRMWARE_BYTES = 16 * 1024


def arenas() -> list[dict[str, Any]]:
    rows = []
    for name, make in mcu_models.MODELS.items():
        made = lowered(lower_tflite(tflite_help.load(make())), "i8:b=4|none")
        rows.append(
            {
                "network": name,
                "arena_bytes": made.plan.size_bytes,
                "live_tensors_bytes": made.largest_tensors_bytes,
                "ratio": made.plan.size_bytes / made.largest_tensors_bytes,
                "blob_bytes": len(made.data),
            }
        )
    return rows


def flash(folder: Path) -> dict[str, dict[str, int]]:
    """Bytes of every board's firmware."""
    names = mcu_tools.flags("ARM").split()
    found = {}
    for board, elf in mcu_tools.firmware(folder, names).items():
        said = subprocess.run(
            ["arm-none-eabi-size", str(elf)], capture_output=True, text=True, check=True
        )
        code, data, _ = map(int, said.stdout.splitlines()[-1].split()[:3])
        found[board] = {"code": code, "data": data, "flash": code + data}
    return found


def splits(folder: Path) -> dict[str, McuSplit]:
    """The example at its default cut, and at the one with the smallest waist that fits SMALL."""
    model = load_model(mcu_tools.FASHION / "model.onnx")
    task = load_task(mcu_tools.FASHION / "task.toml")
    rows = list_cuts(model, task)
    chosen = pick_default_cut(rows)
    made = {"default": split_mcu(model, chosen.x, folder / "default.bundle", task=task)}
    if not _fit(made["default"]).problem:
        return made
    # As chosen by hand from `waistline split MODEL --list --board`: heads grow along the network.
    single = [row for row in rows if 2 <= row.x < chosen.x and len(row.tensors) == 1]
    for row in sorted(single, key=lambda row: (row.packed_bytes, row.x)):
        if row.breaks_fusion:
            continue
        found = split_mcu(model, row.x, folder / f"{row.x}.bundle", task=task)
        if not _fit(found).problem:
            made["fits"] = found
            break
    return made


def _fit(made: McuSplit) -> Fit:
    return next(row for row in made.fits if row.limits == limits_of(SMALL))


def runs(bundle: Bundle, elf: Path) -> bool:
    """Whether SMALL gives the golden output."""
    blob = (bundle.path / "head.blob").read_bytes()
    with mcu_tools.device(SMALL, elf) as client:
        client.load_blob(blob)
        output = client.infer(golden=0).output
        mcu_tools.note(f"  stack never used: {client.refresh().stack_free} bytes")
    return zlib.crc32(output) == read_blob(blob).goldens[0].crc


def measure(chosen: argparse.Namespace) -> tuple[str, dict[str, Any], bool]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        sizes, rows, made = flash(folder), arenas(), splits(folder)
        mcu_tools.need("qemu-system-arm")
        ran = {
            name: runs(one.bundle, folder / f"{SMALL}.elf")
            for name, one in made.items()
            if not _fit(one).problem
        }
    page, fine = report(sizes, rows, made, ran)
    figures = {"firmware": sizes, "arenas": rows, "ran": ran}
    return page, figures, fine


def report(
    sizes: dict[str, dict[str, int]],
    rows: list[dict[str, Any]],
    made: dict[str, McuSplit],
    ran: dict[str, bool],
) -> tuple[str, bool]:
    judged = next(row for row in rows if row["network"].startswith("MobileNet"))
    small = judged["ratio"] <= MAX_RATIO
    tight = {board: size["flash"] <= MAX_FIRMWARE_BYTES for board, size in sizes.items()}
    arena = [
        (row["network"], f"{row['arena_bytes']:,}", f"{row['live_tensors_bytes']:,}",
         f"{row['ratio']:.3f}", f"{row['blob_bytes']:,}",
         mcu_tools.verdict(small) if row is judged else "")
        for row in rows
    ]  # fmt: skip
    boards = [
        (board, f"{size['flash']:,}", f"{size['code']:,}", size["data"],
         mcu_tools.verdict(tight[board]))
        for board, size in sizes.items()
    ]  # fmt: skip
    lines = [
        "## What a head takes of a microcontroller\n",
        f"Arena (tensors, scratch, coded waist; `i8:b=4|none`) over the largest set of tensors "
        f"alive at once, without scratch; goal for MobileNetV1: <= {MAX_RATIO}.\n",
        mcu_tools.table(("network", "arena, B", "live tensors, B", "ratio", "blob, B", ""), arena),
        "",
        f"Firmware without a blob, bytes of flash; goal: <= {MAX_FIRMWARE_BYTES:,}. "
        f"{mcu_tools.compiler()}; kernels that multiply `{mcu_tools.flags('SPEED')}`, all else "
        f"`{mcu_tools.flags('SIZE')}`.\n",
        mcu_tools.table(("board", "flash", "code", "data", ""), boards),
    ]
    fine = small and all(tight.values()) and ran.get("default", False)
    for name, one in made.items():
        lines += ["", *_split_lines(name, one, ran.get(name))]
    return "\n".join(lines), fine


def _split_lines(name: str, made: McuSplit, ran: bool | None) -> list[str]:
    waist = ", ".join(item.tensor.name for item in made.lowered.waist)
    x = made.bundle.manifest.cuts[0].partition_point
    what = {
        "default": f"its default cut, x = {x}, behind `{waist}`. Goal: fits {SMALL} and runs there",
        "fits": f"x = {x}, behind `{waist}`, the smallest waist whose head fits {SMALL}",
    }[name]
    limits = _fit(made).limits
    if ran is None:
        end = f"{mcu_tools.verdict(False)}: {_fit(made).problem}"
    elif name == "default":
        end = mcu_tools.verdict(ran)
    else:
        end = f"there it gives {'the golden output' if ran else '**another output**'}"
    rows = [
        (fit.limits.board, f"{fit.blob_bytes:,}", f"{fit.limits.slot_bytes:,}",
         f"{fit.arena_bytes:,}", f"{fit.limits.arena_bytes:,}", (fit.problem and "no") or "yes")
        for fit in made.fits
    ]  # fmt: skip
    return [
        f"The example (`examples/fashion/model.onnx`, quantized by `waistline split "
        f"--backend mcu`) at {what}: {end}. Its two slots for heads take {limits.slot_bytes:,} and "
        f"{limits.second_slot_bytes:,} B of {limits.slots.upper()}.\n",
        mcu_tools.table(("board", "blob", "slot", "arena", "of", "fits"), rows),
    ]


if __name__ == "__main__":
    sys.exit(mcu_tools.main(__doc__, measure))
