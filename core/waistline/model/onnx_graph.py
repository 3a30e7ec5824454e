"""Reading an ONNX file: checked, named, with fixed shapes, as layers and frontiers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from waistline.errors import ModelError
from waistline.model.frontiers import list_frontiers
from waistline.model.graph import Frontier, ModelGraph
from waistline.model.onnx_layers import GraphIndex, index_of, layers_of
from waistline.model.onnx_macs import fixed_shape
from waistline.model.onnx_proto import DecodeError, element_type, garbled_text, onnx, weights_of
from waistline.model.onnx_shapes import bind_shapes, fold_shape_nodes, skeleton, spec_of
from waistline.tensors import TensorSpec

_MAGIC = (
    (0, b"PK\x03\x04", "a zip archive, as PyTorch and Keras write; export it to ONNX"),
    (0, b"\x80\x02", "a pickle, as old PyTorch writes; export it to ONNX"),
    (0, b"\x89HDF", "an HDF5 file, as Keras writes; convert it with tf2onnx"),
    (4, b"TFL3", "a TFLite model; give the ONNX model it was made from"),
    (0, b"version https://git-lfs", "a Git LFS pointer; run git lfs pull"),
)


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

    def write_slices(self, frontier: Frontier, folder: Path) -> tuple[Path | None, Path | None]:
        """As `waistline.model.load.CutModel` says."""
        from waistline.model import onnx_cut

        return onnx_cut.write_slices(self, frontier, folder)


def load_onnx(path: str | Path, shapes: Mapping[str, tuple[int, ...]] | None = None) -> OnnxModel:
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
    """As `load_onnx`, from a model in memory, which is changed in place and kept.

    Args:
        proto: complete; heavy weights may lack their data (only dims and type are read).
        path: gives the model its name.
        sha256: of the file, where there is one.
        shapes: as for `load_onnx`.
    """
    _check_versions(proto, path)
    _name_nodes(proto.graph)
    names = weights_of(proto.graph)
    bind_shapes(proto.graph, [v for v in proto.graph.input if v.name not in names], shapes or {})
    _check(proto, path)
    _infer(proto, path)
    index = index_of(proto)
    specs, unsized = _specs(index, proto.graph)
    layers = layers_of(proto, index)
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
    try:
        garbled = garbled_text(proto)
    except UnicodeDecodeError as error:
        garbled = str(error)
    if garbled:
        raise ModelError(f"{path} is damaged", cause=f"a name is not text: {garbled}", fix=fix)
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
    for tensor in proto.graph.initializer:
        if not element_type(tensor.data_type):
            raise ModelError(
                f"{path.name} is not a valid ONNX model",
                cause=f"weight {tensor.name!r} has the unknown element type {tensor.data_type}",
                fix="export the model again, or pip install --upgrade onnx",
            )
    thin = skeleton(proto)
    for value in thin.graph.output:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.shape.SetInParent()  # it may be left to inference
    try:
        onnx.checker.check_model(thin)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise ModelError(
            f"{path.name} is not a valid ONNX model",
            cause=" ".join(str(error).split()),
            fix="export the model again",
        ) from error


def _infer(proto: onnx.ModelProto, path: Path) -> None:
    """Fill value infos and output shapes in place; fold shape computations that became fixed."""
    for _ in range(2):  # folded shapes let a Reshape after them be inferred
        inferred = _inferred(skeleton(proto), path)
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


def _inferred(thin: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    infer = onnx.shape_inference.infer_shapes
    try:
        return infer(thin, strict_mode=True, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError):
        pass  # exporters leave stale annotations behind when only the input was made symbolic
    thin.graph.ClearField("value_info")
    for value in thin.graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        return infer(thin, strict_mode=True, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError) as error:
        raise ModelError(
            f"the shapes of {path.name} do not fit together",
            cause=" ".join(str(error).split()),
            fix="check --shape, or export the model again",
        ) from error


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


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
