"""Markers that a program sets by software: lines of JSON in a file, each with its time.

A program calls `mark` (or writes such a line itself, in any language); afterwards the events are
put on a trace by the time of the machine that both ran on. How well that fits is what the clock of
the capture does: some hundred microseconds, fine for runs, not for layers.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from waistline.errors import MarkerMissing, TraceError
from waistline.files import read_limited
from waistline.trace.base import Annotation, Trace

VARIABLE = "WAISTLINE_EVENTS"
"""Environment variable that names the file."""
_MOST_BYTES = 16 << 20
_MOST_TEXT = 200


class SoftwareEvent(msgspec.Struct, frozen=True):
    """One event.

    Attributes:
        monotonic_ns: of the machine's monotonic clock.
        utc_ns: since 1970.
        text: what happened.
    """

    monotonic_ns: int
    utc_ns: int
    text: str


def mark(text: str, path: str | Path | None = None) -> SoftwareEvent:
    """Note that something happens now.

    Args:
        text: what; what is longer than 200 characters is cut off.
        path: of the file, which may grow by several programs at once; None: `VARIABLE` names it,
            and where that is not set, or the capture is gone, nothing is written.

    Raises:
        OSError: ``path`` cannot be written.
    """
    event = SoftwareEvent(time.monotonic_ns(), time.time_ns(), text[:_MOST_TEXT])
    target = path or os.environ.get(VARIABLE)
    if target:
        line = msgspec.json.encode(event) + b"\n"
        # One write of a short line to a file opened so is not torn by another.
        try:
            file = os.open(target, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError:
            if path:
                raise
            return event
        try:
            os.write(file, line)
        finally:
            os.close(file)
    return event


def read_events(path: str | Path) -> list[SoftwareEvent]:
    """Events in order of time; a last line that was cut off is left out.

    Raises:
        TraceError: the file cannot be read, or a line is no event.
    """
    try:
        data = read_limited(Path(path), _MOST_BYTES)
    except (OSError, ValueError) as error:
        raise TraceError(f"the events in {path} cannot be read", cause=str(error)) from error
    found = []
    for number, line in enumerate(data.split(b"\n")[:-1], 1):
        try:
            event = msgspec.json.decode(line, type=SoftwareEvent)
        except msgspec.MsgspecError as error:
            raise TraceError(
                f"line {number} of {path} is no event",
                cause=str(error),
                fix='a line is {"monotonic_ns": .., "utc_ns": .., "text": ".."}',
            ) from error
        found.append(msgspec.structs.replace(event, text=event.text[:_MOST_TEXT]))
    return sorted(found, key=lambda event: event.monotonic_ns)


def place_events(trace: Trace, events: Sequence[SoftwareEvent]) -> list[Annotation]:
    """Events as markers of a trace; those outside are left out.

    Raises:
        MarkerMissing: the trace does not say when it was taken.
    """
    points = trace.utc
    if not points:
        raise MarkerMissing(
            "the trace does not say when it was taken",
            cause="it has no UTC map",
            fix="capture with waistline capture, which writes one",
        )
    base_ns = points[0].utc_ns
    known = np.array([(point.utc_ns - base_ns) * 1e-9 for point in points])
    samples = np.array([point.sample for point in points], float)
    notes = []
    for event in events:
        at_s = (event.utc_ns - base_ns) * 1e-9
        place = float(np.interp(at_s, known, samples))
        # Beyond the outermost points the nominal rate goes on.
        outside_s = at_s - min(max(at_s, known[0]), known[-1])
        place += outside_s * trace.spec.rate_hz
        if 0 <= place <= trace.length:
            notes.append(Annotation(place, "marker", event.text))
    return notes
