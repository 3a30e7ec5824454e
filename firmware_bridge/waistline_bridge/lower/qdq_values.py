"""What the QDQ reader knows about names: constants, and float tensors that stand for int8 ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from waistline.blob.form import Clamp
from waistline.model.onnx_graph import OnnxModel
from waistline.model.onnx_macs import fixed_shape
from waistline.model.onnx_proto import element_type, onnx
from waistline_bridge.lower.refuse import Unsupported

_IMAGE_RANK = 4
_MAX_CONSTANT_BYTES = 1 << 28


@dataclass(frozen=True)
class Value:
    """A float tensor that is a dequantized int8 one.

    Attributes:
        tensor: the builder's number.
        mixed: (c, h, w) of what was flattened as NCHW and lies in memory as NHWC; None: its
            elements lie in the order of its axes.
    """

    tensor: int
    mixed: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class Pending:
    """A float tensor that some layer will make once it is known how it is quantized.

    Attributes:
        make: given the output's number and clamp, adds the layer.
        like: number of the tensor whose scale the layer's output must have; None: free.
        clamps: whether the layer can clamp.
        low, high: real limits collected from activations.
        mixed: as of `Value`.
    """

    make: Callable[[int, Clamp], None]
    like: int | None = None
    clamps: bool = True
    low: float | None = None
    high: float | None = None
    mixed: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class Quantized:
    """A constant behind a DequantizeLinear.

    Attributes:
        codes: int8 or int32.
        scales: float32 (n,).
        axis: the one with a scale per slice; None: one scale.
    """

    codes: NDArray[Any]
    scales: NDArray[np.float32]
    axis: int | None


class Constants:
    """Initializers and Constant nodes of a model, read when asked for."""

    def __init__(self, model: OnnxModel) -> None:
        self._model = model
        self._tensors: dict[str, Any] = {
            name: tensor
            for name, tensor in model.index.weights.items()
            if isinstance(tensor, onnx.TensorProto)
        }
        self._dequantized: dict[str, Any] = {}
        for node in model.proto.graph.node:
            if node.op_type == "Constant" and len(node.attribute) == 1:
                if node.attribute[0].name == "value":
                    self._tensors[node.output[0]] = node.attribute[0].t
            elif node.op_type == "DequantizeLinear" and node.input[0] in self._tensors:
                self._dequantized[node.output[0]] = node

    def __contains__(self, name: str) -> bool:
        return name in self._tensors or name in self._dequantized

    def array(self, name: str, kind: str) -> NDArray[Any]:
        """A plain constant of an ONNX element type such as ``FLOAT``."""
        tensor = self._tensors.get(name)
        if tensor is None:
            raise Unsupported(f"{name!r} is computed, not a constant of the file")
        if element_type(tensor.data_type) != kind:
            raise Unsupported(f"{name!r} is {element_type(tensor.data_type)}, not {kind}")
        try:
            found = np.asarray(onnx.numpy_helper.to_array(tensor))
        except (ValueError, TypeError) as error:
            raise Unsupported(f"{name!r} cannot be read: {error}") from error
        if found.nbytes > _MAX_CONSTANT_BYTES:
            raise Unsupported(f"{name!r} has {found.nbytes} bytes")
        return found

    def quantized(self, name: str, kind: str) -> Quantized:
        """A constant behind a DequantizeLinear, with zero points of 0."""
        node = self._dequantized.get(name)
        if node is None:
            raise Unsupported(f"{name!r} is not a quantized constant")
        codes = self.array(node.input[0], kind)
        scales = self.array(node.input[1], "FLOAT")
        if attribute(node, "block_size", 0):
            raise Unsupported(f"{name!r} is quantized in blocks")
        if len(node.input) > 2 and node.input[2] and self.array(node.input[2], kind).any():
            raise Unsupported(f"{name!r} has a zero point that is not 0")
        if not (np.isfinite(scales).all() and (scales > 0).all()):
            raise Unsupported(f"{name!r} has a scale that is not positive")
        if scales.size == 1:
            return Quantized(codes, scales.reshape(1), None)
        axis = attribute(node, "axis", 1)
        axis += codes.ndim if axis < 0 else 0
        if scales.ndim != 1 or not 0 <= axis < codes.ndim or codes.shape[axis] != scales.size:
            raise Unsupported(f"{name!r} has {scales.shape} scales for axis {axis}")
        return Quantized(codes, scales, axis)

    def real(self, name: str) -> NDArray[np.float64]:
        """A constant's real values, plain or dequantized."""
        if name in self._dequantized:
            found = self.quantized(name, "INT32")
            shape = [1] * found.codes.ndim
            if found.axis is not None:
                shape[found.axis] = -1
            return found.codes * found.scales.reshape(shape).astype(np.float64)
        return self.array(name, "FLOAT").astype(np.float64)

    def step(self, node: Any) -> tuple[float, int]:
        """Scale and zero point of a QuantizeLinear or DequantizeLinear of a whole int8 tensor."""
        scale = self.array(node.input[1], "FLOAT")
        if len(node.input) < 3 or not node.input[2]:
            raise Unsupported("it makes uint8, as there is no zero point; int8 is needed")
        zero_point = self.array(node.input[2], "INT8")
        if scale.size != 1 or zero_point.size != 1:
            raise Unsupported(f"it quantizes an activation with {scale.size} scales")
        return float(scale.reshape(-1)[0]), int(zero_point.reshape(-1)[0])


def attribute(node: Any, name: str, default: Any) -> Any:
    for item in node.attribute:
        if item.name == name:
            return onnx.helper.get_attribute_value(item)
    return default


def stored_shape(model: OnnxModel, name: str) -> tuple[int, ...]:
    """A tensor's shape, NCHW turned to NHWC."""
    value = model.index.types.get(name)
    shape = None if value is None else fixed_shape(value)
    if shape is None:
        raise Unsupported(f"the size of {name!r} is not fixed")
    if len(shape) == _IMAGE_RANK:
        return shape[0], shape[2], shape[3], shape[1]
    if len(shape) != 2:
        raise Unsupported(f"{name!r} has {len(shape)} axes, not 2 or 4")
    return tuple(shape)
