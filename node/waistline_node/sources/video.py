"""Frames of a video file: ``video:FILE`` or ``FILE.mp4``; ``?scale=1`` scales them to the task's.

Read as fast as they are taken. The file is not trusted: it may name no other file and no network
address, only the demuxers below open it, and a picture's size is checked before it is decoded. A
picture that cannot be decoded ends as an error of its frame. Rotation and pixel aspect that a file
asks for are not applied.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import msgspec

from waistline.errors import ConfigError
from waistline.frame import SensorFrame
from waistline.task.folders import is_file
from waistline_node.sources._av import FAILURES, PROTECTION, check_size, one_thread, to_array, why
from waistline_node.sources._query import split_query
from waistline_node.sources.base import SourceOptions, UnreadableFrame

DEMUXERS = ("mov", "matroska", "avi", "mpegts", "mpeg", "flv", "ivf", "mjpeg", "h264", "hevc")


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``scale``: to the task's frame size, instead of refusing another."""

    scale: bool = False


class VideoSource:
    """Pictures of the first video stream, in the order of their presentation."""

    live = False

    def __init__(self, path: Path, chosen: Options, options: SourceOptions) -> None:
        self._path = path
        self._scale = chosen.scale
        self._shape = options.image_shape(str(path))
        self._options = options
        self._index = 0
        self._position = 0
        self._container, self._pictures = self._open()
        self._next: Any = next(self._pictures, None)
        if self._next is None:
            self.close()
            raise self._bad("it holds no picture")

    def read(self) -> SensorFrame | None:
        if self._options.count is not None and self._index >= self._options.count:
            return None
        picture = self._following()
        if picture is None:
            return None
        index, self._index = self._index, self._index + 1
        name = f"{self._path.name}[{self._position}]"
        self._position += 1
        try:
            if isinstance(picture, ConfigError):
                raise picture
            array = to_array(picture, self._shape, scale=self._scale)
        except ConfigError as error:
            raise UnreadableFrame(index, name, error) from error
        return SensorFrame(index, (array,), None, name)

    def close(self) -> None:
        self._container.close()

    def _following(self) -> Any:
        picture, self._next = self._next, None
        if picture is None:
            picture = next(self._pictures, None)
        if picture is None and self._options.loop:
            self._container.close()
            self._container, self._pictures = self._open()
            self._position = 0
            picture = next(self._pictures, None)
        return picture

    def _open(self) -> tuple[Any, Iterator[Any]]:
        limits = {
            "protocol_whitelist": "file",
            "format_whitelist": ",".join(DEMUXERS),
            **PROTECTION,
        }
        try:
            container = av.open(f"file:{self._path}", options=limits)
        except FAILURES as error:
            raise self._bad(why(error)) from error
        try:
            if not container.streams.video:
                raise self._bad("it has no video stream")
            stream = container.streams.video[0]
            context = stream.codec_context
            if context is None:
                raise self._bad("nothing here can decode its video stream")
            try:
                check_size((context.width, context.height), self._shape, scale=self._scale)
            except ConfigError as error:
                what = f"{self._path}: {error.what}"
                raise ConfigError(what, cause=error.cause, fix=error.fix) from error
            one_thread(stream)
        except BaseException:
            container.close()
            raise
        return container, self._decoded(container, stream)

    def _decoded(self, container: Any, stream: Any) -> Iterator[Any]:
        """Pictures, and a ConfigError for each packet that gives none because it is damaged."""
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
            except FAILURES as error:
                yield self._bad(f"it ends early: {why(error)}")
                return
            if packet is None:
                return
            try:
                pictures = packet.decode()
            except FAILURES as error:
                if packet.size:
                    yield self._bad(f"a picture cannot be decoded: {why(error)}")
                continue
            yield from pictures

    def _bad(self, cause: str) -> ConfigError:
        return ConfigError(
            f"{self._path} cannot be read as a video",
            cause=cause,
            fix="give a video file, such as .mp4, .mkv or .avi",
        )


def open_source(text: str, options: SourceOptions) -> VideoSource:
    rest, chosen = split_query(text, Options)
    path = Path(rest)
    if not is_file(path):
        raise ConfigError(f"there is no video {path}", cause="no such file", fix="name a file")
    return VideoSource(path.absolute(), chosen, options)
