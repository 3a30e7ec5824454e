"""A sample slice of each file format, and what it computes."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "unit"))

A = np.linspace(-1, 1, 12, dtype=np.float32).reshape(1, 3, 4)
B = np.linspace(2, 3, 4, dtype=np.float32).reshape(1, 4)


def _onnx_sample(path: Path) -> None:
    """Inputs a (1, 3, 4), b (1, 4); outputs s = a + b (1, 3, 4), m = b * b (1, 4)."""
    onnx = pytest.importorskip("onnx", reason="needs onnx: pip install 'waistline[host]'")
    make = onnx.helper
    f32 = onnx.TensorProto.FLOAT
    graph = make.make_graph(
        [make.make_node("Add", ["a", "b"], ["s"]), make.make_node("Mul", ["b", "b"], ["m"])],
        "sample",
        [make.make_tensor_value_info("a", f32, [1, 3, 4]),
         make.make_tensor_value_info("b", f32, [1, 4])],
        [make.make_tensor_value_info("s", f32, [1, 3, 4]),
         make.make_tensor_value_info("m", f32, [1, 4])],
    )  # fmt: skip
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, path)


def _fake_sample(path: Path) -> None:
    from waistline.backends.fake import FakeModel, write_fake
    from waistline.tensors import TensorSpec

    a, b = TensorSpec("a", "float32", (1, 3, 4)), TensorSpec("b", "float32", (1, 4))
    s, m = TensorSpec("s", "float32", (1, 3, 4)), TensorSpec("m", "float32", (1, 4))
    write_fake(path, FakeModel((a, b), (s, m), function="noise"))


def _tflite_sample(path: Path) -> None:
    net, schema = tflite_net()
    a, b = net.input([1, 3, 4], "a"), net.input([1, 4], "b")
    s = net.op(
        schema.BuiltinOperator.ADD, [a, b], [net.tensor([1, 3, 4], "s")], schema.AddOptionsT()
    )
    m = net.op(schema.BuiltinOperator.MUL, [b, b], [net.tensor([1, 4], "m")], schema.MulOptionsT())
    path.write_bytes(net.finish(s, m))


def tflite_net(**options):
    pytest.importorskip(
        "ai_edge_litert", reason="needs the schema: pip install 'waistline[litert]'"
    )
    from ai_edge_litert import schema_py_generated as schema
    from tflite_help import Net

    return Net(**options), schema


def _blob_sample(path: Path) -> None:
    """Two lookups, of a and of b."""
    from waistline.blob.form import Activation, Int8Head, Lookup, Port
    from waistline.tensors import TensorSpec, WaistTensor
    from waistline_bridge.lower.assemble import assemble

    shapes = [A8.shape[1:], B8.shape[1:]] * 2
    tensors = tuple(Activation(f"t{k}", shape, 1.0, 0) for k, shape in enumerate(shapes))
    ports = [
        Port(k, TensorSpec(f"t{k}", "int8", (1, *tensor.shape), "NHWC", 3))
        for k, tensor in enumerate(tensors)
    ]
    layers = tuple(Lookup(f"t{k}", (k - 2,), k, ~CODES if k == 2 else CODES) for k in (2, 3))
    head = Int8Head(tensors, layers, tuple(ports[:2]), tuple(ports[2:]))
    waist = [WaistTensor(port.spec, "i8:b=4|ctx") for port in head.outputs]
    path.write_bytes(assemble(head, waist).data)


CODES = np.arange(-128, 128).astype(np.int8)
A8, B8 = (100 * A).astype(np.int8).reshape(1, 3, 4, 1), (40 * B).astype(np.int8).reshape(1, 1, 4, 1)
SAMPLES = {
    "onnx": _onnx_sample,
    "tflite": _tflite_sample,
    "fake": _fake_sample,
    "blob": _blob_sample,
}
GIVEN = {"blob": (A8, B8)}
"""Where the format's inputs are others than A and B."""
NAMELESS = {"blob"}
"""Formats that hold no names: callers give them, in the file's order."""
REFERENCE = {**{kind: (A + B, B * B) for kind in ("onnx", "tflite")}, "blob": (~A8, B8)}
