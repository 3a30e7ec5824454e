"""What every backend owes its callers. Backends are found by file name; see backends/base.py.

Each runs with every format it opens. A backend of a new file format adds a sample of it to
`backend_samples`, nothing else; what cannot run here is skipped with what its probe says.
"""

from __future__ import annotations

import gc
import sys
import threading
from functools import cache
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from backend_samples import GIVEN, NAMELESS, REFERENCE, SAMPLES, A, B, tflite_net

from waistline import plugins
from waistline.backends.base import BackendOptions
from waistline.errors import BackendError, ConfigError, WaistlineError

PACKAGE = "waistline.backends"
OPENS = {"ncs2": 4}
"""How often a slice is opened to see that closing frees it; a slice of ncs2 is a process."""
INSTEAD = {"ncs2": {"device": "CPU", "python": sys.executable}} if find_spec("openvino") else {}
"""Options by which a backend runs without its device."""


@cache
def _module(name):
    """The backend's module, or why it cannot be run here."""
    try:
        module = plugins.load(PACKAGE, name)
    except WaistlineError as error:
        return "; ".join(error.lines())
    if name in INSTEAD or not hasattr(module, "probe"):
        return module
    found = module.probe()
    if any(one.state == "ok" for one in found):
        return module
    return "; ".join(f"{one.device}: {one.state}: {one.detail}" for one in found)


def _formats(name):
    """What the backend opens; unknown where it is not installed."""
    try:
        module = plugins.load(PACKAGE, name)
        return module.open_backend(_options(name)).formats
    except WaistlineError:
        return ("",)


def _options(name, **options):
    options["extra"] = {**INSTEAD.get(name, {}), **options.get("extra", {})}
    return BackendOptions(**options)


def _backend(name, **options):
    module = _module(name)
    if isinstance(module, str):
        pytest.skip(module)
    return module.open_backend(_options(name, **options))


TARGETS = [(name, kind) for name in plugins.names(PACKAGE) for kind in _formats(name)]


@pytest.fixture(params=TARGETS, ids=lambda target: "-".join(filter(None, target)))
def target(request):
    return request.param


@pytest.fixture
def make(target):
    """Opens the backend with options."""
    _backend(target[0])
    return lambda **options: _backend(target[0], **options)


@pytest.fixture
def sample(make, target, tmp_path):
    """The sample slice in the format at hand."""
    kind = target[1]
    assert kind in SAMPLES, f"add a sample of format {kind!r} to SAMPLES"
    path = tmp_path / f"sample.{kind}"
    SAMPLES[kind](path)
    return path


@pytest.fixture
def given(sample):
    """Inputs of the sample."""
    return GIVEN.get(sample.suffix[1:], (A, B))


@pytest.fixture
def opened(make, sample):
    piece = make().open(sample)
    yield piece
    piece.close()


def test_it_says_what_it_takes_and_gives(opened, sample, given):
    names = ["input 0", "input 1"] if sample.suffix[1:] in NAMELESS else ["a", "b"]
    assert [(i.name, i.dtype, i.shape) for i in opened.inputs] == [
        (name, array.dtype, array.shape) for name, array in zip(names, given, strict=True)
    ]
    results = opened.run(given)
    assert [(r.dtype.name, r.shape) for r in results] == [
        (o.dtype, o.shape) for o in opened.outputs
    ]


def test_it_computes_what_the_model_says(opened, sample, given):
    if sample.suffix[1:] not in REFERENCE:
        pytest.skip("the format computes nothing that could be checked")
    for got, wanted in zip(opened.run(given), REFERENCE[sample.suffix[1:]], strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-3)


def test_callers_choose_the_order(make, sample, opened):
    if sample.suffix[1:] in NAMELESS:
        pytest.skip("the format has no names, only an order")
    first, second = opened.run([A, B])
    names = [spec.name for spec in opened.outputs]
    turned = make().open(sample, inputs=["b", "a"], outputs=names[::-1])
    assert [spec.name for spec in turned.inputs] == ["b", "a"]
    assert [spec.name for spec in turned.outputs] == names[::-1]
    got_second, got_first = turned.run([B, A])
    turned.close()
    assert got_first.shape == first.shape
    assert got_second.shape == second.shape
    if sample.suffix[1:] in REFERENCE:
        np.testing.assert_array_equal(got_first, first)


def test_equal_inputs_give_equal_bits_and_the_caller_owns_the_result(opened, given):
    a, b = (array.copy() for array in given)
    first = opened.run([a, b])
    kept = [array.copy() for array in first]
    for array in first:
        array += 1
    np.testing.assert_array_equal(a, given[0])
    np.testing.assert_array_equal(b, given[1])
    for again, before in zip(opened.run([a, b]), kept, strict=True):
        np.testing.assert_array_equal(again, before)


