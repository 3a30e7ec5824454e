"""Recordings of Nordic's Power Profiler application, version 4 and later (.ppk2).

The layout is described in the application's README, without a promise: a ZIP archive with
``session.raw`` (per sample a float32 of microamperes and 16 bits for eight logic lines, two bits
each: 1 always low, 2 always high, 3 both) and ``metadata.json``. The voltage is not in it. What is
checked: sizes, the rate, that every sample is whole. What cannot be: which voltage was set, and
whether the application lost samples (its files do not say).
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np

from waistline.errors import TraceError
from waistline.trace.base import LOGIC_BITS, Block, Source
from waistline.trace.importers._archive import DAMAGED, open_archive, open_member
from waistline.trace.importers.base import ROWS, ImportOptions

_FRAME = np.dtype([("current_ua", "<f4"), ("bits", "<u2")])
_MAX_METADATA = 1 << 20
_LOW_BITS = np.uint16(0x5555)


class _Metadata(msgspec.Struct):
    # The names are the file's.
    samplesPerSecond: float
    startSystemTime: float | None = None


class _File(msgspec.Struct):
    metadata: _Metadata
    formatVersion: int | None = None


def read_source(path: Path, options: ImportOptions) -> Source:
    """A .ppk2 file as a source.

    Raises:
        TraceError: it is none, or would unpack to too much.
    """
    with open_archive(path) as archive:
        metadata = _metadata(archive, path)
        size = archive.getinfo("session.raw").file_size if _has_session(archive) else 0
        open_member(archive, "session.raw", path).close()
    rate_hz = options.rate_hz or metadata.metadata.samplesPerSecond
    names = ["current", *(f"d{bit}" for bit in range(LOGIC_BITS))]
    spec = options.spec(path, rate_hz, names)
    start_ms = metadata.metadata.startSystemTime or 0.0
    if 0 < start_ms < 1e14:
        spec = replace(spec, start_utc_ns=round(start_ms * 1e6))
    remarks = ["whether the application lost samples is not in the file"]
    if options.supply_v is None:
        remarks.append("the supply voltage is not in the file: give --supply VOLTS for energies")
    if size % _FRAME.itemsize:
        remarks.append("the last sample is torn and was left out")
    return Source(spec, _blocks(path), remarks=remarks)


def _has_session(archive: zipfile.ZipFile) -> bool:
    return "session.raw" in archive.namelist()


def _metadata(archive: zipfile.ZipFile, path: Path) -> _File:
    try:
        with open_member(archive, "metadata.json", path) as stream:
            data = stream.read(_MAX_METADATA + 1)
        if len(data) > _MAX_METADATA:
            raise msgspec.DecodeError(f"over {_MAX_METADATA} bytes")
        return msgspec.json.decode(data, type=_File)
    except (msgspec.MsgspecError, RecursionError, *DAMAGED) as error:
        raise TraceError(
            f"{path.name} does not say its sample rate",
            cause=f"metadata.json: {error}",
            fix="save it again with the Power Profiler application, version 4 or later",
        ) from error


def _blocks(path: Path) -> Iterator[Block]:
    first, left = 0, b""
    try:
        with open_archive(path) as archive, open_member(archive, "session.raw", path) as stream:
            while data := stream.read(ROWS * _FRAME.itemsize):
                data = left + data
                count = len(data) // _FRAME.itemsize
                left = data[count * _FRAME.itemsize :]
                if count:
                    yield _block(first, np.frombuffer(data, _FRAME, count))
                    first += count
    except DAMAGED as error:
        raise TraceError(
            f"{path.name} is damaged",
            cause=f"session.raw after sample {first}: {error}",
            fix="copy it again from where it was recorded",
        ) from error


def _block(first: int, frames: np.ndarray) -> Block:
    current = frames["current_ua"] * np.float32(1e-6)
    current[~np.isfinite(current)] = np.nan
    # The upper bit of each pair says that the line was high at some time in the sample.
    high = frames["bits"] >> np.uint16(1) & _LOW_BITS
    logic = np.zeros(len(frames), np.uint8)
    for bit in range(LOGIC_BITS):
        logic |= (high >> np.uint16(2 * bit) & np.uint16(1)).astype(np.uint8) << np.uint8(bit)
    return Block(first, current_a=current, logic=logic)
