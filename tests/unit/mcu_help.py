"""Bundles for microcontrollers, of the Fashion example and of small models."""

from __future__ import annotations

from pathlib import Path

import model_help
import msgspec
import numpy as np

from waistline.bundle.schema import MANIFEST
from waistline.bundle.store import Bundle
from waistline.bundle.write import encode_manifest, stored_file
from waistline.model.load import load_model
from waistline.task.load import load_task
from waistline_bridge.lower.head import calibration_feeds
from waistline_bridge.lower.quantize import quantize_head

EXAMPLES = Path(__file__).parents[2] / "examples"
FASHION = EXAMPLES / "fashion"
TASK = FASHION / "task.toml"

_TWO = """
agraph (float[1,3,8,8] x, float[1,4] v) => (float[1,5] y) {
  a = Conv<pads=[1,1,1,1]>(x, w1)
  b = Relu(a)
  c = Conv<pads=[1,1,1,1]>(b, w2)
  d = Add(b, c)
  e = GlobalAveragePool(d)
  f = Flatten(e)
  g = Gemm(f, w3, b3)
  h = Add(g, v)
  y = Gemm(h, w4, b4)
}"""
RAW_TASK = """
kind = "tensors"
metric = "agreement"
[data.calibration]
kind = "npz"
path = "calibration.npz"
"""


def write_two_inputs(folder: Path) -> tuple[Path, Path]:
    """A float model of an image and a vector, whose task gives it both as they are."""
    random = np.random.default_rng(3)

    def some(*shape: int) -> np.ndarray:
        return (random.standard_normal(shape) / 3).astype(np.float32)

    weights = {"w1": some(6, 3, 3, 3), "w2": some(6, 6, 3, 3), "w3": some(6, 4), "b3": some(4)}
    proto = model_help.parse(_TWO, **weights, w4=some(4, 5), b4=some(5))
    np.savez(folder / "calibration.npz", x=some(12, 3, 8, 8), v=some(12, 4))
    task = folder / "task.toml"
    task.write_text(RAW_TASK)
    return model_help.stored(folder, proto, "two.onnx"), task


def write_qdq(folder: Path) -> Path:
    """The Fashion example in QDQ form."""
    task, model = load_task(TASK), load_model(FASHION / "model.onnx")
    inputs = model.graph.inputs
    frames = [f for k, f in enumerate(task.data("calibration", inputs)) if k % 8 == 0]
    path = folder / "fashion.qdq.onnx"
    quantize_head(FASHION / "model.onnx", calibration_feeds(frames, inputs, task.preprocess), path)
    return path


def reseal(bundle: Bundle, head: bytes | None = None, change=lambda tree: None) -> None:
    """Store another head, and a manifest that ``change`` was let at, with hashes that hold."""
    manifest = bundle.manifest
    if head is not None:
        assert bundle.head is not None
        name = bundle.head.file.name
        (bundle.path / name).write_bytes(head)
        stage = msgspec.structs.replace(bundle.head, file=stored_file(bundle.path, name))
        manifest = msgspec.structs.replace(manifest, stages=(stage, *manifest.stages[1:]))
    tree = msgspec.to_builtins(manifest)
    change(tree)
    manifest = msgspec.convert(tree, type(manifest))
    (bundle.path / MANIFEST).write_bytes(encode_manifest(manifest))
