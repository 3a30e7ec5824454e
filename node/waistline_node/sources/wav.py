"""Sound out of a WAV file or a folder of them: ``wav:DIR?rate=16000&hop=8000``.

The options are those of `waistline.task.sounds.SoundOptions`. Files are read in the order of their
names, those in class folders last and labelled (`label_files`). The first file is checked before
the stream starts; a later one that is damaged or does not fit ends as an error of one frame.
"""

from __future__ import annotations

from pathlib import Path

from waistline.frame import SensorFrame
from waistline.task.sounds import SoundOptions, SoundWindows, list_sounds
from waistline_node.sources._labels import label_files
from waistline_node.sources._query import split_query
from waistline_node.sources.base import IndexedSource, SourceOptions


def open_source(text: str, options: SourceOptions) -> IndexedSource:
    rest, chosen = split_query(text, SoundOptions)
    options.needs_inputs(rest, "sound")
    root, found = list_sounds(Path(rest))
    files, remarks = label_files(found, options.classes, "sounds")
    windows = SoundWindows([path for path, _ in files], root, options.frame, chosen, skip_bad=True)
    if chosen.rate is None:
        remarks += (f"{files[0][0].name} was sampled at {windows.rate_hz} Hz; rate=HZ checks that",)

    def read_at(position: int, index: int) -> SensorFrame:
        label = files[windows.owner(position)][1]
        return SensorFrame(index, (windows.read(position),), label, windows.name(position))

    return IndexedSource(len(windows), read_at, windows.name, options, remarks)
