"""What a cut takes of a microcontroller, as `waistline_bridge.listing` finds it."""

from __future__ import annotations

import msgspec

PACKED_BITS = 4
"""Code width that the table assumes."""


class McuCut(msgspec.Struct, frozen=True):
    """One partition point on a microcontroller.

    Attributes:
        x: from 2 on.
        refused: why no board runs it, "" if one does; the rest is 0 or empty then.
        waist_bytes: of the int8 waist, with inputs that only cross the cut as the model has them;
            at x = N of the int8 outputs.
        packed_bytes: the same at `PACKED_BITS`; at x = N as it is.
        blob_bytes, arena_bytes: of the head, with a waist at `PACKED_BITS`, coded by ``ctx``. A
            bundle's blob also holds the golden input, where that takes no board from it.
        first_layer_bytes: of the arena, that its first layer uses, and that of every earlier cut.
        boards: on which it fits, of those in ``fit.csv``.
    """

    x: int
    refused: str = ""
    waist_bytes: int = 0
    packed_bytes: int = 0
    blob_bytes: int = 0
    arena_bytes: int = 0
    first_layer_bytes: int = 0
    boards: tuple[str, ...] = ()
