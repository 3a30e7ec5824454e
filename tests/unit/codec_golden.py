"""Reads tests/vectors/codec.json for the tests beside it."""

from __future__ import annotations

import base64
import functools
import json
from pathlib import Path

import numpy as np

from waistline.codec.spec import parse_spec
from waistline.tensors import StaticRanges, TensorSpec, WaistTensor

PATH = Path(__file__).parents[1] / "vectors" / "codec.json"


@functools.cache
def document():
    return json.loads(PATH.read_text())


def array_of(text, dtype, shape=(-1,)):
    little = np.dtype(dtype).newbyteorder("<")
    return np.frombuffer(base64.b64decode(text), little).astype(dtype).reshape(shape)


@functools.cache
def inputs():
    return {
        name: array_of(entry["data"], entry["dtype"], entry["shape"])
        for name, entry in document()["inputs"].items()
    }


def cases():
    """(case, its input, its WaistTensor) for each case."""
    for case in document()["cases"]:
        array = inputs()[case["input"]]
        axis = document()["inputs"][case["input"]]["channel_axis"]
        ranges = case["ranges"] and StaticRanges(
            *(tuple(array_of(case["ranges"][end], "float32").tolist()) for end in ("lo", "hi"))
        )
        tensor = TensorSpec(case["input"], str(array.dtype), array.shape, "any", axis)
        yield case, array, WaistTensor(tensor, case["codec"], ranges)


def grid_shape(waist):
    """(outer, channels, inner) as the header of core/c has it."""
    shape, axis = waist.tensor.shape, waist.tensor.channel_axis
    if parse_spec(waist.codec).per == "tensor" or axis is None:
        return 1, 1, waist.tensor.elements
    return (
        int(np.prod(shape[:axis])),
        shape[axis],
        int(np.prod(shape[axis + 1 :])),
    )