def test_arrays_that_are_not_contiguous_are_taken(opened, given):
    a, b = given
    wide = np.zeros((*a.shape, 2), a.dtype)
    wide[..., 0] = a
    for got, wanted in zip(opened.run([wide[..., 0], b]), opened.run(given), strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(lambda a, b: [a], id="too few"),
        pytest.param(lambda a, b: [a, b, b], id="too many"),
        pytest.param(lambda a, b: [a.astype(np.float64), b], id="type"),
        pytest.param(lambda a, b: [a[:, :2], b], id="shape"),
        pytest.param(lambda a, b: [a[0], b], id="rank"),
        pytest.param(lambda a, b: [b, a], id="order"),
    ],
)
def test_wrong_tensors_are_refused(opened, given, wrong):
    with pytest.raises(BackendError) as caught:
        opened.run(wrong(*given))
    assert caught.value.cause
    opened.run(given)


def test_a_missing_or_damaged_file_is_refused_by_name(make, sample, tmp_path):
    backend = make()
    noise = tmp_path / f"noise{sample.suffix}"
    noise.write_bytes(np.random.default_rng(1).bytes(4096))
    short = tmp_path / f"short{sample.suffix}"
    short.write_bytes(sample.read_bytes()[:-9])
    empty = tmp_path / f"empty{sample.suffix}"
    empty.touch()
    for path in (tmp_path / "absent", tmp_path, noise, short, empty):
        with pytest.raises(BackendError) as caught:
            backend.open(path)
        assert str(path) in caught.value.what


def test_names_the_file_does_not_have_are_refused(make, sample):
    others = [] if sample.suffix[1:] in NAMELESS else [{"inputs": ["a", "c"]}]
    for wanted in (*others, {"outputs": ["s"]}, {"inputs": ["a", "b", "b"]}):
        with pytest.raises(BackendError):
            make().open(sample, **wanted)


def test_a_profile_names_layers_and_times(opened, given):
    profile = opened.profile(given, 3)
    assert profile.method in {"native", "prefix"}
    assert profile.repeat == 3
    assert profile.whole_s > 0
    assert profile.layers
    assert all(layer.name and layer.operator for layer in profile.layers)
    assert all(layer.duration_s >= 0 and layer.spread_s >= 0 for layer in profile.layers)


def test_a_profile_leaves_nothing_behind(opened, given, sample, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    opened.profile(given, 2)
    assert [path.name for path in tmp_path.iterdir()] == [sample.name]


@pytest.mark.parametrize("options", [{}, {"threads": 2}, {"exact": True}])
def test_a_result_can_record_what_ran_it(make, sample, given, options):
    piece = make(**options).open(sample)
    info = piece.info()
    assert {"engine", "version", "device", "precision", "threads"} <= set(info)
    assert all(isinstance(value, str) and value for value in info.values())
    piece.run(given)
    piece.close()


def test_an_unknown_option_is_an_error_that_names_it(make):
    with pytest.raises(ConfigError, match="no_such_option"):
        make(extra={"no_such_option": "1"})


def test_errors_are_ours(opened, given):
    with pytest.raises(WaistlineError):
        opened.run([given[0].astype(object), given[1]])


def test_another_thread_than_the_one_that_opened_it_may_run_it(opened, given):
    found = []
    thread = threading.Thread(target=lambda: found.extend(opened.run(given)))
    thread.start()
    thread.join()
    for got, wanted in zip(found, opened.run(given), strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_closing_gives_everything_back(target, make, sample, given):
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        pytest.skip("needs /proc")

    def use():
        piece = make().open(sample)
        piece.run(given)
        piece.close()
        del piece
        gc.collect()

    use()
    before = len(list(folder.iterdir()))
    for _ in range(OPENS.get(target[0], 50)):
        use()
    assert len(list(folder.iterdir())) == before


def test_a_quantized_tensor_carries_its_scale(make, target, tmp_path):
    if target[1] != "tflite":
        pytest.skip(f"a {target[1]} file says nothing of scales")
    net, _ = tflite_net(quantized=True)
    path = tmp_path / "int8.tflite"
    path.write_bytes(net.finish(net.conv(net.input([1, 4, 4, 3]), 2, name="y")))
    made = net.graph.tensors[net.graph.outputs[0]].quantization
    piece = make().open(path)
    (x,), (y,) = piece.inputs, piece.outputs
    assert (x.dtype, x.scale, x.zero_point) == ("int8", 1 / 32, 3)
    assert (y.dtype, y.zero_point) == ("int8", made.zeroPoint[0])
    assert y.scale == pytest.approx(made.scale[0], rel=1e-7)
    assert {(one.layout, one.channel_axis) for one in (x, y)} == {("NHWC", 3)}
    (codes,) = piece.run([np.arange(48, dtype=np.int8).reshape(x.shape)])
    assert codes.dtype == np.int8
    piece.close()


@pytest.mark.parametrize("quantized", [False, True])
def test_a_tensor_that_only_passes_through_is_what_it_was(make, target, tmp_path, quantized):
    path = tmp_path / f"passes.{target[1]}"
    if target[1] == "tflite":
        net, _ = tflite_net(quantized=quantized)
        x, p = net.input([1, 4], "x"), net.input([1, 2, 2, 3], "p")
        path.write_bytes(net.finish(net.softmax(x, "s"), p))
    elif target[1] == "onnx":
        _onnx_passing(path, quantized)
    else:
        pytest.skip(f"a {target[1]} file computes every output")
    piece = make().open(path, outputs=["s", "p"])
    given = [np.arange(one.elements).reshape(one.shape).astype(one.dtype) for one in piece.inputs]
    _, passed = piece.run(given)
    assert passed.dtype == given[1].dtype
    np.testing.assert_array_equal(passed, given[1])
    passed += 1
    assert given[1].ravel()[0] == 0
    piece.close()


def _onnx_passing(path, quantized):
    onnx = pytest.importorskip("onnx", reason="needs onnx: pip install 'waistline[host]'")
    make, kinds = onnx.helper, onnx.TensorProto
    kind = kinds.INT8 if quantized else kinds.FLOAT
    x = make.make_tensor_value_info("x", kinds.FLOAT, [1, 4])
    s = make.make_tensor_value_info("s", kinds.FLOAT, [1, 4])
    p = make.make_tensor_value_info("p", kind, [1, 3, 2, 2])
    graph = make.make_graph([make.make_node("Relu", ["x"], ["s"])], "g", [x, p], [s, p])
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, path)


WEIGHTS = [
    np.random.default_rng(3).standard_normal(shape).astype(np.float32) / 3
    for shape in ((8, 3, 3, 3), (4, 8, 3, 3))
]
"""Of two convolutions, output channel first: x (1, 3, 9, 9) -> relu -> w (1, 8, 9, 9) -> y."""
X = np.random.default_rng(4).standard_normal((1, 3, 9, 9)).astype(np.float32)


def _onnx_slice(path, role):
    onnx = pytest.importorskip("onnx", reason="needs onnx: pip install 'waistline[host]'")
    make, weights = onnx.helper, WEIGHTS[role == "tail"]
    source, target = ("x", "w") if role == "head" else ("w", "y")
    nodes = [make.make_node("Conv", [source, "k"], ["c"], pads=[1] * 4)]
    nodes.append(make.make_node("Relu" if role == "head" else "Identity", ["c"], [target]))
    infos = [
        make.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, channels, 9, 9])
        for name, channels in ((source, weights.shape[1]), (target, weights.shape[0]))
    ]
    kernel = onnx.numpy_helper.from_array(weights, "k")
    graph = make.make_graph(nodes, role, infos[:1], infos[1:], [kernel])
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, path)


