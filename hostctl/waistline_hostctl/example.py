"""The example networks of the repository; they are data of the checkout and in no wheel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from waistline.errors import ConfigError
from waistline.task.boxes import Boxes
from waistline.task.load import Task, load_task

FOLDER = Path("examples")
BISCUITS, FASHION = "biscuits", "fashion"


@dataclass(frozen=True, slots=True)
class Example:
    """A model with its task.

    Attributes:
        name: of its folder.
        model: the ONNX file.
        task: with calibration, selection and report data.
    """

    name: str
    model: Path
    task: Task

    @property
    def files(self) -> tuple[Path, ...]:
        """What a run of it depends on."""
        folder = self.model.parent
        found = [*folder.glob("*.npz"), *folder.rglob("*.py")]
        return (self.model, self.task.path, *sorted(found))

    def write_source(self, target: Path, count: int) -> Path:
        """The first ``count`` report frames as a node reads them, in a new file ``target``."""
        images, corners, classes, owners, labels = [], [], [], [], []
        for index, frame in zip(range(count), self.task.data("report"), strict=False):
            images.append(frame.arrays[0])
            if isinstance(frame.label, Boxes):
                corners.append(frame.label.corners)
                classes.append(frame.label.classes)
                owners.append(np.full(len(frame.label), index))
            else:
                labels.append(frame.label)
        arrays = {"images": np.stack(images)}
        if corners:
            arrays |= {"boxes": np.concatenate(corners), "box_classes": np.concatenate(classes),
                       "box_images": np.concatenate(owners)}  # fmt: skip
        else:
            arrays["labels"] = np.array(labels)
        np.savez(target, allow_pickle=False, **arrays)
        return target


def find_example(name: str, start: Path = Path(__file__)) -> Example:
    """An example of the checkout that this file is in.

    Raises:
        ConfigError: it is not in a checkout.
    """
    for parent in start.resolve().parents:
        folder = parent / FOLDER / name
        if (folder / "model.onnx").is_file():
            return Example(name, folder / "model.onnx", load_task(folder / "task.toml"))
    raise ConfigError(
        f"the example network {name!r} is not here",
        cause=f"no {FOLDER / name} above {start.parent}; it comes with the checkout, not with the "
        "package",
        fix="clone the repository and run 'make demo' in it",
    )
