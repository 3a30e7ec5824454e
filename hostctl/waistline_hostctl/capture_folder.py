"""The folder of a capture: its tables and its page, made of the trace that lies in it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from waistline.errors import ConfigError
from waistline.evidence import weakest
from waistline.files import unwritable, write_atomically
from waistline.run import RunFolder, RunRecord, Table
from waistline.trace.jls_read import JlsTrace
from waistline.trace.store import open_trace
from waistline_hostctl import capture_report
from waistline_hostctl.capture_tables import TABLES, CaptureEntry, derive, recorded_entry
from waistline_hostctl.derive import Derived
from waistline_hostctl.tracing import TRACE as TRACE

REPORT = "report.html"
KILLED = "killed"
"""Why a capture ended that could not say so itself."""
_FROM_TRACE = (
    "There was no run.json: the capture was killed before it wrote one. What stands here of the "
    "run is the copy in the trace; why it ended is not known."
)
_OF_METER = ("rate_hz", "id", "evidence")


@dataclass(frozen=True, slots=True)
class Filed:
    """What was made of a trace.

    Attributes:
        record: run.json as it is now.
        page: its report.
        made: names of the tables.
        changed: what differs from before: tables, figures, and what run.json said of the trace.
    """

    record: RunRecord
    page: Path
    made: tuple[str, ...]
    changed: tuple[str, ...]


def file_capture(folder: Path, record: RunRecord) -> Filed:
    """Make tables and page of the trace, and enter them into run.json.

    Raises:
        ConfigError, TraceError: there is no trace that can be read, run.json does not fit it, or
            the disk is full; what was there before is as it was.
    """
    path = folder / TRACE
    if not path.exists():
        raise ConfigError(
            f"there is no {TRACE} in {folder}",
            cause="all tables of a capture are made of its trace",
            fix="put it back, or leave out --recompute: the page is made of the tables then",
        )
    entry = recorded_entry(record)
    with open_trace(path) as trace:
        if not trace.length:
            raise ConfigError(f"{path} holds no sample", cause="nothing was captured")
        derived = derive(trace, entry)
        truth = _truth(entry, trace)
    again = RunFolder(folder, datetime.now(UTC))
    for row in derived.tables:
        again.write_table(row, raw=False)
    fresh, wrong = _corrected(record, truth)
    changed = wrong + _changed(record, derived, again)
    fresh = _entered(fresh, derived, again)
    page = write_page(folder, fresh, {row.name: row for row in derived.tables})
    again.finish(fresh)
    _drop_stale(folder, record, again)
    return Filed(fresh, page, tuple(row.name for row in again.tables), tuple(changed))


def record_in_trace(folder: Path) -> RunRecord:
    """run.json as it was when the trace began, where the capture was killed before it wrote one.

    Raises:
        ConfigError, TraceError: the trace holds none, is still written, or was not closed.
    """
    path = folder / TRACE
    with open_trace(path) as trace:
        stored = trace.run
    try:
        record = msgspec.json.decode(stored, type=RunRecord)
        capture = dict(record.settings["capture"])
    except (msgspec.MsgspecError, RecursionError, LookupError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{folder} has no run.json, and {path.name} no copy of one",
            cause=str(error),
            fix=f"look at the trace itself: waistline trace info {path}",
        ) from error
    capture.setdefault("ended", KILLED)
    settings = {**record.settings, "capture": capture, "remarks": [_FROM_TRACE]}
    return msgspec.structs.replace(record, settings=settings, tables=(), figures={})


def _drop_stale(folder: Path, before: RunRecord, now: RunFolder) -> None:
    """Remove the files of tables that were made before and have no row now."""
    made = {row.name for row in now.tables}
    for name in {row.name for row in before.tables} & set(TABLES) - made:
        for suffix in (".csv", ".schema.json"):
            with contextlib.suppress(OSError):
                (folder / f"{name}{suffix}").unlink()


def write_page(folder: Path, record: RunRecord, tables: Mapping[str, Table]) -> Path:
    """Render the page anew.

    Raises:
        ConfigError: it cannot be written.
    """
    target = folder / REPORT
    data = capture_report.render(record, tables)
    try:
        write_atomically(target, data)
    except OSError as error:
        raise unwritable(target, error, elsewhere="make it writable") from error
    return target


def _truth(entry: CaptureEntry, trace: JlsTrace) -> dict[str, object]:
    """What the trace shows of what run.json says, by the name that this has there."""
    grade = weakest((trace.spec.evidence, entry.meter.evidence))
    return {
        "samples": trace.length,
        "missing": sum(gap.count for gap in trace.gaps),
        "rate_hz": trace.spec.rate_hz,
        "id": trace.spec.source,
        "evidence": grade.value,
    }


def _corrected(record: RunRecord, truth: Mapping[str, object]) -> tuple[RunRecord, list[str]]:
    """run.json with what the trace shows, and what it said else."""
    stored = record.settings["capture"]
    capture = {**stored, "meter": dict(stored["meter"])}
    wrong = []
    for name, value in truth.items():
        holder = capture["meter"] if name in _OF_METER else capture
        if holder.get(name) != value:
            wrong.append(f"{name} in run.json")
            holder[name] = value
    settings = {**record.settings, "capture": capture}
    return msgspec.structs.replace(record, settings=settings), wrong


def _changed(record: RunRecord, derived: Derived, again: RunFolder) -> list[str]:
    """Tables and figures that are not as they were; () for what was never made before."""
    if not record.tables:
        return []
    stored = {row.name: row.sha256 for row in record.tables}
    fresh = {row.name: row.sha256 for row in again.tables}
    found = sorted(name for name in {*stored, *fresh} if stored.get(name) != fresh.get(name))
    names = {*record.figures, *derived.figures}
    return found + sorted(
        name for name in names if record.figures.get(name) != derived.figures.get(name)
    )


def _entered(record: RunRecord, derived: Derived, again: RunFolder) -> RunRecord:
    grades = {name: figure.evidence.value for name, figure in derived.figures.items()}
    kept = {name: grade for name, grade in record.evidence.items() if name == "trace"}
    return msgspec.structs.replace(
        record, figures=derived.figures, evidence=kept | grades, tables=again.tables
    )
