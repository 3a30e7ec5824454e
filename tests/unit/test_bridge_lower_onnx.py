"""Heads quantized by ONNX Runtime in the firmware's integers: at most one step a layer apart."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="writes ONNX models")
pytest.importorskip("onnxruntime", reason="quantizes and runs them")

import onnx
import onnxruntime
from lower_help import CC, Firmware, lowered
from onnx import TensorProto, helper, numpy_helper

from waistline.blob.interpret import run_head, run_layer
from waistline.blob.layers import head_of
from waistline.blob.records import read_blob
from waistline.errors import ConfigError, ModelError
from waistline.model.load import load_model
from waistline.model.onnx_graph import from_proto
from waistline.tensors import quantize
from waistline_bridge.lower.qdq import lower_qdq, read_qdq
from waistline_bridge.lower.quantize import quantize_head

FASHION = Path(__file__).parents[2] / "examples/fashion"
FRAMES = 24


@pytest.fixture(scope="module")
def firmware(tmp_path_factory):
    if CC is None:
        pytest.skip("needs a C compiler (cc)")
    return Firmware(tmp_path_factory.mktemp("firmware"))


class FloatNet:
    """A float32 ONNX model under construction."""

    def __init__(self, shape=(1, 3, 13, 12), seed=0):
        self.random = np.random.default_rng(seed)
        self.shape = shape
        self.nodes, self.constants, self.count = [], [], 0

    def constant(self, values):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def op(self, kind, *inputs, **attributes):
        self.count += 1
        out = f"t{self.count}"
        self.nodes.append(
            helper.make_node(kind, inputs, [out], f"{kind}{self.count}", **attributes)
        )
        return out

    def conv(self, x, ins, outs, kernel=(3, 3), group=1, **attributes):
        shape = (outs, ins // group, *kernel)
        fan = np.sqrt(np.prod(shape[1:]))
        spread = 1 + np.arange(outs).reshape(-1, 1, 1, 1) % 3
        weights = self.random.standard_normal(shape) / fan * spread
        bias = self.random.standard_normal(outs) / 3
        constants = [self.constant(v.astype(np.float32)) for v in (weights, bias)]
        return self.op("Conv", x, *constants, group=group, kernel_shape=kernel, **attributes)

    def gemm(self, x, ins, outs, **attributes):
        shape = (outs, ins) if attributes.get("transB") else (ins, outs)
        weights = (self.random.standard_normal(shape) / np.sqrt(ins)).astype(np.float32)
        bias = self.random.standard_normal(outs).astype(np.float32)
        return self.op("Gemm", x, self.constant(weights), self.constant(bias), **attributes)

    def finish(self, *outputs):
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            self.constants,
        )
        opset = [helper.make_opsetid("", 13)]
        return helper.make_model(graph, opset_imports=opset, ir_version=8)

    def frames(self, count=FRAMES):
        random = np.random.default_rng(9)
        return [random.standard_normal(self.shape).astype(np.float32) for _ in range(count)]


def _same(build):
    def make():
        net = FloatNet()
        return net, net.finish(build(net))

    return make


def _pad(net, x, pads):
    return net.op("Pad", x, net.constant(np.array(pads, np.int64)))


def _clip(net, x, low, high):
    return net.op("Clip", x, net.constant(np.float32(low)), net.constant(np.float32(high)))


def _branches(net):
    stem = net.op("Relu", net.conv("x", 3, 8, pads=[1, 1, 1, 1], strides=[2, 2]))
    left = net.op("Relu", net.conv(stem, 8, 8, group=8, pads=[1, 1, 1, 1]))
    right = net.conv(stem, 8, 6, (1, 1))
    both = net.op("Add", left, stem)
    joined = net.op("Concat", net.op("Relu", both), right, stem, axis=1)
    pooled = net.op("GlobalAveragePool", net.conv(joined, 22, 12))
    return net.gemm(net.op("Flatten", pooled), 12, 5, transB=1)


FLOAT_NETS = {
    "conv": _same(lambda n: n.conv("x", 3, 7, pads=[1, 1, 1, 1])),
    "conv strided": _same(lambda n: n.conv("x", 3, 5, (3, 2), strides=[2, 3], pads=[0, 1, 2, 0])),
    "conv relu": _same(lambda n: n.op("Relu", n.conv("x", 3, 5))),
    "conv leaky": _same(lambda n: n.op("LeakyRelu", n.conv("x", 3, 5), alpha=0.1)),
    "leaky clip": _same(lambda n: _clip(n, n.op("LeakyRelu", n.conv("x", 3, 5)), -0.05, 20.0)),
    "conv clip": _same(lambda n: _clip(n, n.conv("x", 3, 5), -0.5, 1.0)),
    "conv same": _same(lambda n: n.conv("x", 3, 6, auto_pad="SAME_UPPER", strides=[2, 2])),
    "conv same lower": _same(lambda n: n.conv("x", 3, 6, (4, 4), auto_pad="SAME_LOWER")),
    "depthwise": _same(lambda n: n.conv("x", 3, 3, group=3, pads=[1, 1, 1, 1])),
    "depthwise multiplied": _same(lambda n: n.conv("x", 3, 9, group=3, strides=[2, 1])),
    "max pool": _same(
        lambda n: n.op("MaxPool", n.conv("x", 3, 5, (1, 1)), kernel_shape=[2, 3], strides=[2, 1])
    ),
    "average pool": _same(
        lambda n: n.op(
            "AveragePool", n.conv("x", 3, 5, (1, 1)), kernel_shape=[3, 2], strides=[2, 2]
        )
    ),
    "average padded": _same(
        lambda n: n.op(
            "AveragePool", n.conv("x", 3, 5, (1, 1)), kernel_shape=[3, 3], pads=[1, 1, 1, 1]
        )
    ),
    "average of padding": _same(
        lambda n: n.op(
            "AveragePool",
            n.conv("x", 3, 5, (1, 1)),
            kernel_shape=[3, 3],
            pads=[1, 1, 1, 1],
            count_include_pad=1,
        )
    ),
    "global pool": _same(lambda n: n.op("GlobalAveragePool", "x")),
    "mean": _same(lambda n: n.op("ReduceMean", n.conv("x", 3, 5), axes=[2, 3], keepdims=0)),
    "add": _same(lambda n: n.op("Add", "x", n.conv("x", 3, 3, (1, 1)))),
    "add relu": _same(lambda n: n.op("Relu", n.op("Add", "x", n.conv("x", 3, 3, (1, 1))))),
    "concat": _same(
        lambda n: n.op("Concat", "x", *[n.conv("x", 3, k, (1, 1)) for k in (2, 3, 5, 1)], axis=1)
    ),
    "pad": _same(lambda n: _pad(n, n.conv("x", 3, 4), [0, 0, 1, 2, 0, 0, 3, 0])),
    "relu of a pool": _same(lambda n: n.op("Relu", n.op("GlobalAveragePool", n.conv("x", 3, 8)))),
    "clip of a sum": _same(lambda n: _clip(n, n.op("Add", "x", "x"), -0.3, 0.9)),
    "gemm": _same(lambda n: n.gemm(n.op("Flatten", n.conv("x", 3, 3, (13, 12))), 3, 9, transB=1)),
    "gemm of an image": _same(
        lambda n: n.gemm(n.op("Flatten", n.op("Relu", n.conv("x", 3, 4))), 440, 6)
    ),
    "branches": _same(_branches),
}


def _quantized(path, model, frames):
    source = path / "float.onnx"
    onnx.save(model, source)
    made = path / "int8.onnx"
    assert quantize_head(source, [{"x": frame} for frame in frames], made) == len(frames)
    return made


def _session(path, *, all_codes=True):
    """ONNX Runtime without optimisations, with every quantized tensor among its outputs."""
    proto = onnx.load(path)
    places = {
        node.input[0]: node.output[0]
        for node in proto.graph.node
        if node.op_type == "QuantizeLinear"
    }
    for name in places.values() if all_codes else ():
        proto.graph.output.append(helper.make_tensor_value_info(name, TensorProto.INT8, None))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(proto.SerializeToString(), options), places


def _nhwc(codes):
    return codes.transpose(0, 2, 3, 1)[0] if codes.ndim == 4 else codes.reshape(1, 1, -1)


def _steps_apart(path, frames, head, name="x"):
    """Per layer, differences from ONNX Runtime on ONNX Runtime's own inputs of the layer."""
    session, places = _session(path)
    found = {}
    for frame in frames:
        results = session.run(list(places.values()), {name: frame})
        named = dict(zip(places.values(), results, strict=True))
        codes = {real: _nhwc(named[code]) for real, code in places.items()}
        codes |= {code: _nhwc(value) for code, value in named.items()}
        for layer in head.layers:
            names = [head.tensors[k].name for k in (*layer.inputs, layer.output)]
            if not all(item in codes for item in names):
                continue
            inputs = [
                codes[item].reshape(head.tensors[k].shape)
                for item, k in zip(names, layer.inputs, strict=False)
            ]
            made = run_layer(head, layer, inputs)
            apart = np.abs(codes[names[-1]].reshape(made.shape).astype(int) - made)
            found.setdefault(names[-1], []).append(apart.ravel())
    return {name: np.concatenate(parts) for name, parts in found.items()}


