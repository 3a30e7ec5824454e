import hashlib
import importlib
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from model_help import model, parse, run, stored

from waistline.errors import MissingExtra, ModelError
from waistline.model.onnx_graph import from_proto, load_onnx

PLAIN = "g (float[1,4] x) => (float[1,4] y) { a = Relu(x) y = Neg(a) }"


def refused(path, match, **options):
    with pytest.raises(ModelError, match=match) as caught:
        load_onnx(path, **options)
    return caught.value


def test_a_plain_model(tmp_path):
    path = stored(tmp_path, parse(PLAIN))
    loaded = load_onnx(str(path))
    graph = loaded.graph
    assert (graph.name, graph.format, graph.last_x) == ("small", "onnx", 3)
    assert graph.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert graph.opsets == {"": 17, "local": 1}
    assert loaded.path == path


@pytest.mark.parametrize(
    ("content", "match", "cause"),
    [
        (b"", "not an ONNX model", "empty"),
        (b"hello\nworld\n" * 99, "not an ONNX model, or is damaged", "do not decode"),
        (b"PK\x03\x04" + bytes(99), "not an ONNX model", "zip"),
        (b"\x80\x02}q\x00", "not an ONNX model", "pickle"),
        (b"\x89HDF\r\n\x1a\n", "not an ONNX model", "HDF5"),
        (b"\x1c\x00\x00\x00TFL3" + bytes(99), "not an ONNX model", "TFLite"),
        (b"version https://git-lfs.github.com/spec/v1\n", "not an ONNX model", "git lfs pull"),
        (onnx.ModelProto(ir_version=8).SerializeToString(), "not an ONNX", "without a graph"),
    ],
)
def test_files_that_are_not_onnx(tmp_path, content, match, cause):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    assert cause in refused(path, match).cause


def test_missing_folder_and_truncated(tmp_path):
    assert "No such file" in refused(tmp_path / "none.onnx", "cannot read").cause
    assert "directory" in refused(tmp_path, "cannot read").cause
    path = stored(tmp_path, parse("g (float[4] x) => (float[4] y) { y = Add(x, w) }", w=np.ones(4)))
    path.write_bytes(path.read_bytes()[:-20])
    refused(path, "damaged")


@pytest.mark.parametrize("too_new", ["ir", "opset"])
def test_too_new_says_what_is_installed(tmp_path, too_new):
    proto = parse(PLAIN)
    if too_new == "ir":
        proto.ir_version = 99
    else:
        proto.opset_import[0].version = 99
    error = refused(stored(tmp_path, proto), "too new: ONNX .* 99")
    assert onnx.__version__ in error.cause
    assert "pip install --upgrade onnx" in error.fix


def test_an_unknown_operator_is_named_with_its_node(tmp_path):
    proto = parse(PLAIN)
    proto.graph.node[1].op_type = "Frobnicate"
    error = refused(stored(tmp_path, proto), "not a valid ONNX model")
    assert "Frobnicate" in error.cause
    assert "Frobnicate_1" in error.cause


def test_unsorted_nodes_are_refused(tmp_path):
    proto = parse(PLAIN)
    nodes = list(proto.graph.node)
    proto.graph.ClearField("node")
    proto.graph.node.extend(reversed(nodes))
    assert "topologically sorted" in refused(stored(tmp_path, proto), "not a valid").cause


def test_shapes_that_do_not_fit_are_refused(tmp_path):
    proto = parse("g (float[1,4] x) => (float[1,2] y) { y = MatMul(x, w) }", w=np.ones((5, 2), "f"))
    assert "MatMul" in refused(stored(tmp_path, proto), "do not fit").cause


def test_stale_annotations_of_an_exporter_are_replaced():
    text = "g (float[n,4] x) => (float[7,4] y) <float[7,4] a> { a = Relu(x) y = Neg(a) }"
    loaded = model(text, {"x": (1, 4)})
    assert [f.tensors[0].shape for f in loaded.graph.frontiers] == [(1, 4)] * 3


def test_a_model_without_layers_is_refused(tmp_path):
    refused(stored(tmp_path, parse("g (float[4] x) => (float[4] x) {}")), "computes nothing")


SYMBOLIC = """g (float[batch,3,height,8] image, float[batch,5] extra)
    => (float[batch,k,height,8] y, float[batch,5] z) { y = Relu(image) z = Neg(extra) }"""


