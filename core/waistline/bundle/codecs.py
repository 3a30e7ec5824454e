"""Which codec each waist tensor gets, and the clip limits of the static ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from waistline.backends.base import Slice
from waistline.codec.calibrate import calibrate
from waistline.codec.spec import IMAGE_CODERS, CodecSpec, parse_spec
from waistline.errors import ConfigError
from waistline.frame import SensorFrame
from waistline.task.preprocess import apply, check_frame
from waistline.task.spec import Preprocess
from waistline.tensors import TensorSpec, WaistTensor

CALIBRATED = "affine:b=4,clip=mse,per=channel|zstd:1"
"""Default where the task has calibration data."""
UNCALIBRATED = "affine:b=8|zstd:1"
"""Default where nothing is known but the tensor itself."""
LOSSLESS = "raw|zstd:1"
"""For integer and bool tensors, which `--codec SPEC` does not mean."""
FRAME_CODEC = "png"
"""Default for the sensor frame."""


def choose_codecs(
    tensors: Sequence[TensorSpec],
    codec: str | None,
    by_tensor: Mapping[str, str],
    *,
    calibrated: bool,
    say: Callable[[str], None],
) -> list[CodecSpec]:
    """The codec of each tensor, in their order.

    Args:
        tensors: the waist.
        codec: for float tensors; None for the default.
        by_tensor: overrides by tensor name.
        calibrated: whether there is calibration data.
        say: told what the user did not ask for.

    Raises:
        ConfigError: not a codec, an override of a tensor that the waist does not have, or
            ``clip=`` without calibration data.
    """
    known = [tensor.name for tensor in tensors]
    unknown = [name for name in by_tensor if name not in known]
    if unknown:
        raise ConfigError(
            f"--codec names {unknown[0]!r}, which does not cross this cut",
            cause=f"the waist is {', '.join(known)}",
            fix=f"use --codec '{known[0]}={by_tensor[unknown[0]]}'",
        )
    default = parse_spec(codec or (CALIBRATED if calibrated else UNCALIBRATED))
    if codec is None:
        data = "calibration data" if calibrated else "no calibration data"
        say(f"codec {default}, the default with {data}")
    return [
        _codec_of(tensor, default, by_tensor.get(tensor.name), calibrated, say)
        for tensor in tensors
    ]


def _codec_of(
    tensor: TensorSpec,
    default: CodecSpec,
    override: str | None,
    calibrated: bool,
    say: Callable[[str], None],
) -> CodecSpec:
    if override is not None:
        spec = parse_spec(override)
    else:
        spec = default if tensor.numpy_dtype.kind == "f" else parse_spec(LOSSLESS)
    if spec.coder in IMAGE_CODERS:
        raise ConfigError(
            f"codec {spec} cannot code waist tensor {tensor.name!r}",
            cause="image codecs are for the sensor frame, partition point 0",
            fix=f"use --codec '{CALIBRATED}', or --cut 0",
        )
    if spec.needs_calibration and not calibrated:
        raise ConfigError(
            f"codec {spec} needs calibration data",
            cause=f"clip={spec.clip} takes its limits from it, and the task names none",
            fix="give --task FILE with [data.calibration], or leave clip= out",
        )
    if spec.per == "channel" and tensor.channel_axis is None:
        say(f"{tensor.name}: no channel axis, so one range for the whole tensor")
        spec = replace(spec, per="tensor")
    return spec


class HeadSamples:
    """Waist tensors of calibration frames, computed anew in each iteration, one frame at a time.

    Args:
        frames: the calibration data.
        preprocess: from frame to the model's input.
        head: the opened head; None at x = 1, where the input itself is the waist.
        position: which of the waist's tensors to yield.
    """

    def __init__(
        self,
        frames: Iterable[SensorFrame],
        preprocess: Preprocess,
        head: Slice | None,
        position: int,
    ) -> None:
        self._frames = frames
        self._preprocess = preprocess
        self._head = head
        self._position = position

    def __iter__(self) -> Iterator[np.ndarray]:
        for frame in self._frames:
            image = check_frame(self._preprocess, frame.arrays[0], frame.name)
            tensors = [apply(self._preprocess, image)]
            if self._head is not None:
                tensors = self._head.run(tensors)
            yield tensors[self._position]


def calibrated_waist(
    tensors: Sequence[TensorSpec],
    specs: Sequence[CodecSpec],
    samples: Callable[[int], Iterable[np.ndarray]],
) -> tuple[WaistTensor, ...]:
    """The waist with clip limits where a codec needs them.

    Args:
        tensors: the waist.
        specs: codec of each.
        samples: position of a tensor to its values on the calibration data.
    """
    waist = []
    for position, (tensor, spec) in enumerate(zip(tensors, specs, strict=True)):
        ranges = calibrate(tensor, spec, samples(position)) if spec.needs_calibration else None
        waist.append(WaistTensor(tensor, str(spec), ranges))
    return tuple(waist)
