"""TFLite on the CPU: what tests/contract/test_backends.py does not ask for."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from waistline.backends import _tflite_errors, _tflite_profile
from waistline.backends._tflite import spec_of
from waistline.backends._tflite_file import Facts, check_bytes, read_checked, unique_names
from waistline.backends._tflite_runtime import check_numpy
from waistline.backends.base import BackendOptions, load_backend
from waistline.errors import BackendError, ConfigError, MissingExtra, ModelError

made = pytest.importorskip("tflite_help", reason="the models are made by LiteRT's schema")
litert = pytest.importorskip("waistline.backends.litert", reason="needs a TFLite runtime")

OPS, TYPES = made.OPS, made.TYPES


@pytest.fixture
def store(tmp_path):
    def write(data, name="model.tflite"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


def _open(path, **options):
    return litert.open_backend(BackendOptions(**options)).open(path)


def _conv(**options):
    net = made.Net(**options)
    return net.finish(net.conv(net.input([1, 6, 6, 3]), 4, name="y"))


def _refused(path, **options):
    with pytest.raises(BackendError) as caught:
        _open(path, **options)
    assert caught.value.fix
    return caught.value


def test_auto_is_litert_for_tflite(store):
    piece = load_backend("auto", "tflite").open(store(_conv()))
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
    path = store(_conv())
    x = np.random.default_rng(0).standard_normal((1, 6, 6, 3)).astype(np.float32)
    piece = _open(path, **options)
    assert piece.info()["kernels"] == kernels
    np.testing.assert_allclose(piece.run([x])[0], _open(path).run([x])[0], rtol=1e-5, atol=1e-5)


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
    whole = _open(store(data), exact=exact).run(list(feeds.values()))
    for frontier in model.graph.frontiers[1:-1]:
        head, tail = made.tflite_cut.cut_model(model, frontier)
        waist = _open(store(head, "head.tflite"), exact=exact).run(list(feeds.values()))
        outputs = _open(store(tail, "tail.tflite"), exact=exact).run(waist)
        for got, wanted in zip(outputs, whole, strict=True):
            assert got.tobytes() == wanted.tobytes(), frontier.names


def test_a_tensor_may_pass_through_unused(store):
    net = made.Net()
    x, y = net.input([1, 4], "x"), net.input([1, 3], "y")
    path = store(net.finish(net.softmax(x, "s"), y))
    piece = _open(path)
    given = np.ones((1, 4), np.float32), np.array([[1, 2, 3]], np.float32)
    s, same = piece.run(given)
    assert s.tolist() == [[0.25] * 4]
    assert same.tolist() == [[1, 2, 3]]
    same += 1
    assert given[1].tolist() == [[1, 2, 3]]


def test_the_engine_prints_nothing(store):
    code = (
        "import sys; from pathlib import Path; from waistline.backends.base import load_backend\n"
        f"load_backend('litert', 'tflite').open(Path({str(store(_conv()))!r}))\n"
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
    piece = _open(store(data))
    assert [one.name for one in piece.inputs] == [one.name for one in graph.inputs]
    assert [one.name for one in piece.outputs] == [one.name for one in graph.outputs]
    assert len({"t", *(one.name for one in piece.outputs)}) == 3
    assert unique_names(["", "a", "a", "a_2", ""]) == ["tensor_0", "a", "a_2_", "a_2", "tensor_4"]


def _custom(code):
    net = made.Net()
    y = net.op(OPS.CUSTOM, [net.input([1, 4])], [net.tensor([1, 4])])
    return made.changed(net.finish(y), lambda m: setattr(m.operatorCodes[0], "customCode", code))


def test_operators_the_engine_does_not_have_are_named(store):
    compiled = _refused(store(_custom("edgetpu-custom-op")))
    assert "compiled for the Edge TPU" in compiled.what
    assert "--backend coral" in compiled.fix
    assert "MyOwnOp" in _refused(store(_custom("MyOwnOp"))).what
    flex = _refused(store(_custom("FlexErf")))
    assert "FlexErf" in flex.what
    newer = made.changed(_conv(), lambda m: setattr(m.operatorCodes[0], "version", 99))
    error = _refused(store(newer))
    assert "CONV_2D" in error.what
    assert "99" in error.cause


def test_an_operator_that_does_not_fit_its_tensors_is_named(store):
    def narrow(model):
        model.subgraphs[0].tensors[0].shape = [1, 6, 6, 5]

    path = store(made.changed(_conv(), narrow))
    fused = _refused(path)
    assert "XNNPACK" in fused.what
    assert "kernels=builtin" in fused.fix
    error = _refused(path, exact=True)
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


def test_a_file_that_would_mislead_the_engine_is_refused(store):
    def graph(change):
        return lambda model: change(model.subgraphs[0])

    def lists(field, *values):
        return graph(lambda g: setattr(g, field, list(values)))

    changes = {
        "is a weight": lists("inputs", 0, 1),
        "names tensor 99": lists("outputs", 3, 99),
        "names tensor -1": lists("outputs", 3, -1),
        "in buffer 77": graph(lambda g: setattr(g.tensors[0], "buffer", 77)),
        "its weights have": graph(lambda g: setattr(g.tensors[1], "shape", [4, 3, 3, 2])),
        "would take": graph(lambda g: setattr(g.tensors[0], "shape", [1 << 20, 1 << 20, 1, 3])),
        "state that is kept": graph(lambda g: setattr(g.tensors[0], "isVariable", True)),
        "has the shape": graph(lambda g: setattr(g.tensors[0], "shape", [1, -6, 6, 3])),
        "code that is not": graph(lambda g: setattr(g.operators[0], "opcodeIndex", 5)),
        "before it is written": graph(lambda g: setattr(g.operators[0], "inputs", [3, 1, 2])),
        "written already": graph(lambda g: setattr(g.operators[0], "outputs", [0])),
        "never written": graph(lambda g: setattr(g, "operators", [])),
        "schema version": lambda model: setattr(model, "version", 9),
        "no graph": lambda model: setattr(model, "subgraphs", []),
    }
    for words, change in changes.items():
        assert words in _refused(store(made.changed(_conv(), change))).cause


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("zeroPoint", [-65084], "zero point outside"),
        ("scale", [float("nan")], "no number"),
        ("scale", [-1.0], "negative"),
        ("scale", [1.0, 2.0], "scales"),
    ],
)
def test_scales_that_would_mislead_the_engine_are_refused(store, field, value, words):
    def change(model):
        setattr(model.subgraphs[0].tensors[0].quantization, field, value)

    assert words in _refused(store(made.changed(_conv(quantized=True), change))).cause


def _operators(**changes):
    """Change the inputs of operators of the branched model, by name."""

    def change(model):
        codes = [max(c.deprecatedBuiltinCode, c.builtinCode) for c in model.operatorCodes]
        for name, edit in changes.items():
            for operator in model.subgraphs[0].operators:
                if codes[operator.opcodeIndex] == getattr(OPS, name):
                    operator.inputs = edit(list(operator.inputs))
                    break

    return change


@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize(
    ("name", "edit", "words"),
    [
        ("ADD", lambda reads: [reads[0], -1], "lacks input 1"),
        ("CONV_2D", lambda reads: [-1, *reads[1:]], "lacks input 0"),
        ("CONV_2D", lambda reads: [reads[0], -1, reads[2]], "lacks input 1"),
        ("FULLY_CONNECTED", lambda reads: [-1, *reads[1:]], "lacks input 0"),
        ("SOFTMAX", lambda reads: [-1], "lacks input 0"),
        ("CONCATENATION", lambda reads: [-1, *reads[1:]], "lacks input 0"),
        ("DEPTHWISE_CONV_2D", lambda reads: reads[:2], "has 2 inputs and needs 3"),
    ],
)
def test_an_operator_without_an_input_that_it_needs_is_refused(store, quantized, name, edit, words):
    data = made.changed(made.branched(quantized=quantized), _operators(**{name: edit}))
    assert words in _refused(store(data)).cause
    with pytest.raises(ModelError, match="is not a valid TFLite model") as caught:
        made.load(data)
    assert words in caught.value.cause


def test_an_output_is_never_left_out(store):
    def change(model):
        model.subgraphs[0].operators[0].outputs = [-1]

    assert "names tensor -1" in _refused(store(made.changed(_conv(), change))).cause


def test_a_bias_may_be_left_out(store):
    data = made.changed(made.branched(), _operators(FULLY_CONNECTED=lambda reads: [*reads[:2], -1]))
    piece = _open(store(data))
    piece.run([np.zeros(spec.shape, np.float32) for spec in piece.inputs])


def test_scales_per_channel_are_for_weights(store):
    def swap(model):
        graph = model.subgraphs[0]
        filters = graph.operators[0].inputs[1]
        graph.operators[-1].inputs = [filters]

    data = made.changed(made.branched(quantized=True), swap)
    assert "scale for each channel" in _refused(store(data)).cause


def test_a_reshape_keeps_the_element_type(store):
    net = made.Net()
    x = net.input([1, 2], "x")
    narrow = net.tensor([1, 2], "narrow", type_=TYPES.INT8)
    net.op(OPS.RESHAPE, [x], [narrow], made.schema.ReshapeOptionsT(newShape=[1, 2]))
    assert "as another" in _refused(store(net.finish(narrow))).cause


_NUMBERS = """
import random, struct, sys
from pathlib import Path
import numpy as np
from waistline.backends import _tflite_file, litert
from waistline.backends.base import BackendOptions
from waistline.errors import WaistlineError

