"""Reading an int8 ONNX head in QDQ form, as ONNX Runtime's static quantization writes it.

Every activation is float in the file, between a QuantizeLinear and a DequantizeLinear; a layer is
what lies between one DequantizeLinear and the next QuantizeLinear. Tensors become NHWC. ONNX
Runtime computes such a graph in float32 and rounds ties to even, or with integer kernels of its
own; the firmware's integers differ from it by at most one step a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from waistline.blob.form import Clamp, Int8Head
from waistline.model.onnx_graph import OnnxModel, load_onnx
from waistline.tensors import Layout, TensorSpec
from waistline_bridge.lower.build import HeadBuilder
from waistline_bridge.lower.factors import clamp_between
from waistline_bridge.lower.qdq_values import Constants, Pending, Value, stored_shape
from waistline_bridge.lower.refuse import NoLayer, Unsupported, refusal


def read_qdq(path: str | Path) -> Int8Head:
    """The layers of an ONNX file.

    Raises:
        ModelError: not an ONNX model, or one the firmware cannot run; names the node and why.
    """
    return lower_qdq(load_onnx(path))


def lower_qdq(model: OnnxModel) -> Int8Head:
    """As `read_qdq`, from a model that was read."""
    return QdqReader(model).read()


class QdqReader:
    """Walks the nodes; the rules of the operators are in ``qdq_layers``."""

    def __init__(self, model: OnnxModel) -> None:
        self.model = model
        self.constants = Constants(model)
        self.build = HeadBuilder()
        self._stored: dict[str, Value] = {}  # int8 tensors
        self._known: dict[str, Value | Pending] = {}  # float tensors
        self._inputs: dict[str, int] = {}
        self._maker: dict[str, Any] = {}  # the node behind each promise
        self._blamed: Any = None

    def read(self) -> Int8Head:
        from waistline_bridge.lower.qdq_layers import RULES

        rules: Mapping[str, Callable[[QdqReader, Any], None]] = {
            "QuantizeLinear": QdqReader._quantize,
            "DequantizeLinear": QdqReader._dequantize,
            **RULES,
        }
        for layer in self.model.graph.layers:
            node = self._blamed = self.model.proto.graph.node[layer.index]
            try:
                if layer.operator not in rules:
                    raise NoLayer(layer.operator)
                rules[layer.operator](self, node)
            except Unsupported as error:
                shown = f"node {self._blamed.name!r} ({self._blamed.op_type})"
                raise refusal(shown, self.model.path.name, str(error)) from error
        try:
            return self._finish()
        except Unsupported as error:
            raise refusal("the whole", self.model.path.name, str(error)) from error

    def _finish(self) -> Int8Head:
        inputs, outputs = [], []
        for spec in self.model.graph.inputs:
            if spec.name in self._inputs:
                number = self._inputs[spec.name]
                inputs.append((number, self._outside(spec.name, number)))
            elif self._readers(spec.name, of_nodes=True):
                raise Unsupported(f"its input {spec.name!r} is not quantized first")
        for spec in self.model.graph.outputs:
            if spec.name in self.model.index.inputs:
                continue
            found = self._stored.get(spec.name) or self._known.get(spec.name)
            if not isinstance(found, Value):
                raise Unsupported(f"its output {spec.name!r} is float, not quantized in the end")
            if found.mixed is not None:
                raise Unsupported(
                    f"its output {spec.name!r} is flattened from an image; cut before"
                )
            outputs.append((found.tensor, self._outside(spec.name, found.tensor)))
        return self.build.finish(inputs, outputs)

    def _outside(self, name: str, number: int) -> TensorSpec:
        made, shape = self.build.tensors[number], stored_shape(self.model, name)
        layout: Layout = "NHWC" if len(shape) == 4 else "NC"
        last = len(shape) - 1
        return TensorSpec(name, "int8", shape, layout, last, made.scale, made.zero_point)

    # What the rules use.

    def value(self, name: str) -> Value:
        """A float operand that is a dequantized tensor."""
        found = self._known.get(name)
        if isinstance(found, Value):
            return found
        if isinstance(found, Pending):
            raise Unsupported(f"{name!r} is not quantized before it is used")
        if name in self.constants:
            raise Unsupported(f"{name!r} is a constant where it takes an activation")
        raise Unsupported(f"{name!r} is float, not a dequantized int8 tensor")

    def image(self, name: str) -> int:
        """As `value`, in the order of its axes."""
        found = self.value(name)
        if found.mixed is not None:
            raise Unsupported(f"{name!r} is flattened from an image")
        return found.tensor

    def promise(self, name: str, pending: Pending) -> None:
        self._known[name] = pending
        self._maker[name] = self._blamed

    def alias(self, name: str, value: Value) -> None:
        self._known[name] = value

    def limit(self, name: str, out: str, low: float | None, high: float | None) -> None:
        """An activation: joins the layer that makes its operand, or is a layer of its own."""
        found = self._known.get(name)
        if isinstance(found, Pending):
            if self._readers(name) > 1:
                raise Unsupported(f"{name!r} is used elsewhere before it is quantized")
            lows = [limit for limit in (found.low, low) if limit is not None]
            highs = [limit for limit in (found.high, high) if limit is not None]
            # The later limits win where they cross: min(max(x, low), high).
            low = max(lows, default=None)
            high = min(highs, default=None)
            self._known[out] = replace(found, low=low, high=high)
            self._maker[out] = self._maker[name]
            return
        source = self.value(name)

        def make(y: int, clamp: Clamp) -> None:
            self.build.rescale_exactly(source.tensor, y, clamp)

        self.promise(out, Pending(make, low=low, high=high, mixed=source.mixed))

    def _readers(self, name: str, *, of_nodes: bool = False) -> int:
        nodes = [self.model.proto.graph.node[layer.index] for layer in self.model.graph.layers]
        outputs = [] if of_nodes else [spec.name for spec in self.model.graph.outputs]
        return sum(list(node.input).count(name) for node in nodes) + outputs.count(name)

    def _quantize(self, node: Any) -> None:
        name, made = node.input[0], node.output[0]
        scale, zero_point = self.constants.step(node)
        found = self._known.get(name)
        if found is None and name in self.model.index.inputs:
            if name in self._inputs:
                raise Unsupported(f"the input {name!r} is quantized twice")
            number = self._tensor(name, scale, zero_point, None)
            self._inputs[name] = number
            self._stored[made] = Value(number)
        elif isinstance(found, Pending):
            if self._readers(name) > 1:
                raise Unsupported(f"{name!r} is used elsewhere before it is quantized")
            number = self._tensor(name, scale, zero_point, found.mixed)
            self._blamed = self._maker[name]
            self._make(found, number)
            self._stored[made] = Value(number, found.mixed)
        else:
            value = self.value(name)
            if self._has_step(value.tensor, scale, zero_point):
                self._stored[made] = value
                return
            shape = (1, *self.build.tensors[value.tensor].shape)
            number = self.build.tensor(made, shape, scale, zero_point)
            self.build.rescale_exactly(value.tensor, number, Clamp())
            self._stored[made] = Value(number, value.mixed)

    def _has_step(self, number: int, scale: float, zero_point: int) -> bool:
        made = self.build.tensors[number]
        return made.scale == scale and made.zero_point == zero_point

    def _tensor(
        self, name: str, scale: float, zero_point: int, mixed: tuple[int, int, int] | None
    ) -> int:
        shape = stored_shape(self.model, name)
        if mixed is not None:
            shape = (1, mixed[1], mixed[2], mixed[0])
        return self.build.tensor(name, shape, scale, zero_point)

    def _make(self, pending: Pending, y: int) -> None:
        """Add the layer, and a second one where it cannot scale or clamp."""
        made = self.build.tensors[y]
        clamp = clamp_between(made, pending.low, pending.high)
        like = made if pending.like is None else self.build.tensors[pending.like]
        own_step = (like.scale, like.zero_point) == (made.scale, made.zero_point)
        if own_step and (pending.clamps or clamp == Clamp()):
            pending.make(y, clamp)
            return
        middle = self.build.tensor(
            f"{made.name}:unscaled", (1, *made.shape), like.scale, like.zero_point
        )
        pending.make(middle, Clamp())
        self.build.rescale_exactly(middle, y, clamp)

    def _dequantize(self, node: Any) -> None:
        name = node.input[0]
        scale, zero_point = self.constants.step(node)
        if name in self.model.index.inputs and name not in self._stored:
            number = self._tensor(name, scale, zero_point, None)
            self._inputs[name] = number
            self._stored[name] = Value(number)
        if name not in self._stored:
            raise Unsupported(f"{name!r} is not an int8 activation")
        value = self._stored[name]
        if not self._has_step(value.tensor, scale, zero_point):
            raise Unsupported(f"{name!r} is read with another scale than it was written with")
        self._known[node.output[0]] = value
