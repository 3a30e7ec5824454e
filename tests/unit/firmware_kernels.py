"""The firmware's kernels as a shared library: portable, or the DSP path with its instructions in C.

Every call checks that the parameters are valid, and hands over buffers of exactly the size that
the header names, between guards.
"""

from __future__ import annotations

import ctypes
import functools
import shutil
import subprocess
import tempfile
from ctypes import POINTER, c_int8, c_int16, c_int32, c_size_t, c_uint8, c_uint16, c_uint32
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from waistline.blob import pack

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "firmware_bridge/firmware/src"
SOURCES = sorted(FOLDER.glob("wl_nn*.c"))
CC = shutil.which("cc")
STRICT = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror"]
PATHS = {"portable": ["-DWL_NN_PORTABLE"], "dsp": ["-DWL_NN_EMULATE"]}
GUARD = 64


class Record(ctypes.Structure):
    _fields_ = [("bias", c_int32), ("multiplier", c_int32), ("shift", c_int32)]


def _shorts(names: str) -> list:
    return [(name, c_uint16) for name in names.split()]


def _bytes(names: str, kind=c_uint8) -> list:
    return [(name, kind) for name in names.split()]


RECORDS = [("requant", POINTER(Record))]
CLAMP = _bytes("act_min act_max", c_int8)
WINDOW = _bytes("kernel_h kernel_w stride_h stride_w pad_top pad_left")


class Conv(ctypes.Structure):
    _fields_ = [
        *_shorts("in_h in_w in_c out_h out_w out_c"),
        *WINDOW,
        *_bytes("in_zero out_zero", c_int8),
        *CLAMP,
        ("weights", POINTER(c_int8)),
        *RECORDS,
    ]


class Depthwise(ctypes.Structure):
    _fields_ = [
        *_shorts("in_h in_w in_c out_h out_w"),
        *_bytes("multiplier"),
        *WINDOW,
        *_bytes("in_zero out_zero", c_int8),
        *CLAMP,
        ("weights", POINTER(c_int16)),
        *RECORDS,
    ]


class Dense(ctypes.Structure):
    _fields_ = [
        *_shorts("inputs outputs"),
        *_bytes("out_zero", c_int8),
        *CLAMP,
        ("weights", POINTER(c_int8)),
        *RECORDS,
    ]


class Pool(ctypes.Structure):
    _fields_ = [*_shorts("in_h in_w in_c out_h out_w"), *WINDOW, *CLAMP]


class Mean(ctypes.Structure):
    _fields_ = [
        ("pixels", c_uint32),
        *_shorts("channels"),
        *_bytes("out_zero", c_int8),
        *CLAMP,
        *RECORDS,
    ]


class Add(ctypes.Structure):
    _fields_ = [("count", c_uint32), *CLAMP, *RECORDS]


class Concat(ctypes.Structure):
    _fields_ = [("pixels", c_uint32), *_shorts("in_c out_c offset")]


class Pad(ctypes.Structure):
    _fields_ = [
        *_shorts("in_h in_w in_c out_h out_w out_c top left front"),
        *_bytes("value", c_int8),
    ]


@functools.cache
def library(path: str) -> ctypes.CDLL:
    """The kernels, one of PATHS."""
    assert CC is not None
    target = Path(tempfile.mkdtemp(prefix="waistline-nn-")) / "nn.so"
    flags = [*STRICT, "-O2", *PATHS[path], "-shared", "-fPIC"]
    command = [CC, *flags, *map(str, SOURCES), "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = ctypes.CDLL(str(target))
    shutil.rmtree(target.parent)
    for name in ("conv2d", "depthwise", "dense"):
        for what in ("weight_bytes", "records", "scratch_bytes"):
            getattr(loaded, f"wl_{name}_{what}").restype = c_size_t
    return loaded


class Area:
    """Bytes at a multiple of 16 plus ``skew``, between guards."""

    def __init__(self, size: int, skew: int = 0) -> None:
        self.raw = np.full(size + 2 * GUARD + 32, 0x5A, np.uint8)
        self.start = GUARD + (-(self.raw.ctypes.data + GUARD)) % 16 + skew
        self.size = size

    @property
    def bytes(self) -> np.ndarray:
        return self.raw[self.start : self.start + self.size]

    @property
    def address(self) -> ctypes.c_void_p:
        return ctypes.c_void_p(self.raw.ctypes.data + self.start)

    def check(self) -> None:
        assert (self.raw[: self.start] == 0x5A).all(), "written before the buffer"
        assert (self.raw[self.start + self.size :] == 0x5A).all(), "written behind the buffer"


@dataclass
class Weighted:
    """A layer with weights: parameters, packed weights and records."""

    kind: str
    parameters: ctypes.Structure
    weights: bytes
    records: bytes
    out_size: int

    def run(self, path: str, x: np.ndarray, skew: int = 0) -> np.ndarray:
        nn = library(path)
        p = self.parameters
        assert getattr(nn, f"wl_{self.kind}_valid")(ctypes.byref(p)) == 1
        assert getattr(nn, f"wl_{self.kind}_weight_bytes")(ctypes.byref(p)) == len(self.weights)
        assert getattr(nn, f"wl_{self.kind}_records")(ctypes.byref(p)) * 12 == len(self.records)
        weights, records = Area(len(self.weights)), Area(len(self.records))
        weights.bytes[:] = np.frombuffer(self.weights, np.uint8)
        records.bytes[:] = np.frombuffer(self.records, np.uint8)
        field = dict(type(p)._fields_)["weights"]
        p.weights = ctypes.cast(weights.address, field)
        p.requant = ctypes.cast(records.address, POINTER(Record))
        assert nn.wl_requant_valid(p.requant, c_size_t(len(self.records) // 12)) == 1
        scratch = Area(getattr(nn, f"wl_{self.kind}_scratch_bytes")(ctypes.byref(p)))
        into, out = Area(x.size, skew), Area(self.out_size, skew)
        into.bytes[:] = x.astype(np.int8).view(np.uint8).ravel()
        getattr(nn, f"wl_{self.kind}")(ctypes.byref(p), into.address, out.address, scratch.address)
        for area in (scratch, out, into, weights, records):
            area.check()
        return out.bytes.view(np.int8).copy()


def simple(
    path: str, kind: str, p: ctypes.Structure, out_size: int, *inputs, name=""
) -> np.ndarray:
    """An operator without scratch; ``name`` where it is not that of its check."""
    nn = library(path)
    assert getattr(nn, f"wl_{kind}_valid")(ctypes.byref(p)) == 1
    out, areas = Area(out_size, 1), []
    for x in inputs:
        areas.append(Area(x.size, 1))
        areas[-1].bytes[:] = x.astype(np.int8).view(np.uint8).ravel()
    addresses = [area.address for area in areas]
    getattr(nn, f"wl_{name or kind}")(ctypes.byref(p), *addresses, out.address)
    for area in (out, *areas):
        area.check()
    return out.bytes.view(np.int8).copy()


def records_of(biases, multipliers, shifts) -> ctypes.Array:
    """Records for `simple` operators."""
    data = pack.pack_records(*(np.atleast_1d(v) for v in (biases, multipliers, shifts)), even=False)
    return (Record * (len(data) // 12)).from_buffer_copy(data)
