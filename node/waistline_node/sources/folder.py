"""Images in a folder, PNG and JPEG, in the order of their names, then those in its subfolders.

The images of a subfolder are labelled with its class, numbered as in `waistline.task.data.folder`,
or with its name where that is no class, or answers are no classes. The first image is checked
before the stream starts; a later one that is damaged, or of another size or mode, ends as an error
of its own frame.
"""

from __future__ import annotations

from pathlib import Path

from waistline.errors import ConfigError
from waistline.frame import SensorFrame
from waistline.task.data.folder import read_image
from waistline.task.folders import list_images, number_classes
from waistline_node.sources.base import IndexedSource, SourceOptions


def open_source(text: str, options: SourceOptions) -> IndexedSource:
    folder = Path(text)
    if not options.image:
        raise ConfigError(
            f"{folder} cannot be the source",
            cause="the bundle has no task, so its frames are the model's inputs, not images",
            fix="give a .npz file, or split again with --task",
        )
    height, width, channels = options.frame[0].shape
    shape = (height, width, channels)
    files, remarks = _labelled(folder, options.classes)
    read_image(files[0][0], shape)

    def read_at(position: int, index: int) -> SensorFrame:
        path, label = files[position]
        return SensorFrame(index, (read_image(path, shape),), label, name_of(position))

    def name_of(position: int) -> str:
        return str(files[position][0].relative_to(folder))

    return IndexedSource(len(files), read_at, name_of, options, remarks)


def _labelled(
    folder: Path, classes: tuple[str, ...] | None
) -> tuple[list[tuple[Path, int | str | None]], tuple[str, ...]]:
    """Every image with its label, and what a person should know about the labels."""
    found = list_images(folder)
    files: list[tuple[Path, int | str | None]] = [(path, None) for path in found.loose]
    numbers = {} if classes is None else number_classes(found.groups, classes)
    for name, members in found.groups.items():
        files += [(path, numbers.get(name, name)) for path in members]
    remarks = []
    if numbers and not classes:
        order = ", ".join(f"{name} = {number}" for name, number in numbers.items())
        remarks.append(f"the task names no classes; class folders count by name: {order}")
    strange = [name for name in found.groups if classes is not None and name not in numbers]
    if strange:
        remarks.append(f"folder {strange[0]!r} is no class of the task, so its images have none")
    return files, tuple(remarks)
