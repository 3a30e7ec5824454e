"""What camera and video share of PyAV, which brings FFmpeg's libraries in its wheel.

Wheels of PyAV 18.1 for x86-64, aarch64 and armv7l (manylinux) hold the input devices v4l2 and
lavfi; looked up in the wheels' libavdevice by name.
"""

from __future__ import annotations

from typing import Any

import av
import av.error
import numpy as np

from waistline.errors import ConfigError
from waistline.task.data.folder import MAX_PIXELS

FAILURES = (av.error.FFmpegError, OSError, ValueError)
"""What PyAV raises for a file or device it cannot deal with."""
PROTECTION = {"max_pixels": str(MAX_PIXELS)}
"""A decoder refuses larger pictures before it allocates them, whatever a header says."""

_PIXELS = {1: "gray", 3: "rgb24"}


def one_thread(stream: Any) -> None:
    """Leave the other cores to the head, and give each picture out as soon as it is decoded."""
    stream.codec_context.thread_count = 1
    stream.codec_context.thread_type = "SLICE"


def check_size(size: tuple[int, int], shape: tuple[int, int, int], *, scale: bool) -> None:
    """Refuse pictures of another size than the task's frames.

    Args:
        size: (width, height) that come.
        shape: (H, W, C) of the task.
        scale: they are to be scaled, so only an absurd size is refused.

    Raises:
        ConfigError: they do not fit.
    """
    width, height = size
    if min(size) < 1 or width * height > MAX_PIXELS:
        raise ConfigError(
            f"pictures of {width}x{height} cannot be used",
            cause=f"1 to {MAX_PIXELS} pixels can be",
            fix="give smaller ones",
        )
    if not scale and size != (shape[1], shape[0]):
        raise ConfigError(
            f"pictures of {width}x{height} do not fit the task",
            cause=f"its frame_shape is {list(shape)}, that is {shape[1]}x{shape[0]}",
            fix="add scale=1 to the source's options, or mend frame_shape in the task file",
        )


def to_array(frame: Any, shape: tuple[int, int, int], *, scale: bool) -> np.ndarray:
    """A decoded picture as uint8 (H, W, C) RGB or grey, owned by the caller.

    Colours are converted and sizes scaled (bilinear, without keeping the aspect) by libswscale.

    Raises:
        ConfigError: it is damaged, or of another size.
    """
    if frame.is_corrupt:
        raise ConfigError("a picture is damaged", cause="its decoder says so")
    check_size((frame.width, frame.height), shape, scale=scale)
    wanted = _PIXELS[shape[2]]
    try:
        pixels = frame.to_ndarray(
            format=wanted, width=shape[1], height=shape[0], interpolation="BILINEAR"
        )
    except FAILURES as error:
        raise ConfigError("a picture cannot be converted", cause=why(error)) from error
    # Unconverted pixels still lie in the decoder's or driver's buffer.
    return np.array(pixels).reshape(shape)


def why(error: Exception) -> str:
    """A foreign error in words."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
