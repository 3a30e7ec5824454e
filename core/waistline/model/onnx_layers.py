"""Layers of an ONNX graph, and who reads and writes what.

Constants are no layers and cross no cut: weights, and whatever is computed from weights alone, are
copied into the slice that reads them. Nodes without effect on an output are left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from waistline.model.graph import Layer
from waistline.model.onnx_macs import MacCounter, fixed_shape
from waistline.model.onnx_proto import (
    element_type,
    functions_of,
    is_random,
    onnx,
    reads,
    weights_of,
)

_NOT_WEIGHTS = frozenset({"INT64", "BOOL", "STRING"})
"""Element types of shapes, axes and masks: no parameters, as scalars (limits, scales) are none."""


@dataclass(frozen=True)
class GraphIndex:
    """Who reads and writes what, so that many cuts need one pass over the file.

    Attributes:
        reads: names each node needs, body captures included, in the order of the file.
        producer: tensor name to the index of its node.
        weights: initializers by name, dense and sparse.
        types: value infos of inputs, outputs and whatever inference knows.
        inputs: names of graph inputs that are not weights.
    """

    reads: tuple[tuple[str, ...], ...]
    producer: dict[str, int]
    weights: dict[str, onnx.TensorProto | onnx.SparseTensorProto]
    types: dict[str, onnx.ValueInfoProto]
    inputs: tuple[str, ...]


def index_of(proto: onnx.ModelProto) -> GraphIndex:
    graph = proto.graph
    weights = weights_of(graph)
    values = (*graph.value_info, *graph.output, *graph.input)
    return GraphIndex(
        reads=tuple(reads(node) for node in graph.node),
        producer={name: k for k, node in enumerate(graph.node) for name in node.output if name},
        weights=weights,
        types={value.name: value for value in values},
        inputs=tuple(value.name for value in graph.input if value.name not in weights),
    )


def layers_of(proto: onnx.ModelProto, index: GraphIndex) -> tuple[Layer, ...]:
    graph = proto.graph
    functions = functions_of(proto)
    constants = set(index.weights)
    for node, needs in zip(graph.node, index.reads, strict=True):
        if all(name in constants for name in needs) and not is_random(node, functions):
            constants.update(node.output)
    wanted = {value.name for value in graph.output}
    kept: list[int] = []
    for k in reversed(range(len(graph.node))):
        outputs = graph.node[k].output
        if not constants.issuperset(filter(None, outputs)) and wanted.intersection(outputs):
            kept.append(k)
            wanted.update(index.reads[k])
    counter = _mac_counter(proto, index)
    owners: set[str] = set()
    layers = []
    for k in reversed(kept):
        node, needs = graph.node[k], index.reads[k]
        weights = _weights_behind(index, graph, [n for n in needs if n in constants], owners)
        layers.append(
            Layer(
                index=k,
                name=node.name,
                operator=f"{node.domain}.{node.op_type}" if node.domain else node.op_type,
                inputs=tuple(name for name in needs if name not in constants),
                outputs=tuple(filter(None, node.output)),
                macs=counter.count(node),
                parameters=sum(elements for elements, _ in weights),
                parameter_bytes=sum(size for _, size in weights),
            )
        )
    return tuple(layers)


def _mac_counter(proto: onnx.ModelProto, index: GraphIndex) -> MacCounter:
    shapes = {name: tuple(_dense(tensor).dims) for name, tensor in index.weights.items()}
    types = {name: _dense(tensor).data_type for name, tensor in index.weights.items()}
    for name, value in index.types.items():
        shape = fixed_shape(value)
        types[name] = value.type.tensor_type.elem_type
        if shape is not None:
            shapes[name] = shape
    return MacCounter(shapes, functions_of(proto), proto, types)


def _dense(weight: onnx.TensorProto | onnx.SparseTensorProto) -> onnx.TensorProto:
    return weight.values if isinstance(weight, onnx.SparseTensorProto) else weight


def _weights_behind(
    index: GraphIndex, graph: onnx.GraphProto, names: Sequence[str], owners: set[str]
) -> list[tuple[int, int]]:
    """(elements, bytes) of the weights a layer is the first to read, through constant nodes."""
    found = []
    waiting = [name for name in names if name not in owners]
    while waiting:
        name = waiting.pop()
        if name in owners:
            continue
        owners.add(name)
        if name in index.weights:
            tensor = _dense(index.weights[name])
            found.append(_size(tensor.data_type, tensor.dims))
            continue
        node = graph.node[index.producer[name]]
        value = index.types.get(name)
        if node.op_type in {"Constant", "ConstantOfShape"} and value is not None:
            found.append(_size(value.type.tensor_type.elem_type, fixed_shape(value) or ()))
        waiting += index.reads[index.producer[name]]
    return found


def _size(data_type: int, shape: Sequence[int]) -> tuple[int, int]:
    name = element_type(data_type)
    if not name or name in _NOT_WEIGHTS or not shape:
        return 0, 0
    elements = math.prod(shape)
    bits = 4 if name in {"INT4", "UINT4", "FLOAT4E2M1"} else 0
    bits = bits or onnx.helper.tensor_dtype_to_np_dtype(data_type).itemsize * 8
    return elements, (elements * bits + 7) // 8
