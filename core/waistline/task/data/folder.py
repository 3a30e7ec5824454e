"""Frames in a folder of PNG and JPEG files, in the order of their names.

Labelled when the images lie in subfolders: each subfolder is a class, by its name in the task's
``classes``, or by the order of the names where the task has none.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from waistline.errors import ConfigError
from waistline.frame import SensorFrame
from waistline.task.data.base import DataContext
from waistline.task.folders import label_all, list_images

MAX_IMAGE_BYTES = 64 << 20
MAX_PIXELS = 1 << 26
_MODES = {1: "L", 3: "RGB"}
_OPENERS = {b"\x89P": PngImageFile, b"\xff\xd8": JpegImageFile}
_PILLOW_LETS_THROUGH = (struct.error, zlib.error, IndexError, KeyError, TypeError)


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``path`` of the folder."""

    path: str


class FolderData:
    def __init__(self, folder: Path, context: DataContext) -> None:
        self._context = context
        found = list_images(folder)
        self._files, self._labels = label_all(found, context.classes, folder, "image")

    @property
    def labelled(self) -> bool:
        return bool(self._labels)

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[SensorFrame]:
        for index, path in enumerate(self._files):
            label = self._labels[index] if self._labels else None
            image = read_image(path, self._context.frame_shape)
            yield SensorFrame(index, (image,), label, path.name)


def read_image(path: Path, frame_shape: tuple[int, int, int] | None = None) -> np.ndarray:
    """The image as uint8 (H, W, C), C = 1 or 3.

    Size and mode are checked from the header, before any pixel is decoded.

    Raises:
        ConfigError: not a PNG or JPEG, damaged, or of another size or mode than ``frame_shape``;
            names the file.
    """
    try:
        if path.stat().st_size > MAX_IMAGE_BYTES:
            raise _bad(path, f"it is over {MAX_IMAGE_BYTES} bytes", "use a smaller image")
        with path.open("rb") as stream:
            opener = _OPENERS.get(stream.read(2))
            stream.seek(0)
            if opener is None:
                raise _bad(path, "its first bytes are of neither", "give a PNG or JPEG file")
            # The format's own class reads the header only and leaves out Pillow's guess at what
            # a bomb is, a warning that cannot be caught safely in a thread.
            with opener(stream) as image:
                _check_header(path, image, frame_shape)
                pixels = np.array(image, np.uint8)
    except (*(OSError, ValueError, SyntaxError, EOFError), *_PILLOW_LETS_THROUGH) as error:
        cause = getattr(error, "strerror", None) or str(error)
        raise _bad(path, cause, "give a PNG or JPEG file") from error
    return pixels[:, :, np.newaxis] if pixels.ndim == 2 else pixels


def _check_header(path: Path, image: Image.Image, shape: tuple[int, int, int] | None) -> None:
    width, height = image.size
    if shape is None:
        if image.mode not in _MODES.values() or width * height > MAX_PIXELS:
            seen = f"it is {width}x{height} of mode {image.mode}"
            cause = f"{seen}, expected L or RGB of at most {MAX_PIXELS} pixels"
            raise _bad(path, cause, "convert it to 8-bit grey or RGB, or scale it down")
        return
    wanted = (shape[1], shape[0], _MODES[shape[2]])
    if (width, height, image.mode) != wanted:
        raise _bad(
            path,
            f"it is {width}x{height} of mode {image.mode}, the task says "
            f"{wanted[0]}x{wanted[1]} of mode {wanted[2]}",
            "convert it, or mend frame_shape in the task file",
        )


def _bad(path: Path, cause: str, fix: str) -> ConfigError:
    return ConfigError(f"{path} cannot be used", cause=cause, fix=fix)


def open_data(options: Mapping[str, Any], context: DataContext) -> FolderData:
    chosen = context.options(options, Options)
    context.needs_images()
    return FolderData(context.path(chosen.path), context)
