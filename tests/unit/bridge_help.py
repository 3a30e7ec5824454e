"""Shared by the tests of the bridge: building firmware, small blobs, lines in memory."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import struct
import subprocess
import time
import zlib
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
FIRMWARE = ROOT / "firmware_bridge" / "firmware"
COMPILER = shutil.which(os.environ.get("CC", "cc"))
needs_compiler = pytest.mark.skipif(
    COMPILER is None or shutil.which("make") is None, reason="there is no C compiler (cc), or make"
)
_KEPT_S = 86_400.0


def _sources():
    files = [*(ROOT / "core" / "c").glob("*"), *(ROOT / "tests" / "firmware").glob("*")]
    files += [path for path in FIRMWARE.rglob("*") if "build" not in path.parts]
    return sorted(path for path in files if path.is_file())


def cache():
    """A folder for what is built of this state of the sources, shared by test processes."""
    digest = hashlib.sha256()
    for path in _sources():
        digest.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    folder = ROOT / ".cache" / "firmware" / digest.hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    for other in folder.parent.iterdir():
        if time.time() - other.stat().st_mtime > _KEPT_S:
            shutil.rmtree(other, ignore_errors=True)
    return folder


def built(name, build):
    """File ``name`` in the cache; ``build(folder)`` makes it, once for all test processes."""
    folder = cache()
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / name).exists():
            done = build(folder)
            if "cannot find" in done.stderr and "san" in done.stderr:
                pytest.skip("the compiler has no sanitizer libraries")
            assert done.returncode == 0, done.stdout + done.stderr
    return folder / name


def _make(*arguments):
    command = ["make", "-s", "-C", str(FIRMWARE), *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def host_program(*, smp=False):
    """The host board under sanitizers."""
    return _firmware("waistline-host", "host", smp, "SANITIZE=1")


def board_elf(board, *, smp=False):
    return _firmware(f"{board}.elf", board, smp)


def _firmware(name, target, smp, *options):
    folder, chosen = ("smp/", ["SMP=1"]) if smp else ("", [])
    return built(
        folder + name, lambda cached: _make(target, f"OUT={cached}/{folder}", *chosen, *options)
    )


def check_program(name):
    """Program of tests/firmware/NAME.c with all of the firmware's hardware-free C."""
    sources = [str(ROOT / "tests" / "firmware" / f"{name}.c")]
    sources += [str(path) for path in (FIRMWARE / "src").glob("*.c") if path.name != "main.c"]
    coded = ("pack", "ctx", "ctx_bits", "ctx_encode")
    sources += [str(ROOT / "core" / "c" / f"waist_{part}.c") for part in coded]
    flags = ["-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off"]
    flags += ["-fsanitize=address", "-fsanitize=undefined", "-fno-sanitize-recover=all"]
    flags += ["-DWAIST_SMALL", f"-I{FIRMWARE / 'src'}", f"-I{ROOT / 'core' / 'c'}"]

    def build(folder):
        command = [COMPILER, *flags, *sources, "-o", str(folder / name), "-lm"]
        return subprocess.run(command, capture_output=True, text=True)

    return built(name, build)


