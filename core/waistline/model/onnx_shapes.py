"""Fixed shapes for every tensor of an ONNX model: binding symbolic axes, inference, specs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from waistline.errors import BundleError, ModelError
from waistline.model.onnx_macs import fixed_shape
from waistline.model.onnx_proto import element_type, onnx
from waistline.tensors import DTYPES, TensorSpec, check_spec

_LIGHT_ELEMENTS = 1024
"""Inference reads the values of small weights (shapes, axes, pads) and only the dims of others."""
_LIKELY_SIDE = 224
"""Pixels, where a model leaves height and width open: what most image networks were trained on."""
_FLOATS = frozenset({"FLOAT16", "FLOAT", "DOUBLE"})


def bind_shapes(
    graph: onnx.GraphProto,
    inputs: Iterable[onnx.ValueInfoProto],
    shapes: Mapping[str, tuple[int, ...]],
) -> None:
    """Fix the symbolic axes of the inputs, and of every tensor that shares their symbols.

    Args:
        graph: changed in place.
        inputs: its inputs that are not weights.
        shapes: shape by input name; outputs whose shape inference cannot find may be given too.

    Raises:
        ModelError: an axis is still symbolic (the fix gives the flag), a name that is no input, a
            shape that contradicts the file.
    """
    inputs = list(inputs)
    for value in (*inputs, *graph.output, *graph.value_info):
        _open_placeholders(value)
    values = {value.name: value for value in (*inputs, *graph.output)}
    bound: dict[str, int] = {}
    for name, shape in shapes.items():
        if name not in values:
            raise ModelError(
                f"--shape {name}: the model has no input of that name",
                cause=f"its inputs are {_listed(inputs)}",
                fix="name one of those, or leave --shape out",
            )
        bound.update(_bind(values[name], shape, inputs))
    for value in (*inputs, *graph.output, *graph.value_info):
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param in bound:
                axis.dim_value = bound[axis.dim_param]
    named = {value.name for value in inputs}
    outputs = [name for name in shapes if name not in named]
    for value in inputs:
        _refuse_symbolic(value, f"; {outputs[0]} is an output" if outputs else "")


def _open_placeholders(value: onnx.ValueInfoProto) -> None:
    """Some exporters write -1 or 0 for an axis of any size."""
    for axis in value.type.tensor_type.shape.dim:
        if axis.HasField("dim_value") and axis.dim_value < 1:
            axis.ClearField("dim_value")


def _bind(
    value: onnx.ValueInfoProto, shape: tuple[int, ...], inputs: Sequence[onnx.ValueInfoProto]
) -> dict[str, int]:
    """Write ``shape`` into ``value``; returns what its symbols stand for."""
    kind = value.type.tensor_type
    text = ",".join(map(str, shape))
    if any(axis < 1 for axis in shape):
        raise ModelError(f"--shape {value.name}={text}: every axis must be at least 1")
    if not kind.HasField("shape"):
        kind.shape.dim.extend(type(kind.shape).Dimension() for _ in shape)
    axes = kind.shape.dim
    if len(axes) != len(shape) or any(
        axis.HasField("dim_value") and axis.dim_value != size
        for axis, size in zip(axes, shape, strict=False)
    ):
        seen = f"the file says {value.name}={shape_text(value)}"
        if not any(value is item for item in inputs):
            seen += f", an output; the inputs are {_listed(inputs)}"
        raise ModelError(
            f"--shape {value.name}={text} contradicts the model",
            cause=seen,
            fix="keep the fixed axes and the number of axes",
        )
    symbols = {axis.dim_param: size for axis, size in zip(axes, shape, strict=True)}
    for axis, size in zip(axes, shape, strict=True):
        axis.dim_value = size
    symbols.pop("", None)
    return symbols


def _listed(values: Iterable[onnx.ValueInfoProto]) -> str:
    return ", ".join(f"{value.name}={shape_text(value)}" for value in values)


def _refuse_symbolic(value: onnx.ValueInfoProto, remark: str) -> None:
    if not value.type.HasField("tensor_type"):
        raise ModelError(
            f"input {value.name!r} is not a tensor",
            cause=f"it is a {value.type.WhichOneof('value') or 'value without a type'}",
            fix="export the model with plain tensor inputs",
        )
    if fixed_shape(value) is not None:
        return
    raise ModelError(
        f"input {value.name!r} has no fixed shape",
        cause=f"the file says {value.name}={shape_text(value)}{remark}",
        fix=f"add --shape {value.name}={_likely_shape(value)} (with the size you will send)",
    )


def _likely_shape(value: onnx.ValueInfoProto) -> str:
    """A shape to begin with: one of everything, but images of a usual size."""
    kind = value.type.tensor_type
    sizes = [axis.dim_value if axis.HasField("dim_value") else 0 for axis in kind.shape.dim]
    if not sizes:
        return f"1,3,{_LIKELY_SIDE},{_LIKELY_SIDE}"
    image = len(sizes) == 4 and element_type(kind.elem_type) in _FLOATS
    channels_last = image and sizes[3] in {1, 3, 4} and sizes[1] not in {1, 3, 4}
    sides = {1, 2} if channels_last else {2, 3} if image else set()
    channel = 3 if channels_last else 1
    guess = {axis: _LIKELY_SIDE for axis in sides} | ({channel: 3} if image else {})
    return ",".join(str(size or guess.get(axis, 1)) for axis, size in enumerate(sizes))


def shape_text(value: onnx.ValueInfoProto) -> str:
    """Shape as a user writes it, symbols and unknown axes included."""
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return "(unknown)"
    return ",".join(
        str(axis.dim_value) if axis.HasField("dim_value") else axis.dim_param or "?"
        for axis in kind.shape.dim
    )


def skeleton(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model without its heavy weights: each becomes a graph input of the same shape.

    Checking and inference copy a model through bytes; without this, VGG16 costs 0.5 GB each time
    and a model over 2 GB cannot be checked at all.
    """
    thin = onnx.ModelProto()
    for field, value in proto.ListFields():
        if field.name not in {"graph", "training_info"}:
            _set(thin, field, value)
    listed = {value.name for value in proto.graph.input}
    for field, value in proto.graph.ListFields():
        if field.name != "initializer":
            _set(thin.graph, field, value)
            continue
        for tensor in value:
            if math.prod(tensor.dims) <= _LIGHT_ELEMENTS:
                thin.graph.initializer.append(tensor)
            elif tensor.name not in listed:
                thin.graph.input.append(
                    onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
                )
    return thin