def test_symbolic_axes_need_a_shape_and_the_fix_gives_the_flag(tmp_path):
    path = stored(tmp_path, parse(SYMBOLIC))
    error = refused(path, "input 'image' has no fixed shape")
    assert error.cause == "the file says image=batch,3,height,8"
    assert "--shape image=1,3,224,8" in error.fix


@pytest.mark.parametrize(
    ("declared", "offered"),
    [
        ("float[N,3,H,W] x", "1,3,224,224"),
        ("float[N,C,H,W] x", "1,3,224,224"),
        ("float16[N,1,H,W] x", "1,1,224,224"),
        ("float[N,H,W,3] x", "1,224,224,3"),
        ("float[N,3,H,3] x", "1,3,224,3"),
        ("int64[N,3,H,W] x", "1,3,1,1"),
        ("float[N,T,16] x", "1,1,16"),
    ],
)
def test_the_offered_shape_can_be_an_image(declared, offered):
    name = declared.partition(" ")[0]
    with pytest.raises(ModelError) as caught:
        model(f"g ({declared}) => ({name} y) {{ y = Neg(x) }}")
    assert f"--shape x={offered} " in caught.value.fix


def test_a_shape_of_an_output_says_which_the_inputs_are(tmp_path):
    path = stored(tmp_path, parse(SYMBOLIC))
    error = refused(path, "input 'image' has no fixed shape", shapes={"z": (1, 5)})
    assert error.cause.endswith("image=1,3,height,8; z is an output")
    error = refused(path, "y=1,3 contradicts", shapes={"y": (1, 3)})
    assert "an output; the inputs are image=batch,3,height,8, extra=batch,5" in error.cause
    error = refused(path, "no input of that name", shapes={"z2": (1, 3)})
    assert "its inputs are image=batch,3,height,8, extra=batch,5" in error.cause


def test_a_shape_binds_its_symbols_everywhere(tmp_path):
    path = stored(tmp_path, parse(SYMBOLIC))
    graph = load_onnx(path, {"image": (2, 3, 16, 8)}).graph
    assert [spec.shape for spec in graph.inputs] == [(2, 3, 16, 8), (2, 5)]
    assert [spec.shape for spec in graph.outputs] == [(2, 3, 16, 8), (2, 5)]


@pytest.mark.parametrize(
    ("shapes", "match"),
    [
        ({"picture": (1, 3, 8, 8)}, "no input of that name"),
        ({"image": (1, 4, 8, 8)}, "contradicts"),
        ({"image": (1, 3, 8)}, "contradicts"),
        ({"image": (1, 3, 0, 8)}, "at least 1"),
    ],
)
def test_shapes_that_cannot_be_right(tmp_path, shapes, match):
    refused(stored(tmp_path, parse(SYMBOLIC)), match, shapes=shapes)


@pytest.mark.parametrize("placeholder", [-1, 0])
def test_a_placeholder_is_a_symbolic_axis(tmp_path, placeholder):
    proto = parse(SYMBOLIC)
    for value in (*proto.graph.input, *proto.graph.output):
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param:
                axis.dim_value = placeholder
    path = stored(tmp_path, proto)
    error = refused(path, "input 'image' has no fixed shape")
    assert error.cause == "the file says image=?,3,?,8"
    graph = load_onnx(path, {"image": (1, 3, 16, 8), "extra": (1, 5)}).graph
    assert [spec.shape for spec in graph.outputs] == [(1, 3, 16, 8), (1, 5)]


@pytest.mark.parametrize("place", [b"first_input", b"batch_axis", b"node_name"])
def test_names_that_are_no_text(tmp_path, place):
    proto = parse("g (float[batch_axis,4] first_input) => (float[1,4] y) { y = Relu(first_input) }")
    proto.graph.node[0].name = "node_name"
    path = stored(tmp_path, proto)
    path.write_bytes(path.read_bytes().replace(place, b"\xff" + place[1:]))
    assert "not text" in refused(path, "is damaged").cause


def test_a_weight_of_an_unknown_element_type(tmp_path):
    proto = parse("g (float[4] x) => (float[4] y) { y = Add(x, w) }", w=np.float32(1))
    proto.graph.initializer[0].data_type = 65
    assert "unknown element type 65" in refused(stored(tmp_path, proto), "not a valid").cause


