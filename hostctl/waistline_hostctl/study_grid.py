"""Which codecs a study tries: quantizers x bits x entropy coders, for one waist."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from waistline.bundle.codecs import LOSSLESS
from waistline.codec.spec import IDENTITY, MOSAIC_BITS, QUANTIZERS, CodecSpec, parse_spec
from waistline.errors import ConfigError
from waistline.tensors import TensorSpec

BITS = range(1, 9)
CLIPS = ("minmax", "mse", "p99.9")
PLAIN = ("none", "deflate", "zstd:1", "zstd:3", "ctx")
"""Lossless: the answer is that of the quantizer."""
MOSAICS = ("jpeg:50", "jpeg:75", "jpeg:90", "jpeg:95", "webp:50", "webp:75", "webp:95")
PICTURES = ("png", "webp", *MOSAICS)
"""Of the sensor frame at x = 0; ``png`` and ``webp`` without loss."""
_MOSAIC_OF = ("affine:b=8", "affine:b=8,per=channel", "affine:b=8,clip=mse",
              "affine:b=8,clip=mse,per=channel", "i8:b=8")  # fmt: skip
"""Quantizers whose 8-bit codes the default grid also sends as a mosaic."""
_CTX_BITS = 8


@dataclass(frozen=True, slots=True)
class Candidate:
    """A quantizer with the entropy coders to try behind it.

    Attributes:
        quantizer: left side of the spec.
        lossless, lossy: right sides.
    """

    quantizer: str
    lossless: tuple[str, ...]
    lossy: tuple[str, ...]

    @property
    def spec(self) -> CodecSpec:
        return parse_spec(f"{self.quantizer}|none")

    def codecs(self) -> list[str]:
        """Canonical specs of all."""
        return [codec_of(self.quantizer, coder) for coder in (*self.lossless, *self.lossy)]


def codec_of(quantizer: str, coder: str) -> str:
    """The canonical spec of both sides."""
    return str(parse_spec(f"{quantizer}|{coder}"))


def grid(
    waist: Sequence[TensorSpec],
    *,
    at_frame: bool,
    calibrated: bool,
    quantizers: Sequence[str] = (),
    coders: Sequence[str] = (),
) -> list[Candidate]:
    """The codecs to try.

    Args:
        waist: its tensors.
        at_frame: partition point 0, where the waist is the sensor frame.
        calibrated: whether there is data to find clip limits on.
        quantizers: names (``affine``) that thin the default grid out, or left sides of a spec
            (``affine:b=4,clip=p99``) that take its place.
        coders: likewise ``jpeg`` or ``jpeg:60``.

    Raises:
        ConfigError: a name that does not exist, or nothing is left.
    """
    every = _quantizers(waist, at_frame, calibrated)
    lefts = [left for left in every if not quantizers or left.partition(":")[0] in quantizers]
    for text in quantizers:
        if ":" in text:
            lefts.append(_left(text, calibrated))
        elif text not in QUANTIZERS:
            parse_spec(text)  # refuses it and names those there are
    found = [_candidate(left, at_frame, coders) for left in dict.fromkeys(lefts)]
    kept = [item for item in found if item.lossless or item.lossy]
    if not kept:
        kinds = ", ".join(sorted({tensor.dtype for tensor in waist}))
        raise ConfigError(
            "no codec is left to study",
            cause=f"the waist is {kinds}; --quantizer {' '.join(quantizers) or '(all)'}, "
            f"--coder {' '.join(coders) or '(all)'}",
            fix="leave --quantizer and --coder out to see what there is",
        )
    return kept


def targets(waist: Sequence[TensorSpec], quantizer: str) -> list[bool]:
    """Which tensors the quantizer codes; the others go as `LOSSLESS` beside them."""
    if quantizer == "raw":
        return [True] * len(waist)
    if quantizer == "i8":
        return [tensor.dtype in {"int8", "uint8"} for tensor in waist]
    return [tensor.numpy_dtype.kind == "f" for tensor in waist]


def spec_for(tensor: TensorSpec, quantizer: str, target: bool) -> CodecSpec:
    """The codec of one tensor, without a coder where it is a target."""
    if not target:
        return parse_spec(LOSSLESS)
    spec = parse_spec(f"{quantizer}|none")
    return replace(spec, per="tensor") if tensor.channel_axis is None else spec


def _quantizers(waist: Sequence[TensorSpec], at_frame: bool, calibrated: bool) -> list[str]:
    """Left sides of the default grid, in canonical form."""
    clips = ["", *(f"clip={clip}" for clip in CLIPS if calibrated)]
    if at_frame:
        return ["raw"]
    if any(tensor.numpy_dtype.kind == "f" for tensor in waist):
        channels = any(tensor.channels > 1 for tensor in waist)
        ways = [(clip, per) for clip in clips for per in ("", "per=channel") if channels or not per]
        lefts = [_joined("affine", bits, *way) for way in ways for bits in BITS]
        lefts += [_joined(name, bits) for name in ("q1", "q1h") for bits in BITS]
        return [*lefts, "q2", "q2m", "f16", "f32"]
    if any(targets(waist, "i8")):
        # At 8 bits the bytes go as they are, whatever the limits.
        narrow = [(clip, bits) for clip in clips for bits in BITS if bits < MOSAIC_BITS]
        return [_joined("i8", bits, clip) for clip, bits in [*narrow, ("", MOSAIC_BITS)]]
    return ["raw"]


def _joined(name: str, bits: int, *options: str) -> str:
    return f"{name}:{','.join(filter(None, (f'b={bits}', *options)))}"


def _left(text: str, calibrated: bool) -> str:
    spec = parse_spec(f"{text}|none")
    if spec.needs_calibration and not calibrated:
        raise ConfigError(
            f"{text!r} cannot be studied",
            cause=f"clip={spec.clip} takes its limits from calibration data, and there is none",
            fix="give --task FILE with [data.calibration]",
        )
    return str(spec).partition("|")[0]


def _candidate(left: str, at_frame: bool, wanted: Sequence[str]) -> Candidate:
    spec = parse_spec(f"{left}|none")
    narrow = at_frame or (spec.bits is not None and spec.bits <= _CTX_BITS)
    plain = [coder for coder in PLAIN if coder != "ctx" or narrow]
    pictures: list[str] = []
    if at_frame:
        pictures = list(PICTURES)
    elif spec.bits == MOSAIC_BITS and (wanted or left in _MOSAIC_OF):
        pictures = list(MOSAICS)
    coders = [coder for coder in (*plain, *pictures)
              if not wanted or coder.partition(":")[0] in wanted or coder in wanted]  # fmt: skip
    takes_pictures = at_frame or spec.bits == MOSAIC_BITS
    for coder in wanted:
        if ":" in coder and (takes_pictures or not coder.startswith(("jpeg", "webp"))):
            coders.append(coder)
    coders = list(dict.fromkeys(coders))
    lossy = tuple(coder for coder in coders if is_lossy(coder))
    return Candidate(left, tuple(coder for coder in coders if coder not in lossy), lossy)


def is_lossy(coder: str) -> bool:
    """Whether a coder changes codes; ``webp`` without a quality does not."""
    return coder.partition(":")[0] == "jpeg" or coder.startswith("webp:")


def is_exact(quantizer: str, waist: Sequence[TensorSpec]) -> bool:
    """Whether the tail gets the very bits that the head made."""
    name = quantizer.partition(":")[0]
    if name not in IDENTITY and name != "i8":
        return False
    if name == "i8":
        return parse_spec(f"{quantizer}|none").bits == MOSAIC_BITS
    floats = {tensor.dtype for tensor in waist if tensor.numpy_dtype.kind == "f"}
    return name == "raw" or floats <= {"float16", "float32" if name == "f32" else "float16"}
