"""What the ONNX modules share: onnx itself, and which tensors a node needs from outside.

`onnx` is imported here, so that a machine without it is told which extra brings it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from waistline.plugins import missing_extra

try:
    import onnx as onnx
    import onnx.inliner
    from google.protobuf.message import DecodeError as DecodeError  # type: ignore[import-untyped]
    from google.protobuf.message import EncodeError as EncodeError
except ModuleNotFoundError as error:
    if error.name != "onnx":
        raise
    raise missing_extra("onnx", needed_by="cutting a model") from error

_RANDOM = frozenset(
    {
        "RandomNormal",
        "RandomUniform",
        "RandomNormalLike",
        "RandomUniformLike",
        "Multinomial",
        "Bernoulli",
    }
)
_TRAINING_MODE_INPUT = 2
"""Dropout (opset 12 on) drops at random only when it is given this input."""

Functions = dict[tuple[str, str, str], "onnx.FunctionProto"]


def element_type(code: int) -> str:
    """ONNX's name of an element type, such as ``FLOAT``; "" for 0 and unknown codes."""
    types = onnx.TensorProto.DataType
    return str(types.Name(code)) if code and code in types.values() else ""


def garbled_text(message: Any) -> str:
    """The first text in a message that is no UTF-8, "" if all is; the parser lets them through."""
    for field, value in message.ListFields():
        if field.type not in {field.TYPE_STRING, field.TYPE_MESSAGE}:
            continue
        items = [value] if isinstance(value, str | bytes) or hasattr(value, "ListFields") else value
        for item in items:
            if isinstance(item, bytes):
                return f"{field.name} {item[:40]!r}"
            if not isinstance(item, str) and (found := garbled_text(item)):
                return found
    return ""


def functions_of(proto: onnx.ModelProto) -> Functions:
    """The model's local functions by (domain, name, overload)."""
    return {(f.domain, f.name, f.overload): f for f in proto.functions}


def called_by(node: onnx.NodeProto, functions: Functions) -> onnx.FunctionProto | None:
    """The local function a node calls; None for an operator."""
    return functions.get((node.domain, node.op_type, node.overload))


def reads(node: onnx.NodeProto) -> tuple[str, ...]:
    """Names a node needs: its inputs, then the outer names its If/Loop/Scan bodies capture."""
    names = dict.fromkeys(name for name in node.input if name)
    for body in bodies(node):
        names.update(dict.fromkeys(captured(body)))
    return tuple(names)


def bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Graphs held by a node's attributes."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def captured(body: onnx.GraphProto) -> list[str]:
    """Names from outside that a body uses, weights included; bodies inside it are followed."""
    own = {value.name for value in body.input}
    own.update(weights_of(body))
    names: dict[str, None] = {}
    for node in body.node:
        names.update(dict.fromkeys(name for name in reads(node) if name not in own))
        own.update(node.output)
    names.update(dict.fromkeys(v.name for v in body.output if v.name not in own))
    return list(names)


def weights_of(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto | onnx.SparseTensorProto]:
    """Initializers of a graph by name, dense and sparse."""
    weights = {tensor.name: tensor for tensor in graph.initializer}
    weights.update({sparse.values.name: sparse for sparse in graph.sparse_initializer})
    return weights


def is_random(node: onnx.NodeProto, functions: Functions) -> bool:
    """Whether two runs of a node on the same inputs may differ; its bodies are looked into."""
    if node.domain in {"", "ai.onnx"}:
        if node.op_type in _RANDOM:
            return True
        if node.op_type == "Dropout" and len(node.input) > _TRAINING_MODE_INPUT:
            return bool(node.input[_TRAINING_MODE_INPUT])
    inner: list[Iterable[onnx.NodeProto]] = [body.node for body in bodies(node)]
    function = called_by(node, functions)
    if function is not None:
        inner.append(function.node)
    return any(is_random(child, functions) for nodes in inner for child in nodes)
