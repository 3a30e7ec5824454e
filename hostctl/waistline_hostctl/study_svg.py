"""The charts of a codec study as inline SVG: bytes on a logarithmic axis against quality."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import pairwise

WIDTH, HEIGHT = 860, 470
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 20, 26, 46
_LABEL_HEIGHT, _LABEL_WIDTH = 14, 6.1
_MARGIN = 0.04


@dataclass(frozen=True, slots=True)
class Mark:
    """A codec: bytes, quality, name for the pointer.

    A ``label`` is written beside it where there is room, and its uncertainty drawn.
    """

    x: float
    y: float
    title: str
    label: str = ""
    uncertainty: float | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """Codecs of one colour.

    Attributes:
        name: in the legend.
        marks: points.
        shade: class index of the style sheet.
        shape: ``dot``, ``square`` or ``ring`` (drawn around others).
        line: joined from left to right.
        faint: many, behind the rest.
    """

    name: str
    marks: Sequence[Mark]
    shade: int
    shape: str = "dot"
    line: bool = False
    faint: bool = False


def scatter(
    series: Sequence[Series],
    *,
    x_name: str,
    y_name: str,
    show: Callable[[float], str],
    floor: float,
    level: tuple[str, float] | None,
) -> str:
    """Points over a logarithmic x axis.

    Args:
        series: drawn in this order; some point must be above ``floor``.
        x_name: name of the x axis, with its unit.
        y_name: of the y axis.
        show: a y value as text.
        floor: least y drawn; what lies below is left out.
        level: a horizontal line with its name.
    """
    series = [replace(row, marks=[mark for mark in row.marks if mark.y >= floor]) for row in series]
    plot = _Plot.of([mark for row in series for mark in row.marks], level)
    out = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" xmlns="http://www.w3.org/2000/svg">']
    out += plot.axes(x_name, y_name, show)
    if level is not None:
        out += plot.level(*level)
    taken = [] if level is None else [plot.level_box(*level)]
    for row in series:
        out += plot.series(row)
        taken += plot.boxes(row)
    for row in series:
        out += plot.labels(row, taken)
    return "".join([*out, "</svg>"])


@dataclass(frozen=True, slots=True)
class _Plot:
    """Where values lie: logarithms of x, and y."""

    x: tuple[float, float]
    y: tuple[float, float]

    @classmethod
    def of(cls, marks: Sequence[Mark], level: tuple[str, float] | None) -> _Plot:
        xs = [math.log10(max(mark.x, 1.0)) for mark in marks]
        ys = [mark.y for mark in marks] + ([level[1]] if level else [])
        wide, high = (max(xs) - min(xs)) or 1.0, (max(ys) - min(ys)) or 0.01
        return cls(
            (min(xs) - _MARGIN * wide, max(xs) + _MARGIN * wide),
            (min(ys) - _MARGIN * high, max(ys) + 2 * _MARGIN * high),
        )

    def at(self, x: float, y: float) -> tuple[float, float]:
        across = (math.log10(max(x, 1.0)) - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return (
            _LEFT + across * (WIDTH - _LEFT - _RIGHT),
            HEIGHT - _BOTTOM - up * (HEIGHT - _TOP - _BOTTOM),
        )

    def axes(self, x_name: str, y_name: str, show: Callable[[float], str]) -> list[str]:
        out = [_text(12, 14, y_name, "axis-name", "start")]
        bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
        for tick in _between(*self.y):
            y = self.at(1, tick)[1]
            out += [_line(_LEFT, y, right, y), _text(_LEFT - 8, y + 4, show(tick), "tick", "end")]
        for value, named in _decades(*self.x):
            x = self.at(value, self.y[0])[0]
            out.append(_line(x, bottom, x, bottom - (bottom - _TOP if named else 5)))
            if named:
                out.append(_text(x, bottom + 16, _count(value), "tick", "middle"))
        return [*out, _text(_LEFT, HEIGHT - 8, x_name, "axis-name", "start")]

    def level(self, name: str, value: float) -> list[str]:
        y = self.at(1, value)[1]
        return [
            _line(_LEFT, y, WIDTH - _RIGHT, y, "level l4"),
            _text(_LEFT + 6, y - 6, name, "level-name t4", "start"),
        ]

    def level_box(self, name: str, value: float) -> tuple[float, float, float, float]:
        y = self.at(1, value)[1]
        return _LEFT, y - 6 - _LABEL_HEIGHT, _LEFT + 6 + _LABEL_WIDTH * len(name), y - 2

    def series(self, row: Series) -> list[str]:
        out = []
        if row.line:
            path = " ".join("{:.1f},{:.1f}".format(*self.at(mark.x, mark.y)) for mark in row.marks)
            out.append(f'<polyline class="line l{row.shade}" points="{path}"/>')
        for mark in row.marks:
            x, y = self.at(mark.x, mark.y)
            if mark.uncertainty and mark.label:
                high, low = (self.at(1, mark.y + side * mark.uncertainty)[1] for side in (1, -1))
                high, low = max(high, _TOP), min(low, HEIGHT - _BOTTOM)
                out.append(_line(x, high, x, low, f"whisker l{row.shade}"))
            title = f"<title>{escape(mark.title)}</title>"
            out.append(_shape(x, y, row, title))
        return out

    def boxes(self, row: Series) -> list[tuple[float, float, float, float]]:
        """Where no name should be written: points, and steps along the lines between them."""
        places = [self.at(mark.x, mark.y) for mark in row.marks if not row.faint]
        if row.line:
            for (x1, y1), (x2, y2) in pairwise(list(places)):
                steps = max(1, int(math.hypot(x2 - x1, y2 - y1) / 8))
                shares = [step / steps for step in range(1, steps)]
                places += [(x1 + (x2 - x1) * share, y1 + (y2 - y1) * share) for share in shares]
        return [(x - 4, y - 4, x + 4, y + 4) for x, y in places]

    def labels(self, row: Series, taken: list[tuple[float, float, float, float]]) -> list[str]:
        """Names beside their points where there is room; ``taken`` grows by what is written."""
        out = []
        for mark in row.marks:
            if not mark.label:
                continue
            x, y = self.at(mark.x, mark.y)
            width = _LABEL_WIDTH * len(mark.label)
            for left, base in ((x + 8, y + 14), (x + 8, y - 6), (x - 8 - width, y - 6),
                               (x - 8 - width, y + 14), (x + 8, y + 28), (x - 8 - width, y - 20),
                               (x + 18, y + 42), (x - width / 2, y - 34)):  # fmt: skip
                box = (left, base - _LABEL_HEIGHT + 3, left + width, base + 2)
                fits = box[0] > _LEFT and box[2] < WIDTH and box[1] > _TOP
                if fits and box[3] < HEIGHT - _BOTTOM and not any(_meet(box, o) for o in taken):
                    taken.append(box)
                    out.append(_text(left, base, mark.label, f"level-name t{row.shade}", "start"))
                    break
        return out


def _shape(x: float, y: float, row: Series, title: str) -> str:
    css = f"s{row.shade}" + (" faint" if row.faint else "")
    if row.shape == "square":
        place = f'x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8"'
        return f'<rect class="{css}" {place}>{title}</rect>'
    if row.shape == "ring":
        return f'<circle class="ring l{row.shade}" cx="{x:.1f}" cy="{y:.1f}" r="7">{title}</circle>'
    radius = 2.6 if row.faint else 4.2
    return f'<circle class="{css}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}">{title}</circle>'


def _meet(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _between(low: float, high: float) -> list[float]:
    """Round values, about six."""
    rough = (high - low) / 6
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    return [place * step for place in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _decades(low: float, high: float) -> list[tuple[float, bool]]:
    """1, 2, .. 9 times powers of ten within the logarithms, and which are named."""
    few = high - low < 2.5
    return [
        (digit * 10.0**power, digit == 1 or (few and digit in (2, 5)))
        for power in range(math.floor(low), math.ceil(high) + 1)
        for digit in range(1, 10)
        if low <= math.log10(digit * 10.0**power) <= high
    ]


def _count(value: float) -> str:
    for factor, prefix in ((1e6, " M"), (1e3, " k")):
        if value >= factor:
            return f"{value / factor:g}{prefix}"
    return f"{value:g}"


def _line(x1: float, y1: float, x2: float, y2: float, css: str = "grid") -> str:
    return f'<line class="{css}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, text: str, css: str, anchor: str) -> str:
    return (
        f'<text class="{css}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
    )
