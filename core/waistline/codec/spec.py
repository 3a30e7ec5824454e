"""The codec spec string: ``<quantizer>[:options]|<coder>[:argument]``.

Examples: ``affine:b=4,clip=mse,per=channel|zstd:1``, ``q1:b=8|deflate``, ``f32|none``. For the
sensor frame (partition point 0) the short forms ``png``, ``jpeg:90``, ``webp:80`` and ``webp``
(without loss) stand for ``raw|png`` and so on. Behind a quantizer of 8 bits, ``jpeg`` and ``webp``
code the waist as a mosaic of its channels: ``affine:b=8|jpeg:75``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from waistline.errors import ConfigError

DYNAMIC = frozenset({"q1", "q1h", "q2", "q2m"})
"""Quantizers whose parameters are found in each frame, per tensor."""
IDENTITY = frozenset({"f32", "f16", "raw"})
"""No quantization; NaN and infinity pass."""
QUANTIZERS = frozenset({"affine", "i8"}) | DYNAMIC | IDENTITY
ONE_BIT = frozenset({"q2", "q2m"})
MOSAIC_CODERS = frozenset({"jpeg", "webp"})
"""Coders of the frame that also code 8-bit codes, channels side by side in one gray picture."""
IMAGE_CODERS = frozenset({"png"}) | MOSAIC_CODERS
"""Coders of a whole uint8 (H, W, C) frame; their argument, if any, is a quality 1..100."""
MOSAIC_BITS = 8

_CLIP = re.compile(r"^(minmax|mse|p(?:100|\d{1,2}(?:\.\d{1,4})?))$")
_EXAMPLE = "affine:b=4|zstd:1"
"""Needs no calibration data, so that it works wherever it is pasted."""


@dataclass(frozen=True, slots=True)
class CodecSpec:
    """A parsed codec spec; ``str()`` gives the canonical form that a bundle stores.

    Attributes:
        quantizer: one of `QUANTIZERS`.
        bits: code width 1..8; None where codes keep the tensor's own width.
        clip: ``minmax``, ``mse`` or ``pNN``: limits found on calibration data; None: each frame's
            own minimum and maximum.
        per: limits per ``tensor`` or per ``channel``.
        coder: name of an entropy coder plug-in.
        coder_argument: level or quality; None for the coder's default.
    """

    quantizer: str
    bits: int | None = None
    clip: str | None = None
    per: str = "tensor"
    coder: str = "none"
    coder_argument: int | None = None

    @property
    def needs_calibration(self) -> bool:
        return self.clip is not None

    @property
    def has_frame_ranges(self) -> bool:
        """Whether each frame carries its own range parameters on the wire."""
        return self.quantizer in DYNAMIC or (self.quantizer == "affine" and self.clip is None)

    @property
    def codes_frame(self) -> bool:
        """Whether it codes the sensor frame as a picture, and nothing else."""
        return self.quantizer == "raw" and self.coder in IMAGE_CODERS

    def __str__(self) -> str:
        coder = self.coder
        if self.coder_argument is not None:
            coder += f":{self.coder_argument}"
        if self.codes_frame:
            return coder
        options = []
        if self.bits is not None and self.quantizer not in ONE_BIT:
            options.append(f"b={self.bits}")
        if self.clip is not None:
            options.append(f"clip={self.clip}")
        if self.per != "tensor":
            options.append(f"per={self.per}")
        left = self.quantizer + (":" + ",".join(options) if options else "")
        return f"{left}|{coder}"


def parse_spec(text: str) -> CodecSpec:
    """Parse and check a codec spec.

    Raises:
        ConfigError: not a codec spec; says which part and gives a valid example.
    """
    left, bar, right = text.strip().partition("|")
    if not bar:
        name = left.partition(":")[0]
        left, right = ("raw", left) if name in IMAGE_CODERS else (left, "none")
    quantizer, _, options = left.partition(":")
    if quantizer not in QUANTIZERS:
        raise _bad(text, f"no quantizer {quantizer!r}; known: {', '.join(sorted(QUANTIZERS))}")
    values = _options(text, options)
    bits = _bits(text, quantizer, values.pop("b", None))
    clip = values.pop("clip", None)
    per = values.pop("per", "tensor")
    if values:
        raise _bad(text, f"unknown option {next(iter(values))!r}; known: b, clip, per")
    if (clip or per != "tensor") and quantizer not in {"affine", "i8"}:
        raise _bad(text, f"clip= and per= belong to affine and i8, not to {quantizer}")
    if clip is not None and not _CLIP.match(clip):
        raise _bad(text, f"clip={clip!r} is not minmax, mse or pNN (such as p99.9)")
    if per not in {"tensor", "channel"} or (per == "channel" and quantizer == "i8"):
        raise _bad(text, f"per={per!r}: affine takes tensor or channel, i8 tensor only")
    coder, argument = _coder(text, right)
    if coder in IMAGE_CODERS and quantizer != "raw":
        _check_mosaic(text, quantizer, bits, right)
    return CodecSpec(quantizer, bits, clip, per, coder, argument)


def _options(text: str, options: str) -> dict[str, str]:
    values: dict[str, str] = {}
    for item in filter(None, options.split(",")):
        key, equals, value = item.partition("=")
        if not equals or not value or key in values:
            raise _bad(text, f"option {item!r} is not key=value, or is given twice")
        values[key] = value
    return values


def _bits(text: str, quantizer: str, value: str | None) -> int | None:
    if quantizer in IDENTITY:
        if value is not None:
            raise _bad(text, f"{quantizer} does not quantize and takes no b=")
        return None
    if quantizer in ONE_BIT:
        if value not in {None, "1"}:
            raise _bad(text, f"{quantizer} is one bit by definition")
        return 1
    if value is None:
        return 8
    if not re.fullmatch(r"[1-8]", value):
        raise _bad(text, f"b={value!r}: the code width is a whole number from 1 to 8")
    return int(value)


def _coder(text: str, right: str) -> tuple[str, int | None]:
    coder, colon, argument = right.partition(":")
    if not re.fullmatch(r"[a-z][a-z0-9]*", coder):
        raise _bad(text, f"{coder!r} is not the name of an entropy coder")
    if not colon:
        return coder, None
    if not re.fullmatch(r"-?\d{1,3}", argument):
        raise _bad(text, f"{coder}:{argument}: the argument is a whole number")
    return coder, int(argument)


def _check_mosaic(text: str, quantizer: str, bits: int | None, right: str) -> None:
    coder = right.partition(":")[0]
    if coder not in MOSAIC_CODERS:
        raise _bad(text, f"{coder} codes the sensor frame; write {right!r} alone", right)
    if bits != MOSAIC_BITS:
        width = f"has {bits} bit" if bits else "does not quantize"
        cause = f"{coder} codes a waist of b={MOSAIC_BITS} as one gray picture; {quantizer} {width}"
        raise _bad(text, cause, f"affine:b={MOSAIC_BITS}|{right}")


def _bad(text: str, cause: str, example: str = _EXAMPLE) -> ConfigError:
    return ConfigError(
        f"{text!r} is not a codec", cause=cause, fix=f"for example --codec '{example}'"
    )
