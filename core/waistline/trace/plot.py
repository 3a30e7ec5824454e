"""Pictures of a trace: power over time, its envelope, segments and gaps (extra ``capture``).

matplotlib is imported when a picture is made, without a window system and without its global
state. However long the trace, a picture is made of at most a few thousand columns.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from waistline.errors import ConfigError
from waistline.files import unwritable, write_atomically
from waistline.plugins import missing_extra
from waistline.trace.base import FLOAT_SIGNALS, Annotation, Trace
from waistline.trace.view import prefix, time_unit, visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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
    _draw(axes, trace, signal, start, stop)
    _caption(figure, axes, trace, signal, (start, stop), title)
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
    _shade(axes, trace, start, stop, unit_s)
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


def _shade(axes: Axes, trace: Trace, start: float, stop: float, unit_s: float) -> None:
    scale = 1 / trace.spec.rate_hz / unit_s
    shown = [note for note in trace.annotations if _touches(note, start, stop)]
    segments = [note for note in shown if note.end_sample is not None]
    # One colour a name, so that a layer looks the same in every inference.
    names = list(dict.fromkeys(note.text for note in segments))
    colors = {name: _SEGMENTS[place % len(_SEGMENTS)] for place, name in enumerate(names)}
    for note in segments[:_MAX_SHADED]:
        first, end = max(note.sample, start), min(note.end_sample or 0, stop)
        color = colors[note.text]
        axes.axvspan(first * scale, end * scale, color=color, linewidth=0, zorder=0)
        if end - first > _NAME_SHARE * (stop - start):
            _name(axes, note.text, (first + end) / 2 * scale, end - first, stop - start)
    for note in [note for note in shown if note.end_sample is None][:_MAX_SHADED]:
        axes.axvline(note.sample * scale, color=_INK, linewidth=0.7, linestyle=(0, (4, 3)))
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


def _name(axes: Axes, text: str, middle: float, width: float, whole: float) -> None:
    narrow = width < whole * 0.0085 * (len(text) + 1)
    axes.text(
        middle,
        0.985,
        text if len(text) <= 24 else text[:23] + "…",
        transform=axes.get_xaxis_transform(),
        ha="center",
        va="top",
        rotation=90 if narrow else 0,
        fontsize=8,
        color=_INK,
        zorder=4,
        clip_on=True,
    )


def _touches(note: Annotation, start: float, stop: float) -> bool:
    end = note.sample if note.end_sample is None else note.end_sample
    return note.sample <= stop and end >= start


def _caption(
    figure: Figure,
    axes: Axes,
    trace: Trace,
    signal: str,
    bounds: tuple[float, float],
    title: str,
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
