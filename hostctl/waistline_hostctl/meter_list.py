"""Which meters there are: drivers, instruments that are plugged in, sections of the bench file."""

from __future__ import annotations

import msgspec

from waistline import plugins
from waistline.bench import Bench
from waistline.errors import MissingExtra, WaistlineError
from waistline_hostctl.console import indented
from waistline_hostctl.meters import base
from waistline_hostctl.results import Result

ALWAYS = {"sim": "a simulated device", "replay": "a trace, played again"}
"""Meters that are found nowhere, because they are files of ours."""


class Instrument(msgspec.Struct, frozen=True):
    """One that is plugged in; ``untried``: nobody has run this driver on the real one."""

    id: str
    path: str
    text: str
    untried: bool


class Section(msgspec.Struct, frozen=True):
    """A section of the bench file that means this meter."""

    name: str
    id: str
    date: str


class MeterRow(msgspec.Struct, frozen=True):
    """One meter.

    Attributes:
        name: for ``--meter``.
        state: ``ok``, ``nothing plugged in``, ``missing extra`` or ``failed``.
        detail, fix: of the last two.
    """

    name: str
    state: str
    instruments: tuple[Instrument, ...] = ()
    sections: tuple[Section, ...] = ()
    detail: str = ""
    fix: str = ""


class MeterListResult(Result, frozen=True, kw_only=True, tag="meter list"):
    """Every meter that Waistline knows."""

    meters: tuple[MeterRow, ...]


def meters(bench: Bench) -> MeterListResult:
    """Look for instruments of each kind; one that fails does not hide the others."""
    names = plugins.names(base.PACKAGE)
    kinds = {entry.kind or name for name, entry in bench.meter.items()}
    unknown = [
        MeterRow(
            name,
            "failed",
            sections=_sections(bench, name),
            detail="there is no such driver",
            fix="correct the section's name or kind",
        )
        for name in sorted(kinds - set(names))
    ]
    return MeterListResult(meters=(*(_row(bench, name) for name in names), *unknown))


def _row(bench: Bench, name: str) -> MeterRow:
    sections = _sections(bench, name)
    try:
        found = base.find(name)
    except MissingExtra as error:
        return MeterRow(name, "missing extra", (), sections, error.cause or error.what, error.fix)
    except WaistlineError as error:
        return MeterRow(name, "failed", (), sections, str(error), error.fix)
    rows = tuple(Instrument(one.id, one.path, one.text, one.untried) for one in found)
    state = "ok" if rows or name in ALWAYS else "nothing plugged in"
    return MeterRow(name, state, rows, sections, ALWAYS.get(name, ""))


def _sections(bench: Bench, kind: str) -> tuple[Section, ...]:
    return tuple(
        Section(name, entry.id, entry.date)
        for name, entry in bench.meter.items()
        if (entry.kind or name) == kind
    )


def text(result: MeterListResult) -> str:
    """For people: a line a meter, and its instruments below with what is to be pasted."""
    width = max(len(row.name) for row in result.meters) + 2
    lines = []
    for row in result.meters:
        tried = row.instruments or row.name in ALWAYS or row.state == "failed"
        about = row.state if tried else f"{row.state}, untried on hardware"
        about += f": {row.detail}" if row.detail else ""
        lines.append(indented(about, f"  {row.name.ljust(width)}", width + 2))
        if row.fix:
            lines.append(" " * (width + 2) + f"fix: {row.fix}")
        for one in row.instruments:
            untried = ", untried on hardware" if one.untried else ""
            lines.append(indented(f"{one.text}{untried}", " " * (width + 2), width + 2))
            lines.append(" " * (width + 4) + f"--meter {row.name} --port {one.id}")
        for section in row.sections:
            day = f", calibrated {section.date}" if section.date else ""
            whose = f" for {section.id}" if section.id else ""
            lines.append(" " * (width + 2) + f"[meter.{section.name}]{whose}{day}")
    return "\n".join(lines)
