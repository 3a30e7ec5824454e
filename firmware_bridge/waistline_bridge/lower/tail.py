"""The float ONNX tail behind an int8 head: it takes the waist as the firmware sends it.

In front of each waist tensor, NHWC int8, come a Transpose to NCHW and a DequantizeLinear, so that
the edge runs the tail as it runs any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from waistline.errors import ModelError
from waistline.model.onnx_proto import onnx
from waistline.tensors import TensorSpec

_TO_NCHW = (0, 3, 1, 2)
_SCALED_SINCE = 10
"""Opset that brought DequantizeLinear."""


def write_int8_tail(tail: Path, waist: Sequence[TensorSpec], out: Path) -> None:
    """Write ``out``: the ONNX tail ``tail`` with the int8 tensors ``waist`` for its inputs.

    Args:
        tail: a tail whose inputs have the names of the waist's tensors, float32 or int8.
        waist: as the ports of an `Int8Head` say them, int8 with a scale.
        out: the file to write; weights stored beside ``tail`` go into it.

    Raises:
        ModelError: the tail does not take these tensors, or its opset is before 10.
    """
    proto = onnx.load(str(tail))
    graph = proto.graph
    opset = next((item.version for item in proto.opset_import if item.domain in ("", "ai.onnx")), 0)
    inputs = {value.name: value for value in graph.input}
    if opset < _SCALED_SINCE:
        raise _unfit(tail, f"its opset is {opset}, DequantizeLinear came with {_SCALED_SINCE}")
    nodes = []
    for spec in waist:
        if spec.name not in inputs:
            raise _unfit(tail, f"it has no input {spec.name!r}")
        if spec.dtype != "int8" or spec.scale is None:
            raise _unfit(tail, f"{spec.name!r} is not int8 with a scale")
        if _dims(inputs[spec.name]) != _float_shape(spec):
            raise _unfit(
                tail, f"{spec.name!r} is {spec.shape}, it takes {_dims(inputs[spec.name])}"
            )
        nodes += _opened(graph, spec, inputs[spec.name])
    for node in reversed(nodes):
        graph.node.insert(0, node)
    onnx.checker.check_model(proto)
    onnx.save(proto, str(out))


def _opened(graph: onnx.GraphProto, spec: TensorSpec, value: onnx.ValueInfoProto) -> list[object]:
    """Make the input int8; the nodes that make of it what the tail reads, by a name of its own.

    That is float, or int8 in NCHW where the model itself was cut behind a QuantizeLinear.
    """
    own = spec.name
    integer = value.type.tensor_type.elem_type == onnx.TensorProto.INT8
    if integer and spec.layout != "NHWC":
        return []
    plain = f"{own}:nchw"
    real = plain if integer else f"{own}:float"
    for node in graph.node:
        for k, name in enumerate(node.input):
            if name == own:
                node.input[k] = real
    made = onnx.helper.make_tensor_value_info(own, onnx.TensorProto.INT8, list(spec.shape))
    value.CopyFrom(made)
    for output in graph.output:
        if output.name == own:  # an answer that the head made already goes through as it is
            output.CopyFrom(made)
    nodes = []
    if spec.layout == "NHWC":
        turn = onnx.helper.make_node("Transpose", [own], [plain], plain, perm=_TO_NCHW)
        nodes.append(turn)
    if integer:
        return nodes
    constants = {
        f"{own}:scale": np.float32(spec.scale),
        f"{own}:zero": np.int8(spec.zero_point or 0),
    }
    for name, number in constants.items():
        graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(number), name))
    given = plain if nodes else own
    nodes.append(onnx.helper.make_node("DequantizeLinear", [given, *constants], [real], real))
    return nodes


def _float_shape(spec: TensorSpec) -> tuple[int, ...]:
    if spec.layout != "NHWC":
        return spec.shape
    return tuple(spec.shape[axis] for axis in _TO_NCHW)


def _dims(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    return tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)


def _unfit(tail: Path, cause: str) -> ModelError:
    return ModelError(
        f"{tail.name} cannot take an int8 waist", cause=cause, fix="split the model again"
    )
