"""The compiled codec, core/c, loaded with ctypes; no Python headers, one library for all versions.

``WAISTLINE_CODEC=numpy`` in the environment leaves it out. ctypes releases the interpreter lock
during a call, so other threads run while a tensor is coded.
"""

from __future__ import annotations

import ctypes
import functools
import math
import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from waistline.codec.kernels import Buffer, Floats, Kernels, Rule
from waistline.codec.pack import Codes, packed_size
from waistline.codec.quantizers import NumpyKernels
from waistline.errors import ConfigError

LIBRARY = Path(__file__).with_name("_waist.so")
VERSION = 4
"""WAIST_VERSION of the sources this binding was written for."""
_CHOICE = "WAISTLINE_CODEC"
_MAP_FLOATS = 7
_FRAME_FLOATS = 9
_CTX_NODE_BYTES = 4
_RULES: dict[Rule, int] = {"affine": 0, "q1": 1, "q1h": 2}


class _Shape(ctypes.Structure):
    _fields_ = (
        ("outer", ctypes.c_size_t),
        ("channels", ctypes.c_size_t),
        ("inner", ctypes.c_size_t),
    )


class _Map(ctypes.Structure):
    _fields_ = (
        ("channels", ctypes.c_size_t),
        ("bits", ctypes.c_uint32),
        ("scaled", ctypes.c_uint32),
        ("rounding", ctypes.c_float),
        ("top", ctypes.c_float),
        ("pre", ctypes.c_void_p),
        ("base", ctypes.c_void_p),
        ("gain", ctypes.c_void_p),
        ("origin", ctypes.c_void_p),
        ("step", ctypes.c_void_p),
        ("post", ctypes.c_void_p),
        ("ceiling", ctypes.c_void_p),
    )


class _Frame(ctypes.Structure):
    _fields_ = (
        ("shape", _Shape),
        ("rule", ctypes.c_int),
        ("bits", ctypes.c_uint32),
        ("fixed", ctypes.c_void_p),
        ("scratch", ctypes.c_void_p),
    )


class _Context(ctypes.Structure):
    _fields_ = (
        ("planes", ctypes.c_size_t),
        ("rows", ctypes.c_size_t),
        ("columns", ctypes.c_size_t),
        ("interleaved", ctypes.c_int),
        ("bits", ctypes.c_uint32),
        ("nodes", ctypes.c_void_p),
        ("above", ctypes.c_void_p),
    )


_POINTER, _SIZE, _BITS = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint32
_BYTES, _BYTE = ctypes.c_char_p, ctypes.c_char
_PROTOTYPES: dict[str, tuple[Any, ...]] = {
    "waist_minmax": (_POINTER, _Shape, _POINTER, _POINTER),
    "waist_map_init": (_POINTER, ctypes.c_int, _BITS, _SIZE, _POINTER, _POINTER, _POINTER),
    "waist_encode": (_POINTER, _Shape, _POINTER, ctypes.c_int, _POINTER),
    "waist_decode": (_POINTER, _Shape, _POINTER, _POINTER),
    "waist_encode_frame": (_POINTER, _POINTER, _POINTER, _POINTER),
    "waist_decode_frame": (_POINTER, _BYTES, _BYTES, _POINTER),
    "waist_q2_encode": (_POINTER, _SIZE, ctypes.c_int, _POINTER, _POINTER),
    "waist_q2_decode": (_POINTER, _SIZE, _POINTER, _POINTER),
    "waist_table_encode": (_POINTER, _SIZE, _POINTER, _BITS, _POINTER),
    "waist_table_decode": (_POINTER, _SIZE, _POINTER, _BITS, _POINTER),
    "waist_pack": (_POINTER, _SIZE, _BITS, _POINTER),
    "waist_unpack": (_POINTER, _SIZE, _BITS, _POINTER),
    "waist_ctx_nodes": (_BITS,),
    "waist_ctx_encode": (_POINTER, _POINTER, _POINTER, _POINTER, _SIZE, _POINTER),
    "waist_ctx_decode": (_POINTER, _BYTES, _SIZE, _POINTER),
}


def available() -> bool:
    """Whether the compiled codec is used."""
    return not reason()