@pytest.mark.parametrize("name", FLOAT_NETS)
def test_each_operator_is_within_a_step_of_onnx_runtime(name, tmp_path):
    net, model = FLOAT_NETS[name]()
    path = _quantized(tmp_path, model, net.frames())
    head = read_qdq(path)
    spec = head.inputs[0].spec
    assert spec.shape == (1, 13, 12, 3)
    for layer, apart in _steps_apart(path, net.frames(4), head).items():
        assert apart.max() <= 1, layer
    session, _ = _session(path, all_codes=False)
    for frame in net.frames(4):
        (real,) = session.run(None, {"x": frame})
        port = head.outputs[0]
        wanted = np.rint(_nhwc(real) / np.float32(port.spec.scale)) + port.spec.zero_point
        (made,) = run_head(head, [quantize(spec, frame.transpose(0, 2, 3, 1))])
        limit = max(1, len([item for item in head.layers if item.inputs != (0,)]))
        assert np.abs(made.reshape(wanted.shape) - wanted).max() <= limit + 1
    blob = read_blob(lowered(head).data)
    inputs = [quantize(spec, net.frames(1)[0].transpose(0, 2, 3, 1))]
    for a, b in zip(run_head(head, inputs), run_head(head_of(blob), inputs), strict=True):
        np.testing.assert_array_equal(a.reshape(-1), b.reshape(-1))


