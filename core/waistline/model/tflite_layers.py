"""Layers of a TFLite graph: who reads and writes what, constants told apart.

As in ONNX models, constants are no layers and cross no cut: weights, and whatever is computed from
weights alone (float16 weights behind a DEQUANTIZE), are copied into the slice that reads them.
Operators without effect on an output are left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from waistline.errors import ModelError
from waistline.model.graph import Layer
from waistline.model.tflite_file import TYPE_NAMES, TfliteFile
from waistline.model.tflite_macs import count_macs
from waistline.model.tflite_numbers import number_problem

_RANDOM = frozenset({"RANDOM_STANDARD_NORMAL", "RANDOM_UNIFORM", "MULTINOMIAL"})
_NOT_WEIGHTS = frozenset({"int64", "bool", "string", "resource", "variant"})
"""Element types of shapes, axes and masks: no parameters, as scalars are none."""
_MAX_LIVE = 4_000_000
"""Sum of the widths of all frontiers; MobileNetV2 has about 80."""


@dataclass(frozen=True)
class GraphIndex:
    """Who reads and writes what, by tensor number.

    Attributes:
        producer: tensor to the operator that writes it.
        constants: weights, and what is computed from them alone.
        kept: operators that are layers, in the file's order.
    """

    producer: dict[int, int]
    constants: frozenset[int]
    kept: tuple[int, ...]


def index_of(file: TfliteFile, name: str) -> GraphIndex:
    """Check every tensor number and the order of the operators.

    Raises:
        ModelError: a number out of range, a tensor read before it is written or written twice, a
            variable tensor, or an output that does not depend on the inputs.
    """
    _check_numbers(file, name)
    graph = file.graph
    constants = _weights(file)
    _check_ends(file, name, constants)
    known = constants | set(graph.inputs)
    producer: dict[int, int] = {}
    for k, operator in enumerate(graph.operators):
        reads = [tensor for tensor in operator.inputs if tensor >= 0]
        for tensor in reads:
            if tensor not in known:
                raise broken(name, f"{shown(file, k)} reads tensor {tensor} before it is written")
        for tensor in operator.outputs:
            if tensor in known:
                raise broken(name, f"{shown(file, k)} writes tensor {tensor}, which has a value")
            producer[tensor] = k
            known.add(tensor)
        if constants.issuperset(reads) and file.operators[operator.opcodeIndex] not in _RANDOM:
            constants.update(operator.outputs)
    for tensor in graph.outputs:
        if tensor in constants or tensor not in known:
            which = repr(graph.tensors[tensor].name)
            raise broken(name, f"output {which} does not depend on an input")
    index = GraphIndex(producer, frozenset(constants), _kept(file, constants))
    _check_width(file, index, name)
    return index


def _weights(file: TfliteFile) -> set[int]:
    """Tensors with a value in the file; one without elements needs none (a scalar's new shape)."""
    graph = file.graph
    made = set(graph.inputs).union(*(operator.outputs for operator in graph.operators))
    return {
        k
        for k, tensor in enumerate(graph.tensors)
        if file.weights[tensor.buffer].size or (k not in made and 0 in tensor.shape)
    }


def _kept(file: TfliteFile, constants: set[int]) -> tuple[int, ...]:
    operators = file.graph.operators
    wanted = set(file.graph.outputs)
    kept = []
    for k in reversed(range(len(operators))):
        outputs = operators[k].outputs
        if not constants.issuperset(outputs) and wanted.intersection(outputs):
            kept.append(k)
            wanted.update(operators[k].inputs)
    return tuple(reversed(kept))


def _check_numbers(file: TfliteFile, name: str) -> None:
    graph = file.graph
    tensors = range(len(graph.tensors))
    for k, operator in enumerate(graph.operators):
        code = file.codes[operator.opcodeIndex]
        problem = number_problem(
            max(code.deprecatedBuiltinCode, code.builtinCode),
            operator.inputs,
            operator.outputs,
            operator.intermediates,
            len(tensors),
        )
        if problem:
            raise broken(name, f"{shown(file, k)} {problem}")
        if not operator.outputs:
            raise broken(name, f"{shown(file, k)} writes nothing")
    for role, numbers in (("input", graph.inputs), ("output", graph.outputs)):
        if not numbers:
            raise broken(name, f"it has no {role}")
        if len(set(numbers)) != len(numbers):
            raise broken(name, f"a tensor is its {role} twice")
        if not set(numbers) <= set(tensors):
            raise broken(name, f"an {role} is not one of its {len(tensors)} tensors")
    for tensor in graph.tensors:
        if tensor.buffer >= len(file.weights):
            cause = f"tensor {tensor.name!r} is in buffer {tensor.buffer} of {len(file.weights)}"
            raise broken(name, cause)
        if any(axis < 0 for axis in tensor.shape):
            raise broken(name, f"tensor {tensor.name!r} has the shape {tensor.shape}")


def _check_ends(file: TfliteFile, name: str, constants: set[int]) -> None:
    graph = file.graph
    for number in graph.inputs:
        if number in constants:
            raise broken(name, f"input {graph.tensors[number].name!r} is a constant")
    for tensor in graph.tensors:
        if tensor.isVariable:
            raise ModelError(
                f"{name} cannot be cut: it keeps state",
                cause=f"tensor {tensor.name!r} is a variable that lasts from run to run",
                fix="convert the model with its state as inputs and outputs",
            )


def _check_width(file: TfliteFile, index: GraphIndex, name: str) -> None:
    """Refuse what would make the list of frontiers quadratic; sum of lives, in layers."""
    last: dict[int, int] = {}
    for place, k in enumerate(index.kept):
        last.update(dict.fromkeys(file.graph.operators[k].inputs, place))
    place_of = {k: place for place, k in enumerate(index.kept)}
    made = {t: place_of[k] for t, k in index.producer.items() if k in place_of}
    live = sum(place - made.get(t, 0) for t, place in last.items() if t not in index.constants)
    if live > _MAX_LIVE:
        raise broken(name, "too many of its tensors live at once to list its cuts")


def layers_of(file: TfliteFile, index: GraphIndex) -> tuple[Layer, ...]:
    """One layer an operator, named after its first output."""
    tensors = file.graph.tensors
    owned: set[int] = set()
    layers = []
    for k in index.kept:
        operator = file.graph.operators[k]
        reads = list(dict.fromkeys(tensor for tensor in operator.inputs if tensor >= 0))
        sizes = _weights_behind(file, index, [t for t in reads if t in index.constants], owned)
        layers.append(
            Layer(
                index=k,
                name=tensors[operator.outputs[0]].name,
                operator=file.operators[operator.opcodeIndex],
                inputs=tuple(tensors[t].name for t in reads if t not in index.constants),
                outputs=tuple(tensors[t].name for t in operator.outputs),
                macs=count_macs(file, operator),
                parameters=sum(elements for elements, _ in sizes),
                parameter_bytes=sum(size_bytes for _, size_bytes in sizes),
            )
        )
    return tuple(layers)


def _weights_behind(
    file: TfliteFile, index: GraphIndex, numbers: list[int], owned: set[int]
) -> list[tuple[int, int]]:
    """(elements, bytes) of the weights a layer is the first to read, through constant operators."""
    found = []
    while numbers:
        number = numbers.pop()
        if number in owned or number < 0:
            continue
        owned.add(number)
        if number in index.producer:
            numbers += file.graph.operators[index.producer[number]].inputs
            continue
        tensor = file.graph.tensors[number]
        if tensor.shape and _is_weight(tensor):
            found.append((math.prod(tensor.shape), file.weights[tensor.buffer].nbytes))
    return found


def _is_weight(tensor: Any) -> bool:
    """False for axes, sizes and paddings; int32 is the type of these and of quantized biases."""
    dtype = TYPE_NAMES.get(tensor.type, "")
    if dtype == "int32":
        return tensor.quantization is not None and tensor.quantization.scale is not None
    return dtype not in _NOT_WEIGHTS


def shown(file: TfliteFile, k: int) -> str:
    """``operator 3 (CONV_2D)``."""
    return f"operator {k} ({file.operators[file.graph.operators[k].opcodeIndex]})"


def broken(name: str, cause: str) -> ModelError:
    """The error for a graph that is no model."""
    return ModelError(f"{name} is not a valid TFLite model", cause=cause, fix="convert it again")
