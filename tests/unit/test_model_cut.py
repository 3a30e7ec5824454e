from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_help import assert_cuts_equal, model, parse, run, stored
from onnx import helper

from waistline.errors import ModelError
from waistline.model import onnx_cut
from waistline.model.frontiers import find_frontier
from waistline.model.onnx_graph import from_proto, load_onnx

RNG = np.random.default_rng(7)
X = RNG.standard_normal((1, 4)).astype(np.float32)
W = RNG.standard_normal((4, 4)).astype(np.float32)

IF = """g (float[1,4] x, bool go) => (float[1,4] y) {
    a = Relu(x)
    b = Tanh(a)
    d = If (go) <
        then_branch = yes () => (float[1,4] t) { m = MatMul(b, w) t = Add(m, a) },
        else_branch = no () => (float[1,4] e) {
            n = If (go) <
                then_branch = in1 () => (float[1,4] p) { p = Neg(a) },
                else_branch = in2 () => (float[1,4] q) { q = Mul(a, v) }
            >
            e = Sub(n, b)
        }
    >
    y = Neg(d)
}"""

LOOP = """g (float[1,4] x) => (float[1,4] y) {
    a = Relu(x)
    b = Tanh(a)
    three = Constant <value_int = 3> ()
    d = Loop (three, , b) <
        body = step (int64 i, bool keep, float[1,4] s) => (bool on, float[1,4] r) {
            on = Identity(keep)
            m = MatMul(s, w)
            r = Add(m, a)
        }
    >
    y = Neg(d)
}"""

SCAN = """g (float[3,4] x) => (float[3,4] y) {
    a = Relu(x)
    bias = ReduceSum <keepdims = 0> (a)
    start = Constant <value_floats = [0.0, 0.0, 0.0, 0.0]> ()
    end, d = Scan (start, a) <
        num_scan_inputs = 1,
        body = step (float[4] s, float[4] row) => (float[4] r, float[4] o) {
            m = Add(s, row)
            r = Mul(m, v)
            o = Add(r, bias)
        }
    >
    y = Neg(d)
}"""

FUNCTIONS = """<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
g (float[1,4] x) => (float[1,4] y) {
    a = local.outer(x)
    b = Relu(a)
    y = local.inner(b)
}
<domain: "local", opset_import: ["" : 17]> inner (v) => (r) { r = Tanh(v) }
<domain: "local", opset_import: ["" : 17, "local" : 1]>
outer (v) => (r) { t = Neg(v) r = local.inner(t) }
<domain: "local", opset_import: ["" : 17]> unused (v) => (r) { r = Abs(v) }
"""


def expected_and_cuts(loaded, feeds):
    assert_cuts_equal(loaded, run(loaded.proto, feeds), feeds)


@pytest.mark.parametrize("go", [True, False])
def test_if_bodies_take_what_they_capture(go):
    loaded = model(IF, w=W, v=np.float32(3))
    names = [frontier.names for frontier in loaded.graph.frontiers]
    assert names == [("x", "go"), ("go", "a"), ("go", "a", "b"), ("d",), ("y",)]
    expected_and_cuts(loaded, {"x": X, "go": np.array(go)})


def test_a_cut_beside_a_capture_is_incomplete():
    loaded = model(IF, w=W, v=np.float32(3))
    with pytest.raises(ModelError) as caught:
        find_frontier(loaded.graph, "go,b")
    assert caught.value.cause == "incomplete: 'a' is also needed after it"
    with pytest.raises(ModelError, match="it lacks 'x'") as caught:
        onnx_cut.extract(loaded, ["go", "b"], ["y"])
    assert "'x' is needed by 'Relu_0'" in caught.value.cause


def test_loop_and_scan_bodies_take_what_they_capture():
    expected_and_cuts(model(LOOP, w=W), {"x": X})
    loaded = model(SCAN, v=np.full(4, 0.5, np.float32))
    assert ("a", "bias") in [frontier.names for frontier in loaded.graph.frontiers]
    expected_and_cuts(loaded, {"x": RNG.standard_normal((3, 4)).astype(np.float32)})