def test_an_input_without_any_shape():
    proto = parse(PLAIN)
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    with pytest.raises(ModelError) as caught:
        from_proto(proto, Path("small.onnx"))
    assert "--shape x=1,3,224,224" in caught.value.fix
    assert from_proto(proto, Path("m.onnx"), shapes={"x": (2, 7)}).graph.outputs[0].shape == (2, 7)


def test_inputs_and_outputs_that_cannot_be_sent():
    with pytest.raises(ModelError, match="input 'x' cannot be sent") as caught:
        model("g (string[4] x) => (bool[4] y) { y = Equal(x, x) }")
    assert caught.value.cause == "its element type is string"
    with pytest.raises(ModelError, match="output 'y' cannot be sent") as caught:
        model("g (float[4] x) => (int64[1,n] y) { y = NonZero(x) }")
    assert "depends on the data" in caught.value.cause
    with pytest.raises(ModelError, match="is not a tensor") as caught:
        model("g (seq(float[4]) x) => (int64[] y) { y = SequenceLength(x) }")
    assert "sequence" in caught.value.cause


def test_unnamed_and_equally_named_nodes_get_names_of_their_own():
    proto = parse(
        "g (float[4] x) => (float[4] y) { a = Relu(x) b = Relu(a) c = Neg(b) y = Neg(c) }"
    )
    for node, name in zip(proto.graph.node, ("", "same", "same", "Relu_0"), strict=True):
        node.name = name
    loaded = from_proto(proto, Path("names.onnx"))
    names = [layer.name for layer in loaded.graph.layers]
    assert len(set(names)) == 4
    assert names[1] == "same"
    assert names == [node.name for node in loaded.proto.graph.node]


def test_shape_computations_become_constants():
    loaded = model(
        """g (float[batch,2,3] x) => (float[batch,6] y) {
            a = Relu(x)
            s = Shape(a)
            zero = Constant <value_ints = [0]> ()
            n = Gather(s, zero)
            rest = Constant <value_ints = [-1]> ()
            to = Concat <axis = 0> (n, rest)
            y = Reshape(a, to)
        }""",
        {"x": (1, 2, 3)},
    )
    assert [frontier.names for frontier in loaded.graph.frontiers] == [("x",), ("a",), ("y",)]
    feeds = {"x": np.arange(-3, 3, dtype=np.float32).reshape(1, 2, 3)}
    assert run(loaded.proto, feeds)["y"].shape == (1, 6)


def test_part_of_a_shape_and_size():
    loaded = model(
        """g (float[5,2,3] x) => (float[5,2,3] y) {
            s = Shape <start = -2, end = -1> (x)
            n = Size(x)
            f = Cast <to = 1> (s)
            h = Cast <to = 1> (n)
            a = Mul(x, f)
            y = Add(a, h)
        }"""
    )
    got = run(loaded.proto, {"x": np.ones((5, 2, 3), np.float32)})["y"]
    assert got.ravel()[0] == 2 + 30


def test_weights_beside_the_file_are_read(tmp_path):
    weights = np.arange(4000, dtype=np.float32).reshape(4, 1000)
    proto = parse("g (float[1,4] x) => (float[1,1000] y) { y = MatMul(x, w) }", w=weights)
    path = tmp_path / "big.onnx"
    onnx.save_model(proto, str(path), save_as_external_data=True, location="big.bin")
    loaded = load_onnx(path)
    assert np.array_equal(onnx.numpy_helper.to_array(loaded.proto.graph.initializer[0]), weights)
    (tmp_path / "big.bin").unlink()
    assert "big.bin" in refused(path, "stored beside it").cause


def test_without_onnx_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.delitem(sys.modules, "waistline.model.onnx_proto")
    with pytest.raises(MissingExtra) as caught:
        importlib.import_module("waistline.model.onnx_proto")
    assert caught.value.fix.endswith("-m pip install 'waistline[host]'")


def test_layouts_and_channel_axes():
    loaded = model(
        """g (float[1,2,4,4] x) => (float[1,8] y) {
            a = Relu(x)
            to = Constant <value_ints = [1, 4, 8]> ()
            b = Reshape(a, to)
            y = ReduceSum <keepdims = 0> (b, one)
        }""",
        one=np.array([1]),
    )
    found = [(f.tensors[0].layout, f.tensors[0].channel_axis) for f in loaded.graph.frontiers]
    assert found == [("NCHW", 1), ("NCHW", 1), ("any", None), ("NC", None)]
