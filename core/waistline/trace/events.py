"""Markers that a program sets by software: a file of what happened when.

A program calls `mark` or `span`, a script ``python -m waistline.trace.events NAME``; or it writes
the file itself, one event a line:

    # seconds of its monotonic clock, a blank, the name; ticks where the reader is told their rate
    1234.500013 conv1-begin
    1234.500871 conv1-end

What is captured around a program is marked by the host's clock at once: some hundred microseconds,
fine for runs, not for layers. An edge on a wire, or a code in the power, places events better
(`waistline trace markers`).
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np

from waistline.errors import MarkerMissing, TraceError
from waistline.files import read_regular
from waistline.trace.base import Annotation, Trace

VARIABLE = "WAISTLINE_EVENTS"
"""Environment variable that names the file."""
BEGIN, END = "-begin", "-end"
"""What the names of a segment's two events end in."""
_MOST_BYTES = 256 << 20
_MOST_TEXT = 200
_MOST_S = 9e9
"""Nanoseconds of it fit into 64 bits."""
_LINE = re.compile(rb"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?:[\s,;]+(.*?))?\s*\Z", re.S)
_UNNAMED = "event"

_Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class SoftwareEvent(msgspec.Struct, frozen=True):
    """One event.

    Attributes:
        monotonic_ns: of the machine's monotonic clock.
        utc_ns: since 1970; 0 where it is not known.
        text: what happened.
    """

    monotonic_ns: _Int64
    utc_ns: _Int64
    text: str


def mark(
    text: str, path: str | Path | None = None, *, monotonic_ns: int | None = None
) -> SoftwareEvent:
    """Note that something happens now.

    Args:
        text: what; what is longer than 200 characters is cut off.
        path: of the file, which may grow by several programs at once; None: `VARIABLE` names it,
            and where that is not set, or the capture is gone, nothing is written.
        monotonic_ns: when it happened; None is now.

    Raises:
        OSError: ``path`` cannot be written.
    """
    now_ns, utc_ns = time.monotonic_ns(), time.time_ns()
    at_ns = now_ns if monotonic_ns is None else monotonic_ns
    event = SoftwareEvent(at_ns, utc_ns + at_ns - now_ns, text[:_MOST_TEXT])
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


@contextlib.contextmanager
def span(name: str, path: str | Path | None = None) -> Iterator[None]:
    """Note the begin and the end of what is done meanwhile: a segment of this name.

    Raises:
        OSError: ``path`` cannot be written.
    """
    mark(name + BEGIN, path)
    try:
        yield
    finally:
        mark(name + END, path)


def read_events(path: str | Path, clock_hz: float | None = None) -> list[SoftwareEvent]:
    """Events in order of time; a last line that was cut off is left out.

    Args:
        path: of what `mark` wrote, or of lines of text as above.
        clock_hz: ticks a second, where the text's times are ticks; None: they are seconds.

    Raises:
        TraceError: the file cannot be read, or a line is no event.
    """
    try:
        data = read_regular(Path(path), _MOST_BYTES)
    except (OSError, ValueError) as error:
        raise TraceError(
            f"the events in {path} cannot be read",
            cause=getattr(error, "strerror", None) or str(error),
            fix="give the file that the program wrote",
        ) from error
    *lines, last = data.split(b"\n")
    if last.strip() and not data.lstrip().startswith(b"{"):
        lines.append(last)
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith(b"#"):
            continue
        try:
            found.append(_event(line, clock_hz))
        except (msgspec.MsgspecError, RecursionError, ValueError) as error:
            raise TraceError(
                f"line {number} of {path} is no event",
                cause=f"{error}",
                fix="a line is a time and a name, such as 1234.5 conv1-begin, or what "
                "waistline.trace.events.mark writes",
            ) from error
    return sorted(found, key=lambda event: event.monotonic_ns)


def _event(line: bytes, clock_hz: float | None) -> SoftwareEvent:
    """One line.

    Raises:
        ValueError, msgspec.MsgspecError: it is no event.
    """
    if line.lstrip().startswith(b"{"):
        event = msgspec.json.decode(line, type=SoftwareEvent)
        return msgspec.structs.replace(event, text=event.text[:_MOST_TEXT])
    found = _LINE.match(line)
    if found is None:
        raise ValueError(f"{line[:40].decode(errors='replace')!r} does not begin with a time")
    time_s = float(found[1]) / (clock_hz or 1.0)
    if not abs(time_s) < _MOST_S:
        raise ValueError(f"{found[1][:40].decode()} is beyond what a clock shows")
    name = (found[2] or b"").decode()[:_MOST_TEXT]
    return SoftwareEvent(round(time_s * 1e9), 0, name or _UNNAMED)


def place_events(trace: Trace, events: Sequence[SoftwareEvent]) -> list[Annotation]:
    """Events as markers of a trace, by the host's clock; those outside are left out.

    Raises:
        MarkerMissing: the trace, or an event, does not say when it was.
    """
    points = trace.utc
    if not points:
        raise MarkerMissing(
            "the trace does not say when it was taken",
            cause="it has no UTC map",
            fix="capture with waistline capture, which writes one",
        )
    unknown = [event.text for event in events if not event.utc_ns]
    if unknown:
        raise MarkerMissing(
            "the events do not say when they were by the host's clock",
            cause=f"{len(unknown)} have only a time of a clock of their own: {unknown[0]!r}, ..",
            fix="place them by edges of a logic bit (--bit) or by a code (--code), or write them "
            "with waistline.trace.events.mark",
        )
    base_ns = points[0].utc_ns
    known = np.array([(point.utc_ns - base_ns) * 1e-9 for point in points])
    samples = np.array([point.sample for point in points], float)
    at_s = np.array([event.utc_ns - base_ns for event in events], float) * 1e-9
    places = np.interp(at_s, known, samples)
    # Beyond the outermost points the nominal rate goes on.
    places += (at_s - np.clip(at_s, known[0], known[-1])) * trace.spec.rate_hz
    return noted(trace, [event.text for event in events], places)


def noted(trace: Trace, names: Sequence[str], places: np.ndarray) -> list[Annotation]:
    """Markers at float64 (n,) places in samples; those outside the trace are left out."""
    rows = zip(names, places.tolist(), strict=True)
    return [Annotation(at, "marker", name) for name, at in rows if 0 <= at <= trace.length]


def main(words: Sequence[str]) -> int:
    """The module as a program: note names, one after the other."""
    if not words or words[0] in ("-h", "--help"):
        print(f"python -m waistline.trace.events NAME ..: note what happens now in ${VARIABLE}")
        return 0 if words else 2
    if not os.environ.get(VARIABLE):
        print(f"note: nothing is captured around this: {VARIABLE} is not set", file=sys.stderr)
    for text in words:
        mark(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
