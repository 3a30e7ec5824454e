import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="TFLite models are read with LiteRT's schema")

from tflite_help import OPS, TYPES, Net, branched, changed, load, mobilenet, schema

from waistline.errors import MissingExtra, ModelError
from waistline.model.frontiers import find_frontier
from waistline.model.load import load_model
from waistline.model.tflite_graph import load_tflite


def refused(data, match):
    with pytest.raises(ModelError, match=match) as caught:
        load(data)
    return caught.value


def test_a_file_is_read_by_its_content(tmp_path):
    path = tmp_path / "small.model"
    path.write_bytes(branched())
    loaded = load_model(path)
    graph = loaded.graph
    assert (graph.name, graph.format, graph.last_x) == ("small", "tflite", 13)
    assert graph.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert loaded.path == path
    with pytest.raises(ModelError, match="fixed already"):
        load_model(path, {"x": (1, 2)})


def test_layers_bear_the_names_of_the_schema_and_count_work():
    layers = {layer.name: layer for layer in load(branched()).graph.layers}
    assert [layer.operator for layer in layers.values()] == [
        "CONV_2D", "CONV_2D", "DEPTHWISE_CONV_2D", "CONCATENATION", "CONV_2D", "ADD", "PAD",
        "MAX_POOL_2D", "AVERAGE_POOL_2D", "RESHAPE", "FULLY_CONNECTED", "SOFTMAX",
    ]  # fmt: skip
    assert layers["stem"].macs == 6 * 6 * 8 * 3 * 3 * 3
    assert layers["right"].macs == 6 * 6 * 8 * 3 * 3
    assert layers["logits"].macs == 8 * 5
    assert layers["sum"].macs == 0
    assert (layers["stem"].parameters, layers["stem"].parameter_bytes) == (216 + 8, 4 * 224)
    assert layers["joined"].inputs == ("left", "right")


def test_the_published_size_of_mobilenet():
    last = load(mobilenet(size=224, width=1.0)).graph.frontiers[-1]
    assert last.macs_before == 567_726_592  # 569 million with 1000 classes
    # 3,185,088 of convolutions, a bias for each of 10,944 channels, 1024 x 10 + 10 of the last.
    assert last.parameters_before == 3_206_282


@pytest.mark.parametrize("name", ["model.tflite", "model.int8.tflite"])
def test_parameters_are_counted_as_in_onnx(name):
    """Paddings and axes are int32 here, as biases of int8 models are."""
    example = Path(__file__).resolve().parents[2] / "examples" / "fashion"
    counts = [load_model(example / file).graph.frontiers[-1].parameters_before
              for file in (name, "model.onnx")]  # fmt: skip
    assert counts[0] == counts[1]


@pytest.mark.parametrize("quantized", [False, True])
def test_tensors_say_layout_and_scale(quantized):
    graph = load(branched(quantized=quantized)).graph
    stem = graph.frontiers[1].tensors[0]
    assert (stem.shape, stem.layout, stem.channel_axis) == ((1, 6, 6, 8), "NHWC", 3)
    flat = next(f for f in graph.frontiers if f.names == ("largest", "flat")).tensors[1]
    assert (flat.layout, flat.channel_axis) == ("NC", None)
    if quantized:
        assert (graph.inputs[0].dtype, graph.inputs[0].scale) == ("int8", 1 / 32)
        assert (graph.inputs[0].zero_point, stem.zero_point) == (3, -60)
        assert graph.outputs[0].scale == 1 / 256
    else:
        assert all(spec.scale is None for f in graph.frontiers for spec in f.tensors)


def test_a_cut_behind_a_pad_breaks_what_runs_as_one():
    marks = {f.names: f.breaks_fusion for f in _padded().graph.frontiers}
    assert marks[("padded",)] == "PAD+CONV_2D"
    assert not marks[("y",)]


def _padded():
    net = Net()
    return load(net.finish(net.conv(net.pad(net.input([1, 4, 4, 2]), "padded"), 2, name="y")))


