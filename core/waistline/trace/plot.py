"""Pictures of a trace: power over time, its envelope, segments and gaps (extra ``capture``).

matplotlib is imported when a picture is made, without a window system and without its global
state. However long the trace, a picture is made of at most a few thousand columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from waistline.errors import ConfigError
from waistline.files import unwritable, write_atomically
from waistline.plugins import missing_extra
from waistline.trace.base import FLOAT_SIGNALS, Annotation, Trace
from waistline.trace.segments import of_markers
from waistline.trace.view import prefix, time_unit, visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 2000
_INK, _LINE, _FILL = "#1f2933", "#0b5394", "#9fc5e8"
_SEGMENTS = ("#f6d7a7", "#cfe8cf", "#e3d4ef", "#f4cccc", "#d0e6ea")
_GAP = "#b03a2e"
# Below this share of the width a segment is too narrow for its name.
_NAME_SHARE = 0.014
_MAX_SHADED = 600
_GAP_COLUMNS = 1200


def plot(
    trace: Trace,
    path: str | Path,
    *,
    signal: str = "power",
    start: float = 0,
    stop: float | None = None,
    title: str = "",
) -> None:
    """Draw a signal between two positions (in samples) into a .png or .svg file.

    Raises:
        MissingExtra: matplotlib is not installed.
        ConfigError: of another suffix, or the file cannot be written.
        TraceError: the trace has no such signal.
    """
    target = Path(path)
    if target.suffix.lower() not in (".png", ".svg"):
        raise ConfigError(
            f"{target.name} is of no kind that is drawn",
            cause=f"its suffix is {target.suffix or 'missing'}",
            fix="name it .png or .svg",
        )
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise missing_extra("matplotlib", needed_by="capture") from error
    stop = float(trace.length) if stop is None else stop
    figure = Figure(figsize=(11, 4.2), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    spans, alone = _spans(trace, start, stop)
    _draw(axes, trace, signal, start, stop)
    _shade(axes, trace, spans[:_MAX_SHADED], alone, (start, stop))
    _caption(axes, trace, signal, (start, stop), title, len(spans[_MAX_SHADED:]))
    kind = target.suffix.lower()[1:]
    picture = BytesIO()
    figure.savefig(picture, format=kind, metadata={"Date": None} if kind == "svg" else None)
    try:
        write_atomically(target, picture.getvalue())
    except OSError as error:
        raise unwritable(target, error) from error


def _draw(axes: Axes, trace: Trace, signal: str, start: float, stop: float) -> None:
    view = trace.overview(signal, start, stop, COLUMNS)
    rate_hz = trace.spec.rate_hz
    unit_s, _ = time_unit((stop - start) / rate_hz)
    scale, letter = prefix(view.high, view.low)
    times = view.starts / rate_hz / unit_s
    width = (stop - start) / max(1, len(times)) / rate_hz / unit_s
    # Steps, so that a column is drawn over the time it stands for.
    edges = np.append(times, times[-1] + width) if len(times) else times
    if (stop - start) > 2 * len(times):
        axes.stairs(
            _held(view.high) * scale,
            edges,
            baseline=_held(view.low) * scale,
            fill=True,
            color=_FILL,
            label="minimum to maximum",
        )
    axes.stairs(view.mean * scale, edges, baseline=None, color=_LINE, linewidth=0.9, label="mean")
    axes.set_ylabel(f"{signal} ({letter}{FLOAT_SIGNALS[signal]})")
    axes.set_xlim(start / rate_hz / unit_s, max(stop, start + 1) / rate_hz / unit_s)
    low = float(np.nanmin(view.low, initial=0.0)) * scale
    high = float(np.nanmax(view.high, initial=0.0)) * scale
    room = (high - low or 1.0) * 0.12
    axes.set_ylim(low - room * (0.3 if low < 0 else 0), high + room)


def _held(values: np.ndarray) -> np.ndarray:
    """NaN as 0: a filled step plot would run over it; the hatching covers it."""
    return np.where(np.isnan(values), 0.0, values)


def _shade(
    axes: Axes,
    trace: Trace,
    spans: Sequence[tuple[float, float, str]],
    alone: Sequence[Annotation],
    bounds: tuple[float, float],
) -> None:
    start, stop = bounds
    unit_s, _ = time_unit((stop - start) / trace.spec.rate_hz)
    scale = 1 / trace.spec.rate_hz / unit_s
    # One colour a name, so that a layer looks the same in every inference.
    names = list(dict.fromkeys(text for *_, text in sorted(spans)))
    colors = {name: _SEGMENTS[place % len(_SEGMENTS)] for place, name in enumerate(names)}
    taken: list[tuple[float, float]] = []
    for begin, last, text in spans:
        first, end = max(begin, start), min(last, stop)
        axes.axvspan(first * scale, end * scale, color=colors[text], linewidth=0, zorder=0)
        if end - first > _NAME_SHARE * (stop - start):
            inside = (row[0] for row in spans if begin < row[0] < last)
            # Of one with others inside, what lies before them has room for its name.
            until = min(end, min(inside, default=end))
            _name(axes, text, (first + until) / 2, until - first, (start, stop), scale, taken)
    _lines(axes, alone, (start, stop), scale, taken)
    label = "lost samples"
    for gap in visible(trace.gaps, start, stop, _GAP_COLUMNS):
        # At least a pixel wide, so that no gap is invisible.
        end = max(gap.end, gap.first + (stop - start) / _GAP_COLUMNS)
        axes.axvspan(
            gap.first * scale,
            end * scale,
            facecolor="white",
            edgecolor=_GAP,
            hatch="////",
            linewidth=0.6,
            zorder=3,
            label=label,
        )
        label = "_"


def _spans(
    trace: Trace, start: float, stop: float
) -> tuple[list[tuple[float, float, str]], list[Annotation]]:
    """(begin, end, name) of segments in view, of two markers too, longest first; other markers."""
    pairs, alone = of_markers(note for note in trace.annotations if note.end_sample is None)
    spans = [(row.begin, row.end, row.name) for row in pairs]
    for note in trace.annotations:
        if note.end_sample is not None:
            spans.append((note.sample, note.end_sample, note.text))
    spans = [row for row in spans if row[0] <= stop and row[1] >= start]
    # The longest first, so that what lies inside another is seen.
    spans.sort(key=lambda row: row[0] - row[1])
    return spans, [note for note in alone if start <= note.sample <= stop]


def _lines(
    axes: Axes,
    notes: Sequence[Annotation],
    bounds: tuple[float, float],
    scale: float,
    taken: list[tuple[float, float]],
) -> None:
    """Markers that are no edge of a segment; names where there is room on one side of the line."""
    beside = 0.55 * _NAME_SHARE * (bounds[1] - bounds[0])
    for note in notes[:_MAX_SHADED]:
        axes.axvline(note.sample * scale, color=_INK, linewidth=0.7, linestyle=(0, (4, 3)))
        for middle in (note.sample + beside, note.sample - beside):
            if _name(axes, note.text, middle, 0.0, bounds, scale, taken):
                break


def _name(
    axes: Axes,
    text: str,
    middle: float,
    width: float,
    bounds: tuple[float, float],
    scale: float,
    taken: list[tuple[float, float]],
) -> bool:
    """Write a name (``middle``, ``width``: samples) unless it would lie over one of ``taken``."""
    whole = bounds[1] - bounds[0]
    text = text if len(text) <= 24 else text[:23] + "…"
    flat = whole * 0.0085 * (len(text) + 1)
    narrow = width < flat
    half = (_NAME_SHARE * whole if narrow else flat) / 2
    low, high = middle - half, middle + half
    if any(low < end and begin < high for begin, end in taken):
        return False
    taken.append((low, high))
    axes.text(
        middle * scale,
        0.985,
        text,
        transform=axes.get_xaxis_transform(),
        ha="center",
        va="top",
        rotation=90 if narrow else 0,
        fontsize=8,
        color=_INK,
        zorder=4,
        clip_on=True,
    )
    return True


def _caption(
    axes: Axes, trace: Trace, signal: str, bounds: tuple[float, float], title: str, left: int
) -> None:
    start, stop = bounds
    _, unit = time_unit((stop - start) / trace.spec.rate_hz)
    axes.set_xlabel(f"time ({unit})")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    facts = [trace.spec.evidence.value, f"{_si(trace.spec.rate_hz)}Hz"]
    if signal == "power":
        energy = trace.energy(start, stop)
        facts.insert(0, f"{_si(energy.energy_j)}J in {_si(energy.duration_s)}s")
        if energy.missing:
            facts.append(f"{energy.missing:,.0f} samples lost")
        if energy.uncertain:
            facts.append("a gap of unknown size")
    if left:
        facts.append(f"{left:,} shorter segments not drawn")
    axes.set_title(f"{title or trace.spec.source}\n", loc="left", fontsize=11, color=_INK)
    axes.text(0, 1.015, " · ".join(facts), transform=axes.transAxes, fontsize=9, color="#52606d")
    handles: Any = axes.get_legend_handles_labels()
    if len(handles[1]) > 1:
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1.0), ncols=3, frameon=False, fontsize=8)


def _si(value: float) -> str:
    for scale, letter in ((1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n")):
        if abs(value) >= scale:
            return f"{value / scale:.4g} {letter}"
    return f"{value:.4g} "
