"""Fills a run folder: raw tables, computed tables, report, and run.json last."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from waistline import __version__, provenance
from waistline.bench import ResolvedBench
from waistline.codec import native
from waistline.errors import ConfigError
from waistline.evidence import Figure
from waistline.files import sha256_file, unwritable, write_atomically
from waistline.provenance import Library
from waistline.run import (
    RECORD,
    RunFolder,
    RunRecord,
    StoredTable,
    Table,
    load_run,
    read_table,
    table,
)
from waistline.task.load import load_task
from waistline.words import FORMER
from waistline_hostctl.derive import SEED, Derived, Settings, derive
from waistline_hostctl.doctor import LIBRARIES
from waistline_hostctl.services import JITTER_SEED
from waistline_hostctl.tracing import TRACE

REPORT = "report.html"
_STAGE = "stage"


@dataclass(frozen=True, slots=True)
class About:
    """What a run says about itself.

    Attributes:
        name: of the run.
        title: of the report.
        bench: settings in force.
        seeds: by what they seed.
        inputs: file or bundle to SHA-256.
        settings: for computing the tables.
        remarks: sentences that the report shows.
        more: other settings worth keeping.
    """

    name: str
    title: str
    bench: ResolvedBench
    seeds: Mapping[str, int]
    inputs: Mapping[str, str]
    settings: Settings
    remarks: Sequence[str] = ()
    more: Mapping[str, Any] = field(default_factory=dict)


def record_run(folder: RunFolder, tables: Sequence[Table], derived: Derived, about: About) -> Path:
    """Write everything; returns the report's path.

    Raises:
        ConfigError: the disk is full or gone; the folder then holds no run.json.
    """
    for row in tables:
        folder.write_table(row)
    for row in derived.tables:
        folder.write_table(row, raw=False)
    record = _record(folder, derived.figures, about)
    render = _maker(record).render
    report = folder.write(REPORT, render(record, {**_named(tables), **_named(derived.tables)}))
    folder.finish(record)
    return report


def seeds(link: str) -> dict[str, int]:
    """What was drawn at random, and from where."""
    return {"bootstrap": SEED, **({"link jitter": JITTER_SEED} if link else {})}


def hashes(paths: Sequence[Path]) -> dict[str, str]:
    """SHA-256 of each file by its path; a folder's files one by one."""
    found = {}
    for path in paths:
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        found.update({str(file): sha256_file(file) for file in files if file.is_file()})
    return found


@dataclass(frozen=True, slots=True)
class Rendered:
    """What `report_again` did: computed tables by name, and those that differ from before."""

    path: Path
    recomputed: tuple[str, ...]
    changed: tuple[str, ...]


def report_again(run: str | Path, *, recompute: bool, task: str | Path | None = None) -> Rendered:
    """Render the report of a finished run anew; ``recompute``: its computed tables first.

    Args:
        run: its folder, or run.json or the trace in it.
        recompute: compute the tables as well.
        task: a task file that is trusted; its metric's own code is run where the run has it.

    Raises:
        ConfigError: not a finished run, a table was edited since, or its metric is code and there
            is no ``task`` with the same metric.
    """
    folder = _folder(Path(run))
    record = _recorded(folder)
    if "capture" in record.settings:
        return _capture_again(folder, record, recompute=recompute)
    maker = _maker(record)
    raw = {row.name: _unedited(folder, row) for row in record.tables if row.raw}
    changed: list[str] = []
    if recompute:
        with _fitting(folder):
            derived = maker.derive(raw, _with_metric(maker.settings(record), task))
        stored = {row.name: row.sha256 for row in record.tables if not row.raw}
        again = RunFolder(folder, datetime.now(UTC))
        for row in derived.tables:
            again.write_table(row, raw=False)
        computed = _named(derived.tables)
        fresh = {row.name: row.sha256 for row in again.tables}
        changed = sorted(name for name in {*stored, *fresh} if stored.get(name) != fresh.get(name))
        kept = tuple(row for row in record.tables if row.raw)
        record = msgspec.structs.replace(
            record,
            figures=derived.figures,
            evidence=_grades(derived.figures),
            tables=(*kept, *again.tables),
        )
        again.finish(record)
    else:
        computed = {row.name: _unedited(folder, row) for row in record.tables if not row.raw}
    with _fitting(folder):
        page = maker.render(record, {**raw, **computed})
    target = folder / REPORT
    try:
        write_atomically(target, page)
    except OSError as error:
        raise unwritable(target, error, elsewhere="make it writable") from error
    return Rendered(target, tuple(computed) if recompute else (), tuple(changed))


def _folder(given: Path) -> Path:
    """A run folder; also given by its run.json, or its trace."""
    if not given.is_file() or given.name in {RECORD, TRACE}:
        return given.parent if given.is_file() else given
    trace = given.suffix == ".jls"
    raise ConfigError(
        f"{given} is a file, and a report is of a run folder",
        cause="capture -o FILE writes a trace alone" if trace else "none is made of such a file",
        fix=f"waistline trace info {given}, or capture without -o" if trace else "give the folder",
    )


