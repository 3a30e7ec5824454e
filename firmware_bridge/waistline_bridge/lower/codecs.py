"""Which codecs the firmware has, and which one a waist gets where nobody chose one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from waistline.blob import records
from waistline.bundle.codecs import check_names, choose_codecs
from waistline.codec.spec import DYNAMIC, CodecSpec, parse_spec
from waistline.errors import ConfigError
from waistline.tensors import TensorSpec

CALIBRATED = "i8:b=4,clip=mse|ctx"
"""Default with calibration data: the limits are found on the host, the board looks codes up."""
UNCALIBRATED = "i8:b=8|ctx"
"""Default without: loses nothing."""
_WHY = {
    CALIBRATED: "for a microcontroller, with calibration data",
    UNCALIBRATED: "for a microcontroller, with no calibration data; it loses nothing",
}


def mcu_codecs(
    tensors: Sequence[TensorSpec],
    codec: str | None,
    by_tensor: Mapping[str, str],
    *,
    calibrated: bool,
    say: Callable[[str], None],
) -> list[CodecSpec]:
    """The codec of each tensor, as `waistline.bundle.codecs.choose_codecs`.

    Args:
        tensors: of the waist: int8 ones, which ``codec`` is for, and inputs of the model that cross
            the cut as they are, which the node codes with what it has.
        codec: for the int8 ones; None: one is chosen and told ``say``.
        by_tensor: overrides by tensor name.
        calibrated: whether there is calibration data.
        say: told what the user did not ask for.

    Raises:
        ConfigError: a codec that the firmware does not have, or as there.
    """
    check_names(by_tensor, [tensor.name for tensor in tensors])
    small = [tensor for tensor in tensors if tensor.scale is not None]
    named = {tensor.name: by_tensor[tensor.name] for tensor in small if tensor.name in by_tensor}
    for text in (codec, *named.values()):
        if text is not None and (why := problem_of(spec := parse_spec(text))):
            raise refused_codec(spec, "", why)
    if codec is None and len(named) < len(small):
        codec = CALIBRATED if calibrated else UNCALIBRATED
        say(f"codec {codec}, the default {_WHY[codec]}")
    others = [tensor for tensor in tensors if tensor.scale is None]
    rest = {name: text for name, text in by_tensor.items() if name not in named}
    found = {}
    for some, general, own in ((small, codec, named), (others, None, rest)):
        specs = choose_codecs(some, general, own, calibrated=calibrated, say=say)
        found.update({tensor.name: spec for tensor, spec in zip(some, specs, strict=True)})
    return [found[tensor.name] for tensor in tensors]


def problem_of(spec: CodecSpec) -> str:
    """Why the firmware cannot code that way; "" if it can."""
    if spec.quantizer in DYNAMIC or (spec.quantizer == "affine" and not spec.clip):
        return f"{spec.quantizer} finds its ranges in each frame, the firmware's tables are static"
    if spec.quantizer != "i8":
        return f"the firmware quantizes int8 tensors with i8, not with {spec.quantizer}"
    if spec.coder not in records.CODERS:
        return f"the firmware codes with {' or '.join(records.CODERS)}, not with {spec.coder}"
    return ""


def refused_codec(spec: CodecSpec, tensor: str, why: str) -> ConfigError:
    """The error for a codec that only a host has; ``tensor`` names whose it is, where one is."""
    of = f" of {tensor!r}" if tensor else ""
    bits = spec.bits if spec.bits and spec.quantizer in {"affine", "i8"} else 4
    return ConfigError(
        f"codec {spec}{of} cannot run on a microcontroller",
        cause=why,
        fix=f"for example --codec 'i8:b={bits}|{spec.coder if spec.coder == 'none' else 'ctx'}'",
    )
