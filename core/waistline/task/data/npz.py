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

from waistline.task.archive import NpzReader
from waistline.task.arrays import BOX_KEYS, read_boxes, read_frames
from waistline.task.data.base import ArrayData, DataContext, as_frames, as_labels


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
        classes = None if given is None else as_labels(np.asarray(given), len(frames), path)
        return ArrayData(frames.arrays, classes, path.name)
    with NpzReader(path) as archive:
        images = as_frames(archive.read(chosen.images), path, context)
        labels: list[object] | None = None
        if chosen.labels in archive.names:
            labels = as_labels(archive.read(chosen.labels), len(images), path)
        elif set(BOX_KEYS) <= set(archive.names):
            labels = read_boxes(archive, len(images))
    return ArrayData([images], labels, path.name)
