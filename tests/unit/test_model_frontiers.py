from pathlib import Path

import numpy as np
import pytest
from model_help import model

from waistline.errors import ModelError
from waistline.model.frontiers import find_frontier, list_frontiers
from waistline.model.graph import Layer
from waistline.model.onnx_graph import from_proto
from waistline.tensors import TensorSpec

RESIDUAL = """g (float[1,4] x) => (float[1,4] y) {
    a = Relu(x)
    b = Neg(a)
    c = Tanh(b)
    d = Add(a, c)
    y = Relu(d)
}"""

BRANCHES = """g (float[1,4] x) => (float[1,4] y) {
    s = Relu(x)
    a1 = Neg(s)
    a2 = Tanh(a1)
    b1 = Exp(s)
    b2 = Sin(b1)
    y = Add(a2, b2)
}"""


def names(loaded):
    return [frontier.names for frontier in loaded.graph.frontiers]


def test_a_skip_edge_crosses_beside_the_branch():
    found = names(model(RESIDUAL))
    assert found == [("x",), ("a",), ("a", "b"), ("a", "c"), ("d",), ("y",)]


def test_an_output_already_computed_crosses_until_the_end():
    loaded = model(
        """g (float[1,4] x) => (float[1,4] y, float[1,4] early) {
            early = Relu(x)
            b = Neg(early)
            y = Tanh(b)
        }"""
    )
    assert names(loaded) == [("x",), ("early",), ("early", "b"), ("y", "early")]


def test_a_graph_input_read_late_crosses():
    loaded = model(
        "g (float[1,4] x, float[1,4] z) => (float[1,4] y) { a = Relu(x) b = Neg(a) y = Add(b, z) }"
    )
    assert names(loaded) == [("x", "z"), ("z", "a"), ("z", "b"), ("y",)]


def test_an_unused_input_is_at_x_1_only():
    loaded = model("g (float[1,4] x, float[2] u) => (float[1,4] y) { a = Relu(x) y = Neg(a) }")
    assert names(loaded) == [("x", "u"), ("a",), ("y",)]


def test_constants_and_dead_nodes_are_no_layers_but_random_ones_are():
    loaded = model(
        """g (float[4] x) => (float[4] y) {
            c = Constant <value_floats = [1.0, 2.0, 3.0, 4.0]> ()
            n = Neg(c)
            r = RandomNormal <shape = [4]> ()
            dead = Relu(x)
            a = Add(x, n)
            y = Add(a, r)
        }"""
    )
    assert names(loaded) == [("x",), ("x", "r"), ("r", "a"), ("y",)]
    assert [layer.index for layer in loaded.graph.layers] == [2, 4, 5]


def test_a_frontier_of_unknown_size_is_left_out_and_x_counts_on():
    loaded = model(
        """g (float[4] x) => (float[4] y) {
            where = NonZero(x)
            picked = Transpose(where)
            count = Shape(picked)
            total = ReduceSum<keepdims = 0>(count)
            f = Cast<to = 1>(total)
            y = Add(x, f)
        }"""
    )
    found = [(f.x, f.names) for f in loaded.graph.frontiers]
    assert found == [
        (1, ("x",)),
        (2, ("x", "count")),
        (3, ("x", "total")),
        (4, ("x", "f")),
        (5, ("y",)),
    ]
    assert set(loaded.graph.unsized) == {"where", "picked"}
    with pytest.raises(ModelError, match="no fixed size") as caught:
        find_frontier(loaded.graph, "x,where")
    assert "depends on the data" in caught.value.cause


def test_sums_are_of_the_head():
    loaded = model(
        "g (float[1,4] x) => (float[1,2] y) { a = Relu(x) b = MatMul(a, w) y = Relu(b) }",
        w=np.ones((4, 2), np.float32),
    )
    assert [
        (f.after, f.size_bytes, f.macs_before, f.parameters_before) for f in loaded.graph.frontiers
    ] == [("", 16, 0, 0), ("Relu_0", 16, 0, 0), ("MatMul_1", 8, 8, 8), ("Relu_2", 8, 8, 8)]


def test_many_layers_take_one_sweep():
    # A quadratic walk over 50,000 layers would take minutes.
    spec = {f"t{k}": TensorSpec(f"t{k}", "float32", (1,)) for k in range(50_001)}
    layers = [Layer(k, f"n{k}", "Relu", (f"t{k}",), (f"t{k + 1}",)) for k in range(50_000)]
    assert len(list_frontiers([spec["t0"]], [spec["t50000"]], layers, spec)) == 50_001


@pytest.mark.parametrize("cut", [3, "3", " 3 ", "a,b", "b, a", "b,a,"])
def test_find_by_index_or_by_names_in_any_order(cut):
    assert find_frontier(model(RESIDUAL).graph, cut).names == ("a", "b")


@pytest.mark.parametrize("cut", [0, 7, "-1", "99"])
def test_an_index_outside_the_list_is_refused(cut):
    with pytest.raises(ModelError, match="no partition point") as caught:
        find_frontier(model(RESIDUAL).graph, cut)
    assert "1..6" in caught.value.fix


