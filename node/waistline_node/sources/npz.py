"""Arrays in one ``.npz`` file.

For an image task the key ``images`` (else the first array), uint8 (N, H, W) or (N, H, W, C). For a
bundle without a task one array for each model input, (N, ...), under the input's name; a model
with a single input also takes ``images`` or the first array. ``labels`` (N,) is optional. Without
a task ``labels`` may name an input, and is then that input.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from waistline.errors import ConfigError
from waistline.frame import SensorFrame
from waistline.task.archive import NpzReader
from waistline.tensors import TensorSpec

from waistline_node.sources.base import IndexedSource, SourceOptions

IMAGES = "images"
LABELS = "labels"


def open_source(text: str, options: SourceOptions) -> IndexedSource:
    path = Path(text)
    with NpzReader(path) as archive:
        keys = _keys(archive, options)
        arrays = [
            _fitting(path, key, archive.read(key), spec)
            for key, spec in zip(keys, options.frame, strict=True)
        ]
        wanted = LABELS in archive.names and LABELS not in keys
        labels = archive.read(LABELS) if wanted else None
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

    def read_at(position: int, index: int) -> SensorFrame:
        frame = tuple(array[position] for array in arrays)
        label = None if labels is None else labels[position].item()
        return SensorFrame(index, frame, label, f"{path.name}[{position}]")

    return IndexedSource(
        counts.pop(), read_at, lambda position: f"{path.name}[{position}]", options
    )


def _lengths(keys: list[str], arrays: list[np.ndarray], labels: np.ndarray | None) -> str:
    shown = [f"{key} {array.shape}" for key, array in zip(keys, arrays, strict=True)]
    return ", ".join([*shown, *([] if labels is None else [f"{LABELS} {labels.shape}"])])


def _keys(archive: NpzReader, options: SourceOptions) -> list[str]:
    names = archive.names
    wanted = [IMAGES] if options.image else [spec.name for spec in options.frame]
    if all(name in names for name in wanted):
        return wanted
    if len(wanted) == 1:
        rest = [name for name in names if name != LABELS]
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
        f"array {key!r} of {path} does not fit the bundle",
        cause=f"it is {array.dtype} {array.shape}, the bundle takes {wanted}",
        fix="convert or resize the frames, or split again with a task that says frame_shape",
    )