def test_a_body_reads_its_own_weights_and_hides_nothing():
    proto = parse(IF, w=W, v=np.float32(3))
    body = next(item.g for item in proto.graph.node[2].attribute if item.name == "then_branch")
    body.initializer.append(onnx.numpy_helper.from_array(2 * W, "own"))
    body.node[0].input[1] = "own"
    loaded = from_proto(proto, Path("own.onnx"))
    _, tail = onnx_cut.cut_model(loaded, loaded.graph.frontiers[2])
    assert [tensor.name for tensor in tail.graph.initializer] == ["v"]
    expected_and_cuts(loaded, {"x": X, "go": np.array(True)})


def test_only_called_functions_are_kept():
    loaded = model(FUNCTIONS)
    head, tail = onnx_cut.cut_model(loaded, find_frontier(loaded.graph, "b"))
    assert [function.name for function in head.functions] == ["inner", "outer"]
    assert [function.name for function in tail.functions] == ["inner"]
    assert head.opset_import == loaded.proto.opset_import
    expected_and_cuts(loaded, {"x": X})


def test_inputs_and_outputs_pass_through():
    loaded = model(
        """g (float[1,4] x, float[1,4] z) => (float[1,4] y, float[1,4] early, float[1,4] z) {
            early = Relu(x)
            b = MatMul(early, w)
            y = Add(b, x)
        }""",
        w=W,
    )
    names = [frontier.names for frontier in loaded.graph.frontiers]
    assert names[1:3] == [("x", "z", "early"), ("x", "z", "early", "b")]
    head, _ = onnx_cut.cut_model(loaded, loaded.graph.frontiers[1])
    assert [value.name for value in head.graph.input] == ["x", "z"]
    assert [node.op_type for node in head.graph.node] == ["Relu"]
    expected_and_cuts(loaded, {"x": X, "z": 2 * X})


def test_weights_are_copied_where_used_and_never_listed_as_inputs():
    proto = parse(
        "g (float[1,4] x, float[4,4] w) => (float[1,4] y) { a = MatMul(x, w) y = MatMul(a, v) }",
        w=W,
        v=2 * W,
        unused=W,
    )
    proto.ir_version = 3
    for name in ("v", "unused"):
        proto.graph.input.append(helper.make_tensor_value_info(name, 1, [4, 4]))
    loaded = from_proto(proto, Path("old.onnx"))
    assert [spec.name for spec in loaded.graph.inputs] == ["x"]
    head, tail = onnx_cut.cut_model(loaded, find_frontier(loaded.graph, "a"))
    for part, weight in ((head, "w"), (tail, "v")):
        assert part.ir_version == 4
        assert [tensor.name for tensor in part.graph.initializer] == [weight]
        assert len(part.graph.input) == 1
    expected_and_cuts(loaded, {"x": X})


def test_constant_nodes_and_shared_weights_go_to_both_parts():
    loaded = model(
        """g (float[1,4] x) => (float[1,4] y) {
            two = Constant <value_float = 2.0> ()
            w2 = Mul(w, two)
            a = MatMul(x, w2)
            y = MatMul(a, w2)
        }""",
        w=W,
    )
    assert [frontier.names for frontier in loaded.graph.frontiers] == [("x",), ("a",), ("y",)]
    for part in onnx_cut.cut_model(loaded, loaded.graph.frontiers[1]):
        assert [node.op_type for node in part.graph.node] == ["Constant", "Mul", "MatMul"]
    expected_and_cuts(loaded, {"x": X})


def test_sparse_weights_are_copied():
    proto = parse("g (float[1,4] x) => (float[1,4] y) { a = Relu(x) y = Add(a, w) }")
    values = helper.make_tensor("w", onnx.TensorProto.FLOAT, [2], [5.0, 6.0])
    places = helper.make_tensor("", onnx.TensorProto.INT64, [2], [0, 3])
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [4]))
    loaded = from_proto(proto, Path("sparse.onnx"))
    head, tail = onnx_cut.cut_model(loaded, loaded.graph.frontiers[1])
    assert not head.graph.sparse_initializer
    assert len(tail.graph.sparse_initializer) == 1
    assert loaded.graph.layers[1].parameters == 2
    expected_and_cuts(loaded, {"x": X})


def test_an_output_that_is_constant_stays_in_the_tail():
    loaded = model(
        "g (float[1,4] x) => (float[1,4] y, float[4,4] w) { a = Relu(x) y = MatMul(a, w) }", w=W
    )
    assert [f.names for f in loaded.graph.frontiers] == [("x",), ("a",), ("y", "w")]
    expected_and_cuts(loaded, {"x": X})


