"""What the compiled codec and its NumPy reference both offer; `tensor_codec` takes either."""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from waistline.codec.pack import Codes

Floats = NDArray[np.float32]
Buffer = bytes | memoryview
Rule = Literal["affine", "q1", "q1h"]


class Grid(Protocol):
    """Encoder and decoder for given ranges. ``x`` is C-contiguous (outer, channels, inner)."""

    def encode(self, x: Floats, out: Codes, *, within: bool) -> bool:
        """Quantize and pack into ``out``; False for NaN or infinity.

        ``within``: x is known to be finite and inside the ranges, as after `Kernels.minmax`.
        """
        ...

    def decode(self, packed: Codes, out: Floats) -> None:
        """Unpack and dequantize into ``out`` (outer, channels, inner)."""
        ...


class Uniform(Protocol):
    """Encoder and decoder of one tensor, frame after frame."""

    def encode(self, x: Floats) -> bool:
        """Write ranges and packed codes to the buffers given; False for NaN or infinity."""
        ...

    def decode(self, ranges: Buffer, packed: Buffer, out: Floats) -> bool:
        """Into ``out``; both buffers have their exact sizes. False: the ranges are not sound."""
        ...


class Kernels(Protocol):
    """What both implementations offer. Arrays are C-contiguous."""

    name: Literal["c", "numpy"]

    def minmax(self, x: Floats) -> tuple[Floats, Floats] | None:
        """Minimum and maximum of each channel, float32 (channels,); None for NaN or infinity."""
        ...

    def grid(self, rule: Rule, bits: int, lo: Floats, hi: Floats) -> Grid | None:
        """The grid of ranges, float32 (channels,); None unless all are finite and lo <= hi."""
        ...

    def uniform(
        self,
        rule: Rule,
        bits: int,
        shape: tuple[int, int, int],
        limits: tuple[Floats, Floats] | None,
        ranges: Codes,
        packed: Codes,
    ) -> Uniform | None:
        """The coder of a tensor of ``shape`` (outer, channels, inner).

        ``limits`` are lo and hi of each channel, None if unsound; without them each frame has its
        own, in ``ranges``: lo, then hi, float32 little-endian. ``packed`` receives the codes.
        """
        ...

    def encode_q2(self, x: Floats, conditional: bool, out: Codes) -> Floats | None:
        """One bit per value; what 0 and 1 decode to, float32 (2,), or None as in `minmax`."""
        ...

    def decode_q2(self, packed: Codes, values: Floats, out: Floats) -> None: ...

    def encode_table(self, q: Codes, table: Codes, bits: int, out: Codes) -> None:
        """Pack ``table[q]``."""
        ...

    def decode_table(self, packed: Codes, table: Codes, bits: int, out: Codes) -> None:
        """``table[code]`` for each packed code."""
        ...
