"""Reading a .tflite file: verified, its tensors named, as layers and frontiers.

Shapes are those stored; a batch axis of unknown size (-1 in the signature) is 1, as LiteRT runs
it. Tensors of rank 4 are taken as NHWC. A tensor that cannot cross a cut (its size depends on the
data, its element type does not travel, its quantization is per channel) is left out of the
frontiers by name.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from waistline.errors import BundleError, ModelError
from waistline.model.frontiers import list_frontiers
from waistline.model.graph import Frontier, ModelGraph
from waistline.model.tflite_file import TYPE_NAMES, VERSION, TfliteFile, parse, read_file
from waistline.model.tflite_layers import GraphIndex, broken, index_of, layers_of
from waistline.tensors import DTYPES, MAX_RANK, NHWC_BY_RANK, TensorSpec, check_spec

_SIZE_FROM_DATA = frozenset(
    {"WHERE", "UNIQUE", "NON_MAX_SUPPRESSION_V4", "NON_MAX_SUPPRESSION_V5", "RANGE"}
)
"""Operators whose output may have an unknown first axis that is no batch."""
_QUANTIZED = frozenset({"int8", "uint8"})


@dataclass(frozen=True)
class TfliteModel:
    """A model ready to cut.

    Attributes:
        graph: layers and frontiers.
        path: where it came from.
        file: its parts; do not change them.
        index: of ``file``.
    """

    graph: ModelGraph
    path: Path
    file: TfliteFile
    index: GraphIndex

    def write_slices(self, frontier: Frontier, folder: Path) -> tuple[Path | None, Path | None]:
        """As `waistline.model.load.CutModel` says."""
        from waistline.model import tflite_cut

        return tflite_cut.write_slices(self, frontier, folder)


def load_tflite(path: str | Path) -> TfliteModel:
    """Read and check a model.

    Raises:
        ModelError: missing, damaged, too new, with several subgraphs, state, sparse weights, or
            inputs and outputs without fixed sizes.
        MissingExtra: ai-edge-litert is not installed.
    """
    path = Path(path)
    file, data = read_file(path)
    return _model(file, data, path)


def from_bytes(data: bytes, path: Path) -> TfliteModel:
    """As `load_tflite`, from memory; ``path`` gives the model its name."""
    return _model(parse(data, path.name), data, path)


def _model(file: TfliteFile, data: bytes, path: Path) -> TfliteModel:
    index = index_of(file, path.name)
    _name_tensors(file.graph)
    specs, unsized = _specs(file, index, path)
    layers = layers_of(file, index)
    if not layers:
        raise broken(path.name, "it computes nothing from its inputs")
    tensors = file.graph.tensors
    inputs = [specs[tensors[k].name] for k in file.graph.inputs]
    outputs = [specs[tensors[k].name] for k in file.graph.outputs]
    live = {name for layer in layers for name in layer.inputs}
    graph = ModelGraph(
        name=path.stem,
        format="tflite",
        sha256=hashlib.sha256(data).hexdigest(),
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        layers=layers,
        frontiers=list_frontiers(inputs, outputs, layers, specs),
        opsets={"tflite": VERSION},
        unsized={name: why for name, why in unsized.items() if name in live},
    )
    return TfliteModel(graph, path, file, index)


def _name_tensors(graph: Any) -> None:
    """Give every tensor a name of its own, by which cuts, engines and errors speak of it."""
    taken = {tensor.name for tensor in graph.tensors}
    seen: set[str] = set()
    for number, tensor in enumerate(graph.tensors):
        if not tensor.name or tensor.name in seen:
            name = f"{tensor.name or 'tensor'}_{number}"
            while name in taken:
                name += "_"
            tensor.name = name
            taken.add(name)
        seen.add(tensor.name)


def _specs(
    file: TfliteFile, index: GraphIndex, path: Path
) -> tuple[dict[str, TensorSpec], dict[str, str]]:
    """Specs of the tensors that may cross a cut, and why the others may not."""
    graph = file.graph
    batched = any(_unknown_axes(graph.tensors[k]) == [0] for k in graph.inputs)
    unsized: dict[int, str] = {}
    specs: dict[int, TensorSpec] = {}
    writes = [(k, t) for k in index.kept for t in graph.operators[k].outputs]
    for k, number in [*((None, t) for t in graph.inputs), *writes]:
        sized = _same_size_in(file, k, unsized) if k is not None else True
        found = _spec_of(graph.tensors[number], batched and sized)
        if isinstance(found, TensorSpec):
            specs[number] = found
        else:
            unsized[number] = found
    for role, numbers in (("input", graph.inputs), ("output", graph.outputs)):
        for number in numbers:
            name = graph.tensors[number].name
            why = unsized.get(number, "") or _other_quantization(graph.tensors[number])
            if why:
                raise ModelError(
                    f"{role} {name!r} of {path.name} cannot be sent",
                    cause=why,
                    fix="convert the model with fixed shapes and float or 8-bit inputs and outputs",
                )
    named = {graph.tensors[t].name: spec for t, spec in specs.items()}
    return named, {graph.tensors[t].name: why for t, why in unsized.items()}


def _same_size_in(file: TfliteFile, k: int, unsized: dict[int, str]) -> bool:
    """Whether an unknown first axis of what operator ``k`` writes can only be the batch."""
    operator = file.graph.operators[k]
    from_data = file.operators[operator.opcodeIndex] in _SIZE_FROM_DATA
    return not from_data and not any(number in unsized for number in operator.inputs)


def _unknown_axes(tensor: Any) -> list[int]:
    return [axis for axis, size in enumerate(tensor.shapeSignature or ()) if size < 0]


def _spec_of(tensor: Any, batched: bool) -> TensorSpec | str:
    """What crosses a cut, or why it cannot."""
    dtype = TYPE_NAMES.get(tensor.type, f"type {tensor.type}")
    unknown = _unknown_axes(tensor)
    if unknown and not (batched and unknown == [0] and tensor.shape[:1] == [1]):
        return f"its size depends on the data: {tensor.shapeSignature}"
    if dtype not in DTYPES:
        return f"its elements are {dtype}"
    if len(tensor.shape) > MAX_RANK:
        return f"it has {len(tensor.shape)} axes"
    layout, channel_axis = NHWC_BY_RANK.get(len(tensor.shape), ("any", None))
    scale, zero_point = None, None
    if dtype in _QUANTIZED and (steps := _values(tensor, "scale")):
        if len(steps) > 1:
            return f"it is quantized per channel, with {len(steps)} scales"
        scale, zero_point = float(steps[0]), int((_values(tensor, "zeroPoint") or [0])[0])
    spec = TensorSpec(
        tensor.name, dtype, tuple(tensor.shape), layout, channel_axis, scale, zero_point
    )
    try:
        return check_spec(spec)
    except BundleError as error:
        return error.cause


def _values(tensor: Any, field: str) -> list[float]:
    values = None if tensor.quantization is None else getattr(tensor.quantization, field)
    return [] if values is None else np.asarray(values).tolist()


def _other_quantization(tensor: Any) -> str:
    """Why the numbers of an input or output would be misread, "" if they would not."""
    dtype = TYPE_NAMES[tensor.type]
    if dtype in {"int16", "uint16", "int32"} and _values(tensor, "scale"):
        return f"it is quantized to {dtype}; only 8-bit tensors carry a scale"
    return ""
