"""Building a random-weight graph layer by layer, and bringing its logits to a sane scale."""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Sequence

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

OPSET = 17
IR_VERSION = 8


class Net:
    """A graph under construction: each method adds layers and returns the tensor they write."""

    def __init__(self, name: str, inputs: dict[str, tuple[int, ...]]) -> None:
        self.name = name
        self.rng = np.random.default_rng(zlib.crc32(name.encode()))
        self.shape = dict(inputs)
        self.inputs = list(inputs)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.last: list[str] = []
        """Weights and biases to rescale, one output after the other."""

    def add(self, operator: str, *inputs: str, name: str = "", **attributes: object) -> str:
        name = name or f"{operator.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def weight(self, name: str, values: np.ndarray) -> str:
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def normal(self, name: str, shape: tuple[int, ...], std: float) -> str:
        values = self.rng.standard_normal(shape, dtype=np.float32)
        values *= np.float32(std)
        return self.weight(name, values)

    def uniform(self, name: str, size: int) -> str:
        return self.weight(name, self.rng.uniform(0.5, 1.5, size).astype(np.float32))

    def conv(
        self,
        x: str,
        channels: int,
        kernel: int,
        stride: int = 1,
        *,
        pad: int | None = None,
        group: int = 1,
        norm: bool = True,
        act: str = "Relu",
        name: str = "",
    ) -> str:
        """Convolution, batch normalisation, activation; ``self.shape`` holds (N, C, H, W)."""
        name = name or f"conv{len(self.nodes)}"
        batch, before, height, width = self.shape[x]
        pad = kernel // 2 if pad is None else pad
        fan_in = before // group * kernel * kernel
        gain = 2.0 if act else 1.0
        shape = (channels, before // group, kernel, kernel)
        inputs = [x, self.normal(f"{name}.w", shape, math.sqrt(gain / fan_in))]
        if not norm:
            inputs.append(self.normal(f"{name}.b", (channels,), 0.1))
        y = self.add(
            "Conv",
            *inputs,
            name=name,
            kernel_shape=[kernel] * 2,
            strides=[stride] * 2,
            pads=[pad] * 4,
            group=group,
        )
        if norm:
            y = self.norm(y, channels, f"{name}.bn")
        if act:
            y = self.act(y, act, f"{name}.act")
        out = [(size + 2 * pad - kernel) // stride + 1 for size in (height, width)]
        self.shape[y] = (batch, channels, *out)
        return y

    def norm(self, x: str, channels: int, name: str) -> str:
        return self.add(
            "BatchNormalization",
            x,
            self.uniform(f"{name}.scale", channels),
            self.normal(f"{name}.bias", (channels,), 0.1),
            self.normal(f"{name}.mean", (channels,), 0.1),
            self.uniform(f"{name}.var", channels),
            name=name,
        )

    def act(self, x: str, act: str, name: str) -> str:
        if act == "Relu6":
            low = self.weight(f"{name}.lo", np.float32(0).reshape(()))
            return self.add(
                "Clip", x, low, self.weight(f"{name}.hi", np.float32(6).reshape(())), name=name
            )
        return self.add(act, x, name=name, **({"alpha": 0.1} if act == "LeakyRelu" else {}))

    def pool(self, x: str, kernel: int, stride: int, pads: Sequence[int] = (0, 0, 0, 0)) -> str:
        y = self.add("MaxPool", x, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads)
        batch, channels, *sizes = self.shape[x]
        padded = [size + pads[k] + pads[k + 2] for k, size in enumerate(sizes)]
        out = [(size - kernel) // stride + 1 for size in padded]
        self.shape[y] = (batch, channels, *out)
        return y

    def flatten(self, x: str) -> str:
        y = self.add("Flatten", x)
        self.shape[y] = (1, math.prod(self.shape[x]))
        return y

    def average(self, x: str) -> str:
        y = self.add("GlobalAveragePool", x)
        self.shape[y] = (*self.shape[x][:2], 1, 1)
        return y

    def plus(self, x: str, y: str, name: str = "") -> str:
        total = self.add("Add", x, y, name=name)
        self.shape[total] = self.shape[x]
        return total

    def dense(self, x: str, size: int, name: str, act: str = "") -> str:
        before = self.shape[x][-1]
        weight = self.normal(f"{name}.w", (size, before), math.sqrt((2 if act else 1) / before))
        y = self.add("Gemm", x, weight, self.normal(f"{name}.b", (size,), 0.1), name=name, transB=1)
        y = self.act(y, act, f"{name}.act") if act else y
        self.shape[y] = (1, size)
        return y

    def linear(self, x: str, size: int, name: str) -> str:
        """MatMul and Add over the last axis, as exporters write a dense layer on 3-D tensors."""
        before = self.shape[x][-1]
        weight = self.normal(f"{name}.w", (before, size), 1 / math.sqrt(before))
        y = self.add("MatMul", x, weight, name=f"{name}.mul")
        y = self.add("Add", y, self.normal(f"{name}.b", (size,), 0.1), name=name)
        self.shape[y] = (*self.shape[x][:-1], size)
        return y

    def model(self, *outputs: str) -> onnx.ModelProto:
        """The finished model; the layer behind each output is rescaled."""
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            self.nodes,
            self.name,
            [value(name, onnx.TensorProto.FLOAT, self.shape[name]) for name in self.inputs],
            [value(name, onnx.TensorProto.FLOAT, self.shape[name]) for name in outputs],
            self.weights,
        )
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        return rescale(model, outputs)


def sample_input(model: onnx.ModelProto, seed: int = 0) -> dict[str, np.ndarray]:
    """Standard normal float32 values for each input that is not a weight."""
    rng = np.random.default_rng(seed)
    weights = {tensor.name for tensor in model.graph.initializer}
    return {
        value.name: rng.standard_normal(
            [axis.dim_value for axis in value.type.tensor_type.shape.dim], dtype=np.float32
        )
        for value in model.graph.input
        if value.name not in weights
    }


def rescale(model: onnx.ModelProto, outputs: Sequence[str]) -> onnx.ModelProto:
    """Divide the last weighted layer of each output by the standard deviation it gives."""
    graph = model.graph
    declared = [value.name for value in graph.output]
    probes = [name for name in outputs if name not in declared]
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in probes)
    session = ort.InferenceSession(
        model.SerializeToString(), session_options(exact=False), ["CPUExecutionProvider"]
    )
    del graph.output[len(declared) :]
    values = session.run(list(outputs), sample_input(model))
    maker = {name: node for node in graph.node for name in node.output}
    weights = {tensor.name: tensor for tensor in graph.initializer}
    for output, value in zip(outputs, values, strict=True):
        for name in _last_weights(output, maker, weights):
            scaled = numpy_helper.to_array(weights[name]) / value.std()
            weights[name].CopyFrom(numpy_helper.from_array(scaled.astype(np.float32), name))
    return model


def _last_weights(
    name: str, maker: dict[str, onnx.NodeProto], weights: dict[str, onnx.TensorProto]
) -> list[str]:
    """Weight and bias of the last Conv, Gemm or MatMul (+ Add) before a tensor."""
    found: list[str] = []
    while True:
        node = maker[name]
        own = [source for source in node.input[1:] if source in weights or source in maker]
        if node.op_type in {"Conv", "Gemm", "MatMul"}:
            through = (maker[s].input[0] if s in maker else s for s in own)  # Reshape of a weight
            return [*found, *through]
        if node.op_type == "Add":
            found += [source for source in own if source in weights]
        name = node.input[0]


def session_options(*, exact: bool) -> ort.SessionOptions:
    """One thread, no spinning; ``exact`` turns every graph optimisation off."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_DISABLE_ALL if exact else level.ORT_ENABLE_ALL
    return options
