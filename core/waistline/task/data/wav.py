"""Windows of sound out of a WAV file or a folder of them, for a task without ``[preprocess]``.

Labelled when the files lie in class folders, named and numbered as in `waistline.task.data.folder`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from waistline.frame import SensorFrame
from waistline.task.data.base import DataContext
from waistline.task.folders import label_all
from waistline.task.sounds import SoundOptions, SoundWindows, list_sounds


class Options(SoundOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``path`` of the file or folder; the rest as `SoundOptions` says."""

    path: str


class SoundData:
    def __init__(self, options: Options, context: DataContext) -> None:
        path = context.path(options.path)
        folder, found = list_sounds(path)
        files, self._labels = label_all(found, context.classes, path, "sound")
        self._windows = SoundWindows(files, folder, context.inputs, options, skip_bad=False)

    @property
    def labelled(self) -> bool:
        return bool(self._labels)

    def __len__(self) -> int:
        return len(self._windows)

    def __iter__(self) -> Iterator[SensorFrame]:
        for index in range(len(self)):
            label = self._labels[self._windows.owner(index)] if self._labels else None
            array = self._windows.read(index)
            yield SensorFrame(index, (array,), label, self._windows.name(index))


def open_data(options: Mapping[str, Any], context: DataContext) -> SoundData:
    chosen = context.options(options, Options)
    context.needs_inputs("sound")
    return SoundData(chosen, context)
