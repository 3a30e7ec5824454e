"""The firmware's checks and interpreter built for this machine, and heads to run in them."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from waistline.blob.form import Int8Head
from waistline.blob.records import read_blob
from waistline.tensors import WaistTensor
from waistline_bridge.lower.assemble import LoweredHead, assemble

ROOT = Path(__file__).parents[2]
FIRMWARE = ROOT / "firmware_bridge/firmware/src"
CC = shutil.which("cc")
FAILED = 0xFFFFFFFF
ALL_LAYERS = 0xFFFF
_ALIGN = 16


def random_inputs(head: Int8Head, seed: int = 5) -> list[np.ndarray]:
    """Inputs that use the whole type."""
    random = np.random.default_rng(seed)
    return [random.integers(-128, 128, port.spec.shape).astype(np.int8) for port in head.inputs]


def lowered(head: Int8Head, codec: str = "i8:b=4|none", seed: int = 5, **more: Any) -> LoweredHead:
    """With one golden frame of random inputs."""
    waist = [WaistTensor(port.spec, codec) for port in head.outputs]
    return assemble(head, waist, [random_inputs(head, seed)], **more)


class Firmware:
    """``wl_blob_check`` and ``wl_head_run``, compiled by `cc`."""

    def __init__(self, folder: Path) -> None:
        assert CC is not None
        names = ("wl_blob", "wl_frame", "wl_head", "wl_layer")
        sources = [FIRMWARE / f"{name}.c" for name in names]
        sources += sorted(FIRMWARE.glob("wl_nn*.c")) + sorted((ROOT / "core/c").glob("*.c"))
        sources.append(Path(__file__).with_name("lower_board.c"))
        library = folder / "lower.so"
        flags = ["-std=c99", "-O2", "-ffp-contract=off", "-shared", "-fPIC"]
        include = [f"-I{FIRMWARE}", f"-I{ROOT / 'core/c'}"]
        command = [CC, *flags, *include, *map(str, sources), "-o", str(library)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        self._library = ctypes.CDLL(str(library))
        self._library.lower_run.restype = ctypes.c_uint32
        self._library.lower_many.restype = ctypes.c_uint32

    def check(self, blob: bytes, arena_bytes: int) -> int:
        """The reason the firmware refuses it for; 0: it takes it."""
        held, record = _aligned(blob), ctypes.c_uint32()
        at = held.ctypes.data_as(ctypes.c_void_p)
        return int(self._library.lower_check(at, len(blob), arena_bytes, ctypes.byref(record)))

    def run(
        self, blob: bytes, arena_bytes: int, layers: int = ALL_LAYERS
    ) -> tuple[int, np.ndarray]:
        """(bytes of output, the arena) after a run on the first golden input."""
        held, arena = _aligned(blob), _aligned(bytes(arena_bytes))
        places = [array.ctypes.data_as(ctypes.c_void_p) for array in (held, arena)]
        size = self._library.lower_run(places[0], len(blob), places[1], arena_bytes, layers)
        return int(size), arena

    def run_many(self, blob: bytes, arena_bytes: int, inputs: np.ndarray) -> list[bytes]:
        """What the head sends for each of ``inputs``, int8 (n, ..)."""
        held, arena = _aligned(blob), _aligned(bytes(arena_bytes))
        given = np.ascontiguousarray(inputs.astype(np.int8, copy=False))
        count, stride = len(given), read_blob(blob).output[1]
        outputs, sizes = np.zeros((count, stride), np.uint8), np.zeros(count, np.uint32)
        places = [a.ctypes.data_as(ctypes.c_void_p) for a in (held, arena, given, outputs, sizes)]
        done = self._library.lower_many(
            *(places[0], len(blob), places[1], arena_bytes),
            *(places[2], count, places[3], stride, places[4]),
        )
        assert done == count
        return [output[:size].tobytes() for output, size in zip(outputs, sizes, strict=True)]


def _aligned(data: bytes) -> np.ndarray:
    raw = np.zeros(len(data) + _ALIGN, np.uint8)
    start = -raw.ctypes.data % _ALIGN
    held = raw[start : start + len(data)]
    held[:] = np.frombuffer(data, np.uint8)
    return held
