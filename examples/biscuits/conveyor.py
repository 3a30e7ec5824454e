"""Frames of a biscuit line: pictures, boxes, classes and masks, made anew from their seeds.

    python examples/biscuits/conveyor.py --count 20 --size 192 --seed 7 --out folder
    python examples/biscuits/conveyor.py --count 200 --npz frames.npz

`frame` is what ``task.toml`` names. ``--out`` writes PNGs, masks, ``labels.json`` and a contact
sheet; ``--npz`` one archive that ``kind = "npz"`` of a task and ``waistline node --source`` read.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from biscuit_factory.scene import CLASSES, Frame, render

if TYPE_CHECKING:
    from PIL.Image import Image

SIZE = 192
SEEDS = {
    "train": 1_000_000,
    "calibration": 2_000_000,
    "selection": 3_000_000,
    "report": 4_000_000,
    "demo": 5_000_000,
}
"""First seed of each set; none holds as many as a million, so no two share a frame."""
_OUTLINES = ("#39d353", "#ff4d4d", "#ff3df2")
_SHEET_COLUMNS = 5


def frame(
    seed: int, frame_shape: Sequence[int] | None = None
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Image uint8 (S, S, 3), and (corners, classes) of what is on it, as a task wants them.

    Args:
        seed: of the frame.
        frame_shape: (S, S, 3), S a multiple of 32; None: 192.

    Raises:
        ValueError: another shape.
    """
    height, width, channels = frame_shape or (SIZE, SIZE, 3)
    if height != width or channels != 3:
        raise ValueError(f"frame_shape {frame_shape} is not (S, S, 3)")
    made = render(seed, height)
    return made.image, (made.corners, made.classes)


def frames(seed: int, count: int, size: int = SIZE) -> list[Frame]:
    """``count`` frames with everything that is known about them, seeds counting up."""
    return [render(seed + index, size) for index in range(count)]


def write_npz(path: Path, made: Sequence[Frame]) -> None:
    """``images`` and, as `waistline.task.data.npz` reads them, the boxes."""
    owners = [np.full(len(each.classes), index) for index, each in enumerate(made)]
    np.savez_compressed(
        path,
        images=np.stack([each.image for each in made]),
        boxes=np.concatenate([each.corners for each in made]),
        box_classes=np.concatenate([each.classes for each in made]),
        box_images=np.concatenate(owners),
    )


def write_folder(folder: Path, made: Sequence[Frame], first_seed: int) -> None:
    """Pictures, masks (object number by pixel), ``labels.json`` and two contact sheets."""
    from PIL import Image

    for name in ("frames", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    labels = []
    for index, each in enumerate(made):
        name = f"{first_seed + index:08d}.png"
        Image.fromarray(each.image).save(folder / "frames" / name)
        Image.fromarray(each.masks).save(folder / "masks" / name)
        objects = [
            {"class": CLASSES[label], "kind": kind, "box": box}
            for label, kind, box in zip(
                each.classes.tolist(), each.kinds, each.corners.tolist(), strict=True
            )
        ]
        labels.append({"file": name, "seed": first_seed + index, "objects": objects})
    (folder / "labels.json").write_text(json.dumps(labels, indent=1) + "\n")
    contact_sheet(made, boxes=False).save(folder / "sheet.png")
    contact_sheet(made, boxes=True).save(folder / "sheet_boxes.png")


def contact_sheet(made: Sequence[Frame], *, boxes: bool) -> Image:
    """All frames on one picture, at least 384 pixels each, with or without their boxes."""
    from PIL import Image, ImageDraw

    size = made[0].image.shape[0]
    zoom = max(1, 384 // size)
    pitch = size * zoom + 4
    columns = min(_SHEET_COLUMNS, len(made))
    sheet = Image.new("RGB", (columns * pitch, -(-len(made) // columns) * pitch))
    for index, each in enumerate(made):
        picture = Image.fromarray(each.image).resize((pitch - 4, pitch - 4))
        if boxes:
            draw = ImageDraw.Draw(picture)
            for box, label in zip(each.corners * zoom, each.classes, strict=True):
                draw.rectangle([float(side) for side in box], outline=_OUTLINES[label], width=2)
        sheet.paste(picture, (index % columns * pitch, index // columns * pitch))
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--size", type=int, default=SIZE, help="pixels a side, a multiple of 32")
    parser.add_argument("--seed", type=int, default=SEEDS["demo"], help="of the first frame")
    parser.add_argument("--out", type=Path, help="folder for PNGs, masks, labels and sheets")
    parser.add_argument("--npz", type=Path, help="one archive of images and boxes")
    options = parser.parse_args()
    if options.count < 1 or options.seed < 0 or not (options.out or options.npz):
        parser.error("give --out or --npz, a count from 1 on and a seed from 0 on")
    if options.size % 32 or not 96 <= options.size <= 1920:
        parser.error(f"--size {options.size} is not a multiple of 32 from 96 to 1920")
    made = frames(options.seed, options.count, options.size)
    if options.out:
        write_folder(options.out, made, options.seed)
    if options.npz:
        options.npz.parent.mkdir(parents=True, exist_ok=True)
        write_npz(options.npz, made)
    print(f"{len(made)} frames in {options.out or options.npz}")


if __name__ == "__main__":
    main()