def test_a_tensor_named_with_digits_is_written_with_a_comma():
    loaded = model("g (float[4] x) => (float[4] y) { a = Relu(x) y = Neg(a) }")
    proto = loaded.proto
    proto.graph.node[0].output[0] = proto.graph.node[1].input[0] = "190"
    proto.graph.ClearField("value_info")
    graph = from_proto(proto, Path("digits.onnx")).graph
    assert find_frontier(graph, "190,").x == 2
    with pytest.raises(ModelError) as caught:
        find_frontier(graph, "190")
    assert "'190,'" in caught.value.fix


@pytest.mark.parametrize(
    ("cut", "what", "cause", "fix"),
    [
        ("conv_layr", "no tensor 'conv_layr'", "near names: conv_layer", "--cut conv_layer"),
        ("LAYER", "no tensor 'LAYER'", "near names: conv_layer", "--cut conv_layer"),
        ("qqqqqqqqqqqq", "no tensor", "no name is near", "--list"),
        ("Neg_1", "no tensor 'Neg_1'", "writes 'y'", "--cut y"),
        (",", "names no tensor", "", "--cut"),
    ],
)
def test_unknown_names(cut, what, cause, fix):
    loaded = model("g (float[4] x) => (float[4] y) { conv_layer = Relu(x) y = Neg(conv_layer) }")
    with pytest.raises(ModelError, match=what) as caught:
        find_frontier(loaded.graph, cut)
    assert cause in caught.value.cause
    assert fix in caught.value.fix


@pytest.mark.parametrize(
    ("cut", "cause", "nearest"),
    [
        ("b", "'a' is also needed", "a,b (x = 3)"),  # beside the skip edge
        ("c", "'a' is also needed", "a,c (x = 4)"),
        ("a,d", "'a' is not needed", "d (x = 5)"),
    ],
)
def test_incomplete_and_superfluous_cuts_name_the_tensor(cut, cause, nearest):
    with pytest.raises(ModelError, match=f"{cut} is not a cut") as caught:
        find_frontier(model(RESIDUAL).graph, cut)
    assert cause in caught.value.cause
    assert nearest in caught.value.fix


def test_half_of_parallel_branches_lacks_where_they_part():
    with pytest.raises(ModelError) as caught:
        find_frontier(model(BRANCHES).graph, "a2")
    assert caught.value.cause == "incomplete: 's' is also needed after it"


def test_a_graph_input_beside_the_cut_is_named():
    loaded = model(
        "g (float[1,4] x, float[1,4] z) => (float[1,4] y) { a = Relu(x) b = Neg(a) y = Add(b, z) }"
    )
    with pytest.raises(ModelError) as caught:
        find_frontier(loaded.graph, "b")
    assert "'z' is also needed" in caught.value.cause
    assert "--cut z,b (x = 3)" in caught.value.fix


def test_a_valid_cut_outside_the_order_is_refused_naming_the_nearest():
    graph = model(BRANCHES).graph
    assert ("a1", "b1") not in [frontier.names for frontier in graph.frontiers]
    with pytest.raises(ModelError) as caught:
        find_frontier(graph, "a1,b1")
    assert "not at a frontier of the file's order" in caught.value.cause
    assert "s,a1 (x = 3)" in caught.value.fix


def broken(text, **weights):
    loaded = model(text, **weights)
    return {f.after: f.breaks_fusion for f in loaded.graph.frontiers if f.breaks_fusion}


def test_cuts_inside_what_engines_fuse_are_marked():
    one, two = np.ones(2, np.float32), np.ones((2, 2, 1, 1), np.float32)
    found = broken(
        """g (float[1,2,4,4] x) => (float[1,2,4,4] y) {
            c = Conv(x, w)
            n = BatchNormalization(c, s, s, s, s)
            r = Relu(n)
            d = Conv(r, w)
            e = Add(d, r)
            f = LeakyRelu(e)
            g1 = Sigmoid(f)
            h = Mul(f, g1)
            y = Tanh(h)
        }""",
        w=two,
        s=one,
    )
    assert found == {
        "Conv_0": "Conv+BatchNormalization",
        "BatchNormalization_1": "Conv+BatchNormalization+Relu",
        "Conv_3": "Conv+Add",
        "Add_4": "Conv+Add+LeakyRelu",
        "Sigmoid_6": "Sigmoid+Mul",
    }


def test_a_tensor_with_two_readers_and_a_gate_break_nothing():
    found = broken(
        """g (float[1,4] x) => (float[1,4] y, float[1,4] m) {
            m = MatMul(x, w)
            a = Add(m, w0)
            s = Sigmoid(a)
            y = Mul(s, x)
        }""",
        w=np.ones((4, 4), np.float32),
        w0=np.ones(4, np.float32),
    )
    assert found == {}


def test_int8_groups_are_marked_and_the_int8_tensor_is_not():
    found = broken(
        """g (float[1,4] x) => (float[1,4] y) {
            q = QuantizeLinear(x, s, z)
            d = DequantizeLinear(q, s, z)
            g1 = MatMul(d, w)
            p = QuantizeLinear(g1, s, z)
            y = DequantizeLinear(p, s, z)
        }""",
        w=np.ones((4, 4), np.float32),
        s=np.float32(0.1),
        z=np.int8(0),
    )
    assert found == {
        "DequantizeLinear_1": "DequantizeLinear+MatMul",
        "MatMul_2": "MatMul+QuantizeLinear",
    }
