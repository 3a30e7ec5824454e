"""What an importer is given and what it gives back.

An importer module exports ``read_source(path, options)``, which returns a `Source`: a spec, and a
generator of blocks and gaps that reads as it goes. It reads files whose suffix is its name, and
those in `SUFFIXES`. Whatever a file claims about its size is checked before memory is taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from waistline import plugins
from waistline.errors import ConfigError, TraceError
from waistline.evidence import Evidence
from waistline.files import check_regular
from waistline.trace.base import FLOAT_SIGNALS, SIGNALS, Block, Source, TraceSpec

ROWS = 1 << 18
"""Rows handled at once."""
SUFFIXES = {".tsv": "csv", ".txt": "csv", ".dat": "csv", ".npy": "arrays", ".npz": "arrays"}
"""Importer of each suffix that is not its name."""
_PREFIX = {"": 1.0, "k": 1e3, "m": 1e-3, "u": 1e-6, "µ": 1e-6, "μ": 1e-6, "n": 1e-9, "p": 1e-12}
UNITS = {prefix + unit: scale for prefix, scale in _PREFIX.items() for unit in "AVWs"}
_HEADING = re.compile(r"\s*(?P<name>.+?)\s*[\[(]\s*(?P<unit>[^\])]+?)\s*[\])]\s*\Z")
_SUFFIX = re.compile(r"\s*(?P<name>.+?)_(?P<unit>[kmunp]?[avws])\s*\Z")
_ALIASES = {
    "current": ("current", "i", "amps", "ampere"),
    "voltage": ("voltage", "v", "volts", "volt", "u"),
    "power": ("power", "p", "watts", "watt"),
    "time": ("time", "t", "timestamp", "seconds", "x"),
}


@dataclass(frozen=True)
class Column:
    """Where a signal comes from: a heading, or ``#n`` counted from 1; and how it is scaled."""

    name: str
    scale: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True)
class ImportOptions:
    """How to read a recording; what is not given is taken from the file where it says so.

    Attributes:
        columns: by signal (``current``, ``d0``, ..) and ``time``.
        rate_hz: None where a time column or the file tells it.
        supply_v: supply voltage, where only a current was recorded.
        delimiter: of a text file; None finds it.
        decimal_comma: numbers are written 1,5.
        source: id of the instrument; None takes the file's name.
    """

    columns: Mapping[str, Column] = field(default_factory=dict)
    rate_hz: float | None = None
    supply_v: float | None = None
    delimiter: str | None = None
    decimal_comma: bool = False
    source: str | None = None

    def spec(self, path: Path, rate_hz: float, names: Iterable[str]) -> TraceSpec:
        """The spec of the trace to be; an import is ``replayed``, whatever took it."""
        return TraceSpec(
            rate_hz=rate_hz,
            signals=tuple(SIGNALS[name] for name in SIGNALS if name in set(names)),
            source=self.source or f"imported from {path.name}",
            evidence=Evidence.REPLAYED,
            supply_v=self.supply_v,
        )


def read_source(path: str | Path, options: ImportOptions | None = None) -> Source:
    """Open a recording with the importer for its suffix.

    Raises:
        ConfigError: there is no such file.
        TraceError: no importer reads it, or the file is not what it says.
        MissingExtra: the importer needs a package that is not installed.
    """
    file = Path(path)
    package = "waistline.trace.importers"
    suffix = file.suffix.lower()
    name = SUFFIXES.get(suffix, suffix.lstrip("."))
    if suffix == ".jls":
        raise TraceError(
            f"{file} cannot be imported",
            cause="by its suffix it is a trace already",
            fix=f"use it as it is: waistline trace info {file}",
        )
    if name not in plugins.names(package):
        raise TraceError(
            f"{file} cannot be imported",
            cause=f"no importer reads {suffix or 'files without a suffix'}",
            fix="export it as .csv, .npy, .npz, .parquet or .ppk2",
        )
    try:
        check_regular(file)
    except OSError as error:
        # A name that was misspelt is a matter of the command line, not of a recording.
        kind = ConfigError if isinstance(error, FileNotFoundError) else TraceError
        raise kind(
            f"{file} cannot be read",
            cause=error.strerror or str(error),
            fix="give the path of a recording",
        ) from error
    source: Source = plugins.load(package, name).read_source(file, options or ImportOptions())
    return source