@pytest.mark.parametrize("name", ["branches", "average of padding", "gemm of an image"])
def test_the_firmware_gives_the_same_bytes(firmware, name, tmp_path):
    net, model = FLOAT_NETS[name]()
    made = lowered(read_qdq(_quantized(tmp_path, model, net.frames(4))), "i8:b=8|none")
    assert firmware.check(made.data, made.plan.size_bytes) == 0
    size, arena = firmware.run(made.data, made.plan.size_bytes)
    blob = read_blob(made.data)
    sent = arena[blob.output[0] : blob.output[0] + size].tobytes()
    assert zlib.crc32(sent) == blob.goldens[0].crc


def test_the_example_is_within_a_step_a_layer_and_keeps_its_answers(tmp_path):
    images = np.load(FASHION / "calibration.npz")["images"][:64].astype(np.float32) / 255
    frames = [image.transpose(2, 0, 1)[None] for image in images]
    path = tmp_path / "int8.onnx"
    quantize_head(FASHION / "model.onnx", [{"image": frame} for frame in frames], path)
    head = read_qdq(path)
    apart = _steps_apart(path, frames[:8], head, "image")
    assert len(apart) == len(head.layers)
    assert all(values.max() <= 1 for values in apart.values())
    assert (np.concatenate(list(apart.values())) > 0).mean() < 0.005
    assert not apart["pool"].any()
    session, _ = _session(path, all_codes=False)
    same = 0
    for frame in frames:
        made = run_head(head, [quantize(head.inputs[0].spec, frame.transpose(0, 2, 3, 1))])[0]
        same += int(made.argmax() == session.run(None, {"image": frame})[0].argmax())
    assert same >= 0.99 * len(frames)


def test_a_cut_head_keeps_the_names_of_its_waist(tmp_path):
    model = load_model(FASHION / "model.onnx")
    frontier = next(f for f in model.graph.frontiers if f.names == ("block2_add",))
    source, _ = model.write_slices(frontier, tmp_path)
    random = np.random.default_rng(1)
    feeds = [{"image": random.random((1, 1, 28, 28), np.float32)} for _ in range(4)]
    quantize_head(source, feeds, tmp_path / "int8.onnx")
    (port,) = read_qdq(tmp_path / "int8.onnx").outputs
    assert (port.spec.name, port.spec.shape) == ("block2_add", (1, 14, 14, 32))
    assert (port.spec.layout, port.spec.channel_axis) == ("NHWC", 3)


