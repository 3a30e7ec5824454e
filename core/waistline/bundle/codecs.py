"""Which codec each waist tensor gets, and the clip limits of the static ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from waistline.codec.calibrate import Calibration
from waistline.codec.spec import MOSAIC_CODERS, CodecSpec, parse_spec
from waistline.errors import ConfigError
from waistline.tensors import TensorSpec, WaistTensor

CALIBRATED = "affine:b=4,clip=mse,per=channel|zstd:1"
"""Default where the task has calibration data."""
UNCALIBRATED = "affine:b=8|zstd:1"
"""Default where nothing is known but the tensor itself."""
QUANTIZED = "i8|zstd:1"
"""Default of a tensor that the model has quantized to 8 bits; loses nothing."""
LOSSLESS = "raw|zstd:1"
"""For integer and bool tensors, which `--codec SPEC` does not mean."""
_WHY = {
    CALIBRATED: "with calibration data",
    UNCALIBRATED: "with no calibration data",
    QUANTIZED: "for tensors that are 8-bit already",
}
_FOR_BYTES = "i8"
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
        codec: for float tensors, or for 8-bit ones where its quantizer is ``i8``; the others
            get their default, as all do with None.
        by_tensor: overrides by tensor name.
        calibrated: whether there is calibration data.
        say: told what the user did not ask for.

    Raises:
        ConfigError: not a codec, an override of a tensor that the waist does not have, or
            ``clip=`` without calibration data.
    """
    check_names(by_tensor, [tensor.name for tensor in tensors])
    general = None if codec is None else parse_spec(codec)
    free = [tensor for tensor in tensors if tensor.name not in by_tensor]
    meant = [tensor for tensor in free if general is not None and _means(general, tensor)]
    if general is not None and free and not meant:
        kind = "8-bit" if general.quantizer == _FOR_BYTES else "float"
        say(f"codec {general} is for {kind} tensors, and this waist has none")
    defaults = dict.fromkeys(_default(item, calibrated) for item in free if item not in meant)
    for spec in defaults:
        if spec != LOSSLESS:
            say(f"codec {spec}, the default {_WHY[spec]}")
    return [
        _codec_of(tensor, general, by_tensor.get(tensor.name), calibrated, say)
        for tensor in tensors
    ]


def check_names(by_tensor: Mapping[str, str], waist: Sequence[str]) -> None:
    """Refuse a codec for a tensor that is not in the waist, [] where the answer crosses.

    Raises:
        ConfigError: names the tensor and what crosses instead.
    """
    for name, spec in by_tensor.items():
        if name not in waist:
            answer = "the last partition point sends the answer, which no codec codes"
            raise ConfigError(
                f"--codec names {name!r}, which does not cross this cut",
                cause=f"the waist is {', '.join(waist)}" if waist else answer,
                fix=f"use --codec '{waist[0]}={spec}'" if waist else "leave --codec out",
            )


def no_codec(codec: str | None, by_tensor: Mapping[str, str], say: Callable[[str], None]) -> None:
    """What a codec means where the answer crosses: nothing; ``say`` is told.

    Raises:
        ConfigError: it was given for a tensor by name.
    """
    check_names(by_tensor, ())
    if codec:
        say("the last partition point sends the answer, so no codec is used")


def _means(general: CodecSpec, tensor: TensorSpec) -> bool:
    """Whether ``--codec SPEC`` without a name means it."""
    if general.quantizer == _FOR_BYTES:
        return tensor.dtype in {"int8", "uint8"}
    return tensor.numpy_dtype.kind == "f"


def _default(tensor: TensorSpec, calibrated: bool) -> str:
    if tensor.numpy_dtype.kind == "f":
        return CALIBRATED if calibrated else UNCALIBRATED
    return LOSSLESS if tensor.scale is None else QUANTIZED


def _codec_of(
    tensor: TensorSpec,
    general: CodecSpec | None,
    override: str | None,
    calibrated: bool,
    say: Callable[[str], None],
) -> CodecSpec:
    if override is not None:
        spec = parse_spec(override)
    else:
        meant = general is not None and _means(general, tensor)
        spec = general if general and meant else parse_spec(_default(tensor, calibrated))
    if spec.codes_frame:
        instead = _default(tensor, calibrated)
        if instead != LOSSLESS and spec.coder in MOSAIC_CODERS:
            instead = f"{'affine:b=8' if tensor.scale is None else 'i8'}|{spec}"
        raise ConfigError(
            f"codec {spec} cannot code waist tensor {tensor.name!r}",
            cause="image codecs are for the sensor frame, partition point 0",
            fix=f"use --codec '{f'{tensor.name}=' if override else ''}{instead}', or --cut 0",
        )
    if spec.needs_calibration and not calibrated:
        raise ConfigError(
            f"codec {spec} needs calibration data",
            cause=f"clip={spec.clip} takes its limits from it, and there is none that can be used",
            fix="give --task FILE with [data.calibration], or leave clip= out",
        )
    if spec.per == "channel" and tensor.channel_axis is None:
        say(f"{tensor.name}: no channel axis, so one range for the whole tensor")
        spec = replace(spec, per="tensor")
    return spec


class WaistCalibration:
    """The waist with clip limits where a codec needs them, found sample by sample.

    Args:
        tensors: the waist.
        specs: codec of each.
    """

    def __init__(self, tensors: Sequence[TensorSpec], specs: Sequence[CodecSpec]) -> None:
        self._codecs = list(zip(tensors, specs, strict=True))
        self._static = {
            place: Calibration(tensor, spec)
            for place, (tensor, spec) in enumerate(self._codecs)
            if spec.needs_calibration
        }

    @property
    def needs_samples(self) -> bool:
        return bool(self._static)

    def add(self, waist: Sequence[np.ndarray]) -> None:
        """Take in the waist of one frame."""
        for place, calibration in self._static.items():
            calibration.add(waist[place])

    def waist(self) -> tuple[WaistTensor, ...]:
        """Each tensor with its codec.

        Raises:
            ConfigError: samples are needed and none were added.
        """
        ranges = {place: calibration.ranges() for place, calibration in self._static.items()}
        return tuple(
            WaistTensor(tensor, str(spec), ranges.get(place))
            for place, (tensor, spec) in enumerate(self._codecs)
        )
