"""TFLite on the CPU: what tests/contract/test_backends.py does not ask for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from litert_help import conv_net, litert, made, open_model, refused, writer

from waistline.backends import _tflite_errors, _tflite_profile
from waistline.backends._tflite import spec_of
from waistline.backends._tflite_file import check_bytes, unique_names
from waistline.backends._tflite_runtime import check_numpy
from waistline.backends.base import BackendOptions, load_backend
from waistline.errors import BackendError, ConfigError, MissingExtra

OPS, TYPES = made.OPS, made.TYPES


@pytest.fixture
def store(tmp_path):
    return writer(tmp_path)


def test_auto_is_litert_for_tflite(store):
    piece = load_backend("auto", "tflite").open(store(conv_net()))
    assert piece.info()["engine"] in {"litert", "tflite-runtime"}
    assert piece.info()["kernels"] == "xnnpack"


@pytest.mark.parametrize(
    ("options", "kernels"),
    [
        ({}, "xnnpack"),
        ({"exact": True}, "builtin"),
        ({"extra": {"kernels": "reference"}}, "reference"),
        ({"extra": {"kernels": "xnnpack"}, "exact": True}, "xnnpack"),
    ],
)
def test_kernels_can_be_chosen_and_agree(store, options, kernels):
    path = store(conv_net())
    x = np.random.default_rng(0).standard_normal((1, 6, 6, 3)).astype(np.float32)
    piece = open_model(path, **options)
    assert piece.info()["kernels"] == kernels
    np.testing.assert_allclose(
        piece.run([x])[0], open_model(path).run([x])[0], rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("extra", [{"kernels": "fast"}, {"runtime": "tensorflow"}])
def test_a_choice_that_is_none(extra):
    with pytest.raises(ConfigError) as caught:
        litert.open_backend(BackendOptions(extra=extra))
    assert next(iter(extra.values())) in caught.value.what


def test_a_runtime_that_is_not_installed():
    for name in {"litert", "tflite-runtime"} - set(litert._INSTALLED):
        with pytest.raises(MissingExtra) as caught:
            litert.open_backend(BackendOptions(extra={"runtime": name}))
        assert "pip install" in caught.value.fix


@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize("exact", [False, True])
def test_no_cut_changes_a_bit(store, quantized, exact):
    data = made.branched(quantized=quantized)
    model = made.load(data)
    feeds = made.feeds_of(model)
    whole = open_model(store(data), exact=exact).run(list(feeds.values()))
    for frontier in model.graph.frontiers[1:-1]:
        head, tail = made.tflite_cut.cut_model(model, frontier)
        waist = open_model(store(head, "head.tflite"), exact=exact).run(list(feeds.values()))
        outputs = open_model(store(tail, "tail.tflite"), exact=exact).run(waist)
        for got, wanted in zip(outputs, whole, strict=True):
            assert got.tobytes() == wanted.tobytes(), frontier.names


def test_a_tensor_may_pass_through_unused(store):
    net = made.Net()
    x, y = net.input([1, 4], "x"), net.input([1, 3], "y")
    path = store(net.finish(net.softmax(x, "s"), y))
    piece = open_model(path)
    given = np.ones((1, 4), np.float32), np.array([[1, 2, 3]], np.float32)
    s, same = piece.run(given)
    assert s.tolist() == [[0.25] * 4]
    assert same.tolist() == [[1, 2, 3]]
    same += 1
    assert given[1].tolist() == [[1, 2, 3]]


def test_the_engine_prints_nothing(store):
    code = (
        "import sys; from pathlib import Path; from waistline.backends.base import load_backend\n"
        f"load_backend('litert', 'tflite').open(Path({str(store(conv_net()))!r}))\n"
        "print('heard', file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "heard\n")


@pytest.mark.parametrize(
    ("name", "version", "numpy", "works"),
    [
        ("tflite-runtime", "2.14.0", "2.0.0", False),
        ("tflite-runtime", "2.13", "2.4.6", False),
        ("tflite-runtime", "2.14.0", "1.26.4", True),
        ("tflite-runtime", "2.17.1", "2.1.0", True),
        ("litert", "2.3.0", "2.4.6", True),
    ],
)
def test_the_pair_that_imports_and_then_fails(name, version, numpy, works):
    if works:
        check_numpy(name, version, numpy)
        return
    with pytest.raises(BackendError) as caught:
        check_numpy(name, version, numpy)
    assert numpy in caught.value.what
    assert "numpy<2" in caught.value.fix


def test_the_probe_tells_what_runs_and_what_does_not(monkeypatch):
    assert {(one.device, one.state) for one in litert.probe()} >= {
        (f"CPU ({name})", "ok") for name in litert._INSTALLED[:1]
    }

    def fails(what):
        def broken(name):
            raise BackendError(what, cause="seen", fix="mend it")

        monkeypatch.setattr(litert, "runtime", broken)
        return {(one.state, one.fix) for one in litert.probe()}

    assert fails("it cannot run with NumPy 2") == {("wrong version", "mend it")}
    assert fails("it cannot open a model") == {("failed", "mend it")}


def _detail(shape=(1, 2, 2, 4), dtype=np.int8, scales=(), zeros=(), signature=None):
    return {
        "dtype": dtype,
        "shape": np.array(shape),
        "shape_signature": np.array(shape if signature is None else signature),
        "quantization_parameters": {"scales": np.array(scales), "zero_points": np.array(zeros)},
    }


@pytest.mark.parametrize(
    ("detail", "found"),
    [
        (_detail(scales=(0.5,), zeros=(3,)), ("int8", 0.5, 3, "NHWC", 3)),
        (_detail(dtype=np.uint8, scales=(0.5,), zeros=(128,)), ("uint8", 0.5, 128, "NHWC", 3)),
        (_detail(scales=(0.5, 1, 2, 4), zeros=(0, 0, 0, 0)), ("int8", None, None, "NHWC", 3)),
        (_detail(dtype=np.int16, scales=(0.5,), zeros=(0,)), ("int16", None, None, "NHWC", 3)),
        (_detail((1, 7), np.float32), ("float32", None, None, "NC", None)),
        (_detail((1, 7, 2), np.float32), ("float32", None, None, "any", None)),
        (_detail((), np.int32), ("int32", None, None, "any", None)),
        (_detail((1, 8), np.float32, signature=(-1, 8)), ("float32", None, None, "NC", None)),
    ],
    ids=["int8", "uint8", "per channel", "int16", "rank 2", "rank 3", "scalar", "batch"],
)
def test_what_is_said_of_a_tensor(detail, found):
    spec = spec_of("x", detail, Path("m.tflite"))
    assert (spec.dtype, spec.scale, spec.zero_point, spec.layout, spec.channel_axis) == found


@pytest.mark.parametrize(
    ("detail", "cause"),
    [
        (_detail(dtype=np.bytes_), "bytes"),
        (_detail(dtype=np.complex64), "complex64"),
        (_detail((1, 1, 1, 3), np.float32, signature=(1, -1, -1, 3)), "open shape [1, -1, -1, 3]"),
        (_detail((2, 8), np.float32, signature=(-1, 8)), "open shape"),
        (_detail((1 << 14, 1 << 15)), "limit"),
        (_detail((0, 3)), "below 1"),
        (_detail(scales=(-1.0,), zeros=(0,)), "positive"),
        (_detail(scales=(1.0,), zeros=(300,)), "zero point"),
    ],
    ids=["text", "complex", "open", "open batch", "huge", "empty", "scale", "zero point"],
)
def test_a_tensor_that_cannot_cross_a_cut(detail, cause):
    with pytest.raises(BackendError) as caught:
        spec_of("x", detail, Path("m.tflite"))
    assert cause in caught.value.cause


def test_names_are_the_cutters(store):
    net = made.Net()
    x = net.input([1, 4], "t")
    y = net.softmax(x, "t")
    data = made.changed(
        net.finish(net.softmax(y, "z"), y), lambda m: setattr(m.subgraphs[0].tensors[2], "name", "")
    )
    graph = made.load(data).graph
    piece = open_model(store(data))
    assert [one.name for one in piece.inputs] == [one.name for one in graph.inputs]
    assert [one.name for one in piece.outputs] == [one.name for one in graph.outputs]
    assert len({"t", *(one.name for one in piece.outputs)}) == 3
    assert unique_names(["", "a", "a", "a_2", ""]) == ["tensor_0", "a", "a_2_", "a_2", "tensor_4"]


def _custom(code):
    net = made.Net()
    y = net.op(OPS.CUSTOM, [net.input([1, 4])], [net.tensor([1, 4])])
    return made.changed(net.finish(y), lambda m: setattr(m.operatorCodes[0], "customCode", code))


def test_operators_the_engine_does_not_have_are_named(store):
    compiled = refused(store(_custom("edgetpu-custom-op")))
    assert "compiled for the Edge TPU" in compiled.what
    assert "--backend coral" in compiled.fix
    assert "MyOwnOp" in refused(store(_custom("MyOwnOp"))).what
    flex = refused(store(_custom("FlexErf")))
    assert "FlexErf" in flex.what
    newer = made.changed(conv_net(), lambda m: setattr(m.operatorCodes[0], "version", 99))
    error = refused(store(newer))
    assert "CONV_2D" in error.what
    assert "99" in error.cause


def test_an_operator_that_does_not_fit_its_tensors_is_named(store):
    def narrow(model):
        model.subgraphs[0].tensors[0].shape = [1, 6, 6, 5]

    path = store(made.changed(conv_net(), narrow))
    fused = refused(path)
    assert "XNNPACK" in fused.what
    assert "kernels=builtin" in fused.fix
    error = refused(path, exact=True)
    assert "CONV_2D (node 0)" in error.what
    assert "/" not in error.cause.partition(":")[2].split()[0]


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("Encountered unresolved custom op: Foo.\nSee instructions: https://x", ["Foo"]),
        (
            "Select TensorFlow op(s), included in the given model, is(are) not supported by this"
            " interpreter.Node number 2 (FlexErf) failed to prepare.",
            ["FlexErf", "Flex"],
        ),
        ("tflite/kernels/a.cc:12 a != b (1 != 2)Node number 7 (ADD) failed to prepare.",
         ["ADD (node 7)", "a != b (1 != 2)"]),
        ("", ["gave no reason"]),
    ],
)  # fmt: skip
def test_messages_are_read(message, words):
    error = _tflite_errors.cannot_open(Path("m.tflite"), message, "litert 9")
    text = "\n".join(error.lines())
    assert all(word in text for word in words), text
    assert "kernels/" not in text
    failed = _tflite_errors.failed_run(Path("m.tflite"), message, "litert 9")
    assert "m.tflite" in failed.what


def test_outputs_whose_size_depends_on_the_input(store):
    net = made.Net()
    x = net.input([4], "x", type_=TYPES.BOOL)
    y = net.tensor([4, 1], "y", type_=TYPES.INT64)
    net.graph.tensors[y].shapeSignature = [-1, 1]
    path = store(net.finish(net.op(OPS.WHERE, [x], [y], made.schema.WhereOptionsT())))
    error = refused(path)
    assert "'y'" in error.cause


def test_an_output_that_changes_its_size_is_an_error(store):
    net = made.Net()
    x = net.input([1, 4], "x")
    sizes = net.input([2], "sizes", type_=TYPES.INT32)
    y = net.tensor([1, 4], "y")
    net.op(OPS.FILL, [sizes, net.tensor([], "v", data=np.float32(3))], [y],
           made.schema.FillOptionsT())  # fmt: skip
    path = store(net.finish(y, net.softmax(x, "s")))
    piece = open_model(path)
    with pytest.raises(BackendError, match="changed its shape"):
        piece.run([np.zeros((1, 4), np.float32), np.array([3, 2], np.int32)])


def test_a_profile_names_the_layers_of_the_file(store):
    piece = open_model(store(made.branched()))
    profile = piece.profile([np.zeros(spec.shape, np.float32) for spec in piece.inputs], 2)
    graph = made.load(made.branched()).graph
    assert profile.method == "prefix"
    assert [layer.name for layer in profile.layers] == [f.after for f in graph.frontiers[1:]]
    assert profile.layers[-1].duration_s == profile.whole_s
    assert profile.layers[0].output_bytes == graph.frontiers[1].tensors[-1].size_bytes
    assert profile.note.startswith("cumulative")


def _timed(values, calls):
    def run():
        calls.append(values)
        return values[0]

    return run


def test_prefix_times_are_ratios_to_the_whole_and_say_where_they_fall():
    data = made.branched()
    graph = made.load(data).graph
    ratios = [0.5, 0.2, *[0.6 + k / 100 for k in range(len(graph.frontiers))]]
    opened = []

    def open_prefix(piece, outputs):
        opened.append(outputs)
        check_bytes(piece, Path("prefix"))
        return _timed([ratios[len(opened) - 1] * 8.0], [])

    profile = _tflite_profile.by_prefixes(Path("m.tflite"), data, open_prefix, _timed([8.0], []), 3)
    assert profile.whole_s == 8.0
    assert [layer.duration_s / 8.0 for layer in profile.layers[:3]] == pytest.approx(
        [0.5, 0.2, 0.6]
    )
    assert opened == [frontier.names for frontier in graph.frontiers[1:-1]]
    assert "1 of" in profile.note
    assert "take such differences as 0" in profile.note


def test_what_cannot_be_cut_cannot_be_profiled():
    def never(*_):
        raise AssertionError("nothing may be opened")

    with pytest.raises(BackendError, match="cannot be profiled"):
        _tflite_profile.by_prefixes(Path("m.tflite"), b"TFL3" * 9, never, never, 1)