def test_a_cut_through_a_node_with_two_outputs_needs_both():
    loaded = model(
        "g (float[1,4] x) => (float[1,2] y) {"
        " a, b = Split <axis = 1> (x) c = Neg(a) y = Add(b, c) }"
    )
    assert [frontier.names for frontier in loaded.graph.frontiers][1:3] == [("a", "b"), ("b", "c")]
    with pytest.raises(ModelError, match="it lacks 'b'"):
        onnx_cut.extract(loaded, ["a"], ["y"])
    expected_and_cuts(loaded, {"x": X})


def test_random_nodes_run_on_one_side_only():
    loaded = model(
        """g (float[4] x) => (float[4] y) {
            r = RandomUniform <shape = [4], seed = 3.0> ()
            a = Add(x, r)
            b = Relu(a)
            y = Add(b, r)
        }"""
    )
    for frontier in loaded.graph.frontiers[1:-1]:
        _, tail = onnx_cut.cut_model(loaded, frontier)
        assert "r" in frontier.names
        assert "RandomUniform" not in [node.op_type for node in tail.graph.node]


def test_operators_of_an_engine_are_cut_too():
    proto = parse(
        "g (float[1,4] x) => (float[1,4] y) { a = Relu(x) b = com.microsoft.Gelu(a) y = Neg(b) }"
    )
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    assert [f.names for f in from_proto(proto, Path("m.onnx")).graph.frontiers] == [
        ("x",),
        ("a",),
        ("y",),
    ]
    proto.graph.value_info.append(helper.make_tensor_value_info("b", 1, [1, 4]))
    loaded = from_proto(proto, Path("m.onnx"))
    assert loaded.graph.layers[1].operator == "com.microsoft.Gelu"
    assert loaded.graph.last_x == 4
    expected_and_cuts(loaded, {"x": X})


def test_metadata_names_and_types_are_kept():
    proto = parse("g (float[1,4] x) => (float[1,4] y) { a = Relu(x) b = Neg(a) y = Tanh(b) }")
    proto.producer_name, proto.doc_string = "maker", "about"
    proto.metadata_props.add(key="author", value="somebody")
    loaded = from_proto(proto, Path("m.onnx"))
    _, tail = onnx_cut.cut_model(loaded, find_frontier(loaded.graph, "a"))
    assert (tail.producer_name, tail.doc_string) == ("maker", "about")
    assert tail.metadata_props[0].value == "somebody"
    assert [node.name for node in tail.graph.node] == ["Neg_1", "Tanh_2"]
    assert [value.name for value in tail.graph.value_info] == ["b"]


def test_extract_refuses_names_it_does_not_know():
    loaded = model("g (float[1,4] x) => (float[1,4] y) { a = Relu(x) y = Neg(a) }")
    with pytest.raises(ModelError, match="no tensor 'nope'"):
        onnx_cut.extract(loaded, ["x"], ["nope"])
    with pytest.raises(ModelError, match="cannot cut"):
        onnx_cut.extract(loaded, ["x", "nope"], ["y"])


def test_saved_slices_are_equal_bytes_and_run(tmp_path):
    path = stored(tmp_path, parse(LOOP, w=W))
    written = []
    for k in range(2):
        loaded = load_onnx(path)
        head, tail = onnx_cut.cut_model(loaded, loaded.graph.frontiers[2])
        assert onnx_cut.save(head, tmp_path / f"head{k}.onnx") == (tmp_path / f"head{k}.onnx",)
        onnx_cut.save(tail, tmp_path / f"tail{k}.onnx")
        written.append([(tmp_path / f"{part}{k}.onnx").read_bytes() for part in ("head", "tail")])
    assert written[0] == written[1]
    waist = run(tmp_path / "head0.onnx", {"x": X})
    assert np.array_equal(run(tmp_path / "tail0.onnx", waist)["y"], run(path, {"x": X})["y"])


