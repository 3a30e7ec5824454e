"""Small ONNX graphs written as text, and running them with ONNX Runtime, unoptimised."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper

from waistline.model import onnx_cut, onnx_graph

HEADER = '<ir_version: 8, opset_import: ["" : 17, "local" : 1]>\n'


def parse(text: str, **weights: np.ndarray) -> onnx.ModelProto:
    """A model from ONNX's text form, with initializers added."""
    proto = onnx.parser.parse_model(text if text.lstrip().startswith("<") else HEADER + text)
    for name, values in weights.items():
        proto.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
    return proto


def model(text: str, shapes=None, **weights: np.ndarray) -> onnx_graph.OnnxModel:
    return onnx_graph.from_proto(parse(text, **weights), Path("small.onnx"), shapes=shapes)


def stored(folder: Path, proto: onnx.ModelProto, name: str = "small.onnx") -> Path:
    path = folder / name
    path.write_bytes(proto.SerializeToString())
    return path


def run(source: onnx.ModelProto | Path, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Run a model on those of ``feeds`` it takes."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    data = str(source) if isinstance(source, Path) else source.SerializeToString()
    session = ort.InferenceSession(data, options, ["CPUExecutionProvider"])
    inputs = {item.name: feeds[item.name] for item in session.get_inputs()}
    names = [item.name for item in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def assert_cuts_equal(loaded, whole: dict[str, np.ndarray], feeds, frontiers=None) -> None:
    """Head + tail give exactly ``whole`` at every frontier, and every slice passes the checker."""
    for frontier in frontiers or loaded.graph.frontiers:
        head, tail = onnx_cut.cut_model(loaded, frontier)
        waist = feeds
        if head is not None:
            onnx.checker.check_model(head, full_check=not head.graph.sparse_initializer)
            waist = run(head, feeds)
            assert tuple(waist) == frontier.names
            for spec in frontier.tensors:
                assert waist[spec.name].shape == spec.shape
                assert waist[spec.name].dtype == spec.numpy_dtype
        got = waist
        if tail is not None:
            onnx.checker.check_model(tail, full_check=not tail.graph.sparse_initializer)
            assert tuple(value.name for value in tail.graph.input) == frontier.names
            got = run(tail, waist)
        for name, expected in whole.items():
            assert got[name].tobytes() == expected.tobytes(), (frontier.x, name)