path = Path(sys.argv[1])
data = path.read_bytes()
reader = _tflite_file._Reader(data)
graph = reader._tables(reader._u32(0), 2)[0]
count, places = len(reader._tables(graph, 0)), []
for operator in reader._tables(graph, 3):
    for field in (1, 2):
        at = reader._table(operator, field)
        places.append((at, [at + 4 + 4 * k for k in range(reader._u32(at))]))
ran = 0
for seed in range(250):
    change = random.Random(seed)
    found = bytearray(data)
    for _ in range(change.choice([1, 1, 2])):
        at, numbers = change.choice(places)
        if change.random() < 0.1:
            struct.pack_into("<I", found, at, change.randrange(len(numbers) + 1))
        else:
            value = change.choice([-1, change.randrange(count), change.randrange(count)])
            struct.pack_into("<i", found, change.choice(numbers), value)
    print(seed, flush=True)
    path.write_bytes(found)
    try:
        piece = litert.open_backend(BackendOptions(exact=seed % 2 == 0)).open(path)
        piece.run([np.zeros(spec.shape, spec.dtype) for spec in piece.inputs])
        ran += 1
    except WaistlineError:
        pass
print("ran", ran > 0)
"""


@pytest.mark.parametrize("quantized", [False, True])
def test_no_tensor_number_ends_the_process(store, quantized):
    """In a process of its own: what goes wrong here is a signal."""
    path = store(made.branched(quantized=quantized))
    done = subprocess.run(
        [sys.executable, "-c", _NUMBERS, str(path)], capture_output=True, text=True
    )
    assert done.returncode == 0, (done.stdout[-20:], done.stderr[-500:])
    assert done.stdout.endswith("ran True\n")


def test_no_part_of_a_file_is_taken_for_the_whole():
    data = made.branched(quantized=True)
    for length in range(0, len(data), 7):
        with pytest.raises(BackendError):
            check_bytes(data[:length], Path("m.tflite"))


def test_mutated_files_are_refused_or_consistent():
    data = made.branched(quantized=True)
    change = random.Random(5)
    refused = 0
    for _ in range(400):
        mutated = bytearray(data)
        for _ in range(change.choice([1, 2, 8])):
            mutated[change.randrange(len(data))] = change.choice([0, 1, 127, 128, 255])
        try:
            facts = check_bytes(bytes(mutated), Path("m.tflite"))
        except BackendError:
            refused += 1
        else:
            assert isinstance(facts, Facts)
            assert facts.names
    assert refused > 50


def test_the_bytes_that_were_checked_are_the_ones_that_run(store):
    path = store(_conv())
    piece = _open(path)
    path.write_bytes(b"something else")
    piece.run([np.zeros((1, 6, 6, 3), np.float32)])
    path.unlink()
    with pytest.raises(BackendError, match="no such file"):
        read_checked(path)


def test_outputs_whose_size_depends_on_the_input(store):
    net = made.Net()
    x = net.input([4], "x", type_=TYPES.BOOL)
    y = net.tensor([4, 1], "y", type_=TYPES.INT64)
    net.graph.tensors[y].shapeSignature = [-1, 1]
    path = store(net.finish(net.op(OPS.WHERE, [x], [y], made.schema.WhereOptionsT())))
    error = _refused(path)
    assert "'y'" in error.cause


def test_an_output_that_changes_its_size_is_an_error(store):
    net = made.Net()
    x = net.input([1, 4], "x")
    sizes = net.input([2], "sizes", type_=TYPES.INT32)
    y = net.tensor([1, 4], "y")
    net.op(OPS.FILL, [sizes, net.tensor([], "v", data=np.float32(3))], [y],
           made.schema.FillOptionsT())  # fmt: skip
    path = store(net.finish(y, net.softmax(x, "s")))
    piece = _open(path)
    with pytest.raises(BackendError, match="changed its shape"):
        piece.run([np.zeros((1, 4), np.float32), np.array([3, 2], np.int32)])


def test_a_profile_names_the_layers_of_the_file(store):
    piece = _open(store(made.branched()))
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
