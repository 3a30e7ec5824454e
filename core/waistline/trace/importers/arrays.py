"""NumPy files: one array of columns (.npy), or an archive of one array a signal (.npz).

A .npy file is mapped, an .npz read member by member as it is unpacked; nothing is unpickled. What a
header declares is compared with the bytes that are there before memory is taken.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from waistline.errors import ConfigError, TraceError
from waistline.trace.base import SIGNALS, Source
from waistline.trace.importers._archive import DAMAGED, open_archive, open_member
from waistline.trace.importers._times import first_of, timed_source
from waistline.trace.importers.base import (
    ROWS,
    Column,
    ImportOptions,
    blocks_of,
    guess_columns,
    needed_rate,
    place_of,
)

Columns = dict[str, NDArray[np.float64]]
# NumPy parses a header as Python text, which fails in ways of its own.
_DAMAGED = (*DAMAGED, OverflowError, MemoryError, RecursionError, SyntaxError, TokenError, KeyError)


def read_source(path: Path, options: ImportOptions) -> Source:
    """Arrays as a source.

    Raises:
        TraceError: it holds no array of numbers, or is not what it says.
        ConfigError: the map does not fit it.
    """
    read = _archive if path.suffix.lower() == ".npz" else _array

    def batches() -> Iterator[Columns]:
        try:
            yield from read(path, options)
        except _DAMAGED as error:
            raise TraceError(
                f"{path.name} holds no array of numbers, or is damaged",
                cause=str(error).splitlines()[0][:200] if str(error) else type(error).__name__,
                fix="save it with numpy.save, without objects in it",
            ) from error

    first = first_of(batches) or {}
    if options.rate_hz is None and "time" in first:
        return timed_source(batches, path, options)
    names = [name for name in first if name in SIGNALS]
    return Source(options.spec(path, needed_rate(options, path), names), blocks_of(batches()))


def _checked(dtype: np.dtype[Any]) -> None:
    for part in [dtype[name] for name in dtype.names] if dtype.names else [dtype]:
        if part.kind not in "fiub":
            raise ValueError(f"elements of type {part}")


def _chosen(options: ImportOptions, names: list[str], path: Path) -> dict[str, Column]:
    columns = dict(options.columns) or guess_columns(names)
    if not set(columns) & set(SIGNALS):
        raise ConfigError(
            f"what the arrays of {path.name} are is not clear",
            cause=f"it holds {', '.join(names) or 'columns without names'}",
            fix="say so, like --map current=#1 --rate 100000",
        )
    return columns


def _array(path: Path, options: ImportOptions) -> Iterator[Columns]:
    with np.errstate(over="ignore"):
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    _checked(array.dtype)
    names = list(array.dtype.names or ())
    if not 0 < array.ndim <= 2 or (names and array.ndim > 1):
        raise ValueError(f"an array of {array.ndim} dimensions")
    if array.ndim == 1 and not names:
        array = array[:, None]
    count = len(names) or array.shape[1]
    # Signals beside each other, or after each other: a trace is longer than it has signals.
    if not names and array.shape[0] < array.shape[1]:
        array, count = array.T, array.shape[0]
    columns = _chosen(options, names, path)
    places = {signal: place_of(column, names, count, path) for signal, column in columns.items()}
    for first in range(0, len(array), ROWS):
        rows = array[first : first + ROWS]
        yield {
            signal: _scaled(rows[names[place]] if names else rows[:, place], columns[signal])
            for signal, place in places.items()
        }


def _scaled(values: NDArray[np.generic], column: Column) -> NDArray[np.float64]:
    # Numbers that no float holds become infinite, which is a lost sample.
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(values, np.float64) * column.scale + column.offset


def _archive(path: Path, options: ImportOptions) -> Iterator[Columns]:
    with open_archive(path) as archive:
        members = {name.removesuffix(".npy"): name for name in archive.namelist()}
        names = list(members)
        columns = _chosen(options, names, path)
        chosen = {
            signal: names[place_of(column, names, len(names), path)]
            for signal, column in columns.items()
        }
        streams: dict[str, IO[bytes]] = {}
        kinds: dict[str, np.dtype[Any]] = {}
        lengths: set[int] = set()
        try:
            for signal, name in chosen.items():
                streams[signal] = open_member(archive, members[name], path)
                length, kinds[signal] = _header(streams[signal], archive.getinfo(members[name]))
                lengths.add(length)
            if len(lengths) != 1:
                raise ValueError(f"arrays of different lengths: {sorted(lengths)}")
            left = lengths.pop()
            while left:
                take = min(ROWS, left)
                yield {
                    signal: _scaled(_values(stream, kinds[signal], take), columns[signal])
                    for signal, stream in streams.items()
                }
                left -= take
        finally:
            for stream in streams.values():
                stream.close()


def _header(stream: IO[bytes], info: zipfile.ZipInfo) -> tuple[int, np.dtype[Any]]:
    """Length and type of a one-dimensional member, checked against its size."""
    version = npy.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"an array file of version {version}")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(stream)
    _checked(dtype)
    if len(shape) != 1 or dtype.names or shape[0] * dtype.itemsize > info.file_size:
        raise ValueError(f"{info.filename} of shape {shape} in {info.file_size} bytes")
    return shape[0], dtype


def _values(stream: IO[bytes], kind: np.dtype[Any], count: int) -> NDArray[np.generic]:
    wanted = count * kind.itemsize
    parts = bytearray()
    while len(parts) < wanted:
        more = stream.read(wanted - len(parts))
        if not more:
            raise TraceError("an array in the archive ends early", fix="save it again")
        parts += more
    return np.frombuffer(bytes(parts), kind)
