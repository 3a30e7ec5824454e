import sys
from pathlib import Path

import numpy as np
import pytest
from model_help import model

from waistline.model.onnx_graph import from_proto

sys.path.append(str(Path(__file__).parents[2] / "examples"))

import graphs


def zeros(*shape):
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(
    ("text", "weights", "macs", "parameters"),
    [
        ("(float[1,3,8,8] x) => (float[1,4,6,6] y) { y = Conv(x, w, b) }",
         {"w": zeros(4, 3, 3, 3), "b": zeros(4)}, 4 * 36 * 27, 112),
        ("(float[1,6,8,8] x) => (float[1,6,8,8] y) {"
         " y = Conv <group = 6, pads = [1, 1, 1, 1]> (x, w) }",
         {"w": zeros(6, 1, 3, 3)}, 6 * 64 * 9, 54),
        ("(float[1,6,8,8] x) => (float[1,4,4,4] y) {"
         " y = Conv <group = 2, strides = [2, 2]> (x, w) }",
         {"w": zeros(4, 3, 1, 1)}, 4 * 16 * 3, 12),
        ("(float[1,6,5,5] x) => (float[1,4,10,10] y) {"
         " y = ConvTranspose <strides = [2, 2]> (x, w) }",
         {"w": zeros(6, 4, 2, 2)}, 6 * 25 * 4 * 4, 96),
        ("(float[5,2] x) => (float[2,3] y) { y = Gemm <transA = 1, transB = 1> (x, w) }",
         {"w": zeros(3, 5)}, 2 * 3 * 5, 15),
        ("(float[2,7,4] x) => (float[2,7,3] y) { y = MatMul(x, w) }",
         {"w": zeros(4, 3)}, 2 * 7 * 3 * 4, 12),
        ("(float[1,2,7,4] x) => (float[1,2,7,7] y) {"
         " t = Transpose <perm = [0, 1, 3, 2]> (x) y = MatMul(x, t) }",
         {}, 2 * 7 * 7 * 4, 0),
        ("(float[5,1,3] x) => (float[5,1,1,4] y) { y = LSTM <hidden_size = 4> (x, w, r) }",
         {"w": zeros(1, 16, 3), "r": zeros(1, 16, 4)}, 5 * 4 * 4 * 7, 112),
        ("(float[2,3,4] x, float[2,4,5] z) => (float[2,3,5] y) {"
         ' y = Einsum <equation = "bij,bjk->bik"> (x, z) }',
         {}, 2 * 3 * 4 * 5, 0),
        ("(uint8[1,4] x) => (int32[1,3] y) { y = MatMulInteger(x, w) }",
         {"w": np.zeros((4, 3), np.uint8)}, 12, 12),
        ("(float[1,4] x) => (float[1,4] y) { y = Relu(x) }", {}, 0, 0),
        ("(float[1,8] x) => (float[2,4] y) { y = Reshape(x, to) }", {"to": np.array([2, 4])}, 0, 0),
        ("(float[1,4] x, bool c) => (float[1,4] y) { y = If (c) <"
         " then_branch = a () => (float[1,4] t) { t = MatMul(x, w) },"
         " else_branch = b () => (float[1,4] e) { f = MatMul(x, w) e = MatMul(f, w) }> }",
         {"w": zeros(4, 4)}, 32, 16),
        ("(float[3,4] x) => (float[3,4] y) { s, y = Scan (z, x) <num_scan_inputs = 1,"
         " body = b (float[4] i, float[4] r) => (float[4] o, float[4] q)"
         " { m = MatMul(r, w) o = Add(i, m) q = Identity(o) }> }",
         {"w": zeros(4, 4), "z": zeros(4)}, 3 * 16, 20),
        ("(float[1,4] x) => (float[1,4] y) { y = Loop (n, , x) <"
         " body = b (int64 i, bool k, float[1,4] s) => (bool o, float[1,4] r)"
         " { o = Identity(k) r = MatMul(s, w) }> }",
         {"w": zeros(4, 4), "n": np.array(5)}, 5 * 16, 16),
        ("(float[1,4] x) => (float[1,4] y) { n = Constant <value_int = 6> () y = Loop (n, , x) <"
         " body = b (int64 i, bool k, float[1,4] s) => (bool o, float[1,4] r)"
         " { o = Identity(k) r = MatMul(s, w) }> }",
         {"w": zeros(4, 4)}, 6 * 16, 16),
    ],
)  # fmt: skip
def test_macs_and_parameters(text, weights, macs, parameters):
    loaded = model("g " + text, **weights)
    assert sum(layer.macs for layer in loaded.graph.layers) == macs
    assert sum(layer.parameters for layer in loaded.graph.layers) == parameters


@pytest.mark.parametrize(
    ("queries", "keys", "attributes"),
    [("1,4,5,8", "1,2,7,8", ""), ("1,5,32", "1,7,16", "<q_num_heads = 4, kv_num_heads = 2>")],
)
def test_attention_counts_scores_and_sums(queries, keys, attributes):
    loaded = model(
        f"""<ir_version: 11, opset_import: ["" : 23]>
        g (float[{queries}] q, float[{keys}] k, float[{keys}] v) => (float[{queries}] y) {{
            y = Attention {attributes} (q, k, v)
        }}"""
    )
    assert loaded.graph.layers[0].macs == 4 * 5 * 7 * (8 + 8)


def test_a_function_counts_what_it_does_inside():
    loaded = model(
        """<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
        g (float[1,4] x) => (float[1,3] y) { a = local.dense(x, w) y = Relu(a) }
        <domain: "local", opset_import: ["" : 17]>
        dense (v, k) => (r) { m = MatMul(v, k) r = Tanh(m) }""",
        w=zeros(4, 3),
    )
    assert [layer.macs for layer in loaded.graph.layers] == [12, 0]


def test_a_shared_weight_counts_once_at_its_first_reader():
    loaded = model(
        "g (float[1,4] x) => (float[1,4] y) { a = MatMul(x, w) y = MatMul(a, w) }", w=zeros(4, 4)
    )
    assert [(layer.parameters, layer.parameter_bytes) for layer in loaded.graph.layers] == [
        (16, 64),
        (0, 0),
    ]


def test_a_published_network_has_its_published_cost():
    """Sandler et al. 2018, table 4: 300 M multiply-adds, 3.4 M parameters (here with norms)."""
    graph = from_proto(graphs.mobilenetv2(), Path("mobilenetv2")).graph
    assert graph.frontiers[-1].macs_before == 300_774_272
    statistics = 2 * 17_056  # running mean and variance: constants, but not trained
    assert graph.frontiers[-1].parameters_before == 3_504_872 + statistics
