"""int8 TFLite heads in the firmware's integers, against LiteRT's reference and tflite-micro."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="writes and runs TFLite models")

import lower_nets
import tflite_help
from lower_help import lowered, random_inputs
from lower_nets import NETS, Int8Net, everything, reference
from oracle_help import Micro, missing, python_with
from tflite_help import OPS, TYPES, changed, schema

from waistline.blob.interpret import every_tensor, run_head
from waistline.errors import ModelError
from waistline.model import tflite_cut
from waistline.model.load import load_model
from waistline_bridge.lower.tflite import lower_tflite, read_tflite

FASHION = Path(__file__).parents[2] / "examples/fashion/model.int8.tflite"
SEEDS = range(3)
VECTORS = Path(__file__).parents[1] / "vectors/mcu_layers.json"
_GOLDEN = json.loads(VECTORS.read_text())["cases"]


def _stored(text):
    return zlib.decompress(base64.b64decode(text))


def _differences(data, head, seed):
    """Per tensor, how far from LiteRT's reference kernels: name to the largest difference."""
    inputs = random_inputs(head, seed)
    feeds = {port.spec.name: x for port, x in zip(head.inputs, inputs, strict=True)}
    known = reference(data, feeds)
    found = {}
    for number, made in every_tensor(head, inputs):
        name = head.tensors[number].name
        if name in known:
            wanted = known[name].reshape(made.shape).astype(int)
            found[name] = int(np.abs(wanted - made).max())
    return found


@pytest.mark.parametrize("name", NETS)
def test_each_operator_gives_the_references_bits(name):
    data = NETS[name]()
    head = lower_tflite(tflite_help.load(data))
    for seed in SEEDS:
        found = _differences(data, head, seed)
        assert len(found) > 1
        rounds_once = name in lower_nets.DENSE
        dense = head.tensors[head.outputs[0].tensor].name if rounds_once else None
        assert {tensor for tensor, far in found.items() if far} <= {dense}
        assert max(found.values()) <= 1
    spread = [len(np.unique(x)) for x in run_head(head, random_inputs(head))]
    assert min(spread) > 2, "a constant output compares nothing"


@pytest.fixture(scope="module")
def micro():
    if not python_with("tflite_micro"):
        pytest.skip(missing("tflite_micro"))
    with Micro() as opened:
        yield opened


@pytest.mark.parametrize("name", NETS)
def test_each_operator_gives_tflite_micros_bits(micro, name):
    data = NETS[name]()
    head = lower_tflite(tflite_help.load(data))
    inputs = random_inputs(head)
    found = micro(data, inputs, len(head.outputs))
    for wanted, made in zip(found, run_head(head, inputs), strict=True):
        np.testing.assert_array_equal(made.reshape(-1), wanted)


@pytest.mark.parametrize("case", _GOLDEN, ids=[case["name"] for case in _GOLDEN])
def test_golden_outputs_of_tflite_micro(case):
    head = lower_tflite(tflite_help.load(_stored(case["model"])))
    inputs = [
        np.frombuffer(_stored(text), np.int8).reshape(port.spec.shape)
        for text, port in zip(case["inputs"], head.inputs, strict=True)
    ]
    made = run_head(head, inputs)
    assert [array.tobytes() for array in made] == [_stored(text) for text in case["outputs"]]


def test_the_example_gives_the_references_bits_in_every_layer():
    model = load_model(FASHION)
    head = lower_tflite(model)
    for seed in SEEDS:
        found = _differences(FASHION.read_bytes(), head, seed)
        assert len(found) == len(head.layers) + 1
        assert not any(found.values())


def test_the_example_cut_anywhere_gives_the_bits_of_the_cut_tensors():
    model = load_model(FASHION)
    feeds = tflite_help.feeds_of(model)
    known = reference(FASHION.read_bytes(), feeds)
    for frontier in model.graph.frontiers[1:]:
        data, _ = tflite_cut.cut_model(model, frontier)
        head = lower_tflite(tflite_help.load(data))
        assert [port.spec.name for port in head.outputs] == list(frontier.names)
        for port, made in zip(head.outputs, run_head(head, list(feeds.values())), strict=True):
            np.testing.assert_array_equal(made, known[port.spec.name])


def test_ports_say_what_the_waist_needs():
    model = load_model(FASHION)
    frontier = next(item for item in model.graph.frontiers if item.names == ("block2_add",))
    data, _ = tflite_cut.cut_model(model, frontier)
    head = lower_tflite(tflite_help.load(data))
    assert head.outputs[0].spec == frontier.tensors[0]
    assert head.outputs[0].spec.scale is not None


def test_arena_of_a_mobilenet_is_close_to_its_live_tensors():
    data = tflite_help.mobilenet(quantized=True, size=96, width=0.25)
    model = tflite_help.load(data)
    frontier = next(item for item in model.graph.frontiers if item.names == ("logits",))
    made = lowered(lower_tflite(tflite_help.load(tflite_cut.cut_model(model, frontier)[0])))
    assert made.largest_tensors_bytes == 48 * 48 * (8 + 16)
    assert made.plan.size_bytes <= 1.03 * made.largest_tensors_bytes


def test_a_file_is_read_from_its_path(tmp_path):
    path = tmp_path / "small.tflite"
    path.write_bytes(NETS["conv"]())
    assert len(read_tflite(path).layers) == 1


# What is refused, and how it is said.


def _with(change):
    return changed(NETS["conv"](), change)


