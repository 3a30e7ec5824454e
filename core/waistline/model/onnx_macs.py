"""Multiply-accumulates of an ONNX node, from shapes alone.

Counted: convolutions, matrix products, recurrent cells and attention, quantized forms included.
Element-wise operators, pooling and normalisation count 0, as in the published figures of the usual
networks. An If counts its dearer branch, a Scan its body once a step, a Loop its body once a step
where the trip count is constant and once otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from waistline.model.onnx_proto import Functions, bodies, called_by, onnx

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]
"""Fixed shapes by tensor name; tensors of unknown shape are absent."""

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


class MacCounter:
    """Counts the MACs of nodes; calls of model-local functions are inlined and remembered.

    Args:
        shapes: of the main graph's tensors, weights included.
        functions: the model's local functions.
        proto: where opset imports and element types are taken from; weights are not read.
        types: element type of each tensor, for inlining functions.
    """

    def __init__(
        self,
        shapes: Shapes,
        functions: Functions,
        proto: onnx.ModelProto,
        types: Mapping[str, int],
    ) -> None:
        self._shapes = shapes
        self._functions = functions
        self._proto = proto
        self._types = types

    def count(self, node: onnx.NodeProto) -> int:
        """MACs of one run of a node of the main graph; 0 when a shape it needs is unknown."""
        return self._count(node, self._shapes)

    def _count(self, node: onnx.NodeProto, shapes: Shapes) -> int:
        if called_by(node, self._functions) is not None:
            return self._function(node, shapes)
        if node.op_type in {"If", "Loop", "Scan"}:
            return self._control_flow(node, shapes)
        prefix = "" if node.domain in {"", "ai.onnx"} else f"{node.domain}."
        rule = _RULES.get(prefix + node.op_type)
        try:
            return rule(node, shapes) if rule else 0
        except (KeyError, IndexError, ValueError):  # a shape is unknown, or of a rank not meant
            return 0

    def _control_flow(self, node: onnx.NodeProto, shapes: Shapes) -> int:
        costs = []
        for body in bodies(node):
            inner = dict(shapes)
            inner.update(_shapes_in(body))
            costs.append(sum(self._count(child, inner) for child in body.node))
        if node.op_type == "Scan":
            scanned = _attribute(node, "num_scan_inputs", 1)
            length = shapes.get(node.input[-scanned], (1,))
            axis = next(iter(_attribute(node, "scan_input_axes", [0])), 0)
            return max(costs) * (length[axis] if length else 1)
        if node.op_type == "Loop":
            return max(costs) * self._trip_count(node)
        return max(costs)

    def _trip_count(self, node: onnx.NodeProto) -> int:
        graph = self._proto.graph
        for tensor in graph.initializer:
            if tensor.name == node.input[0]:
                return int(onnx.numpy_helper.to_array(tensor).reshape(-1)[0])
        for constant in graph.node:
            if constant.op_type == "Constant" and constant.output[0] == node.input[0]:
                value = _attribute(constant, "value_int", None)
                value = _attribute(constant, "value", value)
                if isinstance(value, onnx.TensorProto):
                    value = onnx.numpy_helper.to_array(value).reshape(-1)[0]
                return 1 if value is None else int(value)
        return 1

    def _function(self, node: onnx.NodeProto, shapes: Shapes) -> int:
        """Inline the call in a model of its own, infer its shapes, and count what is inside."""
        make = onnx.helper.make_tensor_value_info
        call = onnx.ModelProto(ir_version=max(self._proto.ir_version, 8))
        call.opset_import.extend(self._proto.opset_import)
        call.functions.extend(self._functions.values())
        call.graph.name = "call"
        call.graph.node.append(node)
        for name in dict.fromkeys(filter(None, node.input)):
            call.graph.input.append(make(name, self._types.get(name, 1), shapes.get(name)))
        call.graph.output.extend(onnx.ValueInfoProto(name=name) for name in node.output if name)
        try:
            flat = onnx.inliner.inline_local_functions(call)
            flat = onnx.shape_inference.infer_shapes(flat, data_prop=True)
        except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
            return 0
        inner = _shapes_in(flat.graph)
        plain = MacCounter(inner, {}, flat, {})
        return sum(plain.count(child) for child in flat.graph.node)


def fixed_shape(value: onnx.ValueInfoProto) -> Shape | None:
    """Shape of a tensor value, None when any axis is symbolic or unknown."""
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not kind.HasField("shape"):
        return None
    axes = kind.shape.dim
    if not all(axis.HasField("dim_value") for axis in axes):
        return None
    return tuple(axis.dim_value for axis in axes)


def _shapes_in(graph: onnx.GraphProto) -> dict[str, Shape]:
    shapes = {t.name: tuple(t.dims) for t in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        shape = fixed_shape(value)
        if shape is not None:
            shapes[value.name] = shape
    return shapes


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    for attribute in node.attribute:
        if attribute.name == name:
            return onnx.helper.get_attribute_value(attribute)
    return default


def _conv(weight_at: int) -> Callable[[onnx.NodeProto, Shapes], int]:
    """Each output element takes one dot product over (channels of a group) x kernel."""

    def rule(node: onnx.NodeProto, shapes: Shapes) -> int:
        return math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[weight_at]][1:])

    return rule


def _conv_transpose(node: onnx.NodeProto, shapes: Shapes) -> int:
    """Each input element is spread over (output channels of a group) x kernel."""
    return math.prod(shapes[node.input[0]]) * math.prod(shapes[node.input[1]][1:])


def _gemm(node: onnx.NodeProto, shapes: Shapes) -> int:
    inner = shapes[node.input[0]][0 if _attribute(node, "transA", 0) else 1]
    return math.prod(shapes[node.output[0]]) * inner


def _matmul(node: onnx.NodeProto, shapes: Shapes) -> int:
    return math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]


def _recurrent(node: onnx.NodeProto, shapes: Shapes) -> int:
    """X (steps, batch, features), R (directions, gates x hidden, hidden)."""
    steps, batch, features = shapes[node.input[0]]
    directions, _, hidden = shapes[node.input[2]]
    per_step = _GATES[node.op_type] * hidden * (features + hidden)
    return steps * batch * directions * per_step


def _einsum(node: onnx.NodeProto, shapes: Shapes) -> int:
    """One product for each assignment of the index letters; 0 with an ellipsis."""
    terms = _attribute(node, "equation", b"").decode().replace(" ", "").partition("->")[0]
    length: dict[str, int] = {}
    if len(node.input) < 2 or "." in terms:
        return 0
    for term, name in zip(terms.split(","), node.input, strict=True):
        length.update(zip(term, shapes[name], strict=True))
    return math.prod(length.values())


def _attention(node: onnx.NodeProto, shapes: Shapes) -> int:
    """Scores and weighted sum: queries x keys x (key width + value width), over all heads.

    ONNX Attention (opset 23): Q, K, V are (batch, heads, length, width) or (batch, length, width).
    """
    query, key, value = (shapes[name] for name in node.input[:3])
    rows = math.prod(query[:-1])  # heads and batch included in 4-D, batch in 3-D
    return rows * key[-2] * (query[-1] + value[-1] * (query[-1] // key[-1] or 1))


_RULES: dict[str, Callable[[onnx.NodeProto, Shapes], int]] = {
    "Conv": _conv(1),
    "com.microsoft.FusedConv": _conv(1),
    "ConvInteger": _conv(1),
    "QLinearConv": _conv(3),
    "DeformConv": _conv(1),
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "com.microsoft.QGemm": _gemm,
    "MatMul": _matmul,
    "com.microsoft.FusedGemm": _gemm,
    "MatMulInteger": _matmul,
    "QLinearMatMul": _matmul,
    "LSTM": _recurrent,
    "GRU": _recurrent,
    "RNN": _recurrent,
    "Einsum": _einsum,
    "Attention": _attention,
}
