"""The command line as a user runs it, and a tiny network of one's own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

TIMEOUT_S = 240.0


def cli(
    *arguments: str | Path, cwd: Path, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """``waistline ...`` as a process of its own; it must not hang and never show a traceback."""
    command = [sys.executable, "-m", "waistline_hostctl", *map(str, arguments)]
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True,
        timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done


def start(*arguments: str | Path, cwd: Path) -> subprocess.Popen[str]:
    """The same, left running; end it with `interrupt`."""
    command = [sys.executable, "-m", "waistline_hostctl", *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def interrupt(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> tuple[int, str, str]:
    """Exit code, stdout and stderr after a signal."""
    process.send_signal(number)
    try:
        out, err = process.communicate(timeout=TIMEOUT_S)
    finally:
        process.kill()
    return process.returncode, out, err


def result(done: subprocess.CompletedProcess[str], kind: type[Any]) -> Any:
    """The one object on stdout, checked field by field."""
    strict = msgspec.defstruct(
        f"Strict{kind.__name__}", [], bases=(kind,), forbid_unknown_fields=True, frozen=True,
        kw_only=True, tag=kind.__struct_config__.tag, tag_field="command",
    )  # fmt: skip
    return msgspec.json.decode(done.stdout, type=strict, strict=True)


def working_in(folder: Path) -> Iterator[int]:
    """Processes whose working directory it is."""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (entry / "cwd").readlink() == folder:
                yield int(entry.name)


def tiny_model(path: Path, *, batch: int | str = 1) -> Path:
    """conv - relu - conv - relu - flatten - dense on 1 x 8 x 8; seeded weights, 4 logits."""
    rng = np.random.default_rng(3)

    def weights(name: str, *shape: int) -> onnx.TensorProto:
        values = rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))
        return numpy_helper.from_array(values.astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["conv1"], "conv1", pads=[1] * 4),
        helper.make_node("Relu", ["conv1"], ["relu1"], "relu1"),
        helper.make_node("Conv", ["relu1", "w2"], ["conv2"], "conv2", strides=[2, 2]),
        helper.make_node("Relu", ["conv2"], ["relu2"], "relu2"),
        helper.make_node("Flatten", ["relu2"], ["flat"], "flat"),
        helper.make_node("Gemm", ["flat", "w3"], ["logits"], "logits", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, 4])],
        [weights("w1", 4, 1, 3, 3), weights("w2", 4, 4, 2, 2), weights("w3", 4, 64)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path


def tiny_frames(path: Path, count: int) -> Path:
    """Model inputs, float32 (N, 1, 8, 8), with labels."""
    rng = np.random.default_rng(4)
    images = rng.random((count, 1, 8, 8), dtype=np.float32)
    np.savez(path, images=images, labels=np.arange(count) % 4, allow_pickle=False)
    return path
