"""From the sensor frame to the model's input, and box coordinates back again.

Pillow is imported only where a frame is resized, so that a node whose frames already fit does not
pay for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from waistline.errors import CodecError, ConfigError
from waistline.task.spec import Preprocess
from waistline.tensors import MAX_TENSOR_BYTES

_MIN_FLOAT32, _MAX_FLOAT32 = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
_LUMA = np.array([19595, 38470, 7471], np.uint32)
"""ITU-R 601-2 weights times 65536, as Pillow rounds them (libImaging/Convert.c, L24)."""


def check_preprocess(spec: Preprocess) -> Preprocess:
    """``spec`` unchanged.

    Raises:
        ConfigError: its numbers contradict each other or cannot be computed with.
    """
    height, width, channels = spec.frame_shape
    problem = ""
    if channels not in {1, 3} or height < 1 or width < 1:
        problem = f"frame_shape {list(spec.frame_shape)} is not (height, width, 1 or 3)"
    elif height * width * channels > MAX_TENSOR_BYTES // 4:
        problem = f"frame_shape {list(spec.frame_shape)} is too large"
    elif min(spec.size) < 1 or math.prod(spec.size) * 12 > MAX_TENSOR_BYTES:
        problem = f"size {list(spec.size)} is empty or too large"
    elif spec.resize == "none" and spec.size != (height, width):
        problem = f"size {list(spec.size)} is not the frame's {[height, width]}, and resize = none"
    elif not 0 <= spec.pad_value <= 255:
        problem = f"pad_value {spec.pad_value} is not 0..255"
    elif not (_finite((spec.scale,)) and _fit(spec.mean, spec) and _fit(spec.std, spec)):
        problem = f"scale, mean and std must be finite, mean and std 1 or {input_channels(spec)}"
    elif min(map(abs, spec.std)) < _MIN_FLOAT32:
        problem = "std holds 0"
    if problem:
        raise ConfigError(
            "the preprocessing cannot be used",
            cause=problem,
            fix="mend [preprocess] in the task file",
        )
    return spec


def _fit(values: tuple[float, ...], spec: Preprocess) -> bool:
    return len(values) in {1, input_channels(spec)} and _finite(values)


def _finite(values: Iterable[float]) -> bool:
    """Whether all are numbers in float32, which frames are computed in."""
    return all(abs(value) <= _MAX_FLOAT32 for value in values)


def input_channels(spec: Preprocess) -> int:
    """Channels of the model's input."""
    return {"keep": spec.frame_shape[2], "gray": 1, "rgb": 3}[spec.color]


def input_shape(spec: Preprocess) -> tuple[int, int, int, int]:
    """Shape of what `apply` returns."""
    height, width = spec.size
    channels = input_channels(spec)
    if spec.layout == "NHWC":
        return (1, height, width, channels)
    return (1, channels, height, width)


def check_frame(spec: Preprocess, frame: np.ndarray, name: str = "") -> np.ndarray:
    """``frame`` unchanged.

    Raises:
        CodecError: it is not uint8 of ``spec.frame_shape``; the message names the frame.
    """
    if frame.dtype != np.uint8 or frame.shape != spec.frame_shape:
        raise CodecError(
            f"frame {name or 'given'} does not fit the task",
            cause=f"it is {frame.dtype} {frame.shape}, the task says uint8 {spec.frame_shape}",
            fix="resize or convert it, or change frame_shape in the task file and split again",
        )
    return frame


def apply(spec: Preprocess, frame: np.ndarray) -> np.ndarray:
    """The model's input: float32, shape `input_shape`, C-contiguous, owned by the caller.

    Args:
        spec: what to do, in the order it documents.
        frame: uint8 (H, W, C) of exactly ``spec.frame_shape``.

    Raises:
        CodecError: the frame has another shape or type.
    """
    pixels = _resized(spec, _colored(spec, check_frame(spec, frame)))
    values = pixels.astype(np.float32)
    values *= np.float32(spec.scale)
    values -= np.asarray(spec.mean, np.float32)
    values /= np.asarray(spec.std, np.float32)
    if spec.layout == "NCHW":
        values = values.transpose(2, 0, 1)
    return np.ascontiguousarray(values[np.newaxis])


def _colored(spec: Preprocess, frame: np.ndarray) -> np.ndarray:
    channels = frame.shape[2]
    if spec.color == "gray" and channels == 3:
        luma = frame.astype(np.uint32) @ _LUMA
        return ((luma + 0x8000) >> 16).astype(np.uint8)[:, :, np.newaxis]
    if spec.color == "rgb" and channels == 1:
        return np.repeat(frame, 3, axis=2)
    return frame


def _resized(spec: Preprocess, frame: np.ndarray) -> np.ndarray:
    if spec.size == frame.shape[:2]:
        return frame
    geometry = Geometry.of(spec)
    scaled = _bilinear(frame, geometry.height, geometry.width)
    if spec.size == scaled.shape[:2]:
        return scaled
    canvas = np.full((*spec.size, frame.shape[2]), spec.pad_value, np.uint8)
    rows = slice(geometry.top, geometry.top + geometry.height)
    columns = slice(geometry.left, geometry.left + geometry.width)
    canvas[rows, columns] = scaled
    return canvas


def _bilinear(frame: np.ndarray, height: int, width: int) -> np.ndarray:
    from PIL import Image

    squeezed = frame[:, :, 0] if frame.shape[2] == 1 else frame
    image = Image.fromarray(np.ascontiguousarray(squeezed))
    scaled = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
    return scaled.reshape(height, width, frame.shape[2])


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where the frame lies in the model's input, pixels.

    Attributes:
        left, top: of the scaled frame in the input.
        width, height: of the scaled frame.
        frame_width, frame_height: of the frame as captured.
    """

    left: int
    top: int
    width: int
    height: int
    frame_width: int
    frame_height: int

    @classmethod
    def of(cls, spec: Preprocess) -> Geometry:
        frame_height, frame_width, _ = spec.frame_shape
        height, width = spec.size
        if spec.resize != "letterbox":
            return cls(0, 0, width, height, frame_width, frame_height)
        ratio = min(height / frame_height, width / frame_width)
        inner_h = min(height, max(1, round(frame_height * ratio)))
        inner_w = min(width, max(1, round(frame_width * ratio)))
        left, top = (width - inner_w) // 2, (height - inner_h) // 2
        return cls(left, top, inner_w, inner_h, frame_width, frame_height)

    def to_frame(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes (n, 4) as x0, y0, x1, y1 in input pixels, in frame pixels, clipped to the frame."""
        ratio_x, ratio_y = self.frame_width / self.width, self.frame_height / self.height
        shift = np.array([self.left, self.top, self.left, self.top], np.float64)
        ratio = np.array([ratio_x, ratio_y, ratio_x, ratio_y], np.float64)
        limit = np.array([self.frame_width, self.frame_height] * 2, np.float64)
        return np.clip((boxes - shift) * ratio, 0.0, limit)
