"""Sensor rows out of a CSV file, or live from a pipe: ``csv:FILE?columns=ax,ay,az&hop=128``.

``csv:-`` reads standard input and ``csv:FIFO`` a named pipe: live, so that what the model cannot
follow is dropped; ``live=0`` lets the writer wait instead. The other options are those of
`waistline.task.rows.RowOptions`. A line that cannot be read ends the windows it lies in as errors
of their frames. A window whose rows carry several labels has none.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from waistline.errors import ConfigError
from waistline.frame import SensorFrame
from waistline.task.rows import RowOptions, RowWindow, RowWindows, number_label
from waistline_node.sources._descriptor import Descriptor, waits
from waistline_node.sources._query import split_query
from waistline_node.sources.base import SourceLost, SourceOptions, UnreadableFrame


class Options(RowOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``live``: drop what cannot be followed; None: yes for a pipe, no for a file."""

    live: bool | None = None


class RowSource:
    """Windows in the order of the rows. The first line of a pipe is read with its first frame."""

    def __init__(self, path: str, chosen: Options, options: SourceOptions) -> None:
        self._path = path
        self._chosen = chosen
        self._options = options
        self._streams = waits(path)
        self.live = self._streams if chosen.live is None else chosen.live
        self.lost: dict[str, int] = {}
        self._index = 0
        self._stopped = False
        self._descriptor = Descriptor(path)
        self._windows: Iterator[RowWindow] | None = None
        self._next: RowWindow | None = None
        if not self._streams:
            # Refused before the stream starts rather than in its first frame.
            try:
                self._next = self._pulled()
                self._check_any(self._next)
            except BaseException:
                self.close()
                raise

    def read(self) -> SensorFrame | None:
        if self._options.count is not None and self._index >= self._options.count:
            return None
        window = self._following()
        if window is None:
            return None
        index, self._index = self._index, self._index + 1
        if window.array is None:
            error = ConfigError(f"{window.name} cannot be used", cause=window.problem)
            raise UnreadableFrame(index, window.name, error)
        label = self._label(window.label)
        captured_s = time.monotonic() if self._streams else None
        return SensorFrame(index, (window.array,), label, window.name, captured_s)

    def stop(self) -> None:
        self._stopped = True
        self._descriptor.stop()

    def close(self) -> None:
        self._descriptor.close()

    def _following(self) -> RowWindow | None:
        """The next window, begun again at the end of a file that is to be looped."""
        window, self._next = self._next, None
        if window is None:
            window = self._pulled()
        if window is None and self._options.loop and not (self._streams or self._stopped):
            self._descriptor.close()
            self._descriptor = Descriptor(self._path)
            self._windows = None
            window = self._pulled()
        return None if self._stopped else window

    def _pulled(self) -> RowWindow | None:
        try:
            return next(self._windows or self._opened(), None)
        except OSError as error:
            raise SourceLost(
                f"{self._path} cannot be read any more",
                cause=error.strerror or str(error),
                fix="start whatever writes it again, then this node",
            ) from error
        except ConfigError:
            # The first line of a pipe that was closed before it came is no line.
            if self._stopped:
                return None
            raise

    def _opened(self) -> Iterator[RowWindow]:
        name = "standard input" if self._path == "-" else Path(self._path).name
        rows = RowWindows(self._descriptor.read, name, self._options.frame, self._chosen)
        self._windows = iter(rows)
        return self._windows

    def _label(self, text: str | None) -> int | str | None:
        classes = self._options.classes
        return text if text is None or classes is None else number_label(text, classes)

    def _check_any(self, first: RowWindow | None) -> None:
        if first is None:
            raise ConfigError(
                f"{self._path} holds no frame",
                cause="it has fewer rows than the model's input",
                fix="give a longer file",
            )


def open_source(text: str, options: SourceOptions) -> RowSource:
    path, chosen = split_query(text, Options, lists=("columns",))
    options.needs_inputs(path, "sensor rows")
    if waits(path) and options.loop:
        raise ConfigError(f"{path} cannot be looped", cause="what a pipe gave is gone")
    return RowSource(path, chosen, options)
