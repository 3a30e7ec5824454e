"""Well-known networks as ONNX graphs with seeded random weights, for checks and cost studies.

No weights are downloaded: convolutions and dense layers get He-scaled normal weights, batch
normalisations a scale and variance of 0.5..1.5, and the last layer of each output is rescaled so
that the logits have a standard deviation of 1 on a seeded random input. (A uniform or one-hot
softmax would hide a wrong cut.) Shapes, MACs and bytes are those of the real networks; the answers
mean nothing.

    python examples/graphs.py --list
    python examples/graphs.py mobilenetv2 tiny_yolov3

Graphs go to ``$XDG_CACHE_HOME/waistline/graphs``, or ``.cache/graphs`` of the checkout, never into
git.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from graphs_light import light_files, reweighted
from graphs_net import Net

VERSION = 1
"""Counts changes of the graphs below; an older cache is not read."""


def mobilenetv2(size: int = 224) -> onnx.ModelProto:
    """MobileNetV2 1.0 (Sandler et al. 2018, table 2): inverted residuals, ReLU6."""
    net = Net("mobilenetv2", {"image": (1, 3, size, size)})
    x = net.conv("image", 32, 3, 2, act="Relu6")
    for expand, channels, repeat, stride in (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ):
        for k in range(repeat):
            before = net.shape[x][1]
            y = net.conv(x, before * expand, 1, act="Relu6") if expand > 1 else x
            wide, step = before * expand, stride if k == 0 else 1
            y = net.conv(y, wide, 3, step, group=wide, act="Relu6")
            y = net.conv(y, channels, 1, act="")
            x = net.plus(x, y) if step == 1 and before == channels else y
    x = net.average(net.conv(x, 1280, 1, act="Relu6"))
    return net.model(net.dense(net.flatten(x), 1000, "logits"))


def tiny_yolov3(size: int = 416) -> onnx.ModelProto:
    """Tiny YOLOv3 (Redmon and Farhadi 2018): leaky ReLU, outputs at strides 32 and 16."""
    net = Net("tiny_yolov3", {"image": (1, 3, size, size)})
    leaky, x = "LeakyRelu", "image"
    for channels in (16, 32, 64, 128):
        x = net.pool(net.conv(x, channels, 3, act=leaky), 2, 2)
    route = net.conv(x, 256, 3, act=leaky)
    x = net.conv(net.pool(route, 2, 2), 512, 3, act=leaky)
    x = net.conv(net.pool(x, 2, 1, (0, 0, 1, 1)), 1024, 3, act=leaky)
    x = net.conv(x, 256, 1, act=leaky)
    coarse = net.conv(net.conv(x, 512, 3, act=leaky), 255, 1, norm=False, act="", name="coarse")
    x = net.conv(x, 128, 1, act=leaky)
    scales = net.weight("scales", np.array([1, 1, 2, 2], np.float32))
    up = net.add("Resize", x, "", scales, mode="nearest", nearest_mode="floor")
    both = net.add("Concat", up, route, axis=1)
    net.shape[both] = (1, 128 + 256, *net.shape[route][2:])
    fine = net.conv(net.conv(both, 256, 3, act=leaky), 255, 1, norm=False, act="", name="fine")
    return net.model(coarse, fine)


def vgg16(size: int = 224) -> onnx.ModelProto:
    """VGG16 (Simonyan and Zisserman 2014, configuration D)."""
    net = Net("vgg16", {"image": (1, 3, size, size)})
    x = "image"
    for channels, repeat in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(repeat):
            x = net.conv(x, channels, 3, norm=False)
        x = net.pool(x, 2, 2)
    x = net.dense(net.dense(net.flatten(x), 4096, "fc6", "Relu"), 4096, "fc7", "Relu")
    return net.model(net.dense(x, 1000, "logits"))


def alexnet(size: int = 227) -> onnx.ModelProto:
    """AlexNet (Krizhevsky et al. 2012): 96 first channels, two groups, local normalisation."""
    net = Net("alexnet", {"image": (1, 3, size, size)})

    def normalised_pool(x: str) -> str:
        y = net.add("LRN", x, size=5, alpha=1e-4, beta=0.75, bias=1.0)
        net.shape[y] = net.shape[x]
        return net.pool(y, 3, 2)

    x = normalised_pool(net.conv("image", 96, 11, 4, pad=0, norm=False))
    x = normalised_pool(net.conv(x, 256, 5, group=2, norm=False))
    x = net.conv(net.conv(x, 384, 3, norm=False), 384, 3, group=2, norm=False)
    x = net.pool(net.conv(x, 256, 3, group=2, norm=False), 3, 2)
    x = net.dense(net.dense(net.flatten(x), 4096, "fc6", "Relu"), 4096, "fc7", "Relu")
    return net.model(net.dense(x, 1000, "logits"))


def resnet50(size: int = 224) -> onnx.ModelProto:
    """ResNet50 (He et al. 2015) with the stride in the 3x3 convolution, as it is deployed."""
    net = Net("resnet50", {"image": (1, 3, size, size)})
    x = net.pool(net.conv("image", 64, 7, 2), 3, 2, (1, 1, 1, 1))
    for stage, (width, repeat) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3))):
        for k in range(repeat):
            stride = 2 if k == 0 and stage > 0 else 1
            y = net.conv(net.conv(x, width, 1), width, 3, stride)
            y = net.conv(y, 4 * width, 1, act="")
            skip = net.conv(x, 4 * width, 1, stride, act="") if k == 0 else x
            x = net.act(net.plus(y, skip), "Relu", f"block{stage}.{k}")
            net.shape[x] = net.shape[y]
    return net.model(net.dense(net.flatten(net.average(x)), 1000, "logits"))


def transformer(tokens: int = 64, width: int = 128, heads: int = 4) -> onnx.ModelProto:
    """One pre-norm transformer block with a linear read-out of 100 classes a token."""
    net = Net("transformer", {"tokens": (1, tokens, width)})

    def layer_norm(x: str, name: str) -> str:
        scale = net.uniform(f"{name}.scale", width)
        bias = net.normal(f"{name}.bias", (width,), 0.1)
        y = net.add("LayerNormalization", x, scale, bias, name=name, axis=-1)
        net.shape[y] = net.shape[x]
        return y

    split = net.weight("split", np.array([1, tokens, heads, width // heads]))
    merge = net.weight("merge", np.array([1, tokens, width]))
    x = layer_norm("tokens", "norm1")
    parts = []
    for name, order in (("query", (0, 2, 1, 3)), ("key", (0, 2, 3, 1)), ("value", (0, 2, 1, 3))):
        y = net.add("Reshape", net.linear(x, width, name), split)
        parts.append(net.add("Transpose", y, perm=order))
    root = net.weight("root", np.float32(math.sqrt(width / heads)).reshape(()))
    scores = net.add("Div", net.add("MatMul", parts[0], parts[1]), root)
    mixed = net.add("MatMul", net.add("Softmax", scores, axis=-1, name="attention"), parts[2])
    y = net.add("Reshape", net.add("Transpose", mixed, perm=(0, 2, 1, 3)), merge)
    net.shape[y] = net.shape["tokens"]
    x = net.plus("tokens", net.linear(y, width, "projected"), "residual1")
    y = net.linear(layer_norm(x, "norm2"), 4 * width, "mlp1")
    constants = {"sqrt2": math.sqrt(2), "one": 1.0, "half": 0.5}
    for name, value in constants.items():
        net.weight(name, np.float32(value).reshape(()))
    bent = net.add("Add", net.add("Erf", net.add("Div", y, "sqrt2")), "one")
    bent = net.add("Mul", net.add("Mul", y, bent), "half", name="gelu")
    net.shape[bent] = net.shape[y]
    x = net.plus(x, net.linear(bent, width, "mlp2"), "residual2")
    return net.model(net.linear(layer_norm(x, "norm3"), 100, "logits"))


GRAPHS: dict[str, Callable[[], onnx.ModelProto]] = {
    build.__name__: build
    for build in (mobilenetv2, tiny_yolov3, vgg16, alexnet, resnet50, transformer)
}


def cache_folder() -> Path:
    """Where built graphs are kept."""
    shared = os.environ.get("XDG_CACHE_HOME")
    root = Path(shared) / "waistline" if shared else Path(__file__).parents[1] / ".cache"
    return root / "graphs" / f"v{VERSION}"


def build(name: str) -> onnx.ModelProto:
    """Build one graph in memory."""
    return GRAPHS[name]() if name in GRAPHS else reweighted(name)


def graph_path(name: str) -> Path:
    """The file of a graph, built when the cache lacks it."""
    path = cache_folder() / f"{name}.onnx"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part")
        part.write_bytes(build(name).SerializeToString())
        part.replace(path)
    return path


def main() -> None:
    """Build the graphs that are named, all of the first kind without a name."""
    known = [*GRAPHS, *light_files()]
    parser = argparse.ArgumentParser(description="Build graphs with random weights.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="graphs to build")
    parser.add_argument("--list", action="store_true", help="list the names and leave")
    options = parser.parse_args()
    if unknown := sorted(set(options.names) - set(known)):
        parser.error(f"no graph {', '.join(unknown)}; known: {', '.join(known)}")
    if options.list:
        print("\n".join(known))
        return
    for name in options.names or GRAPHS:
        path = graph_path(name)
        print(f"{path}  {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
