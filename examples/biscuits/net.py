"""Tiny YOLOv3 at half width as a list of layers, and what torch and ONNX make of it.

Redmon and Farhadi, "YOLOv3: An Incremental Improvement", and the ``yolov3-tiny.cfg`` that came
with it: seven 3 x 3 convolutions between max-pools, a coarse output at stride 32, and a finer one
at stride 16 that also sees the coarse features. One list (`LAYERS`) names every layer once, so
that node, tensor and layer names are the same in training, in the file and in a table of cuts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

IMAGE = 192
CLASSES = 3
ANCHORS = 3
"""To an output."""
OUTPUTS = ("boxes_32", "boxes_16")
STRIDES = (32, 16)
SLOPE = 0.1
OPSET = 17


@dataclass(frozen=True)
class Layer:
    """One layer; its output tensor bears its name.

    Attributes:
        name: unique.
        kind: conv, leaky, pool (2 x 2), upsample (twice, nearest) or concat.
        inputs: names of the layers (or ``image``) it reads.
        channels: output channels of a conv.
        kernel: of a conv; padding is ``kernel // 2`` on every side.
        stride: of a pool; with stride 1 it pads one row and column at the end.
        plain: a conv with a bias instead of batch norm, the outputs.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    channels: int = 0
    kernel: int = 3
    stride: int = 2
    plain: bool = False


def _conv(name: str, source: str, channels: int, kernel: int = 3) -> list[Layer]:
    """A convolution (with batch norm while it trains) and its leaky ReLU."""
    return [
        Layer(name, "conv", (source,), channels, kernel),
        Layer(f"{name}_leaky", "leaky", (name,)),
    ]


def _layers(width: float = 0.5) -> list[Layer]:
    def wide(channels: int) -> int:
        return round(channels * width)

    out = ANCHORS * (5 + CLASSES)
    rows: list[Layer] = []
    last = "image"
    for index, channels in enumerate((16, 32, 64, 128, 256), start=1):
        rows += _conv(f"conv{index}", last, wide(channels))
        rows.append(Layer(f"pool{index}", "pool", (f"conv{index}_leaky",)))
        last = f"pool{index}"
    rows += _conv("conv6", last, wide(512))
    rows.append(Layer("pool6", "pool", ("conv6_leaky",), stride=1))
    rows += _conv("conv7", "pool6", wide(1024))
    rows += _conv("squeeze", "conv7_leaky", wide(256), 1)
    rows += _conv("coarse", "squeeze_leaky", wide(512))
    rows.append(Layer(OUTPUTS[0], "conv", ("coarse_leaky",), out, 1, plain=True))
    rows += _conv("narrow", "squeeze_leaky", wide(128), 1)
    rows.append(Layer("upsample", "upsample", ("narrow_leaky",)))
    rows.append(Layer("concat", "concat", ("upsample", "conv5_leaky")))
    rows += _conv("fine", "concat", wide(256))
    rows.append(Layer(OUTPUTS[1], "conv", ("fine_leaky",), out, 1, plain=True))
    return rows


LAYERS = _layers()


class Net(nn.Module):
    """`LAYERS` as a torch module: (n, 3, 192, 192) in 0..1 -> raw outputs as `OUTPUTS` orders them.

    Each is (n, A * (5 + C), H, W), as `waistline.task.kinds.detect` reads it.
    """

    def __init__(self) -> None:
        super().__init__()
        width = {"image": 3}
        self.steps = nn.ModuleDict()
        for layer in LAYERS:
            before = sum(width[name] for name in layer.inputs)
            width[layer.name] = layer.channels or before
            if layer.kind == "conv":
                conv = nn.Conv2d(
                    before, layer.channels, layer.kernel, 1, layer.kernel // 2, bias=layer.plain
                )
                norm = (
                    nn.Identity() if layer.plain else nn.BatchNorm2d(layer.channels, momentum=0.03)
                )
                self.steps[layer.name] = nn.Sequential(conv, norm)
        for name in OUTPUTS:  # few cells hold an object: begin near that (focal loss, section 3.3)
            bias = self.steps[name][0].bias.data.view(ANCHORS, 5 + CLASSES)
            bias[:, 4], bias[:, 5:] = -4.0, -1.0

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        live = {"image": image}
        for layer in LAYERS:
            values = [live[name] for name in layer.inputs]
            live[layer.name] = self._step(layer, values)
        return tuple(live[name] for name in OUTPUTS)

    def _step(self, layer: Layer, values: list[torch.Tensor]) -> torch.Tensor:
        match layer.kind:
            case "leaky":
                return nn.functional.leaky_relu(values[0], SLOPE, inplace=True)
            case "pool":
                if layer.stride == 1:
                    values[0] = nn.functional.pad(values[0], (0, 1, 0, 1), value=-1e4)
                return nn.functional.max_pool2d(values[0], 2, layer.stride)
            case "upsample":
                return nn.functional.interpolate(values[0], scale_factor=2.0, mode="nearest")
            case "concat":
                return torch.cat(values, 1)
        return self.steps[layer.name](values[0])


