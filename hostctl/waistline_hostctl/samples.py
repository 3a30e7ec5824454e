"""A few frames of a run to look at: the first ones, and those whose answer the cut changed most."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence

from PIL import Image

from waistline.frame import SensorFrame
from waistline.task.kinds.base import Kind
from waistline_hostctl.raw import SampleRow
from waistline_node.records import FrameRecord

CANDIDATES = 100
"""Frames among which they are chosen; their pictures are held in memory until then."""
FIRST, CHANGED = 3, 3
_QUALITY = 90
_MEDIA = "image/webp"
_MAX_SIDE = 640


def choose_samples(
    frames: Sequence[SensorFrame],
    uncut: Mapping[int, bytes],
    records: Iterable[FrameRecord],
    kind: Kind,
) -> list[SampleRow]:
    """Pictures of the first frames, then of those that agree least with the uncut model.

    Args:
        frames: images, the candidates.
        uncut: packed answer of the uncut model by frame index.
        records: what became of the frames.
        kind: of the answers.
    """
    sent = {row.index: row.answer for row in records if row.answer}
    known = [frame for frame in frames if sent.get(frame.index) and uncut.get(frame.index)]
    rows = [_sample(frame, "one of the first") for frame in known[:FIRST]]
    agreement = {
        frame.index: kind.agrees(kind.unpack(sent[frame.index]), kind.unpack(uncut[frame.index]))
        for frame in known
    }
    rest = sorted(known[FIRST:], key=lambda frame: agreement[frame.index])
    for frame in rest[:CHANGED]:
        agrees = agreement[frame.index]
        if agrees < 1.0:
            why = f"least agreement of {len(known)} frames: {agrees:.2f}"
            rows.append(_sample(frame, why))
    return rows


def _sample(frame: SensorFrame, why: str) -> SampleRow:
    pixels = frame.arrays[0]
    height, width = pixels.shape[:2]
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    image.thumbnail((_MAX_SIDE, _MAX_SIDE))
    target = io.BytesIO()
    image.save(target, "WEBP", quality=_QUALITY)
    return SampleRow(frame.index, why, width, height, _MEDIA, target.getvalue())
