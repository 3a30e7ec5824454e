"""Small charts as inline SVG: no script, no font file, colours from the page's style sheet.

Every function returns a complete ``<svg>``; classes name roles (``tick``, ``s0`` .. ``s8``), so
that light and dark pages need one set of variables.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 860
_LEFT, _RIGHT = 64, 24


@dataclass(frozen=True, slots=True)
class Bar:
    """A row of a stacked chart: its name and (label, value, class index) from left to right."""

    name: str
    parts: Sequence[tuple[str, float, int]]


def stacked(bars: Sequence[Bar], axis: str, show: Callable[[float], str]) -> str:
    """Horizontal stacked bars with a shared axis from zero; parts too thin for a name have a title.

    Args:
        bars: at least one.
        axis: name of the axis, with its unit.
        show: a value as text, unit included.
    """
    left, bar_height, gap = 120, 34, 20
    height = 18 + len(bars) * (bar_height + gap) + 44
    longest = max(sum(value for _, value, _ in bar.parts) for bar in bars) or 1.0
    ticks = _ticks(longest)
    scale = (WIDTH - left - 90) / max(ticks[-1], longest)
    out = [opened(height)]
    bottom = height - 44
    for tick in ticks:
        x = left + tick * scale
        out.append(line(x, 10, x, bottom, "grid"))
        out.append(text(x, bottom + 18, show(tick), "tick", "middle"))
    for place, bar in enumerate(bars):
        y, x = 18 + place * (bar_height + gap), float(left)
        out.append(text(left - 12, y + bar_height / 2 + 4, bar.name, "name", "end"))
        for label, value, shade in bar.parts:
            width = value * scale
            title = f"<title>{escape(label)}: {escape(show(value))}</title>"
            out.append(
                f'<rect class="s{shade}" x="{x:.1f}" y="{y}" width="{max(width, 0.1):.1f}" '
                f'height="{bar_height}">{title}</rect>'
            )
            if width > 8 * len(label) + 8:
                out.append(text(x + width / 2, y + bar_height / 2 + 4, label, "inside", "middle"))
            x += width
        total = sum(value for _, value, _ in bar.parts)
        out.append(text(x + 8, y + bar_height / 2 + 4, show(total), "value", "start"))
    out.append(text(left, height - 6, axis, "axis-name", "start"))
    return "".join([*out, "</svg>"])


@dataclass(frozen=True, slots=True)
class Column:
    """One column of `columns`: position name, value, whether to stress it, and its title."""

    name: str
    value: float
    stressed: bool
    title: str


@dataclass(frozen=True, slots=True)
class Level:
    """A horizontal line to compare with: its label, value and class index."""

    label: str
    value: float
    shade: int


def columns(bars: Sequence[Column], levels: Sequence[Level], axis: str, below: str) -> str:
    """Vertical bars on a logarithmic axis with levels to compare them with.

    Args:
        bars: at least one; values above zero.
        levels: drawn over the whole width, labelled at the right.
        axis: name of the vertical axis, with its unit.
        below: name of the horizontal one.
    """
    height, top, bottom = 330, 30, 54
    label_room = 118
    values = [bar.value for bar in bars] + [level.value for level in levels]
    low = math.floor(math.log10(max(min(values), 1.0)))
    high = max(math.ceil(math.log10(max(values))), low + 1)
    plot_height = height - top - bottom

    def y_of(value: float) -> float:
        share = (math.log10(max(value, 10.0**low)) - low) / (high - low)
        return top + plot_height * (1 - share)

    right = WIDTH - label_room
    out = [opened(height), text(_LEFT - 50, 16, axis, "axis-name", "start")]
    for power in range(low, high + 1):
        y = y_of(10.0**power)
        out.append(line(_LEFT, y, right, y, "grid"))
        out.append(text(_LEFT - 8, y + 4, _power(power), "tick", "end"))
    pitch = (right - _LEFT) / len(bars)
    every = max(1, math.ceil(22 / pitch))
    for place, bar in enumerate(bars):
        x, y = _LEFT + place * pitch, y_of(bar.value)
        shade = "s0" if bar.stressed else "muted"
        out.append(
            f'<rect class="{shade}" x="{x + pitch * 0.12:.1f}" y="{y:.1f}" '
            f'width="{pitch * 0.76:.1f}" height="{max(height - bottom - y, 1):.1f}">'
            f"<title>{escape(bar.title)}</title></rect>"
        )
        crowded = any(other.stressed for other in bars[max(place - every + 1, 0) : place + every])
        if bar.stressed or (place % every == 0 and not crowded):
            mark = "tick strong" if bar.stressed else "tick"
            out.append(text(x + pitch / 2, height - bottom + 16, bar.name, mark, "middle"))
    out += _levels(levels, y_of, right)
    out.append(text(_LEFT, height - 8, below, "axis-name", "start"))
    return "".join([*out, "</svg>"])


def _levels(levels: Sequence[Level], y_of: Callable[[float], float], right: float) -> list[str]:
    """Lines with labels pushed apart so that they do not lie on each other."""
    out = []
    label_y = -math.inf
    for level in sorted(levels, key=lambda row: -row.value):
        y = y_of(level.value)
        label_y = max(y + 4, label_y + 16)
        out.append(line(_LEFT, y, right, y, f"level l{level.shade}"))
        out.append(text(right + 8, label_y, level.label, f"level-name t{level.shade}", "start"))
    return out


@dataclass(frozen=True, slots=True)
class Point:
    """A value with its standard uncertainty; `x_name` is what stands below it."""

    x_name: str
    value: float
    uncertainty: float | None
    title: str


def points(
    rows: Sequence[Point], axis: str, below: str, show: Callable[[float], str], level: Level | None
) -> str:
    """Points joined by a line, with bars of two standard uncertainties each way."""
    height, top, bottom = 300, 30, 54
    reach = [(row.uncertainty or 0.0) * 2 for row in rows]
    known = [row.value for row in rows] + ([level.value] if level else [])
    low = min([row.value - by for row, by in zip(rows, reach, strict=True)] + known)
    high = max([row.value + by for row, by in zip(rows, reach, strict=True)] + known)
    span = (high - low) or 1.0
    ticks = [tick for tick in between(low - 0.04 * span, high + 0.04 * span)]
    low, high = min(low, ticks[0]), max(high, ticks[-1])
    right, plot_height = WIDTH - 118, height - top - bottom

    def y_of(value: float) -> float:
        return top + plot_height * (high - value) / (high - low)

    out = [opened(height), text(_LEFT - 50, 16, axis, "axis-name", "start")]
    for tick in ticks:
        out.append(line(_LEFT, y_of(tick), right, y_of(tick), "grid"))
        out.append(text(_LEFT - 8, y_of(tick) + 4, show(tick), "tick", "end"))
    if level:
        out += _levels([level], y_of, right)
    pitch = (right - _LEFT) / len(rows)
    places = [_LEFT + (place + 0.5) * pitch for place in range(len(rows))]
    path = " ".join(f"{x:.1f},{y_of(row.value):.1f}" for x, row in zip(places, rows, strict=True))
    out.append(f'<polyline class="curve" points="{path}"/>')
    for x, row, by in zip(places, rows, reach, strict=True):
        if by:
            upper, lower = y_of(row.value + by), y_of(row.value - by)
            out.append(line(x, upper, x, lower, "error"))
            out += [line(x - 5, y, x + 5, y, "error") for y in (upper, lower)]
        out.append(
            f'<circle class="s0" cx="{x:.1f}" cy="{y_of(row.value):.1f}" r="4.5">'
            f"<title>{escape(row.title)}</title></circle>"
        )
        out.append(text(x, height - bottom + 16, row.x_name, "tick", "middle"))
    out.append(text(_LEFT, height - 8, below, "axis-name", "start"))
    return "".join([*out, "</svg>"])


def opened(height: float) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" xmlns="http://www.w3.org/2000/svg">'


def line(x1: float, y1: float, x2: float, y2: float, css: str, title: str = "") -> str:
    end = f"><title>{escape(title)}</title></line>" if title else "/>"
    return f'<line class="{css}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"{end}'


def text(x: float, y: float, text: str, css: str, anchor: str) -> str:
    return (
        f'<text class="{css}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
    )


def _step(span: float) -> float:
    """A round step that gives about five ticks."""
    rough = span / 5
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)


def _ticks(longest: float) -> list[float]:
    step = _step(longest)
    return [place * step for place in range(math.ceil(longest / step) + 1)]


def between(low: float, high: float) -> list[float]:
    step = _step(high - low)
    first = math.ceil(low / step)
    return [place * step for place in range(first, math.floor(high / step) + 1)] or [low]


def _power(power: int) -> str:
    return {0: "1", 1: "10", 2: "100", 3: "1 k", 4: "10 k", 5: "100 k", 6: "1 M", 7: "10 M",
            8: "100 M"}.get(power, f"1e{power}")  # fmt: skip
