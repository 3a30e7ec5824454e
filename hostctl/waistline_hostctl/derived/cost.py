"""What a frame costs on the link: bytes of each choice, and the radio energy they imply."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from waistline.evidence import Evidence, Figure, weakest
from waistline.links._energy import radio_energy_j
from waistline.links._profiles import profile
from waistline.run import Cell, Column, Table, table
from waistline.session.bodies import REPLY_TIMES_BYTES
from waistline.wire import HEADER_BYTES
from waistline_hostctl import raw
from waistline_hostctl.derived.base import (
    BYTES,
    FLOAT,
    QUALITY,
    RADIO,
    WAIST,
    Rows,
    Settings,
    main_rows,
    mean_of,
    measure_of,
)

_ABOUT_AS_MUCH = 0.01
"""Energies nearer than this share are called the same."""
_SURE = 2.0
"""Standard uncertainties of a paired change that count as a difference."""


def bytes_table(frames: Rows, inputs: Rows, pictures: Rows, settings: Settings) -> Table:
    columns = (
        Column("what", "text", "", "one frame, without headers"),
        Column("mean_bytes", "number", "byte", "mean", Evidence.MEASURED.value),
        Column("u_bytes", "number", "byte", "standard uncertainty of the mean"),
        Column("min_bytes", "integer", "byte"),
        Column("max_bytes", "integer", "byte"),
        Column("n", "integer", "frame"),
    )
    sizes = {WAIST: [row["waist_bytes"] for row in main_rows(frames)]}
    if settings.partition_point > 0:  # the sensor frame has no float waist
        sizes[FLOAT] = [row["float_bytes"] for row in inputs if row["float_bytes"]]
    for row in pictures:
        sizes.setdefault(raw.picture_name(row["codec"]), []).append(row["payload_bytes"])
    rows = []
    for what, values in sizes.items():
        if values:
            average, spread, count = mean_of(values)
            rows.append((what, average, spread, min(values), max(values), count))
    return table(BYTES, columns, rows)


def bytes_figures(sizes: Table) -> dict[str, Figure]:
    return {
        f"{raw.figure_name(row['what'])}_bytes": Figure(
            row["mean_bytes"], "byte", Evidence.MEASURED, "mean a frame, without headers",
            row["u_bytes"], row["n"],
        )
        for row in sizes.dicts()
    }  # fmt: skip


def radio_table(frames: Rows, sizes: Table, settings: Settings) -> Table:
    columns = (
        Column("radio", "text", "", "row of the protocol table"),
        Column("name", "text"),
        Column("what", "text", "", "what is sent for one frame"),
        Column("up_bytes", "number", "byte", "payload and header", Evidence.MEASURED.value),
        Column("down_bytes", "number", "byte", "reply and header", Evidence.MEASURED.value),
        Column("energy_j", "number", "J", "radio alone, ideal transfer", Evidence.MODELLED.value),
        Column("cheapest", "flag", "", "of this radio"),
        Column("source", "text"),
    )
    main = main_rows(frames)
    if not main:
        return table(RADIO, columns, [])
    answers = [len(data) for data in raw.answers(row["answer"] for row in main)]
    plain_bytes = float(HEADER_BYTES + REPLY_TIMES_BYTES)
    rows: list[Sequence[Cell]] = []
    for radio in settings.radios:
        found = profile(radio)
        options = []
        for row in sizes.dicts():
            up_bytes, down_bytes = HEADER_BYTES + row["mean_bytes"], plain_bytes
            if row["what"] != WAIST or not settings.sends_answer:
                down_bytes += sum(answers) / len(answers)
            energy = radio_energy_j(found, up_bytes, down_bytes)
            options.append((row["what"], up_bytes, down_bytes, energy))
        least = min(energy.value for *_, energy in options)
        rows += [
            (radio, found.name, what, up_bytes, down_bytes, energy.value, energy.value == least,
             energy.source)
            for what, up_bytes, down_bytes, energy in options
        ]  # fmt: skip
    return table(RADIO, columns, rows)


def radio_figures(radio: Table) -> dict[str, Figure]:
    return {
        f"radio_{row['radio']}_{raw.figure_name(row['what'])}_j": Figure(
            row["energy_j"], "J", weakest((Evidence.MEASURED, Evidence.MODELLED)), row["source"]
        )
        for row in radio.dicts()
    }


def cheaper(tables: Iterable[Table], settings: Settings) -> list[str]:
    """Whether the waist that was sent pays, for each radio: in words, whichever way it is.

    It is compared with the cheapest picture whose answers are as good: those that are worse than
    the waist's by more than two standard uncertainties of the paired change are left out.
    """
    named = {row.name: row for row in tables}
    if RADIO not in named:
        return []
    quality = {row["sent"]: row for row in named[QUALITY].dicts()} if QUALITY in named else {}
    remarks = []
    for radio in dict.fromkeys(named[RADIO].column("radio")):
        energy = {row["what"]: row["energy_j"] for row in named[RADIO].dicts()
                  if row["radio"] == radio}  # fmt: skip
        pictures = {
            what: value
            for what, value in energy.items()
            if what.startswith(raw.PICTURE_PREFIX) and not _worse(what, quality)
        }
        if pictures:
            best = min(pictures, key=pictures.__getitem__)
            name = best.removeprefix(raw.PICTURE_PREFIX)
            remarks.append(_remark(radio, name, pictures[best] / energy[WAIST]))
    return [*remarks, *_left_out(quality, settings)]


def _remark(radio: str, name: str, ratio: float) -> str:
    if abs(ratio - 1) <= _ABOUT_AS_MUCH:
        return (
            f"over {radio}, this waist costs as much radio energy as the picture as {name} "
            f"(modelled; the radio alone)"
        )
    if ratio < 1:
        return (
            f"over {radio}, sending the picture itself as {name} is cheaper than this waist: "
            f"{ratio:.2g} of its radio energy (modelled)"
        )
    return (
        f"over {radio}, this waist costs {1 / ratio:.2g} of the radio energy of the picture as "
        f"{name} (modelled; the radio alone)"
    )


def _worse(what: str, quality: Mapping[str, dict[str, Any]]) -> bool:
    """Whether the answers from a picture are surely worse than those from the waist."""
    if what not in quality or WAIST not in quality:
        return False
    column = "change" if quality[WAIST]["change"] is not None else "agreement"
    ours, theirs = quality[WAIST], quality[what]
    # One frame of each is uncertain at least: a few frames that all answer alike prove little.
    spread = math.hypot(*(max(row[f"{column}_u"] or 0.0, 1 / row["n"]) for row in (ours, theirs)))
    return bool(ours[column] - theirs[column] > _SURE * spread)


def _left_out(quality: Mapping[str, dict[str, Any]], settings: Settings) -> list[str]:
    worse = [what.removeprefix(raw.PICTURE_PREFIX) for what in quality
             if what.startswith(raw.PICTURE_PREFIX) and _worse(what, quality)]  # fmt: skip
    if not worse:
        return []
    word = f"a lower {measure_of(settings)}" if settings.metric else "a lower agreement"
    return [
        f"left out of that comparison: the picture as {', '.join(worse)}, which gives {word} than "
        f"this waist"
    ]