def parse_map(text: str) -> dict[str, Column]:
    """``current=CH1*0.1,time=t:ms`` -> columns; after ``:`` a unit, after ``*`` a factor.

    Raises:
        ConfigError: not of that form, or of an unknown signal or unit.
    """
    columns: dict[str, Column] = {}
    for item in text.split(","):
        signal, equals, wanted = item.strip().partition("=")
        if not equals or not wanted or (signal not in SIGNALS and signal != "time"):
            raise ConfigError(
                f"the map {item.strip()!r} is not understood",
                cause=f"left of = one of: time, {', '.join(SIGNALS)}",
                fix="write it like current=CH1*0.1,time=#1:ms",
            )
        columns[signal] = _column(wanted)
    return columns


def _column(text: str) -> Column:
    name, colon, unit = text.rpartition(":")
    if colon and unit in UNITS:
        return Column(name, UNITS[unit])
    name, star, factor = text.rpartition("*")
    if star:
        try:
            return Column(name, float(factor))
        except ValueError:
            pass
    return Column(text)


def guess_columns(names: list[str]) -> dict[str, Column]:
    """What headings say on their own: ``Current(uA)``, ``power_w``, ``D0``; once each or not."""
    found: dict[str, list[Column]] = {}
    for name in names:
        match = _HEADING.match(name) or _SUFFIX.match(name)
        stem = (match["name"] if match else name).strip().lower()
        unit = match["unit"].strip() if match else ""
        # A unit may be written in lower case in a name such as current_ma.
        scale = UNITS.get(unit) or UNITS.get(unit[:-1] + unit[-1:].upper())
        for signal, aliases in _ALIASES.items():
            plain = signal == "time" and unit == ""
            if stem in aliases and (scale is not None or plain or not match):
                found.setdefault(signal, []).append(Column(name, scale or 1.0))
        if stem in SIGNALS and stem not in FLOAT_SIGNALS:
            found.setdefault(stem, []).append(Column(name))
    return {signal: rows[0] for signal, rows in found.items() if len(rows) == 1}


def place_of(column: Column, names: list[str], count: int, path: Path) -> int:
    """Index of a column.

    Raises:
        ConfigError: there is none of that name or number.
    """
    if column.name in names:
        return names.index(column.name)
    number = column.name[1:] if column.name.startswith("#") else ""
    if number.isdigit() and 1 <= int(number) <= count:
        return int(number) - 1
    raise ConfigError(
        f"{path.name} has no column {column.name!r}",
        cause=f"it has {', '.join(names) if names else f'{count} columns without headings'}",
        fix="name one of these, or count them: #1 is the first",
    )


def to_block(first: int, columns: Mapping[str, NDArray[np.float64]]) -> Block:
    """A block of scaled columns; a sample of which one value is not finite is lost as a whole."""
    logic: NDArray[np.uint8] | None = None
    floats: dict[str, NDArray[np.float32]] = {}
    for name, values in columns.items():
        if name in FLOAT_SIGNALS:
            with np.errstate(over="ignore", invalid="ignore"):
                kept = values.astype(np.float32)
            floats[name] = kept
        elif name in SIGNALS:
            bit = (values > 0.5).astype(np.uint8) << np.uint8(int(name[1:]))
            logic = bit if logic is None else logic | bit
    lost = ~np.logical_and.reduce([np.isfinite(kept) for kept in floats.values()])
    for kept in floats.values():
        kept[lost] = np.nan
    return Block(
        first,
        current_a=floats.get("current"),
        voltage_v=floats.get("voltage"),
        power_w=floats.get("power"),
        logic=logic,
    )


def blocks_of(batches: Iterable[Mapping[str, NDArray[np.float64]]]) -> Iterator[Block]:
    """Blocks of columns that carry no time."""
    first = 0
    for batch in batches:
        block = to_block(first, batch)
        if len(block):
            yield block
            first += len(block)


def needed_rate(options: ImportOptions, path: Path) -> float:
    """The rate given.

    Raises:
        ConfigError: none was.
    """
    if options.rate_hz is None:
        raise ConfigError(
            f"the sample rate of {path.name} is not known",
            cause="it has no time column that was recognised",
            fix="give --rate HERTZ, or name the column: --map time=NAME:s",
        )
    return options.rate_hz
