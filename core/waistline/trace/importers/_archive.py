"""ZIP archives from outside: declared sizes are looked at before anything is unpacked."""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO

from waistline.errors import TraceError

MAX_BYTES = 64 << 30
DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    ValueError,
    struct.error,
    NotImplementedError,
)
"""What unpacking a damaged member raises."""
_SMALL = 64 << 20
# Deflate reaches 1,032; samples of a real meter stay below ten.
_MAX_RATIO = 300
_MAX_MEMBERS = 1000


def open_archive(path: Path) -> zipfile.ZipFile:
    """Open an archive.

    Raises:
        TraceError: it is none.
    """
    try:
        archive = zipfile.ZipFile(path)
    except DAMAGED as error:
        raise TraceError(
            f"{path.name} is no ZIP archive", cause=str(error), fix="save it again"
        ) from error
    if len(archive.infolist()) > _MAX_MEMBERS:
        archive.close()
        raise _bomb(path, f"it has over {_MAX_MEMBERS} members")
    return archive


def open_member(archive: zipfile.ZipFile, name: str, path: Path) -> IO[bytes]:
    """Open one member for reading as a stream.

    Raises:
        TraceError: there is none, it is encrypted, or it would unpack to too much.
    """
    try:
        info = archive.getinfo(name)
    except KeyError as error:
        raise TraceError(
            f"{path.name} holds no {name}",
            cause=f"it holds {', '.join(archive.namelist()[:10]) or 'nothing'}",
            fix="give a file of the kind its suffix says",
        ) from error
    if info.file_size > MAX_BYTES:
        raise _bomb(path, f"{name} declares {info.file_size >> 30} GiB")
    if info.file_size > max(_SMALL, _MAX_RATIO * info.compress_size):
        raise _bomb(path, f"{name} would unpack {info.compress_size} to {info.file_size} bytes")
    try:
        return archive.open(info)
    except (RuntimeError, *DAMAGED) as error:
        raise TraceError(f"{name} in {path.name} cannot be read", cause=str(error)) from error


def check_rows(path: Path, rows: int, size_bytes: int) -> None:
    """Refuse a table of so many rows in so few bytes.

    Raises:
        TraceError: they cannot be samples of an instrument.
    """
    if 4 * rows > max(_SMALL, _MAX_RATIO * size_bytes):
        raise _bomb(path, f"it declares {rows:,} rows in {size_bytes:,} bytes")


def _bomb(path: Path, cause: str) -> TraceError:
    return TraceError(
        f"{path.name} is refused: it does not look like a recording",
        cause=cause,
        fix="unpack it yourself and import what is in it",
    )
