"""The example network of the repository; it is data of the checkout and in no wheel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from waistline.errors import ConfigError
from waistline.task.load import Task, load_task

FOLDER = Path("examples") / "fashion"


@dataclass(frozen=True, slots=True)
class Example:
    """A model with its task.

    Attributes:
        model: the ONNX file.
        task: with calibration, selection and report data.
        source: the report images as a node reads them.
    """

    model: Path
    task: Task
    source: Path

    @property
    def files(self) -> tuple[Path, ...]:
        """What a run of it depends on."""
        folder = self.model.parent
        return (self.model, self.task.path, *sorted(folder.glob("*.npz")))


def find_example(start: Path = Path(__file__)) -> Example:
    """The example of the checkout that this file is in.

    Raises:
        ConfigError: it is not in a checkout.
    """
    for parent in start.resolve().parents:
        folder = parent / FOLDER
        if (folder / "model.onnx").is_file():
            return Example(
                folder / "model.onnx", load_task(folder / "task.toml"), folder / "report.npz"
            )
    raise ConfigError(
        "the example network is not here",
        cause=f"no {FOLDER} above {start.parent}; it comes with the checkout, not with the package",
        fix="clone the repository and run 'make demo' in it",
    )
