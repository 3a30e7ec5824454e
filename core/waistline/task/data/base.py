"""The data contract: an ordered, finite set of frames, with labels or without.

A data module exports ``open_data(options: Mapping[str, Any], context: DataContext) -> DataSet``.
Files are hostile: sizes are checked before anything is allocated, and nothing is unpickled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec
import numpy as np

from waistline.errors import ConfigError
from waistline.frame import SensorFrame
from waistline.tensors import TensorSpec

OptionsT = TypeVar("OptionsT", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class DataContext:
    """What the task says around the data.

    Attributes:
        folder: relative paths start here.
        where: how to call this data in a message, such as ``[data.test]``.
        frame_shape: (H, W, C) every frame must have; None: whatever the data holds.
        classes: names by class index, () when the task names none.
        inputs: what frames must be instead of images: the model's inputs, for a task without
            preprocessing.
    """

    folder: Path
    where: str = "the data"
    frame_shape: tuple[int, int, int] | None = None
    classes: tuple[str, ...] = ()
    inputs: tuple[TensorSpec, ...] = ()

    def needs_images(self) -> None:
        """Refuse to be used where frames are the model's inputs.

        Raises:
            ConfigError: they are.
        """
        if self.inputs:
            raise ConfigError(
                f"{self.where} cannot be used",
                cause="without [preprocess] frames are the model's inputs, and these are images",
                fix='add [preprocess] to the task file, or give the inputs with kind = "npz"',
            )

    def needs_inputs(self, what: str) -> None:
        """Refuse to be used where frames are images; ``what`` the data holds instead.

        Raises:
            ConfigError: they are.
        """
        if self.frame_shape is not None:
            raise ConfigError(
                f"{self.where} cannot be used",
                cause=f"with [preprocess] frames are images, and this is {what}",
                fix="leave [preprocess] out of the task file",
            )

    def options(self, given: Mapping[str, Any], into: type[OptionsT]) -> OptionsT:
        """``given`` as the struct ``into``; unknown keys are errors that name the key."""
        try:
            return msgspec.convert(dict(given), into, strict=True)
        except msgspec.ValidationError as error:
            keys = ", ".join(("kind", *into.__struct_fields__))
            raise ConfigError(
                f"{self.where} cannot be used", cause=str(error), fix=f"known keys: {keys}"
            ) from error

    def path(self, text: str) -> Path:
        return self.folder / text


class DataSet(Protocol):
    """Frames in a fixed order; may be iterated again and again."""

    @property
    def labelled(self) -> bool:
        """Whether frames carry their ground truth."""
        ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[SensorFrame]: ...


def spread(total: int, count: int) -> frozenset[int]:
    """Places of ``count`` of ``total`` frames, evenly over all of them; all where there are fewer.

    The first frames of a set that lies in class folders are of one class.
    """
    taken = min(count, total)
    return frozenset(place * total // taken for place in range(taken))


class ArrayData:
    """Frames held in memory.

    Args:
        arrays: one for each array of a frame, (N, ...): one uint8 (N, H, W, C) for images.
        labels: N labels, or None.
        name: for messages and frame names.
    """

    def __init__(
        self, arrays: Sequence[np.ndarray], labels: list[object] | None, name: str
    ) -> None:
        self.arrays = tuple(arrays)
        self.labels = labels
        self._name = name

    @property
    def labelled(self) -> bool:
        return self.labels is not None

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __iter__(self) -> Iterator[SensorFrame]:
        for index in range(len(self)):
            label = None if self.labels is None else self.labels[index]
            frame = tuple(array[index] for array in self.arrays)
            yield SensorFrame(index, frame, label, f"{self._name}[{index}]")


def as_frames(images: np.ndarray, path: Path, context: DataContext) -> np.ndarray:
    """``images`` as uint8 (N, H, W, C); a missing channel axis is added.

    Raises:
        ConfigError: another type, another shape than the task's frames, or no image at all.
    """
    if images.ndim == 3:
        images = images[..., np.newaxis]
    shape = context.frame_shape
    wanted = f"uint8 (N, {', '.join(map(str, shape)) if shape else 'H, W, 1 or 3'})"
    fits = images.ndim == 4 and images.shape[3] in {1, 3} and images.dtype == np.uint8
    if not fits or (shape is not None and images.shape[1:] != tuple(shape)):
        raise ConfigError(
            f"the images in {path} do not fit the task",
            cause=f"they are {images.dtype} {images.shape}, expected {wanted}",
            fix="convert them, or mend frame_shape in the task file",
        )
    if not len(images):
        raise ConfigError(f"{path} holds no image", cause=f"{context.where} is empty")
    return images


def as_labels(labels: np.ndarray, count: int, path: Path) -> list[object]:
    """Class labels as ints.

    Raises:
        ConfigError: not one whole number an image.
    """
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise ConfigError(
            f"the labels in {path} do not fit its images",
            cause=f"they are {labels.dtype} {labels.shape} for {count} images",
            fix="store one whole number an image",
        )
    return list(labels.tolist())
