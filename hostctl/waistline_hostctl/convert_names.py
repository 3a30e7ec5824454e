"""Give a converted model the names and the order of the model it was made from.

Converters invent names and reorder outputs. A tensor of the float model that holds the values of
one of the ONNX model on one frame, axes turned, is that tensor; so one ``--cut`` names the same
place in both files. The int8 model has the float model's structure and gets its names.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from waistline.errors import ModelError
from waistline.model import onnx_cut
from waistline.model.onnx_graph import OnnxModel
from waistline.model.tflite_file import TfliteFile

CHANNELS_FIRST = {3: (0, 2, 1), 4: (0, 3, 1, 2), 5: (0, 4, 1, 2, 3)}
"""Axes that bring a converted tensor of each rank into ONNX's order."""
_CHANNELS_LAST = {3: (0, 2, 1), 4: (0, 2, 3, 1), 5: (0, 2, 3, 4, 1)}
SAME = 1e-3
"""Largest difference of equal tensors over their largest element; folding moves the last bits."""

Arrays = Mapping[str, np.ndarray]


def onnx_values(model: OnnxModel, feeds: Arrays) -> dict[str, np.ndarray]:
    """Every live float tensor of one run, in the order of the layers, unoptimised."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    graph = model.graph
    outputs = {spec.name for spec in graph.outputs}
    names = [name for layer in graph.layers for name in layer.outputs]
    names = [name for name in names if name not in graph.unsized or name in outputs]
    proto = onnx_cut.extract(model, [spec.name for spec in graph.inputs], names)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, ["CPUExecutionProvider"]
    )
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def tflite_values(
    data: bytes, file: TfliteFile, feeds: Sequence[np.ndarray]
) -> dict[int, np.ndarray]:
    """What each operator of a float model wrote, by tensor number, in the file's order.

    Args:
        data: the model.
        file: its parts.
        feeds: inputs in the file's order, axes as the file has them.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    engine = Interpreter(
        model_content=data,
        num_threads=1,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    engine.allocate_tensors()
    for number, array in zip(file.graph.inputs, feeds, strict=True):
        engine.set_tensor(number, array)
    engine.invoke()
    return {
        number: np.array(engine.get_tensor(number))
        for operator in file.graph.operators
        for number in operator.outputs
    }


def turned(array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """An ONNX input with the axes of ``shape``, those of the converted input.

    Raises:
        ModelError: neither order of axes gives it.
    """
    order = _CHANNELS_LAST.get(array.ndim)
    for candidate in (array if order is None else array.transpose(order), array):
        if candidate.shape == tuple(shape):
            return np.ascontiguousarray(candidate)
    raise ModelError(
        "the converted model takes another input",
        cause=f"the ONNX model takes {array.shape}, the converted one {tuple(shape)}",
        fix="convert this model by other means; waistline takes any .tflite",
    )


def match(values: Mapping[int, np.ndarray], wanted: Arrays) -> dict[int, str]:
    """ONNX's name for each tensor that holds the values of one; the first that does, once."""
    found: dict[int, str] = {}
    free = dict(wanted)
    for number, array in values.items():
        if array.dtype != np.float32 or not array.size or not array.any():
            continue
        for name, expected in free.items():
            if _same(array, expected):
                found[number] = name
                del free[name]
                break
    return found


def _same(array: np.ndarray, expected: np.ndarray) -> bool:
    if array.ndim != expected.ndim or array.size != expected.size:
        return False
    if expected.dtype != np.float32:
        return False
    limit = SAME * float(np.abs(expected).max())
    order = CHANNELS_FIRST.get(array.ndim)
    for candidate in (array if order is None else array.transpose(order), array):
        if candidate.shape == expected.shape and np.abs(candidate - expected).max() <= limit:
            return True
    return False


def outputs_of(
    file: TfliteFile, values: Mapping[int, np.ndarray], wanted: Arrays
) -> list[tuple[int, str]]:
    """(place among the file's outputs, ONNX's name) in the order of ``wanted``.

    Raises:
        ModelError: an output of the ONNX model is not among those of the converted one, or its
            axes are in an order that is not TFLite's.
    """
    places = []
    left = list(enumerate(file.graph.outputs))
    for name, expected in wanted.items():
        hits = [(place, t) for place, t in left if _same(values[t], expected)]
        if not hits:
            raise ModelError(
                f"the converted model does not compute {name!r}",
                cause=f"no output has its values, to {SAME:g} of the largest",
                fix="convert this model by other means; waistline takes any .tflite",
            )
        place, number = hits[0]
        _check_axes(name, values[number].shape, expected.shape)
        left.remove(hits[0])
        places.append((place, name))
    return places


def _check_axes(name: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    order = _CHANNELS_LAST[4]
    last = tuple(expected[k] for k in order) if len(expected) == len(order) else expected
    if shape != last:
        raise ModelError(
            f"output {name!r} of the converted model has its axes in another order",
            cause=f"{expected} became {shape}; images must become {last}",
            fix="convert this model by other means; waistline takes any .tflite",
        )


def renamed(
    file: TfliteFile,
    names: Mapping[str, str],
    inputs: Sequence[tuple[int, str]],
    outputs: Sequence[tuple[int, str]],
) -> TfliteFile:
    """A file with ONNX's names; changes the tensors of ``file``, and leaves signatures out.

    Args:
        file: float or int8.
        names: ONNX's name by the converter's.
        inputs: (place among the file's inputs, ONNX's name) in ONNX's order.
        outputs: the same of its outputs.
    """
    graph = file.graph
    ends = {graph.inputs[place]: name for place, name in inputs}
    ends |= {graph.outputs[place]: name for place, name in outputs}
    graph.inputs = [graph.inputs[place] for place, _ in inputs]
    graph.outputs = [graph.outputs[place] for place, _ in outputs]
    taken = set(ends.values())
    for number, tensor in enumerate(graph.tensors):
        name = ends.get(number) or names.get(tensor.name) or _short(tensor)
        if number not in ends:
            while name in taken:
                name = f"{name}_{number}"
        taken.add(name)
        tensor.name = name
    return replace(file, graph=graph)


def _short(tensor: Any) -> str:
    """The converter strings together all that it fused; the first is what comes out."""
    return str(tensor.name).partition(";")[0] or "tensor"
