"""The onnx package's light models with random weights.

They are full graphs of nine published networks whose weights are constants, so that a wrong cut
changes nothing in their answers. Here each weight gets random values that suit its operator.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from graphs_net import IR_VERSION, rescale
from onnx import numpy_helper


def light_files() -> dict[str, Path]:
    """The onnx package's light models: full graphs whose weights are constants."""
    folder = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    return {path.stem: path for path in sorted(folder.glob("*.onnx"))}


def reweighted(name: str) -> onnx.ModelProto:
    """A light model with random weights in place of its ConstantOfShape nodes."""
    model = onnx.load(light_files()[name])
    graph = model.graph
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    weights = {tensor.name: tensor for tensor in graph.initializer}
    shapes = {t.name: tuple(t.dims) for t in graph.initializer if t.data_type == t.FLOAT}
    kept = []
    for node in graph.node:
        if node.op_type == "ConstantOfShape":
            shape = numpy_helper.to_array(weights.pop(node.input[0]))
            shapes[node.output[0]] = tuple(int(axis) for axis in shape)
        else:
            kept.append(node)
    for tensor, shape in shapes.items():
        values = _weights_for(tensor, shape, kept, rng)
        weights[tensor] = numpy_helper.from_array(values, tensor)
    real = [value for value in graph.input if value.name not in {t.name for t in graph.initializer}]
    for field, items in (("node", kept), ("initializer", weights.values()), ("input", real)):
        items = list(items)
        graph.ClearField(field)
        getattr(graph, field).extend(items)
    model.ir_version = IR_VERSION
    return rescale(model, [logits_of(model)])


def _weights_for(
    name: str, shape: tuple[int, ...], nodes: Sequence[onnx.NodeProto], rng: np.random.Generator
) -> np.ndarray:
    """Random values that suit the operator which reads the weight."""
    node = next((node for node in nodes if name in node.input), None)
    if node is None:
        return np.zeros(shape, np.float32)
    place = list(node.input).index(name)
    if node.op_type in {"Unsqueeze", "Reshape"}:
        return _weights_for(node.output[0], shape, nodes, rng)
    if node.op_type in {"Conv", "Gemm"} and place == 1:
        rows = any(item.name == "transB" and item.i for item in node.attribute)
        fan_in = math.prod(shape[1:]) if node.op_type == "Conv" else shape[-1 if rows else -2]
        values = rng.standard_normal(shape, dtype=np.float32)
        values *= np.float32(math.sqrt(2 / fan_in))
        return values
    if node.op_type == "Mul" or (node.op_type == "BatchNormalization" and place in {1, 4}):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    return (rng.standard_normal(shape) * 0.1).astype(np.float32)


def logits_of(model: onnx.ModelProto) -> str:
    """The first output, or what its softmax reads."""
    output = model.graph.output[0].name
    node = next(node for node in model.graph.node if output in node.output)
    return str(node.input[0] if node.op_type == "Softmax" else output)