def _set(message: onnx.ModelProto, field: object, value: object) -> None:
    name = field.name  # type: ignore[attr-defined]
    target = getattr(message, name)
    if hasattr(target, "extend"):
        target.extend(value)
    elif hasattr(target, "CopyFrom"):
        target.CopyFrom(value)
    else:
        setattr(message, name, value)


def fold_shape_nodes(graph: onnx.GraphProto, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Replace Shape and Size of tensors of fixed shape by constants, in place.

    Exporters write chains of them for symbolic axes; once the axes are fixed they are constants,
    and would otherwise make every frontier carry a shape beside the data. Returns whether any was.
    """
    folded = False
    for node in graph.node:
        if node.op_type not in {"Shape", "Size"} or node.domain not in {"", "ai.onnx"}:
            continue
        shape = shapes.get(node.input[0])
        if shape is None:
            continue
        if node.op_type == "Shape":
            bounds = {item.name: item.i for item in node.attribute}
            axes = list(shape)[bounds.get("start", 0) : bounds.get("end", len(shape))]
            value = onnx.helper.make_tensor("", onnx.TensorProto.INT64, [len(axes)], axes)
        else:
            value = onnx.helper.make_tensor("", onnx.TensorProto.INT64, [], [math.prod(shape)])
        constant = onnx.helper.make_node("Constant", [], list(node.output), node.name, value=value)
        node.CopyFrom(constant)
        folded = True
    return folded


def spec_of(value: onnx.ValueInfoProto) -> TensorSpec | str:
    """What may cross a process about a tensor, or why it may not.

    ONNX has no layout; its convolutions work on NCHW, so a 4-D tensor of numbers is taken as that.
    """
    if not value.type.HasField("tensor_type"):
        return f"it is a {value.type.WhichOneof('value') or 'value of unknown type'}, not a tensor"
    code = value.type.tensor_type.elem_type
    dtype = element_type(code).lower()
    dtype = {"float": "float32", "double": "float64"}.get(dtype, dtype)
    if dtype not in DTYPES:
        return f"its element type is {dtype or code or 'unknown'}"
    shape = fixed_shape(value)
    if shape is None:
        return f"its shape depends on the data or on an operator unknown here: {shape_text(value)}"
    if len(shape) == 4 and dtype not in {"bool", "int64"}:
        spec = TensorSpec(value.name, dtype, shape, "NCHW", 1)
    else:
        spec = TensorSpec(value.name, dtype, shape, "NC" if len(shape) == 2 else "any")
    try:
        return check_spec(spec)
    except BundleError as error:
        return error.cause
