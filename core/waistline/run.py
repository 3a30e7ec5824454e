"""Run folders: what was measured, with what, and how to compute it again.

``runs/<utc>-<name>/`` holds tables as CSV, each beside a schema file with units and meanings, and
``run.json``, which is written last: a folder without it is not a finished run. Every file appears
whole or not at all.
"""

from __future__ import annotations

import csv
import hashlib
import re
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import msgspec

from waistline import interrupts
from waistline.bench import ResolvedBench
from waistline.errors import ConfigError
from waistline.evidence import Figure
from waistline.files import read_limited, unwritable, write_atomically
from waistline.provenance import Library, Machine

SCHEMA_VERSION = 1
RECORD = "run.json"
_MAX_RECORD_BYTES = 16 << 20
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*\Z", re.IGNORECASE)

Cell = str | int | float | bool | None


class Column(msgspec.Struct, frozen=True, omit_defaults=True):
    """One column of a table.

    Attributes:
        name: also the CSV's heading.
        type: of its cells; an empty cell is "not known".
        unit: SI, ``byte``, ``frame``, ``1`` (ratio); "" where there is none.
        meaning: in one line.
        evidence: how its figures were obtained, "" for names and counts, ``row`` when each row
            says so itself.
    """

    name: str
    type: Literal["text", "integer", "number", "flag"]
    unit: str = ""
    meaning: str = ""
    evidence: str = ""


class Table(msgspec.Struct, frozen=True):
    """A table as it stands in a run folder: ``<name>.csv`` and ``<name>.schema.json``."""

    name: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def column(self, name: str) -> list[Any]:
        """The cells of one column."""
        position = [column.name for column in self.columns].index(name)
        return [row[position] for row in self.rows]

    def dicts(self) -> list[dict[str, Any]]:
        """Each row by column name."""
        names = [column.name for column in self.columns]
        return [dict(zip(names, row, strict=True)) for row in self.rows]


