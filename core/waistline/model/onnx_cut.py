"""Cutting an ONNX model: the extractor, and writing a slice.

A slice holds what its outputs need, walked back to its inputs: nodes in the file's order, the
weights they or their If/Loop/Scan bodies read, the functions they call, all opset imports and
metadata. Weights are never listed as inputs (IR version 4 or later), which ONNX Runtime needs to
fold them. A tensor that crosses a slice unused, such as a graph input that only the tail reads, is
listed both as input and as output; no Identity node is added, because a name can be written only
once and the waist keeps the model's names. The ONNX checker and ONNX Runtime take such slices.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from waistline.errors import ModelError
from waistline.model.graph import Frontier
from waistline.model.onnx_graph import OnnxModel
from waistline.model.onnx_proto import EncodeError, bodies, called_by, functions_of, onnx
from waistline.model.sides import cut_sides, write_sides

INLINE_LIMIT_BYTES = (1 << 31) - (1 << 24)
"""Protobuf cannot store 2 GB or more in one message; the margin is for nodes and names."""

_LOOSE_BYTES = 1024
"""Smaller weights stay in the file even when the others go beside it."""


def cut_model(
    model: OnnxModel, frontier: Frontier
) -> tuple[onnx.ModelProto | None, onnx.ModelProto | None]:
    """Head and tail of a model. x = 1 has no head, x = N no tail; ordered as by `cut_sides`."""
    return cut_sides(model.graph, frontier, partial(extract, model))


def write_slices(
    model: OnnxModel, frontier: Frontier, folder: Path
) -> tuple[Path | None, Path | None]:
    """Head and tail as ``head.onnx`` and ``tail.onnx`` in ``folder``.

    Raises:
        ModelError: a slice cannot be cut or written, or is too large for one file.
    """
    return write_sides(cut_model(model, frontier), folder, ".onnx", _write)


def _write(proto: onnx.ModelProto, path: Path) -> None:
    if len(save(proto, path)) != 1:
        raise ModelError(
            f"the {path.stem} is too large for a bundle",
            cause="its weights are over 2 GB and would have to lie beside it",
            fix="choose a cut with fewer weights on that side",
        )


def extract(model: OnnxModel, inputs: Sequence[str], outputs: Sequence[str]) -> onnx.ModelProto:
    """The part of a model that computes ``outputs`` from ``inputs``.

    Args:
        model: the whole model.
        inputs: tensors the slice is given, all of them declared, used or not.
        outputs: tensors it must yield; one that is also an input is passed through.

    Raises:
        ModelError: the inputs do not suffice (names the graph input that would be needed and the
            node that needs it), or a name is unknown.
    """
    source, index = model.proto.graph, model.index
    nodes, weights = _needed(model, inputs, outputs)
    proto = onnx.ModelProto()
    for field in ("producer_name", "producer_version", "domain", "model_version", "doc_string"):
        setattr(proto, field, getattr(model.proto, field))
    proto.ir_version = max(model.proto.ir_version, 4)
    proto.opset_import.extend(model.proto.opset_import)
    proto.metadata_props.extend(model.proto.metadata_props)
    graph = proto.graph
    graph.name = source.name or model.graph.name
    graph.doc_string = source.doc_string
    graph.metadata_props.extend(source.metadata_props)
    graph.node.extend(source.node[k] for k in nodes)
    graph.initializer.extend(t for t in source.initializer if t.name in weights)
    graph.sparse_initializer.extend(
        t for t in source.sparse_initializer if t.values.name in weights
    )
    graph.input.extend(_declared(model, name) for name in inputs)
    graph.output.extend(_declared(model, name) for name in outputs)
    written = dict.fromkeys(name for node in graph.node for name in node.output if name)
    shown = [name for name in written if name in index.types and name not in set(outputs)]
    graph.value_info.extend(index.types[name] for name in shown)
    inside = weights.union(written, inputs)
    graph.quantization_annotation.extend(
        note for note in source.quantization_annotation if note.tensor_name in inside
    )
    proto.functions.extend(_called(model.proto, graph.node))
    return proto


def _needed(
    model: OnnxModel, inputs: Sequence[str], outputs: Sequence[str]
) -> tuple[list[int], set[str]]:
    """Indices of the nodes and names of the weights behind ``outputs``, stopping at ``inputs``."""
    index = model.index
    given = set(inputs)
    nodes: set[int] = set()
    weights: set[str] = set()
    waiting = [(name, "") for name in outputs if name not in given]
    while waiting:
        name, reader = waiting.pop()
        if name in index.weights:
            weights.add(name)
        elif name in index.producer:
            k = index.producer[name]
            if k in nodes:
                continue
            nodes.add(k)
            node = model.proto.graph.node[k]
            if both := given.intersection(node.output):
                raise _incomplete(model, name, reader, f"{both.pop()!r} comes from the same node")
            waiting += [(need, node.name) for need in index.reads[k] if need not in given]
        elif name in index.inputs:
            raise _incomplete(model, name, reader, "it is an input of the model")
        else:
            raise ModelError(
                f"{model.graph.name} has no tensor {name!r}",
                fix="waistline split MODEL --list shows the cuts",
            )
    return sorted(nodes), weights


def _incomplete(model: OnnxModel, name: str, reader: str, why: str) -> ModelError:
    by = f" by {reader!r}" if reader else ""
    return ModelError(
        f"the cut of {model.graph.name} is incomplete: it lacks {name!r}",
        cause=f"{name!r} is needed{by} and cannot be computed from the cut: {why}",
        fix=f"add {name} to the cut",
    )


def _declared(model: OnnxModel, name: str) -> onnx.ValueInfoProto:
    value = model.index.types.get(name)
    if value is not None and value.type.WhichOneof("value"):
        return value
    raise ModelError(
        f"cannot cut {model.graph.name} at {name!r}",
        cause="there is no such tensor, or its type is unknown",
        fix="choose another frontier (waistline split MODEL --list)",
    )


def _called(proto: onnx.ModelProto, nodes: Iterable[onnx.NodeProto]) -> list[onnx.FunctionProto]:
    """The local functions that nodes, their bodies or other called functions call."""
    functions = functions_of(proto)
    called: set[int] = set()
    waiting = list(nodes) if functions else []
    while waiting:
        node = waiting.pop()
        for body in bodies(node):
            waiting += body.node
        function = called_by(node, functions)
        if function is not None and id(function) not in called:
            called.add(id(function))
            waiting += function.node
    return [function for function in functions.values() if id(function) in called]


def save(
    proto: onnx.ModelProto, path: str | Path, *, inline_limit_bytes: int = INLINE_LIMIT_BYTES
) -> tuple[Path, ...]:
    """Write a slice and check what was written; equal slices give equal bytes.

    Weights go into the file while it stays below protobuf's limit, else beside it into
    ``<path>.data``, which must travel with it.

    Returns:
        The files written: one, or the model and its data file.

    Raises:
        ModelError: it cannot be written, or the checker refuses it.
    """
    path = Path(path)
    heavy = sum(_weight_bytes(tensor) for tensor in proto.graph.initializer) > inline_limit_bytes
    data_path = path.with_name(path.name + ".data")
    try:
        stored = _with_data_beside(proto, data_path) if heavy else proto
        path.write_bytes(stored.SerializeToString(deterministic=True))
    except (OSError, EncodeError) as error:
        raise ModelError(f"cannot write the slice {path}", cause=str(error)) from error
    # The type check of the full one wrongly takes a sparse initializer for a sparse tensor.
    full = not proto.graph.sparse_initializer
    try:
        onnx.checker.check_model(str(path), full_check=full)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ModelError(
            f"the slice {path.name} is not valid ONNX",
            cause=" ".join(str(error).split()),
            fix="choose another cut, and report this with the model",
        ) from error
    return (path, data_path) if heavy else (path,)


def _weight_bytes(tensor: onnx.TensorProto) -> int:
    """From type and shape: looking at the data would copy it."""
    itemsize = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return int(math.prod(tensor.dims) * itemsize)


def _with_data_beside(proto: onnx.ModelProto, data_path: Path) -> onnx.ModelProto:
    """A copy that refers to ``data_path``, where its heavy weights are written one by one."""
    light = onnx.ModelProto()
    weights = list(proto.graph.initializer)
    for field, value in proto.ListFields():
        if field.name != "graph":
            _copy(light, field.name, value)
    for field, value in proto.graph.ListFields():
        if field.name != "initializer":
            _copy(light.graph, field.name, value)
    with data_path.open("wb") as file:
        for tensor in weights:
            if _weight_bytes(tensor) < _LOOSE_BYTES:
                light.graph.initializer.append(tensor)
                continue
            data = tensor.raw_data or onnx.numpy_helper.to_array(tensor).tobytes()
            place = light.graph.initializer.add(
                name=tensor.name, data_type=tensor.data_type, dims=tensor.dims
            )
            place.data_location = onnx.TensorProto.EXTERNAL
            for key, text in (
                ("location", data_path.name),
                ("offset", str(file.tell())),
                ("length", str(len(data))),
            ):
                place.external_data.add(key=key, value=text)
            file.write(data)
    return light


def _copy(target: onnx.ModelProto, name: str, value: object) -> None:
    field = getattr(target, name)
    if hasattr(field, "extend"):
        field.extend(value)
    else:
        setattr(target, name, value)