def test_float16_weights_behind_a_dequantize_are_constants():
    net = Net()
    x = net.input([1, 4])
    half = net.tensor([3, 4], type_=TYPES.FLOAT16, data=np.ones((3, 4), np.float16))
    weights = net.tensor([3, 4], "full")
    net.op(OPS.DEQUANTIZE, [half], [weights], schema.DequantizeOptionsT())
    y = net.tensor([1, 3], "y")
    net.op(OPS.FULLY_CONNECTED, [x, weights, -1], [y], schema.FullyConnectedOptionsT())
    graph = load(net.finish(y)).graph
    assert [(layer.name, layer.parameters, layer.parameter_bytes) for layer in graph.layers] == [
        ("y", 12, 24)
    ]


def test_names_are_made_unique_in_the_files_order():
    def spoil(model):
        tensors = model.subgraphs[0].tensors
        tensors[1].name = tensors[2].name = ""
        for tensor in tensors[3:]:
            tensor.name = "same"

    first, second = load(changed(mobilenet(), spoil)), load(changed(mobilenet(), spoil))
    names = [tensor.name for tensor in first.file.graph.tensors]
    assert len(set(names)) == len(names)
    assert names[:5] == ["x", "tensor_1", "tensor_2", "same", "same_4"]
    assert first.graph == second.graph


def test_an_unknown_batch_is_one(tmp_path):
    def batched(model):
        for tensor in model.subgraphs[0].tensors:
            if tensor.buffer == 0:
                tensor.shapeSignature = [-1, *np.asarray(tensor.shape).tolist()[1:]]

    graph = load(changed(branched(), batched)).graph
    assert graph.last_x == 13
    assert graph.inputs[0].shape == (1, 12, 12, 3)


def test_a_size_that_depends_on_the_data_is_no_batch():
    net = Net()
    x = net.input([1, 4])
    net.graph.tensors[x].shapeSignature = [-1, 4]
    found = net.tensor([1, 2], "found", type_=TYPES.INT64)
    net.graph.tensors[found].shapeSignature = [-1, 2]
    net.op(OPS.WHERE, [x], [found], schema.WhereOptionsT())
    rows = net.tensor([1, 2], "rows")
    net.graph.tensors[rows].shapeSignature = [-1, 2]
    net.op(OPS.CAST, [found], [rows], schema.CastOptionsT())
    axis = net.tensor([1], type_=TYPES.INT32, data=np.array([0], np.int32))
    y = net.tensor([2], "y")
    net.op(OPS.SUM, [rows, axis], [y], schema.ReducerOptionsT())
    graph = load(net.finish(y)).graph
    assert set(graph.unsized) == {"found", "rows"}
    assert [frontier.names for frontier in graph.frontiers] == [("x",), ("y",)]


def test_tensors_that_cannot_cross_are_left_out_by_name():
    def signature(model):
        model.subgraphs[0].tensors[_number(model, "thin")].shapeSignature = [1, -1, 6, 8]

    def per_channel(model):
        quantization = model.subgraphs[0].tensors[_number(model, "thin")].quantization
        quantization.scale, quantization.zeroPoint = [0.5, 0.25], [0, 0]

    def text(model):
        model.subgraphs[0].tensors[_number(model, "thin")].type = TYPES.STRING

    for change, quantized, why in [
        (signature, False, "depends on the data"),
        (per_channel, True, "per channel, with 2 scales"),
        (text, False, "elements are string"),
    ]:
        graph = load(changed(branched(quantized=quantized), change)).graph
        assert why in graph.unsized["thin"]
        assert not any("thin" in frontier.names for frontier in graph.frontiers)
        with pytest.raises(ModelError, match="thin") as caught:
            find_frontier(graph, "stem,thin")
        assert why in caught.value.cause


def _number(model, name):
    names = [tensor.name.decode() for tensor in model.subgraphs[0].tensors]
    return names.index(name)


