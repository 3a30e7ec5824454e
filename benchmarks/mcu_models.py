"""Int8 TFLite models for the microcontroller's benchmarks, and what tflite-micro makes of them."""

from __future__ import annotations

from collections.abc import Sequence

import mcu_tools  # also the path to the tests' helpers
import numpy as np
import tflite_help
from lower_nets import ACTS, SAME, VALID, Int8Net
from oracle_help import Micro

from waistline.bundle.cuts import list_cuts, pick_default_cut
from waistline.model import tflite_cut
from waistline.model.frontiers import find_frontier
from waistline.model.load import load_model
from waistline.task.load import load_task

RELU6 = ACTS.RELU6


def mobilenet() -> bytes:
    """MobileNetV1-0.25, 96 x 96 x 3, 2 classes, random weights (arXiv:1704.04861)."""
    net = Int8Net(1)
    x = net.windowed(net.input([1, 96, 96, 3]), 8, (3, 3), (2, 2), act=RELU6)
    plan = [(16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *[(128, 1)] * 5, (256, 2)]
    for channels, stride in [*plan, (256, 1)]:
        width = net.shape(x)[3]
        x = net.windowed(x, width, (3, 3), (stride, stride), act=RELU6, depthwise=True)
        x = net.windowed(x, channels, (1, 1), act=RELU6)
    size = net.shape(x)[1:3]
    x = net.pooled(x, (size[0], size[1]), (1, 1), VALID, largest=False)
    return net.finish(net.connected(x, 2, ACTS.NONE, per_channel=False))


def ds_cnn() -> bytes:
    """Keyword spotting, 49 x 10, 64 channels, 12 classes, random weights (arXiv:1711.07128)."""
    net = Int8Net(2)
    x = net.windowed(net.input([1, 49, 10, 1]), 64, (10, 4), (2, 2), act=ACTS.RELU)
    for _ in range(4):
        x = net.windowed(x, 64, (3, 3), act=ACTS.RELU, depthwise=True)
        x = net.windowed(x, 64, (1, 1), act=ACTS.RELU)
    size = net.shape(x)[1:3]
    x = net.pooled(x, (size[0], size[1]), (1, 1), VALID, largest=False)
    return net.finish(net.connected(x, 12, ACTS.NONE, per_channel=False))


def tiny_yolo() -> bytes:
    """The first three convolutions of a Tiny-YOLO, each with a pool; 96 x 96 x 3."""
    net = Int8Net(3)
    x = net.input([1, 96, 96, 3])
    for channels in (16, 32, 64):
        x = net.windowed(x, channels, (3, 3), padding=SAME, act=ACTS.RELU)
        x = net.pooled(x, (2, 2), (2, 2), VALID, largest=True)
    return net.finish(x)


def example_head(cut: str = "") -> bytes:
    """The head of examples/fashion/model.int8.tflite behind ``cut``, or at its default cut."""
    model = load_model(mcu_tools.FASHION / "model.int8.tflite")
    if cut:
        frontier = find_frontier(model.graph, cut)
    else:
        rows = list_cuts(model, load_task(mcu_tools.FASHION / "task.toml"))
        frontier = find_frontier(model.graph, pick_default_cut(rows).x)
    head, _ = tflite_cut.cut_model(model, frontier)
    assert head is not None
    return bytes(head)


MODELS = {
    "example's default head": example_head,
    "MobileNetV1-0.25 96x96": mobilenet,
    "DS-CNN 49x10": ds_cnn,
    "Tiny-YOLO-like 96x96": tiny_yolo,
}


def micro_tensors(model: bytes, inputs: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Every activation by name, by tflite-micro: the model with all of them for outputs."""
    changed = tflite_help.unpacked(model)
    graph = changed.subgraphs[0]
    graph.outputs = [number for operator in graph.operators for number in operator.outputs]
    names = [graph.tensors[number].name for number in graph.outputs]
    texts = [name.decode() if isinstance(name, bytes) else name for name in names]
    with Micro() as micro:
        found = micro(tflite_help.packed(changed), inputs, len(texts))
    return dict(zip(texts, found, strict=True))
