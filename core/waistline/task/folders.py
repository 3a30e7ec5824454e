"""Files in a folder and its class folders: one order and one numbering, whoever reads them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from waistline.errors import ConfigError

SUFFIXES = (".png", ".jpg", ".jpeg")
"""Of images."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a folder, at least one, sorted by name; hidden ones are left out.

    Attributes:
        loose: in the folder itself.
        groups: by name of the subfolder that holds them; subfolders without any are left out.
    """

    loose: tuple[Path, ...]
    groups: dict[str, tuple[Path, ...]]


def is_file(path: str | Path) -> bool:
    """As `Path.is_file`, and False for what can be no name: too long, or with a null character."""
    return os.path.isfile(path)  # noqa: PTH113 - Path.is_file raises for such names


def is_folder(path: str | Path) -> bool:
    """As `Path.is_dir`, likewise."""
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises for such names


def list_images(folder: Path) -> Listing:
    """Find PNG and JPEG files by their suffix; see `list_files`."""
    return list_files(folder, SUFFIXES, "image")


def list_files(folder: Path, suffixes: Sequence[str], what: str) -> Listing:
    """Find files by their suffix, in any case of letters.

    Args:
        folder: to look into, and into its subfolders.
        suffixes: such as ``.png``.
        what: one such file, for messages.

    Raises:
        ConfigError: the folder cannot be read, or holds no such file.
    """
    try:
        loose = _members(folder, suffixes)
        folders = [entry for entry in sorted(folder.iterdir()) if entry.is_dir()]
        found = {entry.name: _members(entry, suffixes) for entry in folders if entry.name[0] != "."}
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{folder} cannot be used",
            cause=getattr(error, "strerror", None) or str(error),
            fix=f"name a folder of {what}s",
        ) from error
    groups = {name: members for name, members in found.items() if members}
    if not loose and not groups:
        *others, last = suffixes
        listed = f"{', '.join(others)} or {last}" if others else last
        raise ConfigError(
            f"{folder} holds no {what}",
            cause=f"there is no {listed} file in it",
            fix=f"name a folder of {what} files ({listed})",
        )
    return Listing(loose, groups)


def number_classes(names: Iterable[str], classes: Sequence[str]) -> dict[str, int]:
    """Class index by name of a class folder.

    It is the name's place in the task's ``classes``, and names that are none are left out; where
    the task has no classes it is the place in the order of the names.
    """
    known = classes or sorted(names)
    return {name: known.index(name) for name in names if name in known}


def label_all(
    found: Listing, classes: Sequence[str], folder: Path, what: str
) -> tuple[tuple[Path, ...], tuple[int, ...]]:
    """All files, and the class of each by `number_classes`; () where none has one.

    Args:
        found: the files.
        classes: of the task.
        folder: they lie in, for messages.
        what: one such file, for messages.

    Raises:
        ConfigError: only some lie in class folders, or a folder is no class of the task.
    """
    if found.loose and found.groups:
        raise ConfigError(
            f"{folder} cannot be used",
            cause=f"{what}s lie beside the class folders {', '.join(found.groups)}",
            fix=f"move every {what} into a class folder, or none",
        )
    numbers = number_classes(found.groups, classes)
    if unknown := sorted(set(found.groups) - set(numbers)):
        raise ConfigError(
            f"{folder} cannot be used",
            cause=f"{unknown[0]!r} is no class of the task",
            fix="rename the class folder",
        )
    pairs = [(file, numbers[name]) for name, files in found.groups.items() for file in files]
    return found.loose or tuple(file for file, _ in pairs), tuple(label for _, label in pairs)


def _members(folder: Path, suffixes: Sequence[str]) -> tuple[Path, ...]:
    return tuple(
        path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in suffixes and path.name[0] != "." and path.is_file()
    )