def reason() -> str:
    """Why it is not, for people; "" if it is.

    Raises:
        ConfigError: the environment variable holds something else than ``c`` or ``numpy``.
    """
    choice = os.environ.get(_CHOICE, "")
    if choice not in {"", "c", "numpy"}:
        raise ConfigError(
            f"{_CHOICE}={choice!r} is not a codec implementation",
            cause="known: c, numpy",
            fix=f"unset {_CHOICE}",
        )
    if choice == "numpy":
        return f"{_CHOICE}=numpy is set"
    found = _load()
    return found if isinstance(found, str) else ""


def kernels() -> Kernels:
    """The compiled kernels, or the NumPy reference where there are none.

    Raises:
        ConfigError: ``WAISTLINE_CODEC=c`` asks for compiled kernels and there are none.
    """
    found = library()
    return NumpyKernels() if found is None else CKernels(found)


def library() -> ctypes.CDLL | None:
    """The compiled codec, or None where Python does its work.

    Raises:
        ConfigError: as `kernels`.
    """
    why_not = reason()
    if why_not and os.environ.get(_CHOICE) == "c":
        raise ConfigError(
            "the compiled codec is not available",
            cause=why_not,
            fix="install a C compiler, then: pip install --force-reinstall --no-deps waistline",
        )
    found = _load()
    return None if why_not or isinstance(found, str) else found


@functools.cache
def _load() -> ctypes.CDLL | str:
    """The library, or why there is none."""
    if not LIBRARY.exists():
        return "the package was installed without a C compiler"
    try:
        library = ctypes.CDLL(str(LIBRARY))
        library.waist_version.restype = ctypes.c_uint32
        version = library.waist_version()
        if version != VERSION:
            return f"{LIBRARY.name} is version {version}, not {VERSION}: install the package again"
        for name, arguments in _PROTOTYPES.items():
            function = getattr(library, name)
            function.argtypes = arguments
            function.restype = ctypes.c_int
        library.waist_ctx_nodes.restype = ctypes.c_size_t
        library.waist_decode.restype = library.waist_q2_decode.restype = None
    except (OSError, AttributeError) as error:
        return f"{LIBRARY.name} does not load: {error}"
    return library


class CGrid:
    """`waistline.codec.quantizers.Grid` in C."""

    def __init__(self, library: ctypes.CDLL, channels: int) -> None:
        self._c = library
        self.storage = np.empty(_MAP_FLOATS * channels, np.float32)
        self._fields = _Map()
        self.map = ctypes.addressof(self._fields)

    def encode(self, x: Floats, out: Codes, *, within: bool) -> bool:
        status: int = self._c.waist_encode(_at(x), _Shape(*x.shape), self.map, within, _at(out))
        return status == 0

    def decode(self, packed: Codes, out: Floats) -> None:
        self._c.waist_decode(_at(packed), _Shape(*out.shape), self.map, _at(out))


class CUniform:
    """`waistline.codec.quantizers.Uniform` in C: one call a frame, and nothing made anew for it.

    After a model has run, caches are cold and each step in Python costs several times as much.
    """

    def __init__(
        self, library: ctypes.CDLL, frame: _Frame, fixed: CGrid | None, ranges: Codes, packed: Codes
    ) -> None:
        self._encode, self._decode = library.waist_encode_frame, library.waist_decode_frame
        self._scratch = np.empty(_FRAME_FLOATS * frame.shape.channels, np.float32)
        frame.scratch = _at(self._scratch)
        frame.fixed = None if fixed is None else fixed.map
        self._frame = ctypes.addressof(frame)
        self._targets = _at(ranges) if ranges.size else None, _at(packed)
        self._alive = frame, fixed, ranges, packed

    def encode(self, x: Floats) -> bool:
        status: int = self._encode(self._frame, _at(x), *self._targets)
        return status == 0

    def decode(self, ranges: Buffer, packed: Buffer, out: Floats) -> bool:
        # ctypes takes the address of bytes by itself; what is bytes already is not copied.
        status: int = self._decode(self._frame, bytes(ranges), bytes(packed), _at(out))
        return status == 0


