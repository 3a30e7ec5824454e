"""The source contract: frames one after the other, checked against what the bundle takes.

A source module exports ``open_source(text: str, options: SourceOptions) -> Source``. Files are
hostile: sizes are checked before anything is allocated, and nothing is unpickled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from waistline import plugins
from waistline.errors import ConfigError
from waistline.frame import SensorFrame
from waistline.task.folders import is_file, is_folder, list_files
from waistline.tensors import TensorSpec

PACKAGE = "waistline_node.sources"


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """What the bundle takes, and how much of the source is wanted.

    Attributes:
        frame: type and shape of each array of a frame: one uint8 (H, W, C) for an image task, else
            the model's inputs.
        image: whether frames are images that the task preprocesses.
        count: end after so many frames; None: at the end of the source.
        loop: begin again at the end of the source.
        classes: names by class index, () where the task names none; None: labels are no classes.
    """

    frame: tuple[TensorSpec, ...]
    image: bool
    count: int | None = None
    loop: bool = False
    classes: tuple[str, ...] | None = None

    def image_shape(self, source: str) -> tuple[int, int, int]:
        """(H, W, C) of the images that frames are.

        Raises:
            ConfigError: they are the model's inputs, so that ``source`` cannot be used.
        """
        if not self.image:
            raise ConfigError(
                f"{source} cannot be the source",
                cause="the bundle has no task, so its frames are the model's inputs, not images",
                fix="give a .npz file, or split again with --task",
            )
        height, width, channels = self.frame[0].shape
        return height, width, channels

    def needs_inputs(self, source: str, what: str) -> None:
        """Refuse ``source``, which gives ``what``, where frames are images.

        Raises:
            ConfigError: they are.
        """
        if self.image:
            raise ConfigError(
                f"{source} cannot be the source",
                cause=f"the bundle's frames are images, and this is {what}",
                fix="split the model again with a task file that has no [preprocess]",
            )


class Source(Protocol):
    """Frames in order. One thread reads."""

    @property
    def live(self) -> bool:
        """Frames keep coming whether they are taken or not (a camera); a file waits."""
        ...

    def read(self) -> SensorFrame | None:
        """The next frame, None after the last one.

        Raises:
            UnreadableFrame: this one cannot be had; the next call goes on with the one after it.
        """
        ...

    def close(self) -> None: ...


@runtime_checkable
class LiveSource(Source, Protocol):
    """A source that does not wait to be read: a camera, a pipe from a sensor.

    It keeps the newest frame and gives up older ones as early as it can, undecoded.
    """

    @property
    def lost(self) -> Mapping[str, int]:
        """Frames that nobody will read: ``overtaken`` by a newer one, or lost in the ``device``."""
        ...

    def stop(self) -> None:
        """Let `read` return None soon, also one that waits; any thread, any number of times."""
        ...


def lost_by(source: Source) -> dict[str, int]:
    """Frames that a live source gave up, by reason; {} where there was none, or of a file."""
    if not isinstance(source, LiveSource):
        return {}
    return {reason: count for reason, count in source.lost.items() if count}


def wake(source: Source) -> None:
    """Let a live source's reader go; a file's never waits long."""
    if isinstance(source, LiveSource):
        source.stop()


class SourceLost(ConfigError):
    """The device behind a live source is gone or gives no frames any more; the run ends."""

    exit_code = 3


class UnreadableFrame(ConfigError):
    """One frame of a source is damaged or does not fit the bundle; the source goes on.

    Attributes:
        index: of the frame.
        name: file name or index, for people.
    """

    def __init__(self, index: int, name: str, error: ConfigError) -> None:
        super().__init__(error.what, cause=error.cause, fix=error.fix)
        self.index = index
        self.name = name


class IndexedSource:
    """A source whose frames can be read by position; waits to be read.

    Args:
        length: frames in one pass, at least 1.
        read_at: (position, running index) to a frame; raises ConfigError for a bad one.
        name_of: position to a name for people.
        options: how many frames are wanted.
        remarks: what a person should know about the frames, a line each.
    """

    live = False

    def __init__(
        self,
        length: int,
        read_at: Callable[[int, int], SensorFrame],
        name_of: Callable[[int], str],
        options: SourceOptions,
        remarks: tuple[str, ...] = (),
    ) -> None:
        self.length = length
        self.remarks = remarks
        self._read_at = read_at
        self._name_of = name_of
        self._end = options.count
        if not options.loop:
            self._end = length if options.count is None else min(length, options.count)
        self._index = 0

    @property
    def total(self) -> int | None:
        """Frames that will be read; None: no end."""
        return self._end

    def read(self) -> SensorFrame | None:
        if self._end is not None and self._index >= self._end:
            return None
        index, position = self._index, self._index % self.length
        self._index += 1
        try:
            return self._read_at(position, index)
        except ConfigError as error:
            raise UnreadableFrame(index, self._name_of(position), error) from error

    def close(self) -> None:
        """Nothing is held open between reads."""


_BY_SUFFIX = {
    "npz": (".npz",),
    "wav": (".wav", ".wave"),
    "csv": (".csv",),
    "video": (".mp4", ".mkv", ".avi", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".ts", ".mjpeg"),
}
"""Kind by the ending of a file, for sources given without one."""


def open_source(text: str, options: SourceOptions) -> Source:
    """Open ``KIND:REST``, where KIND is a module of this package, or a file or folder.

    The kind of a file is told by the ending of its name, that of a folder by what lies in it.

    Raises:
        ConfigError: there is no such source, it is empty, or its frames do not fit the bundle.
        MissingExtra: its kind needs a package that is not installed.
    """
    kind, colon, rest = text.partition(":")
    if not (colon and kind in plugins.names(PACKAGE)):
        kind, rest = _kind_of(text, options), text
    source: Source = plugins.load(PACKAGE, kind).open_source(rest, options)
    return source


def path_of(text: str) -> Path | None:
    """The file or folder that a source reads; None where it is no such thing, as of a camera."""
    kind, colon, rest = text.partition(":")
    if not (colon and kind in plugins.names(PACKAGE)):
        rest = text
    names = filter(None, (rest, rest.rpartition("?")[0]))
    return next((path for path in map(Path, names) if is_file(path) or is_folder(path)), None)


def _kind_of(text: str, options: SourceOptions) -> str:
    path = path_of(text)
    if path is not None and path.is_dir():
        return "folder" if options.image or not _holds_sounds(path) else "wav"
    if path is not None:
        for kind, suffixes in _BY_SUFFIX.items():
            if path.suffix.lower() in suffixes:
                return kind
    kinds = ", ".join(plugins.names(PACKAGE))
    raise ConfigError(
        f"{text} is not a source of frames",
        cause="its name does not tell its kind" if path else "there is no such file or folder",
        fix=f"give a folder of images or sounds, a file, or KIND:.. with KIND one of {kinds}",
    )


def _holds_sounds(folder: Path) -> bool:
    try:
        list_files(folder, _BY_SUFFIX["wav"], "sound")
    except ConfigError:
        return False
    return True
