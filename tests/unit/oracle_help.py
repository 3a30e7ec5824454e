"""Programs of others that ours are held against, each only ever run, in a Python of its own.

Their pins fit nothing else and ppk2-api is GPL, so they are never installed beside us: an
environment variable names a Python that has one, else it is the one that `make oracles` made.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

HOME = Path(__file__).resolve().parents[2] / ".oracles"
VARIABLES = {"tflite_micro": "WAISTLINE_TFLM_PYTHON", "ppk2_api": "WAISTLINE_PPK2_API_PYTHON"}


def python_with(module: str) -> str | None:
    """A Python that has ``module``, a key of `VARIABLES`; None: there is none."""
    if named := os.environ.get(VARIABLES[module]):
        return named
    there = any(HOME.glob(f"lib/python3*/site-packages/{module}/__init__.py"))
    return str(HOME / "bin/python") if there else None


def missing(module: str) -> str:
    """Why `python_with` found none, for people."""
    why = HOME / f"{module}.why"
    cause = why.read_text().strip() if why.exists() else "`make oracles` makes one"
    return f"no Python with {module}: {VARIABLES[module]} is not set, and {cause}"


_MICRO = """
import json, sys
import numpy as np
from tflite_micro.python.tflite_micro import runtime
read, write = sys.stdin.buffer.read, sys.stdout.buffer.write
while line := sys.stdin.buffer.readline():
    asked = json.loads(line)
    engine = runtime.Interpreter.from_bytes(read(asked["size"]), arena_size=1 << 24)
    for k, shape in enumerate(asked["shapes"]):
        engine.set_input(np.frombuffer(read(int(np.prod(shape))), np.int8).reshape(shape), k)
    engine.invoke()
    for k in range(asked["outputs"]):
        found = engine.get_output(k)
        write(np.uint32(found.size).tobytes() + found.tobytes())
    sys.stdout.flush()
"""


class Micro:
    """tflite-micro in a process of its own: (model, its int8 inputs) -> its outputs' codes."""

    def __init__(self) -> None:
        python = python_with("tflite_micro")
        assert python is not None, missing("tflite_micro")
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - for as long as the process
        self._process: subprocess.Popen[bytes] = subprocess.Popen(
            [python, "-c", _MICRO],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
        )

    def __call__(
        self, model: bytes, inputs: Sequence[np.ndarray], outputs: int = 1
    ) -> list[np.ndarray]:
        """``outputs`` flat int8 arrays."""
        shapes = [array.shape for array in inputs]
        head = json.dumps({"size": len(model), "shapes": shapes, "outputs": outputs}).encode()
        codes = [array.astype(np.int8).tobytes() for array in inputs]
        try:
            self._process.stdin.write(b"".join([head, b"\n", model, *codes]))
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None
        return [self._output() for _ in range(outputs)]

    def _output(self) -> np.ndarray:
        size = int.from_bytes(self._read(4), "little")
        return np.frombuffer(self._read(size), np.int8)

    def _read(self, size: int) -> bytes:
        data = self._process.stdout.read(size)
        if len(data) < size:
            raise self._ended()
        return data

    def _ended(self) -> AssertionError:
        status = self._process.wait()
        self._said.seek(0)
        said = self._said.read().decode(errors="replace")[-2000:]
        return AssertionError(f"tflite-micro ended with status {status}: {said}")

    def __enter__(self) -> Micro:
        return self

    def __exit__(self, *_: Any) -> None:
        self._process.communicate()
        self._said.close()
