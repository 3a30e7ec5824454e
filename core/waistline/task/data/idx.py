"""Frames in IDX files, the format of MNIST and Fashion-MNIST, plain or gzip-compressed.

Debian's ``dataset-fashion-mnist`` installs four of them in /usr/share/datasets/fashion-mnist.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec
import numpy as np

from waistline.errors import ConfigError
from waistline.task.archive import MAX_ARRAY_BYTES
from waistline.task.data.base import ArrayData, DataContext, as_frames, as_labels

_UINT8 = 0x08


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``images`` and ``labels``: paths of the two files; ``skip`` and ``limit``: which images."""

    images: str
    labels: str = ""
    skip: int = 0
    limit: int | None = None


def open_data(options: Mapping[str, Any], context: DataContext) -> ArrayData:
    chosen = context.options(options, Options)
    context.needs_images()
    if chosen.skip < 0 or (chosen.limit is not None and chosen.limit < 1):
        raise ConfigError(
            f"{context.where} cannot be used", cause="skip is below 0, or limit below 1"
        )
    end = None if chosen.limit is None else chosen.skip + chosen.limit
    part = slice(chosen.skip, end)
    path = context.path(chosen.images)
    images = as_frames(read_idx(path)[part], path, context)
    labels = None
    if chosen.labels:
        label_path = context.path(chosen.labels)
        labels = as_labels(read_idx(label_path)[part], len(images), label_path)
    return ArrayData([images], labels, path.name)


def read_idx(path: Path) -> np.ndarray:
    """The uint8 array in an IDX file: big-endian {0, 0, type u8, axes u8}, u32 per axis, data.

    Raises:
        ConfigError: missing, damaged, another element type, or larger than `MAX_ARRAY_BYTES`.
    """
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            if packed:
                with gzip.open(raw) as stream:
                    return _array(cast(BinaryIO, stream))
            return _array(raw)
    except FileNotFoundError as error:
        raise ConfigError(
            f"there is no file {path}",
            cause="the task's data is not installed",
            fix="Fashion-MNIST: apt install dataset-fashion-mnist",
        ) from error
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise ConfigError(
            f"{path} is not an IDX file", cause=str(error), fix="fetch it again"
        ) from error


def _array(stream: BinaryIO) -> np.ndarray:
    magic = stream.read(4)
    if len(magic) != 4 or magic[:3] != bytes([0, 0, _UINT8]) or not 1 <= magic[3] <= 4:
        raise ValueError(f"it starts with {magic.hex()}, expected 000008 and 1 to 4 axes")
    axes = stream.read(4 * magic[3])
    shape = tuple(int(axis) for axis in np.frombuffer(axes, ">u4"))
    size = math.prod(shape)
    if len(shape) != magic[3] or size > MAX_ARRAY_BYTES:
        raise ValueError(f"it claims {shape}, the limit is {MAX_ARRAY_BYTES} bytes")
    data = stream.read(size)
    if len(data) != size or stream.read(1):
        raise ValueError(f"it holds other than the {size} bytes it claims")
    return np.frombuffer(data, np.uint8).reshape(shape)
