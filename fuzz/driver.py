"""tests/firmware/device.c, compiled with the firmware under sanitizers, and the pipe to it."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import struct
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FIRMWARE = ROOT / "firmware_bridge" / "firmware" / "src"
CODEC = ROOT / "core" / "c"
DEVICE = ROOT / "tests" / "firmware" / "device.c"
COMPILER = shutil.which(os.environ.get("CC", "cc"))
KINDS = {
    "portable": ("-DWL_NN_PORTABLE",),
    "dsp": ("-DWL_NN_EMULATE",),
    "update": ("-DWL_NN_PORTABLE", "-DWL_SMP=1"),
}
"""Kernels in plain C; for the DSP extension, its instructions in C; with the update mode."""
PATHS = ("portable", "dsp")
INPUT_S = 60.0
"""An input that takes longer is a finding, also on a busy machine."""
_FLAGS = ("-std=gnu11", "-O1", "-g", "-ffp-contract=off", "-DWAIST_SMALL",
          "-fsanitize=address,undefined", "-fno-sanitize-recover=all")  # fmt: skip
_COVERED = "-fsanitize-coverage=trace-pc"
_BLOB, _BEGIN, _TAKE = range(3)
_ASKED, _RAN, _TOOK = struct.Struct("<4I"), struct.Struct("<6I"), struct.Struct("<3I")


class BuildFailed(RuntimeError):
    """The compiler's words."""


class Died(RuntimeError):
    """The program ended, or an input took too long; a sanitizer's report, if there is one."""


def build(kind: str, folder: Path, *more: str, name: str = "") -> Path:
    """The program for one of `KINDS`; ``more``: C files and options for the linker.

    Raises:
        BuildFailed: among others without sanitizer libraries.
    """
    program = folder / f"device-{name or kind}"
    sources = [file for file in sorted(FIRMWARE.glob("*.c")) if file.name != "main.c"]
    coded = ("pack", "ctx", "ctx_bits", "ctx_encode")
    sources += [CODEC / f"waist_{part}.c" for part in coded]
    flags = [*_FLAGS, *KINDS[kind], f"-I{FIRMWARE}", f"-I{CODEC}"]
    with tempfile.TemporaryDirectory(dir=folder) as objects:
        _compile([*flags, _COVERED, "-c", *map(str, sources)], objects)
        _compile([*flags, "-c", str(DEVICE)], objects)
        made = sorted(map(str, Path(objects).glob("*.o")))
        _compile([*flags, *made, *more, "-o", str(program)], objects)
    return program


def _compile(arguments: list[str], folder: str) -> None:
    if COMPILER is None:
        raise BuildFailed("there is no cc on PATH")
    command = [COMPILER, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise BuildFailed(done.stderr)


@dataclass(frozen=True)
class Ran:
    """What became of a blob; ``tensors``: of the waist, as they lie in the arena."""

    reason: int
    record: int
    layers: int
    tensors: bytes
    output: bytes
    new_edges: int


class Driver:
    """One running program; started anew after it died."""

    def __init__(self, program: Path) -> None:
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None

    def blob(self, data: bytes, arena_bytes: int, seed: int) -> Ran:
        """Check a blob, and run it if it is taken.

        Raises:
            Died: a sanitizer ended it.
        """
        self._ask(_BLOB, arena_bytes, seed, data)
        reason, record, layers, output, tensors, edges = _RAN.unpack(self._read(_RAN.size))
        found = self._read(tensors + output)
        return Ran(reason, record, layers, found[:tensors], found[tensors:], edges)

    def begin(self, arena_bytes: int, slot_bytes: int, second_bytes: int) -> None:
        """A new device with two empty slots."""
        self._ask(_BEGIN, arena_bytes, slot_bytes, struct.pack("<I", second_bytes))

    def take(self, arrival: bytes) -> tuple[int, int, bytes]:
        """(layers run, new edges, bytes sent) for bytes that arrive together."""
        self._ask(_TAKE, 0, 0, arrival)
        layers, edges, size = _TOOK.unpack(self._read(_TOOK.size))
        return layers, edges, self._read(size)

    def close(self) -> None:
        """End it.

        Raises:
            Died: not in peace: memory leaked, for one.
        """
        if self._process is not None:
            code, report = self._end()
            if code:
                raise Died(f"it ended with {code}\n{report}")

    def _ask(self, what: int, a: int, b: int, data: bytes) -> None:
        if self._process is None:
            self._process = subprocess.Popen(
                [self._program],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                env={**os.environ, "ASAN_OPTIONS": "detect_stack_use_after_return=1"},
            )
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # found out when there is no answer
            self._process.stdin.write(_ASKED.pack(what, a, b, len(data)) + data)

    def _read(self, size: int) -> bytes:
        process = self._process
        assert process is not None
        assert process.stdout is not None
        parts, deadline = [], time.monotonic() + INPUT_S
        while size > 0:
            ready, _, _ = select.select([process.stdout], [], [], deadline - time.monotonic())
            part = process.stdout.read(size) if ready else b""
            if not part:
                if not ready:
                    process.kill()
                code, report = self._end()
                cause = f"it ended with {code}" if ready else f"no answer for {INPUT_S:g} s"
                raise Died(f"{cause}\n{report}")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _end(self) -> tuple[int, str]:
        """(exit status, what it complained of)."""
        assert self._process is not None
        process, self._process = self._process, None
        _, errors = process.communicate(timeout=INPUT_S)
        return process.returncode, "\n".join(errors.decode(errors="replace").splitlines()[:30])
