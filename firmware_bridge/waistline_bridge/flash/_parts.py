"""Pieces of an image and what all readers of formats share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

MAX_SEGMENTS = 65536
ADDRESS_END = 1 << 32


class Bad(ValueError):
    """A file that is not what it says; the text is the fact seen."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Bytes and the address of the first."""

    address: int
    data: bytes

    @property
    def end(self) -> int:
        return self.address + len(self.data)


def joined(parts: Iterable[Segment]) -> tuple[Segment, ...]:
    """Sorted, neighbours made one.

    Raises:
        Bad: there is nothing, they overlap, or one ends behind the address space.
    """
    runs: list[list[Segment]] = []
    for part in sorted((part for part in parts if part.data), key=lambda part: part.address):
        if part.end > ADDRESS_END:
            raise Bad(f"bytes at {part.address:#010x} go past the address space")
        last = runs[-1][-1] if runs else None
        if last is not None and part.address < last.end:
            raise Bad(f"two parts of it go to address {part.address:#010x}")
        if last is not None and part.address == last.end:
            runs[-1].append(part)
        else:
            runs.append([part])
    if not runs:
        raise Bad("it holds nothing to write")
    if len(runs) > MAX_SEGMENTS:
        raise Bad(f"it is in {len(runs)} pieces, {MAX_SEGMENTS} are allowed")
    return tuple(Segment(run[0].address, b"".join(part.data for part in run)) for run in runs)
