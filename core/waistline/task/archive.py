"""Arrays out of an .npz archive without trusting it."""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from pathlib import Path
from tokenize import TokenError
from typing import IO

import numpy as np

from waistline.errors import ConfigError

MAX_ARRAY_BYTES = 1 << 30
"""60,000 frames of 28x28, or 2,000 of 416x416 in colour."""
_MAX_HEADER_BYTES = 10_000
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
"""What numpy writes; others may ask for gigabytes of dictionary before the first byte comes out."""
_DAMAGED = (
    *(OSError, ValueError, EOFError, RuntimeError, NotImplementedError),
    # numpy parses the header as Python text and lets its errors through.
    *(zipfile.BadZipFile, zlib.error, struct.error, SyntaxError, TokenError, MemoryError),
)


class NpzReader:
    """Reads named arrays; each array's declared size is checked before it is allocated."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._archive = zipfile.ZipFile(path)
        except _DAMAGED as error:
            cause = getattr(error, "strerror", None) or str(error)
            raise self._bad(cause, "give an archive written by numpy.savez") from error

    def __enter__(self) -> NpzReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._archive.close()

    @property
    def names(self) -> list[str]:
        return [name.removesuffix(".npy") for name in self._archive.namelist()]

    def read(self, name: str) -> np.ndarray:
        """The array called ``name``.

        Raises:
            ConfigError: missing, damaged, an object array, or larger than `MAX_ARRAY_BYTES`.
        """
        try:
            info = self._archive.getinfo(f"{name}.npy")
        except KeyError:
            held = ", ".join(self.names[:20]) or "nothing"
            raise self._bad(
                f"it has no array {name!r}, only {held}", "name the right key in the task file"
            ) from None
        try:
            if info.compress_type not in _METHODS:
                raise ValueError(f"compression method {info.compress_type} is not numpy's")
            with self._archive.open(info) as stream:
                return self._array(stream)
        except _DAMAGED as error:
            raise self._bad(
                f"array {name!r}: {error}", "write it again with numpy.savez"
            ) from error

    def _array(self, stream: IO[bytes]) -> np.ndarray:
        version = np.lib.format.read_magic(stream)
        readers = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        if version not in readers:
            raise ValueError(f"array format {version} is not known")
        shape, fortran, dtype = readers[version](stream, max_header_size=_MAX_HEADER_BYTES)
        size = math.prod(shape) * dtype.itemsize
        if dtype.hasobject or fortran:
            raise ValueError("it holds Python objects or is in Fortran order")
        if size > MAX_ARRAY_BYTES or min(shape, default=0) < 0:
            raise ValueError(f"it claims {size} bytes, the limit is {MAX_ARRAY_BYTES}")
        data = stream.read(size)
        if len(data) != size or stream.read(1):
            raise ValueError(f"it holds other than the {size} bytes it claims")
        return np.frombuffer(data, dtype).reshape(shape)

    def _bad(self, cause: str, fix: str) -> ConfigError:
        return ConfigError(f"{self.path} cannot be read", cause=cause, fix=fix)