class Blob:
    """Writes blobs by PROTOCOL.md, on its own: the package's writer is another reading of it."""

    def __init__(self, arena_bytes):
        self.arena_bytes = arena_bytes
        self.tensors, self.layers, self.waists, self.goldens = [], [], [], []
        self.inputs = 1
        self.data = b""
        self.output = (0, 0)
        self.identity = b"testhead"

    def add_data(self, data, align=8):
        """Where it will lie, counted from the start of the data; tables have a fixed room."""
        self.data += bytes(-len(self.data) % align)
        at = len(self.data)
        self.data += data
        return _TABLES_ROOM + at

    def tensor(self, offset, height, width, channels, zero=0):
        self.tensors.append(struct.pack("<IHHHbB", offset, height, width, channels, zero, 0))
        return len(self.tensors) - 1

    def layer(
        self,
        op,
        inputs,
        out,
        *,
        window=(0, 0, 0, 0),
        pads=(0, 0, 0),
        clamp=(-128, 127),
        weights=(0, 0),
        params=(0, 0),
        scratch=(0, 0),
    ):
        padded = [*inputs, *[0xFFFF] * (4 - len(inputs))]
        self.layers.append(
            struct.pack("<BBH4H", op, len(inputs), out, *padded)
            + struct.pack("<4B3B3xbb", *window, *pads, *clamp)
            + struct.pack("<6I16x", *weights, *params, *scratch)
        )

    def waist(self, tensor, bits, planes, table=0, coder=0, scratch=(0, 0)):
        self.waists.append(
            struct.pack("<HBBI3IB3xII", tensor, bits, coder, table, *planes, 1, *scratch)
        )

    def golden(self, data, crc):
        self.goldens.append(struct.pack("<II", self.add_data(data, 1), crc))

    def bytes(self):
        tables, offsets = b"", []
        for rows in (self.tensors, self.layers, self.waists, self.goldens):
            offsets.append(64 + len(tables))
            tables += b"".join(rows)
        assert 64 + len(tables) <= _TABLES_ROOM
        body = tables + bytes(_TABLES_ROOM - 64 - len(tables)) + self.data
        counts = (len(self.tensors), len(self.layers), self.inputs)
        counts += (len(self.waists), len(self.goldens), 0)
        tail = struct.pack(
            "<I6H6I8s", self.arena_bytes, *counts, *offsets, *self.output, self.identity
        )
        crc = zlib.crc32(tail + body)
        return struct.pack("<IHHII", 0x31424C57, 2, 1, 64 + len(body), crc) + tail + body


_TABLES_ROOM = 1024


def ctx_scratch(bits, columns):
    """What PROTOCOL.md asks for."""
    return 4 * (80, 272, 496, 1008, 784, 1040, 1552, 2576)[bits - 1] + columns


def small_head(bits=4, coder="none", seed=0, filler=0):
    """A head of a lookup and a max pool, and what it gives for an input: (blob, input, codes).

    ``filler`` more bytes make it longer. The codes are one a byte, in the waist's order.
    """
    source = np.random.default_rng(seed)
    values = source.integers(-128, 128, (8, 10, 6), np.int8)
    table = source.integers(-128, 128, 256, np.int8)
    codes = source.integers(0, 1 << bits, 256, np.uint8)
    middle = table[values.astype(np.int16) + 128]
    pooled = middle.reshape(4, 2, 5, 2, 6).max((1, 3))
    packed_bytes = (pooled.size * bits + 7) // 8
    blob = Blob(4096 + 16384)
    blob.tensor(0, 8, 10, 6)
    blob.tensor(480, 8, 10, 6)
    blob.tensor(960, 4, 5, 6)
    blob.layer(10, [0], 1, weights=(blob.add_data(table.tobytes()), 256))
    blob.layer(4, [1], 2, window=(2, 2, 2, 2))
    blob.waist(
        2,
        bits,
        (6, 4, 5),
        table=blob.add_data(codes.tobytes(), 1),
        coder=int(coder == "ctx"),
        scratch=(4096, ctx_scratch(bits, 5)) if coder == "ctx" else (0, 0),
    )
    blob.output = (2048, 4 + packed_bytes)
    blob.identity = seed.to_bytes(8, "little")
    blob.add_data(source.bytes(filler))
    return blob, values, codes[pooled.astype(np.uint8).reshape(-1)]


def payload_of(codes, bits, planes, coder="none"):
    """The output of a head: what DATA carries."""
    from waistline.codec.pack import packed_size

    packed = np.packbits(
        np.unpackbits(codes[:, None], axis=1, bitorder="little", count=bits).reshape(-1),
        bitorder="little",
    ).tobytes()
    assert len(packed) == packed_size(len(codes), bits)
    if coder == "ctx":
        from waistline.codec.coders import ctx
        from waistline.codec.coders.base import CodeShape

        count, rows, columns = planes
        shape = CodeShape((1, rows, columns, count), 3, bits, frame=False, signed=False)
        coded = bytes(ctx.open_coder(None).compress(memoryview(packed), shape))
        if len(coded) < len(packed):
            return struct.pack("<I", len(coded)) + coded
    return struct.pack("<I", len(packed) | 1 << 31) + packed
