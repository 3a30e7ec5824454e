"""Frames made by a function of the task's own, one a seed; nothing is stored.

    [data.report]
    kind = "generated"
    source = "conveyor.py:frame"     # beside the task file
    seed = 4_000_000                 # of the first frame; the others count up
    count = 1000

The function is called as ``frame(seed, frame_shape)`` and returns ``(image, label)``: uint8
(H, W, C), and a class number, or ``(corners, classes)`` of the objects on it, (n, 4) as x0, y0,
x1, y1 in frame pixels and (n,), or None; all of it is copied, so that the function may use its
arrays again. The same seed must give the same frame. It is code on the user's own machine, as a
metric ``file.py:function`` is; a bundle never names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
import numpy as np

from waistline.errors import ConfigError
from waistline.frame import SensorFrame
from waistline.task.boxes import truth
from waistline.task.data.base import DataContext
from waistline.task.entry import load_entry

KEPT_BYTES = 64 << 20


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``source``: ``file.py:function``; ``seed`` of the first frame; ``count`` of frames."""

    source: str
    count: int
    seed: int = 0


class GeneratedData:
    """Frames made when asked for; the first is made at once, to see whether it fits.

    The first `KEPT_BYTES` of them stay in memory: a set is read once for each thing it is for.
    """

    def __init__(self, make: Callable[..., Any], options: Options, context: DataContext) -> None:
        self._make, self._options, self._context = make, options, context
        self._kept: list[SensorFrame] = []
        self._room = KEPT_BYTES
        self._labelled = self._frame(0).label is not None

    @property
    def labelled(self) -> bool:
        return self._labelled

    def __len__(self) -> int:
        return self._options.count

    def __iter__(self) -> Iterator[SensorFrame]:
        return map(self._frame, range(len(self)))

    def _frame(self, index: int) -> SensorFrame:
        if index < len(self._kept):
            return self._kept[index]
        frame = self._made(index)
        if index == len(self._kept) and frame.arrays[0].nbytes <= self._room:
            self._room -= frame.arrays[0].nbytes
            frame.arrays[0].flags.writeable = False  # the next reader gets the same array
            self._kept.append(frame)
        return frame

    def _made(self, index: int) -> SensorFrame:
        seed = self._options.seed + index
        shape = self._context.frame_shape
        try:
            image, label = self._make(seed, shape)
            image = np.array(image)
            label = _label(label)
        except Exception as error:
            raise self._bad(seed, f"{type(error).__name__}: {error}") from error
        if image.dtype != np.uint8 or image.ndim != 3 or (shape and image.shape != tuple(shape)):
            wanted = f"uint8 {tuple(shape)}" if shape else "uint8 (H, W, C)"
            raise self._bad(seed, f"the image is {image.dtype} {image.shape}, expected {wanted}")
        return SensorFrame(index, (image,), label, f"seed {seed}")

    def _bad(self, seed: int, cause: str) -> ConfigError:
        return ConfigError(
            f"{self._options.source} gives no frame for {self._context.where}",
            cause=f"seed {seed}: {cause}",
            fix="have it return an image of the task's frame_shape, and a label or None",
        )


def _label(label: Any) -> object:
    if label is None:
        return None
    if isinstance(label, int | np.integer):
        return int(label)
    corners, classes = label
    return truth(np.array(corners), np.array(classes))


def open_data(options: Mapping[str, Any], context: DataContext) -> GeneratedData:
    chosen = context.options(options, Options)
    context.needs_images()
    if chosen.count < 1 or chosen.seed < 0 or ":" not in chosen.source:
        raise ConfigError(
            f"{context.where} cannot be used",
            cause=f"source {chosen.source!r}, seed {chosen.seed}, count {chosen.count}",
            fix='give source = "file.py:function", a seed from 0 on and a count from 1 on',
        )
    return GeneratedData(load_entry(chosen.source, context.folder, "source"), chosen, context)
