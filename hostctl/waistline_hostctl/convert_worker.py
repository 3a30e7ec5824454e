"""Runs inside the tool environment ``tflite``, never imported: ONNX to .tflite by onnx2tf.

    python convert_worker.py REQUEST.json

The request names the ONNX file, the folder to work in, and for an int8 model an ``.npz`` of
calibration inputs (one array an input, first axis the samples, axes as in the ONNX model). Writes
``float.tflite``, and ``int8.tflite`` with 8-bit inputs and outputs and weights per channel. Lines
on standard output that begin with ``@`` are for the caller. Nothing here uses the network: sockets
are refused before anything else is imported.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

_SAMPLE_FILE = "calibration_image_sample_data_20x128x128x3_float32.npy"
"""onnx2tf fetches this from the network for models of RGB images unless it lies here."""
_CHANNELS_LAST = {3: (0, 2, 1), 4: (0, 2, 3, 1), 5: (0, 2, 3, 4, 1)}
"""How onnx2tf turns inputs of each rank."""


def tell(kind: str, text: str) -> None:
    print(f"@{kind} {text}", flush=True)


def stay_offline() -> None:
    """Have every socket to another machine fail at once."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError("the converter works without the network")

    for name in ("connect", "connect_ex"):
        setattr(socket.socket, name, refuse)
    for name in ("create_connection", "getaddrinfo"):
        setattr(socket, name, refuse)


def to_saved_model(onnx_file: Path, folder: Path) -> str:
    """Convert a copy (onnx2tf rewrites the file it is given); returns the folder."""
    copied = folder / "copy.onnx"
    shutil.copyfile(onnx_file, copied)
    sample = np.random.default_rng(0).random((20, 128, 128, 3), np.float32)
    np.save(folder / _SAMPLE_FILE, sample)
    os.chdir(folder)
    out = str(folder / "saved_model")
    import_module("onnx2tf").convert(
        input_onnx_file_path=str(copied),
        output_folder_path=out,
        output_signaturedefs=True,
        non_verbose=True,
    )
    return out


def samples_of(file: Path) -> Callable[[], Iterator[dict[str, Any]]]:
    """The calibration inputs as TensorFlow wants them, one at a time, by input name."""
    arrays = dict(np.load(file, allow_pickle=False))

    def feed() -> Iterator[dict[str, Any]]:
        for k in range(len(next(iter(arrays.values())))):
            yield {name: _turned(array[k : k + 1]) for name, array in arrays.items()}

    return feed


def _turned(sample: Any) -> Any:
    order = _CHANNELS_LAST.get(sample.ndim)
    return sample if order is None else np.ascontiguousarray(sample.transpose(order))


def to_tflite(saved_model: str, samples: Path | None) -> bytes:
    """Float without samples, else int8 throughout."""
    tensorflow = import_module("tensorflow")
    converter = tensorflow.lite.TFLiteConverter.from_saved_model(saved_model)
    if samples is not None:
        converter.optimizations = [tensorflow.lite.Optimize.DEFAULT]
        converter.representative_dataset = samples_of(samples)
        converter.target_spec.supported_ops = [tensorflow.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tensorflow.int8
        converter.inference_output_type = tensorflow.int8
    return bytes(converter.convert())


def main() -> int:
    stay_offline()
    request = json.loads(Path(sys.argv[1]).read_text())
    folder = Path(request["folder"])
    samples = Path(request["samples"]) if request["samples"] else None
    try:
        tell("step", "reading the graph")
        saved_model = to_saved_model(Path(request["model"]), folder)
        tell("step", "writing the float model")
        (folder / "float.tflite").write_bytes(to_tflite(saved_model, None))
        if samples is not None:
            tell("step", "calibrating and quantizing")
            (folder / "int8.tflite").write_bytes(to_tflite(saved_model, samples))
    except ModuleNotFoundError as error:
        name = error.name or ""
        if not name.startswith("onnx2tf.ops."):
            raise
        tell("unsupported", name.removeprefix("onnx2tf.ops."))
        return 1
    except SystemExit:
        tell("failed", "onnx2tf gave up")
        return 1
    except Exception as error:
        tell("failed", " ".join(f"{type(error).__name__}: {error}".split())[:500])
        raise
    tell("done", "")
    return 0


if __name__ == "__main__":
    sys.exit(main())
