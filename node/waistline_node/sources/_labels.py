"""Labels from class folders, the same for every kind of file."""

from __future__ import annotations

from pathlib import Path

from waistline.task.folders import Listing, number_classes

Labelled = list[tuple[Path, int | str | None]]


def label_files(
    found: Listing, classes: tuple[str, ...] | None, what: str
) -> tuple[Labelled, tuple[str, ...]]:
    """Every file with its label, and what a person should know about the labels.

    The files of a subfolder are labelled with its class, numbered as in
    `waistline.task.data.folder`, or with its name where that is no class, or answers are no
    classes.

    Args:
        found: the files.
        classes: of `SourceOptions`.
        what: the files, for people: ``images``.
    """
    files: Labelled = [(path, None) for path in found.loose]
    numbers = {} if classes is None else number_classes(found.groups, classes)
    for name, members in found.groups.items():
        files += [(path, numbers.get(name, name)) for path in members]
    remarks = []
    if numbers and not classes:
        order = ", ".join(f"{name} = {number}" for name, number in numbers.items())
        remarks.append(f"the task names no classes; class folders count by name: {order}")
    strange = [name for name in found.groups if classes is not None and name not in numbers]
    if strange:
        remarks.append(f"folder {strange[0]!r} is no class of the task, so its {what} have none")
    return files, tuple(remarks)