def _dilated(model):
    model.subgraphs[0].operators[0].builtinOptions.dilationHFactor = 2


def _other_axis(model):
    weights = model.subgraphs[0].tensors[1]
    weights.shape = [6, 3, 3, 6]
    scales = [0.01] * 6
    weights.quantization.scale, weights.quantization.zeroPoint = scales, [0] * 6
    weights.quantization.quantizedDimension = 3
    data = np.zeros(6 * 3 * 3 * 6, np.uint8)
    model.buffers[weights.buffer].data = data


def _zero_point(model):
    model.subgraphs[0].tensors[1].quantization.zeroPoint = [1, 0, 0, 0, 0]


def _tanh(model):
    model.subgraphs[0].operators[0].builtinOptions.fusedActivationFunction = ACTS.TANH


def _other_options(model):
    operator = model.subgraphs[0].operators[0]
    operator.builtinOptionsType = schema.BuiltinOptions.AddOptions
    operator.builtinOptions = schema.AddOptionsT()


def _no_scale(model):
    model.subgraphs[0].tensors[3].quantization.scale = None


def _big_bias(model):
    bias = model.subgraphs[0].tensors[2]
    model.buffers[bias.buffer].data = np.frombuffer(np.full(5, 2**30, "<i4").tobytes(), np.uint8)


def _unsteady(model):
    tensor = model.subgraphs[0].tensors[3]
    tensor.shapeSignature = [1, -1, 9, 5]


def _uint8(model):
    for number in (0, 3):
        model.subgraphs[0].tensors[number].type = TYPES.UINT8
        model.subgraphs[0].tensors[number].quantization.zeroPoint = [120]


def _shape(model):
    model.subgraphs[0].tensors[3].shape = [1, 11, 8, 5]


ACTS = lower_nets.ACTS


def _concat_rows():
    net = Int8Net()
    x = net.input([1, 4, 4, 2])
    out = net._like([1, 8, 4, 2], x)
    return net.finish(
        net.op(OPS.CONCATENATION, [x, x], [out], schema.ConcatenationOptionsT(axis=1))
    )


def _float_net():
    net = tflite_help.Net(quantized=False)
    return net.finish(net.conv(net.input([1, 6, 6, 2]), 4))


def _softmax():
    net = Int8Net()
    return net.finish(net.softmax(net.reshape(net.input([1, 1, 1, 8]), [1, 8])))


def _grouped():
    net = Int8Net()
    x = net.input([1, 6, 6, 4])
    weights, bias, scale = net._weights(x, [4, 3, 3, 2], 18, 0)
    out = net.act([1, 6, 6, 4], scale, 0)
    options = schema.Conv2DOptionsT(strideW=1, strideH=1)
    return net.finish(net.op(OPS.CONV_2D, [x, weights, bias], [out], options))


def _reshaped():
    net = Int8Net()
    mid = net.windowed(net.input([1, 4, 4, 2]), 4, (1, 1))
    return net.finish(net.windowed(net.reshape(mid, [1, 2, 8, 4]), 4, (1, 1)))


def _tall():
    net = Int8Net()
    return net.finish(net.windowed(net.input([1, 40, 3, 2]), 2, (33, 1), depthwise=True))


@pytest.mark.parametrize(
    ("data", "node", "why"),
    [
        (lambda: _with(_dilated), "operator 0 (CONV_2D)", "dilated by (2, 1)"),
        (lambda: _with(_other_axis), "(CONV_2D)", "scale per slice of axis 3, not 0"),
        (lambda: _with(_zero_point), "(CONV_2D)", "zero point 1"),
        (lambda: _with(_tanh), "(CONV_2D)", "is not a clamp"),
        (lambda: _with(_other_options), "(CONV_2D)", "it has no Conv2DOptions"),
        (lambda: _with(_no_scale), "(CONV_2D)", "has no scale"),
        (lambda: _with(_big_bias), "(CONV_2D)", "a bias exceeds 536870911"),
        (lambda: _with(_uint8), "the input 'x'", "is uint8, not int8"),
        (lambda: _with(_shape), "(CONV_2D)", "its window gives"),
        (_concat_rows, "operator 0 (CONCATENATION)", "along axis 1, not along the channels"),
        (_float_net, "the input 'x'", "is float32, not int8"),
        (_softmax, "operator 1 (SOFTMAX)", "there is no SOFTMAX in the firmware"),
        (_grouped, "operator 0 (CONV_2D)", "2 groups of 2 channels"),
        (_reshaped, "operator 1 (RESHAPE)", "only flattening costs nothing"),
        (_tall, "(DEPTHWISE_CONV_2D)", "33 rows"),
    ],
)
def test_what_the_firmware_cannot_run_is_refused_by_name(data, node, why):
    with pytest.raises(ModelError, match="cannot run on a microcontroller") as caught:
        lower_tflite(tflite_help.load(data()))
    assert node in caught.value.what
    assert why in caught.value.cause
    assert caught.value.fix


def test_tensors_of_unknown_size_are_refused():
    with pytest.raises(ModelError):
        lower_tflite(tflite_help.load(_with(_unsteady)))


def test_everything_is_really_everything():
    data = everything()
    codes = {operator for operator in tflite_help.load(data).file.operators}
    assert codes >= {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "MAX_POOL_2D", "MEAN"}
    assert codes >= {"AVERAGE_POOL_2D", "ADD", "CONCATENATION", "PAD", "QUANTIZE"}
