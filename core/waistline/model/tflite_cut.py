"""Cutting a TFLite model: the extractor, and writing a slice.

A slice holds what its outputs need, walked back to its inputs: operators in the file's order, the
weights they read and the constant operators behind them. Tensors, operator codes and buffers are
numbered anew in the order of the file; buffer 0 stays empty, as the schema demands. Inputs and
outputs stand in the order of the frontier. Signatures number tensors of the whole model and are
left out, as is metadata that a slice does not have. A tensor that crosses a slice unused, such as
a graph input that only the tail reads, is listed both as input and as output, as in ONNX slices;
LiteRT takes such slices.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from waistline.errors import ModelError
from waistline.model.graph import Frontier
from waistline.model.sides import cut_sides, write_sides
from waistline.model.tflite_file import TfliteFile, pack, schema
from waistline.model.tflite_graph import TfliteModel
from waistline.model.tflite_layers import shown

_EMPTY = np.zeros(0, np.uint8)


def cut_model(model: TfliteModel, frontier: Frontier) -> tuple[bytes | None, bytes | None]:
    """Head and tail of a model as files. x = 1 has no head, x = N no tail.

    Raises:
        ModelError: the frontier is not one of this model's, or a slice is over 2 GB.
    """
    return cut_sides(model.graph, frontier, partial(extract, model))


def write_slices(
    model: TfliteModel, frontier: Frontier, folder: Path
) -> tuple[Path | None, Path | None]:
    """Head and tail as ``head.tflite`` and ``tail.tflite`` in ``folder``.

    Raises:
        ModelError: a slice cannot be cut or written, or is too large for one file.
    """
    return write_sides(cut_model(model, frontier), folder, ".tflite", _write)


def _write(data: bytes, path: Path) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise ModelError(
            f"cannot write the slice {path}",
            cause=error.strerror or str(error),
            fix="free space there, or give another --output",
        ) from error


def extract(model: TfliteModel, inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
    """The part of a model that computes ``outputs`` from ``inputs``, as a file.

    Args:
        model: the whole model.
        inputs: tensors the slice is given, all of them listed, used or not.
        outputs: tensors it must yield; one that is also an input is passed through.

    Raises:
        ModelError: the inputs do not suffice, a name is unknown or that of a constant.
    """
    number_of = {tensor.name: k for k, tensor in enumerate(model.file.graph.tensors)}
    given = [_crossing(model, number_of, name) for name in inputs]
    wanted = [_crossing(model, number_of, name) for name in outputs]
    return pack(_renumbered(model.file, given, wanted, _needed(model, given, wanted)))


def _crossing(model: TfliteModel, number_of: dict[str, int], name: str) -> int:
    number = number_of.get(name, -1)
    if number < 0 or number in model.index.constants:
        raise ModelError(
            f"cannot cut {model.graph.name} at {name!r}",
            cause="it is a constant" if number >= 0 else "there is no such tensor",
            fix="choose another frontier (waistline split MODEL --list)",
        )
    return number


def _needed(model: TfliteModel, inputs: Sequence[int], outputs: Sequence[int]) -> list[int]:
    """Operators behind ``outputs``, stopping at ``inputs``, in the file's order."""
    index, graph = model.index, model.file.graph
    given = set(inputs)
    operators: set[int] = set()
    waiting = [(number, "") for number in outputs if number not in given]
    while waiting:
        number, reader = waiting.pop()
        if number not in index.producer:
            if number not in index.constants:
                raise _incomplete(model, number, reader, "it is an input of the model")
            continue
        k = index.producer[number]
        if k in operators:
            continue
        operators.add(k)
        if both := given.intersection(graph.operators[k].outputs):
            other = graph.tensors[both.pop()].name
            raise _incomplete(model, number, reader, f"{other!r} comes from the same operator")
        reads = [need for need in graph.operators[k].inputs if need >= 0 and need not in given]
        waiting += [(need, shown(model.file, k)) for need in reads]
    return sorted(operators)


def _incomplete(model: TfliteModel, number: int, reader: str, why: str) -> ModelError:
    name = model.file.graph.tensors[number].name
    by = f" by {reader}" if reader else ""
    return ModelError(
        f"the cut of {model.graph.name} is incomplete: it lacks {name!r}",
        cause=f"{name!r} is needed{by} and cannot be computed from the cut: {why}",
        fix=f"add {name} to the cut",
    )


def _renumbered(
    file: TfliteFile, inputs: Sequence[int], outputs: Sequence[int], operators: Sequence[int]
) -> TfliteFile:
    """The parts of a slice, all numbers counted anew."""
    source = file.graph
    chosen = [source.operators[k] for k in operators]
    used = {*inputs, *outputs}
    for operator in chosen:
        used.update(operator.inputs, operator.outputs, operator.intermediates)
    tensors = _places(used - {-1})
    codes = _places({operator.opcodeIndex for operator in chosen})
    held = {source.tensors[k].buffer for k in tensors}
    buffers = _places({k for k in held if file.weights[k].size}, first=1)
    graph = schema.SubGraphT(name=source.name)
    graph.tensors = [_tensor(source.tensors[k], buffers) for k in tensors]
    graph.inputs = [tensors[k] for k in inputs]
    graph.outputs = [tensors[k] for k in outputs]
    graph.operators = [_operator(operator, tensors, codes) for operator in chosen]
    return replace(
        file,
        codes=tuple(file.codes[k] for k in codes),
        operators=tuple(file.operators[k] for k in codes),
        graph=graph,
        weights=(_EMPTY, *(file.weights[k] for k in buffers)),
    )


def _places(numbers: set[int], first: int = 0) -> dict[int, int]:
    """Old number to new, ascending."""
    return {old: new for new, old in enumerate(sorted(numbers), first)}


def _tensor(source: Any, buffers: dict[int, int]) -> Any:
    tensor = copy.copy(source)
    tensor.buffer = buffers.get(source.buffer, 0)
    tensor.shapeSignature = None  # an unknown batch is 1 from here on
    return tensor


def _operator(source: Any, tensors: dict[int, int], codes: dict[int, int]) -> Any:
    operator = copy.copy(source)
    operator.opcodeIndex = codes[source.opcodeIndex]
    operator.inputs = [tensors.get(number, -1) for number in source.inputs]
    operator.outputs = [tensors[number] for number in source.outputs]
    operator.intermediates = [tensors.get(number, -1) for number in source.intermediates] or None
    operator.debugMetadataIndex = -1
    return operator