def _graph(change):
    return lambda model: change(model.subgraphs[0])


REFUSED = {
    "two subgraphs": (lambda m: m.subgraphs.append(m.subgraphs[0]), "2 subgraphs"),
    "state": (_graph(lambda g: setattr(g.tensors[3], "isVariable", True)), "keeps state"),
    "sparse": (
        _graph(lambda g: setattr(g.tensors[1], "sparsity", schema.SparsityParametersT())),
        "sparse tensor",
    ),
    "elsewhere": (_graph(lambda g: setattr(g.tensors[1], "externalBuffer", 1)), "another file"),
    "no outputs": (_graph(lambda g: setattr(g, "outputs", [])), "no output"),
    "constant output": (_graph(lambda g: setattr(g, "outputs", [1])), "does not depend"),
    "unwritten output": (_graph(lambda g: setattr(g, "outputs", [99])), "not one of its"),
    "input twice": (_graph(lambda g: setattr(g, "inputs", [0, 0])), "twice"),
    "constant input": (_graph(lambda g: setattr(g, "inputs", [0, 1])), "is a constant"),
    "not sorted": (_graph(lambda g: g.operators.reverse()), "before it is written"),
    "written twice": (_graph(lambda g: g.operators.append(g.operators[0])), "has a value"),
    "no tensor": (_graph(lambda g: setattr(g.operators[0], "inputs", [0, 77, 2])), "tensor 77"),
    "no code": (_graph(lambda g: setattr(g.operators[0], "opcodeIndex", 55)), "code 55"),
    "no buffer": (_graph(lambda g: setattr(g.tensors[0], "buffer", 500)), "buffer 500"),
    "bad shape": (_graph(lambda g: setattr(g.tensors[0], "shape", [1, -4, 4, 3])), "the shape"),
    "any size": (
        _graph(lambda g: setattr(g.tensors[0], "shapeSignature", [1, -1, -1, 3])),
        "cannot be sent",
    ),
    "newer operator": (lambda m: setattr(m.operatorCodes[0], "builtinCode", 9999), "too new"),
    "other version": (lambda m: setattr(m, "version", 4), "version is 4"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_cut_is_refused_by_name(name):
    change, match = REFUSED[name]
    error = refused(changed(branched(), change), "small.tflite")
    assert match in f"{error.what} {error.cause}"
    assert error.fix


def test_sixteen_bit_inputs_are_refused():
    def widen(model):
        for number in model.subgraphs[0].inputs:
            model.subgraphs[0].tensors[number].type = TYPES.INT16

    assert "int16" in refused(changed(branched(quantized=True), widen), "cannot be sent").cause


def test_a_custom_operator_bears_its_own_name():
    net = Net()
    y = net.tensor([1, 4], "y")
    net.op(OPS.CUSTOM, [net.input([1, 4])], [y])
    net.model.operatorCodes[0].customCode = "edgetpu-custom-op"
    assert load(net.finish(y)).graph.layers[0].operator == "edgetpu-custom-op"


@pytest.mark.parametrize(
    ("data", "cause"),
    [(b"", "0 bytes"), (b"\x1c\x00\x00\x00TFL2" + bytes(9), "TFL2"), (bytes(4000), "not b'TFL3'")],
)
def test_files_that_are_not_tflite(data, cause):
    assert cause in refused(data, "is not a TFLite model").cause


def test_a_missing_file_and_a_missing_extra(tmp_path, monkeypatch):
    with pytest.raises(ModelError, match="cannot read"):
        load_tflite(tmp_path / "none.tflite")
    for name in ("tflite_file", "tflite_macs", "tflite_layers", "tflite_graph", "tflite_cut"):
        monkeypatch.delitem(sys.modules, f"waistline.model.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    path = tmp_path / "small.tflite"
    path.write_bytes(branched())
    with pytest.raises(MissingExtra, match="ai_edge_litert") as caught:
        load_model(path)
    assert "litert" in caught.value.fix
