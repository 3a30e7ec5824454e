"""Frames as named arrays in one ``.npz`` file, for tasks and for nodes.

For an image task the key ``images`` (else the first array), uint8 (N, H, W) or (N, H, W, C). Else
one array for each input of the model, (N, ...), under the input's name; a model with a single input
also takes ``images`` or the first array. A batch or channel axis of length 1 may be left out.
``labels`` (N,) is optional; where it names an input of the model, it is that input. Objects on
images are ``boxes`` (M, 4) as x0, y0, x1, y1 in frame pixels, ``box_classes`` (M,) and
``box_images`` (M,), the image each belongs to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from waistline.errors import ConfigError
from waistline.task.archive import NpzReader
from waistline.task.boxes import truth
from waistline.tensors import TensorSpec

IMAGES = "images"
LABELS = "labels"
BOX_KEYS = ("boxes", "box_classes", "box_images")


@dataclass(frozen=True, slots=True)
class FrameArrays:
    """N frames, N at least 1.

    Attributes:
        arrays: one for each array of a frame, (N, ...).
        labels: one a frame: what ``labels`` holds, or the boxes on it; None: the file has none.
    """

    arrays: tuple[np.ndarray, ...]
    labels: Sequence[object] | None

    def __len__(self) -> int:
        return len(self.arrays[0])


def read_frames(path: Path, frame: Sequence[TensorSpec], *, image: bool) -> FrameArrays:
    """Read all frames of a file.

    Args:
        path: of the file.
        frame: what a frame is made of; at least one.
        image: it is the picture that a task preprocesses, not the model's inputs.

    Raises:
        ConfigError: an array is missing, of another type or shape, or of another length than the
            others; or there is no frame.
    """
    with NpzReader(path) as archive:
        keys = _keys(archive, frame, image)
        arrays = tuple(
            _fitting(path, key, archive.read(key), spec)
            for key, spec in zip(keys, frame, strict=True)
        )
        labelled = LABELS in archive.names and LABELS not in keys
        labels = archive.read(LABELS) if labelled else None
        boxes = None
        if image and labels is None and set(BOX_KEYS) <= set(archive.names):
            boxes = read_boxes(archive, len(arrays[0]))
    counts = {len(array) for array in arrays}
    if labels is not None:
        counts.add(len(labels) if labels.ndim == 1 else -1)
    if len(counts) != 1:
        raise ConfigError(
            f"the arrays of {path} do not belong together",
            cause=_lengths(keys, arrays, labels),
            fix="store as many labels as frames, one number each",
        )
    if counts == {0}:
        raise ConfigError(f"{path} holds no frame", cause=f"array {keys[0]!r} is empty")
    return FrameArrays(arrays, boxes if labels is None else labels.tolist())


def read_boxes(archive: NpzReader, count: int) -> list[object]:
    """The boxes on each of ``count`` images.

    Raises:
        ConfigError: the three arrays do not fit each other or the images.
    """
    corners, classes, owners = (archive.read(key) for key in BOX_KEYS)
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


def _lengths(keys: Sequence[str], arrays: Sequence[np.ndarray], labels: np.ndarray | None) -> str:
    shown = [f"{key} {array.shape}" for key, array in zip(keys, arrays, strict=True)]
    return ", ".join([*shown, *([] if labels is None else [f"{LABELS} {labels.shape}"])])


def _keys(archive: NpzReader, frame: Sequence[TensorSpec], image: bool) -> list[str]:
    names = archive.names
    wanted = [IMAGES] if image else [spec.name for spec in frame]
    if all(name in names for name in wanted):
        return wanted
    if len(wanted) == 1:
        rest = [name for name in names if name not in {LABELS, *BOX_KEYS}]
        if rest:
            return [IMAGES if IMAGES in rest else rest[0]]
    missing = next(name for name in wanted if name not in names)
    raise ConfigError(
        f"{archive.path} has no array {missing!r}",
        cause=f"it holds {', '.join(names[:20]) or 'nothing'}",
        fix=f"store {', '.join(wanted)} with numpy.savez",
    )


def _fitting(path: Path, key: str, array: np.ndarray, spec: TensorSpec) -> np.ndarray:
    """``array`` as (N, *spec.shape): a missing channel or batch axis of length 1 is put in."""
    shape = array.shape[1:]
    if array.ndim and array.dtype == spec.numpy_dtype:
        if shape == spec.shape:
            return array
        if shape == spec.shape[1:] and spec.shape[0] == 1:
            return array[:, np.newaxis]
        if shape == spec.shape[:-1] and spec.shape[-1] == 1:
            return array[..., np.newaxis]
    wanted = f"{spec.dtype} (N, {', '.join(map(str, spec.shape))})"
    raise ConfigError(
        f"array {key!r} of {path} does not fit the model",
        cause=f"it is {array.dtype} {array.shape}, its frames are {wanted}",
        fix="convert or resize the frames; images need a task with [preprocess] and frame_shape",
    )
