"""Images in a folder and its class folders: one order and one numbering, whoever reads them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from waistline.errors import ConfigError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})


@dataclass(frozen=True, slots=True)
class Listing:
    """The images of a folder, at least one, sorted by name; hidden ones are left out.

    Attributes:
        loose: in the folder itself.
        groups: by name of the subfolder that holds them; subfolders without images are left out.
    """

    loose: tuple[Path, ...]
    groups: dict[str, tuple[Path, ...]]


def list_images(folder: Path) -> Listing:
    """Find PNG and JPEG files by their suffix.

    Raises:
        ConfigError: the folder cannot be read, or holds no image.
    """
    try:
        loose = _images(folder)
        folders = [entry for entry in sorted(folder.iterdir()) if entry.is_dir()]
        found = {entry.name: _images(entry) for entry in folders if entry.name[0] != "."}
    except OSError as error:
        raise ConfigError(
            f"{folder} cannot be used",
            cause=error.strerror or str(error),
            fix="name a folder of images",
        ) from error
    groups = {name: members for name, members in found.items() if members}
    if not loose and not groups:
        raise ConfigError(
            f"{folder} holds no image",
            cause="there is no .png, .jpg or .jpeg file in it",
            fix="name a folder of PNG or JPEG files",
        )
    return Listing(loose, groups)


def number_classes(names: Iterable[str], classes: Sequence[str]) -> dict[str, int]:
    """Class index by name of a class folder.

    It is the name's place in the task's ``classes``, and names that are none are left out; where
    the task has no classes it is the place in the order of the names.
    """
    known = classes or sorted(names)
    return {name: known.index(name) for name in names if name in known}


def _images(folder: Path) -> tuple[Path, ...]:
    return tuple(
        path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in SUFFIXES and path.name[0] != "." and path.is_file()
    )
