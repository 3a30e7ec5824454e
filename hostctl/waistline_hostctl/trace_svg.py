"""A trace as inline SVG: envelope and mean, segments above it, markers and gaps across it.

However long the trace, it is drawn of what the table ``overview`` holds, at most some hundred
columns; so are segments, markers and gaps: what is too narrow is drawn as one, and its name left
to the pointer.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from waistline.trace.base import Gap
from waistline.trace.view import prefix, time_unit, visible
from waistline_hostctl.svg import WIDTH, between, line, opened, text

_LEFT, _RIGHT, _PLOT, _BOTTOM = 64, 16, 250, 46
_LANE, _LANES = 19, 4
_LETTER = 6.6
_MOST_BOXES, _NEAR = 400, 2.0
_SHADES = 8

_PATTERN = (
    '<defs><pattern id="lost" width="6" height="6" patternUnits="userSpaceOnUse" '
    'patternTransform="rotate(45)"><rect class="hatched" width="6" height="6"/>'
    '<line class="hatch" x1="0" y1="0" x2="0" y2="6"/></pattern></defs>'
)

Band = tuple[float, float, str]
"""(begin, end, name), seconds."""


@dataclass(frozen=True)
class Picture:
    """What is drawn; times in seconds from the first sample on.

    Attributes:
        signal, unit: of the values.
        duration_s: of what is drawn.
        begins, low, high, mean: of each column; None where all samples are lost.
        segments: (begin, end, name).
        markers: (at, name).
        gaps: with ids in samples.
        rate_hz: of the samples.
        start_s: where what is drawn begins.
    """

    signal: str
    unit: str
    duration_s: float
    begins: Sequence[float]
    low: Sequence[float | None]
    high: Sequence[float | None]
    mean: Sequence[float | None]
    segments: Sequence[Band]
    markers: Sequence[tuple[float, str]]
    gaps: Sequence[Gap]
    rate_hz: float
    start_s: float = 0.0


def draw(picture: Picture) -> str:
    """The chart; a picture without a finite value or duration is empty."""
    lanes = _lanes(picture)
    plot = _Plot.of(picture, len(lanes))
    if plot is None:
        return ""
    parts = [opened(plot.bottom + _BOTTOM), _PATTERN, *plot.axes(picture)]
    parts += plot.curve(picture)
    parts += plot.segments(lanes)
    parts += plot.gaps(picture)
    parts += plot.markers(picture)
    return "".join([*parts, "</svg>"])


def _lanes(picture: Picture) -> list[list[Band]]:
    """Segments in rows, so that none covers another and all of a name are in one where they can be.

    Those that find no room are left out.
    """
    least = picture.duration_s / (WIDTH - _LEFT - _RIGHT)
    names: dict[str, list[Band]] = {}
    for begin, end, name in picture.segments:
        if end <= picture.start_s or begin >= picture.start_s + picture.duration_s:
            continue
        same = names.setdefault(name, [])
        if not (same and end <= same[-1][1] and end - begin < least):
            same.append((begin, end, name))
    lanes: list[list[Band]] = []
    for same in names.values():
        apart = all(first[1] <= second[0] for first, second in pairwise(same))
        if not (apart and _placed(same, lanes)):
            for band in same:
                _placed([band], lanes)
    return lanes


def _placed(row: Sequence[Band], lanes: list[list[Band]]) -> bool:
    """Put them into the first lane that is free wherever they are, or into a new one."""
    lane = next((lane for lane in lanes if all(_free(lane, band) for band in row)), None)
    if lane is None:
        if len(lanes) == _LANES:
            return False
        lanes.append(lane := [])
    for band in row:
        insort(lane, band)
    return True


def _free(lane: Sequence[Band], band: Band) -> bool:
    place = bisect_left(lane, band)
    before, behind = lane[max(0, place - 1) : place], lane[place : place + 1]
    return all(one[1] <= band[0] for one in before) and all(band[1] <= one[0] for one in behind)


@dataclass(frozen=True)
class _Plot:
    """Where things are on the page."""

    start_s: float
    duration_s: float
    low: float
    high: float
    scale: float
    letter: str
    top: float
    ticks: Sequence[float]

    @classmethod
    def of(cls, picture: Picture, lanes: int) -> _Plot | None:
        known = [row for row in (*picture.low, *picture.high) if row is not None and _fit(row)]
        if not known or not 0 < picture.duration_s < math.inf:
            return None
        scale, letter = prefix(known)
        low, high = min(0.0, min(known) * scale), max(0.0, max(known) * scale)
        room = 0.06 * ((high - low) or 1.0)
        low, high = low - (room if low < 0 else 0.0), high + room
        ticks = [tick for tick in between(low, high) if low <= tick <= high]
        start_s, duration_s = picture.start_s, picture.duration_s
        return cls(start_s, duration_s, low, high, scale, letter, 30.0 + _LANE * lanes, ticks)

    @property
    def bottom(self) -> float:
        return self.top + _PLOT

    def x(self, at_s: float) -> float:
        share = min(max((at_s - self.start_s) / self.duration_s, 0.0), 1.0)
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * share

    def y(self, value: float) -> float:
        share = (value * self.scale - self.low) / (self.high - self.low)
        return self.bottom - _PLOT * min(max(share, 0.0), 1.0)

    def axes(self, picture: Picture) -> Iterator[str]:
        right = WIDTH - _RIGHT
        yield text(0, 14, f"{picture.signal} ({self.letter}{picture.unit})", "axis-name", "start")
        for tick in self.ticks:
            y = self.y(tick / self.scale)
            yield line(_LEFT, y, right, y, "grid")
            yield text(_LEFT - 8, y + 4, f"{tick:.6g}", "tick", "end")
        unit_s, name = time_unit(self.start_s + self.duration_s)
        first, last = self.start_s / unit_s, (self.start_s + self.duration_s) / unit_s
        for tick in between(first, last):
            if first <= tick <= last:
                x = self.x(tick * unit_s)
                yield line(x, self.bottom, x, self.bottom + 5, "grid")
                yield text(x, self.bottom + 18, f"{tick:.9g}", "tick", "middle")
        yield text(_LEFT, self.bottom + 38, f"time ({name})", "axis-name", "start")

    def curve(self, picture: Picture) -> Iterator[str]:
        """Steps: a column is drawn over the time it stands for. Broken where all is lost."""
        ends = [*picture.begins[1:], self.start_s + self.duration_s]
        rows = list(zip(picture.begins, ends, picture.low, picture.high, picture.mean, strict=True))
        for run in _whole(rows):
            outline = [f"{self.x(at):.1f},{self.y(row[3]):.1f}" for row in run for at in row[:2]]
            outline += [
                f"{self.x(at):.1f},{self.y(row[2]):.1f}"
                for row in reversed(run)
                for at in row[1::-1]
            ]
            middle = [f"{self.x(at):.1f},{self.y(row[4]):.1f}" for row in run for at in row[:2]]
            yield f'<polygon class="envelope" points="{" ".join(outline)}"/>'
            yield f'<polyline class="mean" points="{" ".join(middle)}"/>'

    def segments(self, lanes: Sequence[Sequence[Band]]) -> Iterator[str]:
        names = dict.fromkeys(name for lane in lanes for _, _, name in lane)
        shades = {name: 1 + place % _SHADES for place, name in enumerate(names)}
        for place, lane in enumerate(lanes):
            y = self.top - _LANE * (place + 1)
            for begin, end, name, count in _joined(lane, self.duration_s / _MOST_BOXES):
                told = f"{count:,} × {name or 'segments'}" if count > 1 else name
                x = self.x(begin)
                width = max(self.x(end) - self.x(begin), 0.8)
                yield (
                    f'<rect class="segment s{shades.get(name, 0)}" x="{x:.1f}" y="{y:.1f}" '
                    f'width="{width:.1f}" height="{_LANE - 5}">{_title(told)}</rect>'
                )
                shown = _short(told, width - 6)
                if shown:
                    yield text(x + width / 2, y + 11, shown, "segment-name", "middle")

    def gaps(self, picture: Picture) -> Iterator[str]:
        first, length = picture.start_s * picture.rate_hz, picture.duration_s * picture.rate_hz
        if not 0 < length < math.inf:
            return
        for gap in visible(picture.gaps, first, first + length, _MOST_BOXES):
            x, end = (self.x(at / picture.rate_hz) for at in (gap.first, gap.end))
            width = max(end - x, 2.0)
            x = min(x, WIDTH - _RIGHT - width)
            kind = "lost" if gap.resolved else "unknown"
            told = f"{gap.count:,} samples lost" if gap.resolved else "lost, how many is not known"
            yield (
                f'<rect class="{kind}" x="{x:.1f}" y="{self.top:.1f}" width="{width:.1f}" '
                f'height="{_PLOT}">{_title(told)}</rect>'
            )
            if not gap.resolved:
                told = "size not known" if width > 100 else "?"
                yield text(x + width / 2, self.top + _PLOT / 2, told, "gap-name", "middle")

    def markers(self, picture: Picture) -> Iterator[str]:
        free = float(_LEFT)
        end_s = self.start_s + self.duration_s
        seen = [row for row in picture.markers if self.start_s <= row[0] <= end_s]
        last = -math.inf
        for at_s, name in seen:
            x = self.x(at_s)
            if x - last < _NEAR:
                continue
            last = x
            yield line(x, self.top, x, self.bottom, "marker", name)
            shown = name if len(name) <= 22 else name[:21] + "…"
            width = _LETTER * len(shown) + 8
            # To its right, or at the end of the trace to its left, where nothing stands yet.
            begin = x + 3 if x + width < WIDTH - _RIGHT else x - width
            if begin >= free:
                yield text(begin, self.top + 11, shown, "marker-name", "start")
                free = begin + width


def _fit(value: float) -> bool:
    return math.isfinite(value) and abs(value) < 1e30


_Row = tuple[float, float, float, float, float]


def _whole(
    rows: Sequence[tuple[float, float, float | None, float | None, float | None]],
) -> Iterator[list[_Row]]:
    """Runs of columns that have a value."""
    run: list[_Row] = []
    for begin, end, low, high, mean in rows:
        if low is None or high is None or mean is None or not all(map(_fit, (low, high, mean))):
            if run:
                yield run
            run = []
        else:
            run.append((begin, end, low, high, mean))
    if run:
        yield run


def _joined(lane: Sequence[Band], near_s: float) -> Iterator[tuple[float, float, str, int]]:
    """Bands of a lane and how many each stands for: narrow ones close by are one.

    The name of several that have different ones is "".
    """
    last: tuple[float, float, str, int] | None = None
    narrow = True
    for begin, end, name in lane:
        close = last is not None and max(begin - last[1], end - begin) < near_s
        if last is not None and close and (last[2] == name or narrow):
            last = (last[0], end, name if last[2] == name else "", last[3] + 1)
            continue
        if last is not None:
            yield last
        last, narrow = (begin, end, name, 1), end - begin < near_s
    if last is not None:
        yield last


def _short(name: str, room: float) -> str:
    """As much of a name as fits; "" where that says nothing."""
    fits = int(room / _LETTER)
    if len(name) <= fits:
        return name
    return name[: fits - 1] + "…" if fits >= 4 else ""


def _title(name: str) -> str:
    return f"<title>{escape(name)}</title>"
