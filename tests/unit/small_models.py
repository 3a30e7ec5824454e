"""Small ONNX models and tasks, made by hand, for the tests of tasks, bundles and splitting."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FRAME_SHAPE = (8, 8, 1)
CLASSES = 4


def weights(name: str, *shape: int, seed: int = 0) -> onnx.TensorProto:
    random = np.random.default_rng([seed, *name.encode()])
    scale = np.sqrt(2.0 / max(1, int(np.prod(shape[1:]))))
    return numpy_helper.from_array((random.standard_normal(shape) * scale).astype("f4"), name)


def classifier_proto(seed: int = 0, gain: float = 1.0) -> onnx.ModelProto:
    """(1, 1, 8, 8) -> conv -> relu -> conv -> add (skip edge) -> flatten -> dense -> (1, 4).

    Frontiers: 1 image, 2 a, 3 b, 4 {b, c}, 5 d, 6 e, 7 logits.
    """
    dense = numpy_helper.to_array(weights("wd", 4 * 64, CLASSES, seed=seed)) * gain
    nodes = [
        helper.make_node("Conv", ["image", "wa"], ["a"], "conv_a", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], "relu_b"),
        helper.make_node("Conv", ["b", "wc"], ["c"], "conv_c", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["b", "c"], ["d"], "add_d"),
        helper.make_node("Flatten", ["d"], ["e"], "flatten_e"),
        helper.make_node("MatMul", ["e", "wd"], ["logits"], "dense"),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, CLASSES])],
        [
            weights("wa", 4, 1, 3, 3, seed=seed),
            weights("wc", 4, 4, 3, 3, seed=seed),
            numpy_helper.from_array(dense.astype("f4"), "wd"),
        ],
    )
    return _model(graph)


def two_inputs_proto() -> onnx.ModelProto:
    """Inputs x (1, 6) and mask int64 (1, 6); the mask is read by the tail only.

    y = relu(x) is also an output of the model, so it crosses later cuts already computed.
    Outputs: z (1, 6) and y (1, 6).
    """
    nodes = [
        helper.make_node("Relu", ["x"], ["y"], "relu"),
        helper.make_node("Neg", ["y"], ["n"], "neg"),
        helper.make_node("Cast", ["mask"], ["m"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["n", "m"], ["z"], "mul"),
    ]
    graph = helper.make_graph(
        nodes,
        "two",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 6]),
            helper.make_tensor_value_info("mask", TensorProto.INT64, [1, 6]),
        ],
        [
            helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 6]),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 6]),
        ],
    )
    return _model(graph)


def _model(graph: onnx.GraphProto) -> onnx.ModelProto:
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def write_classifier(folder: Path, **options: float) -> Path:
    path = folder / "small.onnx"
    onnx.save(classifier_proto(**options), str(path))
    return path


def write_two_inputs(folder: Path) -> Path:
    path = folder / "two.onnx"
    onnx.save(two_inputs_proto(), str(path))
    return path


def write_task(folder: Path, frames: int = 12) -> Path:
    """A classify task for the classifier, with labelled calibration and selection data."""
    random = np.random.default_rng(5)
    for name in ("calibration", "selection"):
        images = random.integers(0, 256, (frames, *FRAME_SHAPE), np.uint8)
        labels = random.integers(0, CLASSES, frames)
        np.savez(folder / f"{name}.npz", images=images, labels=labels)
    path = folder / "task.toml"
    path.write_text(
        """
        kind = "classify"
        metric = "top1"
        [preprocess]
        frame_shape = [8, 8, 1]
        size = [8, 8]
        [answer]
        top_k = 2
        classes = ["bag", "boot", "coat", "dress"]
        [data.calibration]
        kind = "npz"
        path = "calibration.npz"
        [data.selection]
        kind = "npz"
        path = "selection.npz"
        """
    )
    return path