def test_weights_over_the_limit_go_beside_the_slice(tmp_path):
    big = RNG.standard_normal((4, 500)).astype(np.float32)
    proto = parse(
        "g (float[1,4] x) => (float[1,500] y) { a = Relu(x) b = Add(a, v) y = MatMul(b, w) }",
        w=big,
        v=np.float32(3),
    )
    proto.graph.initializer[0].ClearField("raw_data")
    proto.graph.initializer[0].float_data.extend(big.ravel())
    loaded = from_proto(proto, Path("m.onnx"))
    tail = onnx_cut.cut_model(loaded, loaded.graph.frontiers[1])[1]
    files = onnx_cut.save(tail, tmp_path / "tail.onnx", inline_limit_bytes=1000)
    assert [file.name for file in files] == ["tail.onnx", "tail.onnx.data"]
    assert files[1].stat().st_size == big.nbytes
    assert files[0].stat().st_size < 1000
    expected = run(loaded.proto, {"x": X})["y"]
    assert np.array_equal(run(files[0], {"a": np.maximum(X, 0)})["y"], expected)
    again = load_onnx(files[0])
    assert np.array_equal(run(again.proto, {"a": np.maximum(X, 0)})["y"], expected)


def test_a_slice_that_cannot_be_written_or_is_not_valid(tmp_path):
    loaded = model("g (float[1,4] x) => (float[1,4] y) { a = Relu(x) y = Neg(a) }")
    tail = onnx_cut.cut_model(loaded, loaded.graph.frontiers[1])[1]
    with pytest.raises(ModelError, match="cannot write"):
        onnx_cut.save(tail, tmp_path / "no" / "such" / "folder.onnx")
    tail.graph.node[0].input[0] = "elsewhere"
    with pytest.raises(ModelError, match="not valid ONNX"):
        onnx_cut.save(tail, tmp_path / "tail.onnx")


UNARY = ("Relu", "Neg", "Tanh", "Identity")
BINARY = ("Add", "Mul", "Sub")


@st.composite
def graphs(draw):
    """A random directed graph of 4-vectors: skips, splits, dead ends, constants, any outputs."""
    tensors = [f"x{k}" for k in range(draw(st.integers(1, 3)))]
    inputs = list(tensors)
    weights = {"w0": RNG.standard_normal(4).astype(np.float32)}
    nodes = []
    pick = st.sampled_from
    for k in range(draw(st.integers(1, 9))):
        kind = draw(pick(["unary", "binary", "weight", "split", "if"]))
        a, b = draw(pick(tensors)), draw(pick(tensors))
        if kind == "unary":
            nodes.append(f"t{k} = {draw(pick(UNARY))}({a})")
        elif kind == "weight":
            nodes.append(f"t{k} = Add({a}, w0)")
        elif kind == "split":
            nodes.append(f"p{k}, q{k} = Split({a})")
            nodes.append(f"t{k} = Concat <axis = 0> (q{k}, p{k})")
        elif kind == "if":
            yes = f"yes{k} () => (float[4] e{k}) {{ e{k} = Add({a}, w0) }}"
            no = f"no{k} () => (float[4] f{k}) {{ f{k} = Neg({b}) }}"
            nodes.append(f"c{k} = Less({b}, {a}) s{k} = Constant <value_ints = [2]> ()")
            nodes.append(f"d{k} = Gather(c{k}, s{k}) g{k} = Squeeze(d{k})")
            nodes.append(f"t{k} = If (g{k}) <then_branch = {yes}, else_branch = {no}>")
        else:
            nodes.append(f"t{k} = {draw(pick(BINARY))}({a}, {b})")
        tensors.append(f"t{k}")
    outputs = draw(st.lists(pick(tensors), min_size=1, max_size=3, unique=True))
    declared = [", ".join(f"float[4] {name}" for name in names) for names in (inputs, outputs)]
    return f"g ({declared[0]}) => ({declared[1]}) {{ {' '.join(nodes)} }}", inputs, outputs, weights


@given(graphs(), st.integers(0, 2**32 - 1))
def test_any_graph_cut_anywhere_gives_the_same_bits(graph, seed):
    text, inputs, outputs, weights = graph
    rng = np.random.default_rng(seed)
    feeds = {name: rng.standard_normal(4).astype(np.float32) for name in inputs}
    if set(outputs) <= set(inputs):
        with pytest.raises(ModelError, match="computes nothing"):
            model(text, **weights)
        return
    loaded = model(text, **weights)
    assert [frontier.x for frontier in loaded.graph.frontiers] == [
        *range(1, len(loaded.graph.layers) + 2)
    ]
    for frontier in loaded.graph.frontiers:
        assert find_frontier(loaded.graph, ",".join(frontier.names)) is frontier
    expected_and_cuts(loaded, feeds)