# What is refused, and how it is said.


def test_no_frames_no_quantization(tmp_path):
    _, model = FLOAT_NETS["conv"]()
    onnx.save(model, tmp_path / "float.onnx")
    with pytest.raises(ConfigError, match="without calibration frames"):
        quantize_head(tmp_path / "float.onnx", [], tmp_path / "int8.onnx")


def test_a_frame_of_another_shape_is_a_model_error(tmp_path):
    _, model = FLOAT_NETS["conv"]()
    onnx.save(model, tmp_path / "float.onnx")
    wrong = [{"x": np.zeros((1, 3, 2, 2), np.float32)}]
    with pytest.raises(ModelError, match="cannot be quantized"):
        quantize_head(tmp_path / "float.onnx", wrong, tmp_path / "int8.onnx")


def _refused(build):
    net = FloatNet()
    return net, net.finish(build(net))


@pytest.mark.parametrize(
    ("build", "node", "why"),
    [
        (lambda n: n.conv("x", 3, 4, dilations=[2, 2]), "(Conv)", "dilated by (2, 2)"),
        (lambda n: n.op("Sigmoid", n.conv("x", 3, 4)), "(Sigmoid)", "there is no Sigmoid"),
        (lambda n: n.op("Concat", "x", "x", axis=2), "(Concat)", "along axis 2"),
        (
            lambda n: n.op(
                "MaxPool", n.conv("x", 3, 4), kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1
            ),
            "(MaxPool)",
            "ceil_mode",
        ),
        (
            lambda n: n.op(
                "Reshape", n.conv("x", 3, 4), n.constant(np.array([1, 11, 40], np.int64))
            ),
            "(Reshape)",
            "3 axes, not 2 or 4",
        ),
        (
            lambda n: n.op("Add", "x", n.conv("x", 3, 3, (13, 12))),
            "(Add)",
            "not equal shapes",
        ),
        (lambda n: n.op("Transpose", "x", perm=[0, 2, 3, 1]), "(Transpose)", "no Transpose"),
        (
            lambda n: n.gemm(n.op("Flatten", n.conv("x", 3, 4)), 440, 2, alpha=0.5),
            "(Gemm)",
            "it scales",
        ),
        (lambda n: n.op("Flatten", n.conv("x", 3, 4)), "the whole", "flattened from an image"),
    ],
)
def test_what_the_firmware_cannot_run_is_refused_by_name(build, node, why, tmp_path):
    net, model = _refused(build)
    path = _quantized(tmp_path, model, net.frames(4))
    with pytest.raises(ModelError, match="cannot run on a microcontroller") as caught:
        read_qdq(path)
    assert node in caught.value.what
    assert why in caught.value.cause
    assert caught.value.fix


def test_a_float_model_is_refused_at_its_first_node():
    _, model = FLOAT_NETS["conv relu"]()
    with pytest.raises(ModelError, match="'Conv1'") as caught:
        lower_qdq(from_proto(model, Path("float.onnx")))
    assert "is float, not a dequantized int8 tensor" in caught.value.cause


def _pair(kind):
    """x -> QuantizeLinear -> DequantizeLinear with a zero point of some type."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], "q"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], "d"),
    ]
    constants = [
        numpy_helper.from_array(np.float32(0.1), "s"),
        numpy_helper.from_array(np.array(3, kind), "z"),
    ]
    ends = [helper.make_tensor_value_info(k, TensorProto.FLOAT, (1, 4)) for k in "xy"]
    graph = helper.make_graph(nodes, "pair", ends[:1], ends[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def test_a_pair_alone_passes_its_input_on_and_uint8_is_refused():
    head = lower_qdq(from_proto(_pair(np.int8), Path("pair.onnx")))
    assert head.layers == ()
    assert head.inputs[0].tensor == head.outputs[0].tensor
    with pytest.raises(ModelError) as caught:
        lower_qdq(from_proto(_pair(np.uint8), Path("pair.onnx")))
    assert "is UINT8, not INT8" in caught.value.cause