def to_onnx(net: Net) -> onnx.ModelProto:
    """The trained network as ONNX: batch 1, batch norm folded, weights as float16 with a Cast.

    The arithmetic stays float32: an engine casts the weights once, when it opens the model.
    """
    nodes, weights = [], []
    for layer in LAYERS:
        inputs = list(layer.inputs)
        if layer.kind == "conv":
            weight, bias = _folded(net.steps[layer.name])
            half, full = f"{layer.name}.weight_f16", f"{layer.name}.weight"
            weights.append(numpy_helper.from_array(weight.astype(np.float16), half))
            weights.append(numpy_helper.from_array(bias, f"{layer.name}.bias"))
            nodes.append(helper.make_node("Cast", [half], [full], name=full, to=TensorProto.FLOAT))
            inputs += [full, f"{layer.name}.bias"]
        if layer.kind == "upsample":
            scales = np.array([1, 1, 2, 2], np.float32)
            weights.append(numpy_helper.from_array(scales, f"{layer.name}.scales"))
            inputs += ["", f"{layer.name}.scales"]
        operator, attributes = _operator(layer)
        nodes.append(
            helper.make_node(operator, inputs, [layer.name], name=layer.name, **attributes)
        )
    out = ANCHORS * (5 + CLASSES)
    results = [
        helper.make_tensor_value_info(
            name, TensorProto.FLOAT, [1, out, IMAGE // stride, IMAGE // stride]
        )
        for name, stride in zip(OUTPUTS, STRIDES, strict=True)
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, IMAGE, IMAGE])
    model = helper.make_model(
        helper.make_graph(nodes, "biscuits", [image], results, weights),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=8,
        producer_name="examples/biscuits/train.py",
    )
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    onnx.checker.check_model(model, full_check=True)
    return model


def _operator(layer: Layer) -> tuple[str, dict[str, object]]:
    """ONNX operator and attributes of a layer."""
    match layer.kind:
        case "conv":
            pads = [layer.kernel // 2] * 4
            return "Conv", {"kernel_shape": [layer.kernel] * 2, "pads": pads}
        case "pool":
            end = 2 - layer.stride
            strides = [layer.stride] * 2
            return "MaxPool", {
                "kernel_shape": [2, 2],
                "strides": strides,
                "pads": [0, 0, end, end],
            }
        case "upsample":
            return "Resize", {
                "mode": "nearest",
                "coordinate_transformation_mode": "asymmetric",
                "nearest_mode": "floor",
            }
        case "concat":
            return "Concat", {"axis": 1}
    return "LeakyRelu", {"alpha": SLOPE}


def _folded(step: nn.Sequential) -> tuple[np.ndarray, np.ndarray]:
    """Weight and bias, float32, with the batch norm folded in (in float64)."""
    conv, norm = step[0], step[1]
    weight = conv.weight.detach().double()
    if isinstance(norm, nn.Identity):
        return weight.float().numpy(), conv.bias.detach().float().numpy()
    gain = norm.weight.detach().double() / torch.sqrt(norm.running_var.double() + norm.eps)
    bias = norm.bias.detach().double() - norm.running_mean.double() * gain
    return (weight * gain[:, None, None, None]).float().numpy(), bias.float().numpy()