def _recorded(folder: Path) -> RunRecord:
    """run.json; of a capture that was killed, the copy in its trace."""
    if not (folder / RECORD).exists():
        from waistline_hostctl import capture_folder

        if (folder / capture_folder.TRACE).exists():
            return capture_folder.record_in_trace(folder)
    return load_run(folder)


def _capture_again(folder: Path, record: RunRecord, *, recompute: bool) -> Rendered:
    """As `report_again`, of a capture: its raw file is the trace."""
    from waistline_hostctl import capture_folder

    with _fitting(folder):
        if recompute or not record.tables:
            found = capture_folder.file_capture(folder, record)
            return Rendered(found.page, found.made, found.changed)
        tables = {row.name: _unedited(folder, row) for row in record.tables}
        return Rendered(capture_folder.write_page(folder, record, tables), (), ())


def _with_metric(settings: Settings, task: str | Path | None) -> Settings:
    """Settings that may use the code of the task's metric, where the task is given and needed."""
    from waistline_hostctl.study_tables import StudySettings

    if task is None or not isinstance(settings, StudySettings) or ":" not in settings.metric:
        return settings
    trusted = load_task(task)
    if trusted.metric != settings.metric:
        raise ConfigError(
            f"{task} is not the task of this study",
            cause=f"its metric is {trusted.metric!r}, the study's is {settings.metric!r}",
            fix="give the task file that the study was made with",
        )
    return msgspec.structs.replace(settings, metric_folder=str(trusted.path.parent))


@contextmanager
def _fitting(folder: Path) -> Iterator[None]:
    """Whoever edits a table may also edit its hash: what then makes no sense is their doing."""
    try:
        yield
    except (LookupError, ValueError, TypeError, ArithmeticError) as error:
        raise ConfigError(
            f"the tables of {folder} do not fit together",
            cause=f"{type(error).__name__}: {str(error)[:200]}",
            fix="restore the folder, or run again",
        ) from error


class _Maker(NamedTuple):
    """How a kind of run is computed and shown."""

    settings: Callable[[RunRecord], Settings]
    derive: Callable[[Mapping[str, Table], Settings], Derived]
    render: Callable[[RunRecord, Mapping[str, Table]], bytes]


def _maker(record: RunRecord) -> _Maker:
    if record.settings.get("study") == "codec":
        from waistline_hostctl import study_report, study_tables

        return _Maker(study_tables.recorded_settings, study_tables.derive, study_report.render)
    from waistline_hostctl import report

    return _Maker(report.recorded_settings, derive, report.render)


def _unedited(folder: Path, stored: StoredTable) -> Table:
    found = read_table(folder, stored.name)
    digest = sha256_file(folder / f"{stored.name}.csv")
    if digest != stored.sha256:
        remedy = "run again" if stored.raw else f"waistline report {folder} --recompute"
        raise ConfigError(
            f"{'raw ' if stored.raw else ''}table {stored.name}.csv was edited after the run",
            cause=f"its SHA-256 is {digest[:12]}.., run.json says {stored.sha256[:12]}..",
            fix=f"restore it, or {remedy}",
        )
    return _with_names_of_today(found)


def _with_names_of_today(found: Table) -> Table:
    """A table of a run that was made when a stage had another key."""
    former = {f"{old}_s": f"{new}_s" for old, new in FORMER.items()}
    columns = tuple(
        msgspec.structs.replace(column, name=former.get(column.name, column.name))
        for column in found.columns
    )
    names = [column.name for column in columns]
    rows = found.rows
    if _STAGE in names:
        at = names.index(_STAGE)
        rows = tuple((*row[:at], FORMER.get(str(row[at]), row[at]), *row[at + 1 :]) for row in rows)
    return table(found.name, columns, rows)


def _record(folder: RunFolder, figures: Mapping[str, Figure], about: About) -> RunRecord:
    bench = about.bench.bench
    return RunRecord(
        name=about.name,
        started_utc=folder.started.isoformat(timespec="seconds"),
        ended_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        command=("waistline", *sys.argv[1:]),
        version=__version__,
        commit=provenance.commit(),
        seeds=dict(about.seeds),
        inputs=dict(about.inputs),
        libraries=(*provenance.libraries(LIBRARIES), *_compiled_codec()),
        machine=provenance.machine(),
        threads={
            "node": bench.node.threads,
            "edge": bench.edge.threads,
            "edge workers": bench.edge.workers,
        },
        bench=about.bench,
        codec="c" if native.available() else "numpy",
        evidence=_grades(figures),
        settings={
            "title": about.title,
            "remarks": list(about.remarks),
            "compute": msgspec.to_builtins(about.settings),
            **about.more,
        },
        figures=dict(figures),
        tables=folder.tables,
    )


def _grades(figures: Mapping[str, Figure]) -> dict[str, str]:
    return {name: figure.evidence.value for name, figure in figures.items()}


def _compiled_codec() -> tuple[Library, ...]:
    if not native.available():
        return ()
    return (Library("compiled codec", str(native.VERSION), sha256_file(native.LIBRARY)),)


def _named(tables: Sequence[Table]) -> dict[str, Table]:
    return {row.name: row for row in tables}
