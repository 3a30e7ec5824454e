"""The example network as a list of layers, and what torch and ONNX make of it.

One list (`LAYERS`) names every layer once; the torch module is trained from it and the ONNX graph
is written from it, so that node, tensor and layer names are the same everywhere. The shape is a
MobileNet: a small stem, depthwise-separable blocks, then inverted residuals (narrow between the
blocks, wide inside), because the narrow tensors are what a cut sends. A residual branch ends in a
ReLU *before* the addition: the sum of two non-negative tensors needs no ReLU of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

IMAGE = 28
CLASSES = 10
OPSET = 13
"""The newest one that the NCS2's last engine reads."""


@dataclass(frozen=True)
class Layer:
    """One layer; its output tensor bears its name.

    Attributes:
        name: unique.
        kind: conv, relu, add, pool (global average), flatten or dense.
        inputs: names of the layers (or ``image``) it reads.
        channels: output channels of conv and dense.
        kernel, stride, depthwise: of a conv; padding is ``kernel // 2`` on every side.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    channels: int = 0
    kernel: int = 1
    stride: int = 1
    depthwise: bool = False


def _conv(name: str, source: str, channels: int, **options: int | bool) -> list[Layer]:
    """A convolution (with batch norm while it trains) and its ReLU."""
    return [
        Layer(name, "conv", (source,), channels, **options),  # type: ignore[arg-type]
        Layer(f"{name}_relu", "relu", (name,)),
    ]


def _separable(name: str, source: str, before: int, after: int, stride: int) -> list[Layer]:
    rows = _conv(f"{name}_dw", source, before, kernel=3, stride=stride, depthwise=True)
    rows += _conv(f"{name}_pw", rows[-1].name, after)
    if stride == 1 and before == after:
        rows.append(Layer(f"{name}_add", "add", (source, rows[-1].name)))
    return rows


def _inverted(name: str, source: str, narrow: int, wide: int) -> list[Layer]:
    rows = _conv(f"{name}_expand", source, wide)
    rows += _conv(f"{name}_dw", rows[-1].name, wide, kernel=3, depthwise=True)
    rows += _conv(f"{name}_project", rows[-1].name, narrow)
    return [*rows, Layer(f"{name}_add", "add", (source, rows[-1].name))]


def _layers(narrow: int = 24, wide: int = 144, last: int = 128) -> list[Layer]:
    rows = _conv("stem", "image", 16, kernel=3)  # 28 x 28
    rows += _separable("block1", rows[-1].name, 16, 32, stride=2)  # 14 x 14
    rows += _separable("block2", rows[-1].name, 32, 32, stride=1)
    rows += _separable("block3", rows[-1].name, 32, narrow, stride=2)  # 7 x 7
    for index in (4, 5, 6):
        rows += _inverted(f"block{index}", rows[-1].name, narrow, wide)
    rows += _conv("block7_expand", rows[-1].name, wide)
    rows += _separable("block7", rows[-1].name, wide, last, stride=2)  # 4 x 4
    return [
        *rows,
        Layer("pool", "pool", (rows[-1].name,)),
        Layer("features", "flatten", ("pool",)),
        Layer("logits", "dense", ("features",), CLASSES),
    ]


LAYERS = _layers()


class Net(nn.Module):
    """`LAYERS` as a torch module: float32 (n, 1, 28, 28) in 0..1 -> float32 (n, 10) logits."""

    def __init__(self) -> None:
        super().__init__()
        width = {"image": 1}
        self.steps = nn.ModuleDict()
        for layer in LAYERS:
            before = width[layer.inputs[0]]
            width[layer.name] = layer.channels or before
            if layer.kind == "conv":
                self.steps[layer.name] = nn.Sequential(
                    nn.Conv2d(
                        before,
                        layer.channels,
                        layer.kernel,
                        layer.stride,
                        layer.kernel // 2,
                        groups=before if layer.depthwise else 1,
                        bias=False,
                    ),
                    nn.BatchNorm2d(layer.channels),
                )
            elif layer.kind == "dense":
                self.steps[layer.name] = nn.Linear(before, layer.channels)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        live = {"image": image}
        for layer in LAYERS:
            value = live[layer.inputs[0]]
            match layer.kind:
                case "relu":
                    value = torch.relu_(value)
                case "add":
                    value = value + live[layer.inputs[1]]
                case "pool":
                    value = value.mean((2, 3), keepdim=True)
                case "flatten":
                    value = value.flatten(1)
                case _:
                    value = self.steps[layer.name](value)
            live[layer.name] = value
        return live["logits"]


def to_onnx(net: Net) -> onnx.ModelProto:
    """The trained network as ONNX: batch 1, batch norm folded, float32, opset `OPSET`."""
    nodes, weights = [], []
    for layer in LAYERS:
        inputs = list(layer.inputs)
        if layer.kind in {"conv", "dense"}:
            weight, bias = _folded(net.steps[layer.name])
            for suffix, array in (("weight", weight), ("bias", bias)):
                weights.append(numpy_helper.from_array(array, f"{layer.name}.{suffix}"))
                inputs.append(weights[-1].name)
        operator, attributes = _operator(layer)
        nodes.append(
            helper.make_node(operator, inputs, [layer.name], name=layer.name, **attributes)
        )
    graph = helper.make_graph(
        nodes,
        "fashion",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, IMAGE, IMAGE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, CLASSES])],
        weights,
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=7,
        producer_name="examples/fashion/train.py",
    )
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    onnx.checker.check_model(model, full_check=True)
    return model


def _operator(layer: Layer) -> tuple[str, dict[str, object]]:
    """ONNX operator and attributes of a layer."""
    match layer.kind:
        case "conv":
            pad, group = layer.kernel // 2, layer.channels if layer.depthwise else 1
            return "Conv", {
                "kernel_shape": [layer.kernel] * 2,
                "strides": [layer.stride] * 2,
                "pads": [pad] * 4,
                "group": group,
            }
        case "dense":
            return "Gemm", {"transB": 1}
        case "flatten":
            return "Flatten", {"axis": 1}
    return {"relu": "Relu", "add": "Add", "pool": "GlobalAveragePool"}[layer.kind], {}


def _folded(step: nn.Module) -> tuple[np.ndarray, np.ndarray]:
    """Weight and bias, float32, with the batch norm folded in (in float64)."""
    if isinstance(step, nn.Linear):
        return step.weight.detach().numpy(), step.bias.detach().numpy()
    conv, norm = step[0], step[1]  # type: ignore[index]
    gain = norm.weight.detach().double() / torch.sqrt(norm.running_var.double() + norm.eps)
    weight = conv.weight.detach().double() * gain[:, None, None, None]
    bias = norm.bias.detach().double() - norm.running_mean.double() * gain
    return weight.float().numpy(), bias.float().numpy()