class TableSchema(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of ``<name>.schema.json``."""

    schema_version: int
    table: str
    columns: tuple[Column, ...]


class StoredTable(msgspec.Struct, frozen=True):
    """What ``run.json`` says about a table: raw tables are recorded, others computed from them."""

    name: str
    raw: bool
    rows: int
    sha256: str


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The content of ``run.json``.

    Attributes:
        name, started_utc, ended_utc: of the run; times in ISO 8601.
        command: as typed.
        version, commit: of Waistline; commit "" outside a checkout, "-dirty" appended when edited.
        seeds: by what they seed.
        inputs: file or bundle to SHA-256.
        libraries: versions and hashes of what computed.
        machine: kernel, processor, governor.
        threads: by process.
        bench: settings in force and where each came from.
        codec: implementation, ``c`` or ``numpy``; ``none`` where nothing was coded.
        evidence: table or figure to its grade.
        settings: what the run was asked for.
        figures: what the run found.
        tables: in this folder.
    """

    schema_version: int = SCHEMA_VERSION
    name: str
    started_utc: str
    ended_utc: str
    command: tuple[str, ...]
    version: str
    commit: str
    seeds: dict[str, int]
    inputs: dict[str, str]
    libraries: tuple[Library, ...]
    machine: Machine
    threads: dict[str, int]
    bench: ResolvedBench
    codec: str
    evidence: dict[str, str]
    settings: dict[str, Any]
    figures: dict[str, Figure]
    tables: tuple[StoredTable, ...]


class _Version(msgspec.Struct):
    schema_version: int


class RunFolder:
    """A run being written.

    As a context it is gone again if an interrupt leaves it unfinished. After a failure it stays:
    the logs in it say more.

    Attributes:
        path: its folder, which exists.
        started: when it was made.
    """

    def __init__(self, path: Path, started: datetime) -> None:
        self.path = path
        self.started = started
        self._tables: dict[str, StoredTable] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None or not interrupts.behind(error) or (self.path / RECORD).exists():
            return
        shutil.rmtree(self.path, ignore_errors=True)

    @property
    def tables(self) -> tuple[StoredTable, ...]:
        """Tables written so far."""
        return tuple(self._tables.values())

    def write_table(self, table: Table, *, raw: bool = True) -> None:
        """Write a table and its schema.

        Raises:
            ConfigError: the disk is full or gone; the table is then not there.
        """
        data = encode_table(table)
        schema = TableSchema(SCHEMA_VERSION, table.name, table.columns)
        self.write(f"{table.name}.schema.json", pretty(schema))
        self.write(f"{table.name}.csv", data)
        digest = hashlib.sha256(data).hexdigest()
        self._tables[table.name] = StoredTable(table.name, raw, len(table.rows), digest)

    def write(self, name: str, data: bytes) -> Path:
        """Write file ``name`` whole or not at all.

        Raises:
            ConfigError: the disk is full or gone.
        """
        target = self.path / name
        try:
            write_atomically(target, data)
        except OSError as error:
            raise _unwritable(self.path, name, error) from error
        return target

    def finish(self, record: RunRecord) -> Path:
        """Write ``run.json``, which makes the folder a finished run."""
        return self.write(RECORD, pretty(record))


def new_run(root: str | Path, name: str, *, now: datetime | None = None) -> RunFolder:
    """Make ``<root>/<utc>-<name>/``; a number is appended where the name is taken.

    Raises:
        ConfigError: not a name for a folder, or it cannot be made.
    """
    if not _NAME.match(name):
        raise ConfigError(
            f"{name!r} cannot name a run",
            cause="letters, digits, dot, dash and underscore only",
            fix="choose another --name",
        )
    started = now or datetime.now(UTC)
    base = f"{started.strftime('%Y%m%dT%H%M%SZ')}-{name}"
    path = Path(root) / base
    for attempt in range(2, 1000):
        try:
            path.mkdir(parents=True)
            return RunFolder(path, started)
        except FileExistsError:
            path = Path(root) / f"{base}-{attempt}"
        except OSError as error:
            raise unwritable(path, error, elsewhere="choose another --runs folder") from error
    raise ConfigError(f"{Path(root) / base} exists many times over", fix="choose another --name")


def load_run(path: str | Path) -> RunRecord:
    """Read ``run.json`` of a finished run.

    Raises:
        ConfigError: there is none, or it is of another version.
    """
    file = Path(path) / RECORD
    try:
        data = read_limited(file, _MAX_RECORD_BYTES)
        version = msgspec.json.decode(data, type=_Version).schema_version
        if version != SCHEMA_VERSION:
            raise ConfigError(
                f"{path} was written by another version",
                cause=f"schema version {version}, this program reads {SCHEMA_VERSION}",
                fix="use the version that wrote it",
            )
        return msgspec.json.decode(data, type=RunRecord)
    except OSError as error:
        raise ConfigError(
            f"{path} is not a finished run",
            cause=f"{file}: {error.strerror or error}",
            fix="give a folder below runs/ that a command wrote to its end",
        ) from error
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{file} is damaged", cause=str(error), fix="run again") from error


def read_table(folder: str | Path, name: str) -> Table:
    """Read a table with its schema.

    Raises:
        ConfigError: a file is missing, or the two do not fit together.
    """
    file = Path(folder) / f"{name}.csv"
    csv.field_size_limit(sys.maxsize)  # an answer that is a whole tensor is one field
    try:
        schema = msgspec.json.decode(
            read_limited(file.with_suffix(".schema.json"), _MAX_RECORD_BYTES), type=TableSchema
        )
        with file.open(newline="", encoding="utf-8") as stream:
            reader = csv.reader(stream)
            if next(reader, None) != [column.name for column in schema.columns]:
                raise ValueError("its headings are not those of its schema")
            rows = [
                tuple(
                    _parse(column, text) for column, text in zip(schema.columns, row, strict=True)
                )
                for row in reader
            ]
    except (OSError, ValueError, csv.Error, msgspec.DecodeError) as error:
        raise ConfigError(
            f"table {file} cannot be read",
            cause=str(error),
            fix="run again, or 'waistline report RUN --recompute' if it is a computed table",
        ) from error
    return Table(name, schema.columns, tuple(rows))


def encode_table(table: Table) -> bytes:
    """The CSV of a table; numbers in full, so that recomputing from it gives the same bits."""
    lines = [[column.name for column in table.columns]]
    lines += [[_text(cell) for cell in row] for row in table.rows]
    return "".join(",".join(map(_quoted, line)) + "\n" for line in lines).encode()


def pretty(content: Any) -> bytes:
    """JSON for people: one space of indent, final newline."""
    return msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n"


def table(
    name: str, columns: Iterable[Column], rows: Iterable[Sequence[Cell] | Mapping[str, Cell]]
) -> Table:
    """A table from rows in column order, or by column name."""
    fixed = tuple(columns)
    return Table(
        name,
        fixed,
        tuple(
            tuple(row.get(column.name) for column in fixed)
            if isinstance(row, Mapping)
            else tuple(row)
            for row in rows
        ),
    )


def _text(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float):
        return repr(float(cell))
    return str(cell)


def _quoted(text: str) -> str:
    """As a CSV field; the csv module leaves a lone carriage return bare and cannot read it back."""
    if not any(sign in text for sign in ',"\r\n'):
        return text
    return '"' + text.replace('"', '""') + '"'


def _parse(column: Column, text: str) -> Cell:
    if column.type == "text":
        return text
    if not text:
        return None
    if column.type == "flag":
        if text not in {"true", "false"}:
            raise ValueError(f"{text[:40]!r} in column {column.name} is neither true nor false")
        return text == "true"
    return int(text) if column.type == "integer" else float(text)


def _unwritable(folder: Path, name: str, error: OSError) -> ConfigError:
    left, elsewhere = f"the run in {folder} is not finished", "choose another --runs folder"
    return unwritable(name, error, left=left, elsewhere=elsewhere)
