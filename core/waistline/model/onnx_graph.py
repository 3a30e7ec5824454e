"""Reading an ONNX file: checked, named, with fixed shapes, as layers and frontiers.

Constants are no layers and cross no cut: weights, and whatever is computed from weights alone, are
copied into the slice that reads them. Nodes without effect on an output are left out.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.message import DecodeError

from waistline.errors import ModelError
from waistline.model.frontiers import list_frontiers
from waistline.model.graph import Layer, ModelGraph
from waistline.model.onnx_macs import MacCounter, fixed_shape
from waistline.model.onnx_proto import functions_of, is_random, onnx, reads, weights_of
from waistline.model.onnx_shapes import bind_shapes, fold_shape_nodes, skeleton, spec_of
from waistline.tensors import TensorSpec

_MAGIC = (
    (0, b"PK\x03\x04", "a zip archive, as PyTorch and Keras write; export it to ONNX"),
    (0, b"\x80\x02", "a pickle, as old PyTorch writes; export it to ONNX"),
    (0, b"\x89HDF", "an HDF5 file, as Keras writes; convert it with tf2onnx"),
    (4, b"TFL3", "a TFLite model; give the ONNX model it was made from"),
    (0, b"version https://git-lfs", "a Git LFS pointer; run git lfs pull"),
)
_NOT_WEIGHTS = frozenset({"INT64", "BOOL", "STRING"})
"""Element types of shapes, axes and masks; never counted as parameters."""


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


@dataclass(frozen=True)
class OnnxModel:
    """A model ready to cut.

    Attributes:
        graph: layers and frontiers.
        proto: the model, nodes named, shapes bound; do not change it.
        path: where it came from.
        index: of ``proto``.
    """

    graph: ModelGraph
    proto: onnx.ModelProto
    path: Path
    index: GraphIndex


def load_model(path: str | Path, shapes: Mapping[str, tuple[int, ...]] | None = None) -> OnnxModel:
    """Read and check a model.

    Args:
        path: an ``.onnx`` file; weights stored beside it are read too.
        shapes: shape by input name, for inputs with symbolic axes.

    Raises:
        ModelError: missing, not ONNX, damaged, too new, not sorted, or without fixed shapes.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"cannot read the model {path}",
            cause=error.strerror or str(error),
            fix="check the path",
        ) from error
    sha256 = hashlib.sha256(data).hexdigest()
    proto = _parse(data, path)
    del data
    _check_versions(proto, path)
    try:
        onnx.external_data_helper.load_external_data_for_model(proto, str(path.parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise ModelError(
            f"the weights of {path.name} that are stored beside it cannot be read",
            cause=_first_line(error),
            fix="copy the data file next to the model, or export it again",
        ) from error
    return from_proto(proto, path, sha256=sha256, shapes=shapes)


def from_proto(
    proto: onnx.ModelProto,
    path: Path,
    *,
    sha256: str = "",
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> OnnxModel:
    """As `load_model`, from a model in memory, which is changed in place and kept.

    Args:
        proto: complete; heavy weights may lack their data (only dims and type are read).
        path: gives the model its name.
        sha256: of the file, where there is one.
        shapes: as for `load_model`.
    """
    _check_versions(proto, path)
    _name_nodes(proto.graph)
    names = weights_of(proto.graph)
    bind_shapes(proto.graph, [v for v in proto.graph.input if v.name not in names], shapes or {})
    _check(proto, path)
    _infer(proto, path)
    index = _index(proto)
    specs, unsized = _specs(index, proto.graph)
    layers = _layers(proto, index)
    if not layers:
        raise ModelError(f"{path.name} computes nothing from its inputs", fix="give another model")
    inputs = [specs[name] for name in index.inputs]
    outputs = [specs[value.name] for value in proto.graph.output]
    live = {name for layer in layers for name in layer.inputs}
    graph = ModelGraph(
        name=path.stem,
        format="onnx",
        sha256=sha256,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        layers=layers,
        frontiers=list_frontiers(inputs, outputs, layers, specs),
        opsets={item.domain: item.version for item in proto.opset_import},
        unsized={name: why for name, why in unsized.items() if name in live},
    )
    return OnnxModel(graph, proto, path, index)


def _parse(data: bytes, path: Path) -> onnx.ModelProto:
    fix = "export the model to ONNX again, or copy it again"
    for offset, magic, meaning in _MAGIC:
        if data[offset : offset + len(magic)] == magic:
            raise ModelError(f"{path} is not an ONNX model", cause=f"it is {meaning}", fix=fix)
    try:
        proto = onnx.load_model_from_string(data)
    except DecodeError as error:
        raise ModelError(
            f"{path} is not an ONNX model, or is damaged",
            cause=f"its {len(data)} bytes do not decode ({_first_line(error)})",
            fix=fix,
        ) from error
    if not proto.ir_version or not proto.HasField("graph"):
        what = "the file is empty" if not data else "it decodes to a message without a graph"
        raise ModelError(f"{path} is not an ONNX model", cause=what, fix=fix)
    return proto


def _check_versions(proto: onnx.ModelProto, path: Path) -> None:
    newest = {"": onnx.defs.onnx_opset_version()}
    newest["ai.onnx"] = newest[""]
    found = [("IR version", proto.ir_version, onnx.IR_VERSION)]
    found += [
        ("opset", item.version, newest[item.domain])
        for item in proto.opset_import
        if item.domain in newest
    ]
    for what, version, known in found:
        if version > known:
            raise ModelError(
                f"{path.name} is too new: ONNX {what} {version}",
                cause=f"the installed onnx {onnx.__version__} knows {what} {known}",
                fix="pip install --upgrade onnx onnxruntime, or export with an older opset",
            )


def _name_nodes(graph: onnx.GraphProto) -> None:
    """Give every node a name of its own: profiles and errors speak of nodes by name."""
    taken = {node.name for node in graph.node}
    seen: set[str] = set()
    for index, node in enumerate(graph.node):
        if not node.name or node.name in seen:
            name = node.name or f"{node.op_type}_{index}"
            while name in taken:
                name = f"{name}_{index}"
            node.name = name
            taken.add(name)
        seen.add(node.name)


def _check(proto: onnx.ModelProto, path: Path) -> None:
    try:
        onnx.checker.check_model(skeleton(proto))
    except (onnx.checker.ValidationError, ValueError) as error:
        raise ModelError(
            f"{path.name} is not a valid ONNX model",
            cause=" ".join(str(error).split()),
            fix="export the model again",
        ) from error


def _infer(proto: onnx.ModelProto, path: Path) -> None:
    """Fill value infos and output shapes in place; fold shape computations that became fixed."""
    for _ in range(2):  # folded shapes let a Reshape after them be inferred
        try:
            inferred = onnx.shape_inference.infer_shapes(skeleton(proto), data_prop=True)
        except (onnx.shape_inference.InferenceError, RuntimeError) as error:
            raise ModelError(
                f"the shapes of {path.name} do not fit together",
                cause=" ".join(str(error).split()),
                fix="check --shape, or export the model again",
            ) from error
        for field in ("value_info", "output"):
            proto.graph.ClearField(field)
            getattr(proto.graph, field).extend(getattr(inferred.graph, field))
        for node, better in zip(proto.graph.node, inferred.graph.node, strict=True):
            if any(True for item in node.attribute if item.HasField("g")):
                node.CopyFrom(better)  # shapes inside bodies
        values = (*proto.graph.input, *proto.graph.value_info)
        shapes = {value.name: fixed_shape(value) for value in values}
        known = {name: shape for name, shape in shapes.items() if shape is not None}
        if not fold_shape_nodes(proto.graph, known):
            return


def _index(proto: onnx.ModelProto) -> GraphIndex:
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


def _specs(
    index: GraphIndex, graph: onnx.GraphProto
) -> tuple[dict[str, TensorSpec], dict[str, str]]:
    """Specs of the tensors that may cross a cut, and why the others may not."""
    specs: dict[str, TensorSpec] = {}
    unsized: dict[str, str] = {}
    for name in dict.fromkeys([*index.inputs, *index.producer]):
        value = index.types.get(name)
        spec = spec_of(value) if value is not None else "its shape and type are unknown"
        if isinstance(spec, TensorSpec):
            specs[name] = spec
        else:
            unsized[name] = spec
    for role, names in (("input", index.inputs), ("output", [v.name for v in graph.output])):
        for name in names:
            if name in index.weights:
                spec = spec_of(index.types[name])
                specs.update({name: spec} if isinstance(spec, TensorSpec) else {})
            if name not in specs:
                raise ModelError(
                    f"{role} {name!r} cannot be sent",
                    cause=unsized.get(name, "its type is unknown"),
                    fix=f"give --shape {name}=1,.. or export the model with plain fixed tensors",
                )
    return specs, unsized


def _layers(proto: onnx.ModelProto, index: GraphIndex) -> tuple[Layer, ...]:
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
            found.append(_size(tensor.data_type, math.prod(tensor.dims)))
            continue
        node = graph.node[index.producer[name]]
        value = index.types.get(name)
        if node.op_type in {"Constant", "ConstantOfShape"} and value is not None:
            shape = fixed_shape(value) or (0,)
            found.append(_size(value.type.tensor_type.elem_type, math.prod(shape)))
        waiting += index.reads[index.producer[name]]
    return found


def _size(data_type: int, elements: int) -> tuple[int, int]:
    name = onnx.TensorProto.DataType.Name(data_type)
    if name in _NOT_WEIGHTS:
        return 0, 0
    bits = 4 if name in {"INT4", "UINT4", "FLOAT4E2M1"} else 0
    bits = bits or onnx.helper.tensor_dtype_to_np_dtype(data_type).itemsize * 8
    return elements, (elements * bits + 7) // 8


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
