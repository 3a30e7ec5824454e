"""Parquet tables (extra ``parquet``), read one batch of rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as files
from numpy.typing import NDArray

from waistline.errors import ConfigError, TraceError
from waistline.trace.base import SIGNALS, Source
from waistline.trace.importers._archive import check_rows
from waistline.trace.importers._times import timed_source
from waistline.trace.importers.base import (
    ROWS,
    Column,
    ImportOptions,
    blocks_of,
    guess_columns,
    needed_rate,
    place_of,
)


def read_source(path: Path, options: ImportOptions) -> Source:
    """A Parquet table as a source.

    Raises:
        TraceError: it is none, or a mapped column holds no numbers.
        ConfigError: the map does not fit it.
    """
    try:
        names = list(files.read_schema(path).names)
        check_rows(path, files.read_metadata(path).num_rows, path.stat().st_size)
    except (OSError, arrow.ArrowException, UnicodeDecodeError) as error:
        raise TraceError(f"{path.name} is no Parquet table", cause=str(error)) from error
    columns = dict(options.columns) or guess_columns(names)
    if not set(columns) & set(SIGNALS):
        raise ConfigError(
            f"what the columns of {path.name} are is not clear",
            cause=f"it has {', '.join(names)}",
            fix="say so, like --map current=NAME:mA,time=NAME:s",
        )
    if options.rate_hz is not None:
        columns.pop("time", None)
    chosen = {
        signal: names[place_of(column, names, len(names), path)]
        for signal, column in columns.items()
    }

    def batches() -> Iterator[dict[str, NDArray[np.float64]]]:
        return _batches(path, chosen, columns)

    if "time" in columns:
        return timed_source(batches, path, options)
    wanted = set(columns) & set(SIGNALS)
    return Source(options.spec(path, needed_rate(options, path), wanted), blocks_of(batches()))


def _batches(
    path: Path, chosen: dict[str, str], columns: dict[str, Column]
) -> Iterator[dict[str, NDArray[np.float64]]]:
    origins: dict[str, int] = {}
    try:
        with files.ParquetFile(path, memory_map=True) as table:
            for batch in table.iter_batches(ROWS, columns=sorted(set(chosen.values()))):
                yield {
                    signal: _values(batch.column(name), name, path, origins) * columns[signal].scale
                    + columns[signal].offset
                    for signal, name in chosen.items()
                }
    except (OSError, arrow.ArrowException, KeyError, UnicodeDecodeError) as error:
        raise TraceError(
            f"{path.name} is damaged", cause=str(error), fix="save it again"
        ) from error


def _values(column: Any, name: str, path: Path, origins: dict[str, int]) -> NDArray[np.float64]:
    kind = column.type
    if arrow.types.is_timestamp(kind):
        if column.null_count:
            raise TraceError(
                f"the column {name} of {path.name} has empty cells",
                cause="where a time is missing, so is the place of the sample",
                fix="give --rate HERTZ to count samples instead of reading their times",
            )
        scale = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}[kind.unit]
        ticks: NDArray[np.int64] = column.cast("int64").to_numpy(zero_copy_only=False)
        # From the first one on: nanoseconds since 1970 do not fit a float.
        origin = origins.setdefault(name, int(ticks[0]) if len(ticks) else 0)
        return (ticks - origin).astype(np.float64) * scale
    if not (arrow.types.is_floating(kind) or arrow.types.is_integer(kind) or kind == "bool"):
        raise TraceError(
            f"the column {name} of {path.name} holds no numbers",
            cause=f"it is of type {kind}",
            fix="map another column",
        )
    # An empty cell becomes NaN, which is a lost sample.
    values: NDArray[np.float64] = column.cast("float64").to_numpy(zero_copy_only=False)
    return values