def _tflite_slice(path, role):
    net, schema = tflite_net()
    weights = np.ascontiguousarray(WEIGHTS[role == "tail"].transpose(0, 2, 3, 1))
    out, *_, channels = weights.shape
    source = net.input([1, 9, 9, channels], "x" if role == "head" else "w")
    kernel = net.tensor(weights.shape, "k", data=weights)
    bias = net.tensor([out], "b", data=np.zeros(out, np.float32))
    options = schema.Conv2DOptionsT(
        strideW=1, strideH=1, fusedActivationFunction=int(role == "head")
    )
    made = net.tensor([1, 9, 9, out], "w" if role == "head" else "y")
    path.write_bytes(
        net.finish(net.op(schema.BuiltinOperator.CONV_2D, [source, kernel, bias], [made], options))
    )


SLICES = {"onnx": _onnx_slice, "tflite": _tflite_slice}
LIMIT = 2e-6
"""Between float32 engines, of the largest |y|: they add up the same products in another order."""
HALF_LIMIT = 1e-2
"""With an end that computes in f16, such as the stick."""


def _run_end(target, role, folder, given):
    """Run one end; arrays are NCHW on both sides, as a bundle transposes between layouts."""
    name, kind = target
    path = folder / f"{role}-{kind}.{kind}"
    SLICES[kind](path, role)
    piece = _backend(name).open(path)
    if kind == "tflite":
        given = given.transpose(0, 2, 3, 1)
    (made,) = piece.run([given])
    half = "16" in piece.info()["precision"]
    piece.close()
    return (made.transpose(0, 3, 1, 2) if kind == "tflite" else made), half


@pytest.fixture(scope="module")
def waist_of(tmp_path_factory):
    """What a target's head makes of X, and whether it computes in f16."""
    folder = tmp_path_factory.mktemp("heads")
    return cache(lambda target: _run_end(target, "head", folder, X))


@pytest.fixture(scope="module")
def wanted(waist_of, tmp_path_factory):
    pytest.importorskip("onnxruntime", reason="the reference is onnxruntime's")
    reference = ("onnxruntime", "onnx")
    folder = tmp_path_factory.mktemp("reference")
    return _run_end(reference, "tail", folder, waist_of(reference)[0])[0]


@pytest.mark.parametrize(
    ("head", "tail"),
    [pair for pair in product(TARGETS, TARGETS) if all(kind in SLICES for _, kind in pair)],
    ids=lambda target: "-".join(target),
)
def test_head_and_tail_may_run_on_different_engines(head, tail, waist_of, wanted, tmp_path):
    waist, half = waist_of(head)
    got, half_too = _run_end(tail, "tail", tmp_path, waist)
    limit = HALF_LIMIT if half or half_too else LIMIT
    assert np.abs(got - wanted).max() <= limit * np.abs(wanted).max()
