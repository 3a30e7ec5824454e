"""The parts of a task that a bundle carries: how a frame becomes an input, what an answer is.

Both are plain data, checked when read. A bundle never names code: the metric and the data stay in
``task.toml`` on the host.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class Preprocess(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From the sensor frame, uint8 (H, W, C), to the model's single input.

    Order: colour, resize, ``value * scale``, ``(value - mean) / std``, layout, leading batch axis.

    Attributes:
        frame_shape: (H, W, C) of the frame as captured, C = 1 or 3; frames of another shape are
            refused, not stretched.
        size: (height, width) of the model's input.
        resize: ``none`` (sizes must agree), ``stretch``, or ``letterbox`` (keeps the aspect,
            centred, padded with ``pad_value``). Bilinear, by Pillow.
        color: ``keep``, ``gray`` (ITU-R 601 luma) or ``rgb`` (grey repeated).
        scale, mean, std: float32 arithmetic; mean and std are per channel or one for all.
        layout: ``NCHW`` or ``NHWC``.
    """

    frame_shape: tuple[int, int, int]
    size: tuple[int, int]
    resize: Literal["none", "stretch", "letterbox"] = "none"
    color: Literal["keep", "gray", "rgb"] = "keep"
    scale: float = 1.0 / 255.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    pad_value: int = 114
    layout: Literal["NCHW", "NHWC"] = "NCHW"


class AnswerSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the last stage produces.

    Attributes:
        kind: a plug-in of `waistline.task.kinds` (``classify``, ``detect``, ``tensors``, ..).
        options: that plug-in's own options, checked by it.
    """

    kind: str
    options: dict[str, Any] = {}
