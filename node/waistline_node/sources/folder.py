"""Images in a folder, PNG and JPEG, in the order of their names, then those in its subfolders.

A subfolder's name is the label of its images. The first image is checked before the stream starts;
a later one that is damaged, or of another size or mode, ends as an error of its own frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from waistline.errors import ConfigError
from waistline.frame import SensorFrame
from waistline.task.data.folder import SUFFIXES, read_image

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
    files = _files(folder)
    read_image(files[0][0], shape)

    def read_at(position: int, index: int) -> SensorFrame:
        path, label = files[position]
        return SensorFrame(index, (read_image(path, shape),), label, name_of(position))

    def name_of(position: int) -> str:
        return str(files[position][0].relative_to(folder))

    return IndexedSource(len(files), read_at, name_of, options)


def _files(folder: Path) -> list[tuple[Path, str | None]]:
    """Every image with its label."""
    try:
        found = [(path, None) for path in _images(folder)]
        groups = [entry for entry in sorted(folder.iterdir()) if entry.is_dir()]
        labelled = [(path, group.name) for group in groups for path in _images(group)]
    except OSError as error:
        raise ConfigError(f"{folder} cannot be read", cause=error.strerror or str(error)) from error
    if not found and not labelled:
        raise ConfigError(
            f"{folder} holds no image",
            cause=f"no file in it ends in {', '.join(sorted(SUFFIXES))}",
            fix="give a folder of PNG or JPEG files",
        )
    return [*found, *labelled]


def _images(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        hidden = path.name.startswith(".")
        if not hidden and path.suffix.lower() in SUFFIXES and path.is_file():
            yield path
