"""Arrays in one ``.npz`` file; `waistline.task.arrays` says under which keys."""

from __future__ import annotations

from pathlib import Path

from waistline.frame import SensorFrame
from waistline.task.arrays import read_frames
from waistline_node.sources.base import IndexedSource, SourceOptions


def open_source(text: str, options: SourceOptions) -> IndexedSource:
    path = Path(text)
    frames = read_frames(path, options.frame, image=options.image)

    def read_at(position: int, index: int) -> SensorFrame:
        frame = tuple(array[position] for array in frames.arrays)
        label = None if frames.labels is None else frames.labels[position]
        return SensorFrame(index, frame, label, name_of(position))

    def name_of(position: int) -> str:
        return f"{path.name}[{position}]"

    return IndexedSource(len(frames), read_at, name_of, options)
