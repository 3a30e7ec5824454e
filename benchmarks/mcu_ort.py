"""ONNX Runtime on a quantized head, whole or one layer at a time, optimised and not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import accuracy  # noqa: F401  # sets what must be set before onnxruntime is imported
import numpy as np
import onnx
import onnx.utils
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

_ALL, _NONE = (
    onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
)
LEVELS: dict[str, tuple[Any, dict[str, str]]] = {
    "plain": (_NONE, {}),
    "fused": (_ALL, {}),
    "fused, x64quantprecision": (_ALL, {"session.x64quantprecision": "1"}),
}
"""The last: without the x86 instructions that saturate between two products."""


def _session(proto: onnx.ModelProto, level: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = LEVELS[level][0]
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    for key, value in LEVELS[level][1].items():
        options.add_session_config_entry(key, value)
    return onnxruntime.InferenceSession(proto.SerializeToString(), options)


class Quantized:
    """ONNX Runtime on a QDQ head, its batch axis freed; gives the codes of its int8 tensors.

    They are read from a DequantizeLinear behind each: an int8 tensor that is an output itself
    would keep the layer before it from being fused.
    """

    def __init__(self, path: Path, level: str, only: str = "") -> None:
        proto = onnx.load(str(path))
        graph = proto.graph
        constants = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
        found = [node for node in graph.node if node.op_type == "QuantizeLinear"]
        self.codes = {node.input[0]: node.output[0] for node in found}
        self.names = [name for name in self.codes if only in ("", name, self.codes[name])]
        del graph.output[:], graph.value_info[:]
        self._scales = {}
        for node in found:
            name, code = node.input[0], node.output[0]
            if name in self.names:
                inputs, shown = [code, *node.input[1:]], f"{code}:shown"
                graph.node.append(helper.make_node("DequantizeLinear", inputs, [shown]))
                made = helper.make_tensor_value_info(shown, TensorProto.FLOAT, None)
                graph.output.append(made)
                self._scales[name] = [constants[key] for key in node.input[1:]]
        graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
        self._input = graph.input[0].name
        self._session = _session(proto, level)
        for name in self.names:
            if name != self._input:
                made = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
                graph.value_info.append(made)
        self._extractor = onnx.utils.Extractor(proto)

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """float32 (n, c, h, w) -> int8 codes (n, h, w, c) or (n, k) by the real tensors' names."""
        shown = [f"{self.codes[name]}:shown" for name in self.names]
        values = self._session.run(shown, {self._input: images})
        return {
            name: self._codes(name, value) for name, value in zip(self.names, values, strict=True)
        }

    def _codes(self, name: str, values: np.ndarray) -> np.ndarray:
        scale, zero = self._scales[name]
        codes = (np.rint(values / scale) + zero).astype(np.int8)
        return codes.transpose(0, 2, 3, 1) if codes.ndim == 4 else codes

    def alone(self, name: str, feeds: dict[str, np.ndarray], level: str) -> np.ndarray:
        """Codes of tensor ``name`` by what lies between it and ``feeds``, codes of others.

        They enter as floats and are quantized again, to the same codes: ONNX Runtime does not
        treat an int8 input as it treats an int8 tensor within.
        """
        shown = f"{self.codes[name]}:shown"
        part = self._extractor.extract_model(list(feeds), [shown])
        given = {}
        for key, codes in feeds.items():
            scale, zero = self._scales[key]
            values = (codes.astype(np.float32) - zero) * scale
            given[key] = values.transpose(0, 3, 1, 2) if codes.ndim == 4 else values
        (made,) = _session(part, level).run([shown], given)
        return self._codes(name, made)
