"""Sections of a capture's report about its trace: the picture, its segments, its gaps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from waistline.evidence import mean
from waistline.run import Table
from waistline.trace.base import Gap
from waistline_hostctl.capture_segments import BASELINES, SEGMENTS, WHOLE
from waistline_hostctl.capture_tables import DETAIL, GAPS, MARKERS, MORE, OVERVIEW
from waistline_hostctl.page.html import Dicts, grade, tabulate
from waistline_hostctl.page.quantity import NOTHING, value, whole, with_spread
from waistline_hostctl.trace_svg import Picture, draw

_SHOWN, _NAMES, _GAPS = 40, 60, 30
_LONGEST = 60
_ORIGINS = {
    "note": "in a segment that the trace holds",
    "markers": "between two markers of a program",
    "bit": "where a logic bit was high",
}
Rows = Mapping[str, Dicts]


def trace_section(
    tables: Mapping[str, Table], rows: Rows, duration_s: float, rate_hz: float, grade_: str
) -> str:
    """The overview with everything that is drawn into it, and a closer look if there is one."""
    if not rows.get(OVERVIEW):
        return ""
    gaps, columns = bool(rows.get(GAPS)), rows[OVERVIEW]
    whole_ = draw(_picture(tables[OVERVIEW], rows, 0.0, duration_s, rate_hz))
    key = _key(gaps, duration_s * rate_hz > 1.5 * len(columns))
    closer = ""
    if len(rows.get(DETAIL, [])) > 1:
        first, *_, last = (row["begin_s"] for row in rows[DETAIL])
        span_s = (last - first) * len(rows[DETAIL]) / (len(rows[DETAIL]) - 1)
        picture = _picture(tables[DETAIL], rows, first, span_s, rate_hz)
        closer = f"<h3>A closer look</h3>{draw(picture)}"
    return f"<h2>The trace {grade(grade_)}</h2>{whole_}{key}{closer}"


def _picture(
    table: Table, rows: Rows, start_s: float, duration_s: float, rate_hz: float
) -> Picture:
    unit, columns = table.columns[1].unit, rows[table.name]
    return Picture(
        signal={"W": "power", "A": "current", "V": "voltage"}.get(unit, ""),
        unit=unit,
        duration_s=duration_s,
        begins=[row["begin_s"] for row in columns],
        low=[row["low"] for row in columns],
        high=[row["high"] for row in columns],
        mean=[row["mean"] for row in columns],
        segments=[
            (row["begin_s"], row["begin_s"] + row["duration_s"], row["name"])
            for row in rows.get(SEGMENTS, [])
        ],
        markers=[
            (row["at_s"], row["text"]) for row in rows.get(MARKERS, []) if row["kind"] != MORE
        ],
        gaps=[
            Gap(row["first"], row["count"], "counter", row["low"], row["high"])
            for row in rows.get(GAPS, [])
        ],
        rate_hz=rate_hz,
        start_s=start_s,
    )


def _key(gaps: bool, averaged: bool) -> str:
    items = ['<span><i class="key-mean"></i>mean</span>' if averaged else ""]
    if averaged:
        items.append('<span><i class="key-envelope"></i>lowest to highest sample</span>')
    if gaps:
        items.append('<span><i class="key-lost"></i>samples lost; ? how many is not known</span>')
    return f'<div class="legend">{"".join(items)}</div>'


def segments_section(rows: Rows, grade_: str) -> str:
    """By name, and one by one the first of them."""
    found = rows.get(SEGMENTS, [])
    more = [row["text"] for row in rows.get(MARKERS, []) if row["kind"] == MORE]
    if not found:
        return (
            '<h2>Segments</h2><p class="note">None: no segment is stored in the trace, no pair of '
            "markers <code>NAME-begin</code>, <code>NAME-end</code>, and no logic bit was high.</p>"
        )
    names = dict.fromkeys(row["name"] for row in found)
    by_name = _by_name(found, list(names)) if len(names) < len(found) else ""
    single = _one_by_one(found[:_SHOWN])
    if len(found) > _SHOWN:
        single += _rest(len(found), "segments")
    if by_name and len(found) > 12:
        single = f"<details><summary>One by one</summary>{single}</details>"
    cut = "".join(
        f'<p class="note">There are more than {len(found):,}: of {escape(name)} the rest was left '
        "out.</p>"
        for name in more
    )
    return (
        f"<h2>Segments {grade(grade_)}</h2>"
        f'<p class="note">{_origins(found)}. A segment that a gap of unknown size touches is not '
        "valid and has no figures; one that lost samples has the energy of the others."
        f"{_above(found)}</p>{by_name}{single}{cut}"
    )


def _origins(found: Dicts) -> str:
    words = dict.fromkeys(_ORIGINS.get(row["by"], "of some kind") for row in found)
    return escape("What lies " + ", or ".join(words))


def _above(found: Dicts) -> str:
    if all(row["above_baseline_j"] is None for row in found):
        return ""
    return f" The baseline is the power of the segment called {' or '.join(BASELINES)}."


def _by_name(found: Dicts, names: Sequence[str]) -> str:
    groups: dict[str, Dicts] = {}
    for row in found:
        groups.setdefault(row["name"], []).append(row)
    cells = []
    for name in names[:_NAMES]:
        group = groups[name]
        good = [row for row in group if row["state"] == WHOLE]
        cells.append(
            (
                _name(name),
                f"{len(good):,} of {len(group):,}",
                _mean(good, "duration_s", "s"),
                _mean(good, "energy_j", "J"),
                _mean(good, "mean_power_w", "W"),
                _total(good),
            )
        )
    table = tabulate(
        ("name", "whole", "duration, mean", "energy, mean", "power, mean", "energy, all"),
        cells,
        numbers=range(1, 6),
    )
    left = _rest(len(names), "names") if len(names) > _NAMES else ""
    note = (
        '<p class="note">Of those that are whole; ± is the scatter of their mean, without what the '
        "instrument may be off by.</p>"
    )
    return table + left + note


def _mean(rows: Dicts, name: str, unit: str) -> str:
    values = [row[name] for row in rows if row[name] is not None]
    if not values:
        return NOTHING
    return escape(with_spread(mean(values)[0], unit, mean(values)[1]))


def _total(rows: Dicts) -> str:
    values = [row["energy_j"] for row in rows if row["energy_j"] is not None]
    return escape(value(sum(values), "J")) if values else NOTHING


def _one_by_one(found: Dicts) -> str:
    above = any(row["above_baseline_j"] is not None for row in found)
    heads = ["name", "begin", "duration", "energy"]
    heads += ["above baseline"] if above else []
    heads += ["mean power", "samples lost"]
    cells = []
    for row in found:
        line = [
            _name(row["name"]),
            _at(row["begin_s"]),
            value(row["duration_s"], "s"),
            _pair(row, "energy", "J"),
            *([_pair(row, "above_baseline", "J")] if above else []),
            _pair(row, "mean_power", "W"),
            _state(row),
        ]
        cells.append(line)
    return tabulate(heads, cells, numbers=range(1, len(heads)))


def _pair(row: Mapping[str, Any], name: str, unit: str) -> str:
    letter = unit.lower()
    return escape(with_spread(row[f"{name}_{letter}"], unit, row[f"{name}_u_{letter}"]))


def _state(row: Mapping[str, Any]) -> str:
    if row["state"] == WHOLE:
        return "0"
    lost = f"{whole(row['missing'])}<br>" if row["missing"] else ""
    return f'{lost}<span class="bad">{escape(row["state"])}</span>'


def _name(name: str) -> str:
    short = name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"
    return escape(short or "(no name)")


def _at(at_s: float | None) -> str:
    """A time on the trace: to the microsecond, without what is zero."""
    if at_s is None:
        return NOTHING
    return escape(f"{at_s:.6f}".rstrip("0").rstrip(".") + " s")


def _rest(count: int, what: str) -> str:
    return f'<p class="note">{count:,} {what} in all: <code>{SEGMENTS}.csv</code>.</p>'


def gaps_section(rows: Rows) -> str:
    """The largest gaps, those of unknown size first."""
    found = rows.get(GAPS, [])
    if not found:
        return ""
    unknown = sum(not row["known"] for row in found)
    shown = sorted(found, key=lambda row: (row["known"], -row["count"]))[:_GAPS]
    cells = [
        (_at(row["at_s"]), whole(row["count"]), value(row["duration_s"], "s"),
         "known" if row["known"] else f'<span class="bad">{_bounds(row)}</span>',
         escape(row["kind"]))
        for row in sorted(shown, key=lambda row: row["first"])
    ]  # fmt: skip
    table = tabulate(("at", "samples", "duration", "size", "shown by"), cells, numbers=range(3))
    rest = ""
    if len(found) > _GAPS:
        rest = (
            f'<p class="note">The {_GAPS} largest of {len(found):,}'
            f"{', those of unknown size first' if unknown else ''}: <code>{GAPS}.csv</code>.</p>"
        )
    told = f"{len(found):,} gaps" if len(found) > 1 else "One gap"
    size = f"{unknown:,} of unknown size" if unknown else "all of known size"
    return (
        f'<h2>Gaps</h2><p class="note">{told}, {size}. What was lost is never made up: it is drawn '
        f"as a hole and is in no mean and no energy.</p>{table}{rest}"
    )


def _bounds(row: Mapping[str, Any]) -> str:
    low, high = row["low"], row["high"]
    if low is None or high is None or low < 0:
        return "not known"
    return f"{whole(low)} to {whole(high)}"