class CKernels:
    """`waistline.codec.quantizers.Kernels` in C; each array must be C-contiguous."""

    name: Literal["c", "numpy"] = "c"

    def __init__(self, library: ctypes.CDLL) -> None:
        self._c = library

    def minmax(self, x: Floats) -> tuple[Floats, Floats] | None:
        lo, hi = np.empty(x.shape[1], np.float32), np.empty(x.shape[1], np.float32)
        if self._c.waist_minmax(_at(x), _Shape(*x.shape), _at(lo), _at(hi)):
            return None
        return lo, hi

    def grid(self, rule: Rule, bits: int, lo: Floats, hi: Floats) -> CGrid | None:
        ends = np.stack((lo, hi)).astype(np.float32, copy=False)
        grid = CGrid(self._c, lo.size)
        status = self._c.waist_map_init(
            grid.map, _RULES[rule], bits, lo.size, _at(ends), _at(ends[1]), _at(grid.storage)
        )
        return None if status else grid

    def uniform(
        self,
        rule: Rule,
        bits: int,
        shape: tuple[int, int, int],
        limits: tuple[Floats, Floats] | None,
        ranges: Codes,
        packed: Codes,
    ) -> CUniform | None:
        fixed = None if limits is None else self.grid(rule, bits, *limits)
        if limits is not None and fixed is None:
            return None
        frame = _Frame(_Shape(*shape), _RULES[rule], bits)
        return CUniform(self._c, frame, fixed, ranges, packed)

    def encode_q2(self, x: Floats, conditional: bool, out: Codes) -> Floats | None:
        values = np.empty(2, np.float32)
        if self._c.waist_q2_encode(_at(x), x.size, conditional, _at(values), _at(out)):
            return None
        return values

    def decode_q2(self, packed: Codes, values: Floats, out: Floats) -> None:
        self._c.waist_q2_decode(_at(packed), out.size, _at(values), _at(out))

    def encode_table(self, q: Codes, table: Codes, bits: int, out: Codes) -> None:
        self._c.waist_table_encode(_at(q), q.size, _at(table), bits, _at(out))

    def decode_table(self, packed: Codes, table: Codes, bits: int, out: Codes) -> None:
        self._c.waist_table_decode(_at(packed), out.size, _at(table), bits, _at(out))


class CContext:
    """The context coder in C for codes of one shape; keeps its working memory.

    Args:
        library: the compiled codec.
        shape: planes, rows, columns.
        interleaved: planes are the last axis in memory.
        bits: width of a code, 1..8.
    """

    def __init__(
        self, library: ctypes.CDLL, shape: tuple[int, int, int], interleaved: bool, bits: int
    ) -> None:
        self._c, self._count, self._bits = library, math.prod(shape), bits
        self._size_bytes = packed_size(self._count, bits)
        nodes = np.empty(library.waist_ctx_nodes(bits) * _CTX_NODE_BYTES, np.uint8)
        above = np.empty(shape[2], np.uint8)
        self._codes = np.empty(self._count, np.uint8)
        self._coded = np.empty(self._size_bytes, np.uint8)
        fields = _Context(*shape, interleaved, bits, _at(nodes), _at(above))
        self._at = ctypes.addressof(fields)
        self._alive = nodes, above, fields

    def encode(self, packed: memoryview) -> memoryview | None:
        """The stream, valid until the next call; None if it is not shorter than ``packed``."""
        size = ctypes.c_size_t()
        capacity = self._size_bytes - 1
        source, codes = np.frombuffer(packed, np.uint8, self._size_bytes), _at(self._codes)
        self._c.waist_unpack(_at(source), self._count, self._bits, codes)
        status = self._c.waist_ctx_encode(
            self._at, codes, None, _at(self._coded), capacity, ctypes.addressof(size)
        )
        return None if status else self._coded.data[: size.value]

    def decode(self, data: memoryview) -> memoryview | None:
        """The packed codes; None if ``data`` is not exactly a stream of such codes."""
        codes = _at(self._codes)
        if self._c.waist_ctx_decode(self._at, bytes(data), len(data), codes):
            return None
        packed = np.empty(self._size_bytes, np.uint8)
        self._c.waist_pack(codes, self._count, self._bits, _at(packed))
        return packed.data


def _at(array: NDArray[Any]) -> int:
    """Address of the first element; the caller keeps the array alive over the call."""
    try:
        return ctypes.addressof(_BYTE.from_buffer(array))  # type: ignore[arg-type]
    except TypeError:  # read-only; this way is open to every array, and takes three times as long
        address: int = array.__array_interface__["data"][0]
        return address
