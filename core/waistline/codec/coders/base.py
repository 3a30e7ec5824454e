"""The entropy coder contract.

A coder module exports ``open_coder(argument: int | None) -> Coder``. It imports its third-party
dependency at its own top and is found by its file name. A lossless coder gives back the packed
bytes exactly; a lossy one (an image coder) gives back as many bytes as it was given.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from waistline.errors import CodecError, ConfigError


@dataclass(frozen=True, slots=True)
class CodeShape:
    """What the packed bytes mean, for coders that use the neighbourhood of a code.

    Attributes:
        shape: the tensor's shape; codes are in C order.
        channel_axis: axis of the channels; None: it has none.
        bits: width of a code, 1..8, packed LSB first; of an element that is not quantized, its own
            width (8, 16, 32, 64).
        frame: the sensor frame, uint8 (H, W, C), rather than a waist.
        signed: 8-bit codes are two's complement.
    """

    shape: tuple[int, ...]
    channel_axis: int | None
    bits: int
    frame: bool = False
    signed: bool = False

    @property
    def size_bytes(self) -> int:
        """Exact size of the packed codes."""
        return (math.prod(self.shape) * self.bits + 7) // 8


class Coder(Protocol):
    """One object serves one thread at a time, so that it may keep its working memory."""

    def compress(self, packed: memoryview, shape: CodeShape) -> bytes | memoryview:
        """Code ``packed`` (``shape.size_bytes`` bytes).

        A result that is not shorter than ``packed`` is thrown away by the caller, who then stores
        ``packed`` itself; it may be ``packed``, without a copy.
        """
        ...

    def decompress(self, data: memoryview, size_bytes: int, shape: CodeShape) -> bytes | memoryview:
        """The packed bytes again; ``data`` is hostile.

        Never holds more than ``size_bytes + 1`` bytes of output, whatever ``data`` announces.

        Raises:
            CodecError: damaged, truncated, followed by other bytes, or of another size.
        """
        ...


def corrupt(coder: str, cause: str) -> CodecError:
    """The error for a payload that does not decode."""
    return CodecError(
        f"the {coder} payload of a waist tensor does not decode",
        cause=cause,
        fix="check that node and edge run the same release and bundle",
    )


def checked_argument(
    coder: str, argument: int | None, low: int, high: int, default: int, *, what: str = "level"
) -> int:
    """``argument``, or ``default`` for None.

    Raises:
        ConfigError: outside low..high.
    """
    if argument is None:
        return default
    if not low <= argument <= high:
        raise ConfigError(
            f"{coder}:{argument} is not a codec",
            cause=f"the {what} of {coder} is {low} to {high}",
            fix=f"use {coder}:{default}",
        )
    return argument
