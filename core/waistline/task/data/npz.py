"""Frames in one ``.npz`` file.

Keys: ``images`` uint8 (N, H, W[, C]); ``labels`` whole numbers (N,), optional. For detection
instead of labels: ``boxes`` (M, 4) as x0, y0, x1, y1 in frame pixels, ``box_classes`` (M,) and
``box_images`` (M,), the image each belongs to. For a task without ``[preprocess]`` the model's
inputs, as `waistline.task.arrays` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from waistline.errors import ConfigError
from waistline.task.archive import NpzReader
from waistline.task.arrays import read_frames
from waistline.task.boxes import truth
from waistline.task.data.base import ArrayData, DataContext, as_frames, as_labels

_BOX_KEYS = ("boxes", "box_classes", "box_images")


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``path`` of the file; ``images`` and ``labels``: the keys to read, of images."""

    path: str
    images: str = "images"
    labels: str = "labels"


def open_data(options: Mapping[str, Any], context: DataContext) -> ArrayData:
    chosen = context.options(options, Options)
    path = context.path(chosen.path)
    if context.inputs:
        frames = read_frames(path, context.inputs, image=False)
        given = frames.labels
        classes = None if given is None else as_labels(given, len(frames), path)
        return ArrayData(frames.arrays, classes, path.name)
    with NpzReader(path) as archive:
        images = as_frames(archive.read(chosen.images), path, context)
        labels: list[object] | None = None
        if chosen.labels in archive.names:
            labels = as_labels(archive.read(chosen.labels), len(images), path)
        elif set(_BOX_KEYS) <= set(archive.names):
            labels = _boxes(archive, len(images))
    return ArrayData([images], labels, path.name)


def _boxes(archive: NpzReader, count: int) -> list[object]:
    corners, classes, owners = (archive.read(key) for key in _BOX_KEYS)
    number = len(corners) if corners.ndim else 0
    whole = classes.dtype.kind in "iu" and owners.dtype.kind in "iu"
    shapes = (corners.shape, classes.shape, owners.shape)
    if (
        shapes != ((number, 4), (number,), (number,))
        or not whole
        or corners.dtype.kind not in "iuf"
    ):
        problem = f"boxes, box_classes and box_images are {shapes}"
    elif not np.isfinite(corners).all() or (corners[:, 2:] < corners[:, :2]).any():
        problem = "a box has no size, or a corner is not a number"
    elif number and not (owners.min() >= 0 and owners.max() < count and classes.min() >= 0):
        problem = f"a box belongs to no image of {count}, or to a negative class"
    else:
        return [truth(corners[owners == i], classes[owners == i]) for i in range(count)]
    raise ConfigError(
        f"the boxes in {archive.path} cannot be used",
        cause=problem,
        fix="store (M, 4) corners x0, y0, x1, y1 and two (M,) integer arrays",
    )
