"""OpenVINO: its defaults turned, its names mapped, its messages cut to a line, its silence."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from waistline import plugins
from waistline.backends import _openvino_errors as messages
from waistline.backends._openvino_profile import KernelRow, executed, layer_times
from waistline.backends._openvino_tensors import Port, Quantization
from waistline.backends.base import BackendOptions, Probe, load_backend
from waistline.errors import BackendError, ConfigError

pytest.importorskip("openvino", reason="needs openvino: pip install 'waistline[openvino]'")
onnx = pytest.importorskip("onnx", reason="needs onnx: pip install 'waistline[host]'")

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "fashion" / "model.onnx"
F32 = onnx.TensorProto.FLOAT


def open_slice(path, *, inputs=None, outputs=None, threads=1, exact=False, **extra):
    options = BackendOptions(threads, exact, extra)
    kind = path.suffix[1:]
    return load_backend("openvino", kind, options).open(path, inputs=inputs, outputs=outputs)


def save(path, nodes, inputs, outputs, *, opset=13):
    """An ONNX file; inputs and outputs are (name, shape) or (name, shape, element type)."""
    make = onnx.helper

    def info(name, shape, kind=F32):
        return make.make_tensor_value_info(name, kind, shape)

    graph = make.make_graph(nodes, "g", [info(*i) for i in inputs], [info(*o) for o in outputs])
    domains = [make.make_opsetid("", opset), make.make_opsetid("x.y", 1)]
    onnx.save(make.make_model(graph, opset_imports=domains, ir_version=8), path)
    return path


def node(op, inputs, outputs, **attributes):
    return onnx.helper.make_node(op, inputs.split(), outputs.split(), **attributes)


@pytest.fixture
def tangled(tmp_path):
    """Outputs: an input, a tensor, the same tensor by another name, and a sum."""
    nodes = [node("Relu", "a", "r"), node("Identity", "r", "r2"), node("Add", "r a", "s")]
    outputs = [(name, [1, 3, 4]) for name in ("a", "r", "r2", "s")]
    return save(tmp_path / "tangled.onnx", nodes, [("a", [1, 3, 4])], outputs)


def test_tensors_that_pass_by_or_have_two_names_are_found(tangled):
    a = np.linspace(-1, 1, 12, dtype=np.float32).reshape(1, 3, 4)
    piece = open_slice(tangled, inputs=["a"], outputs=["s", "r2", "a", "r"])
    assert [spec.name for spec in piece.outputs] == ["s", "r2", "a", "r"]
    wanted = [np.maximum(a, 0) + a, np.maximum(a, 0), a, np.maximum(a, 0)]
    got = piece.run([a])
    for array, right in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(array, right)
    got[1] += 1
    np.testing.assert_array_equal(got[3], np.maximum(a, 0))
    np.testing.assert_array_equal(got[2], a)


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [("INT64", np.int64), ("INT32", np.int32), ("UINT8", np.uint8), ("BOOL", np.bool_)],
)
def test_integers_and_bools_cross_a_cut_as_they_are(tmp_path, kind, dtype):
    element = getattr(onnx.TensorProto, kind)
    path = save(
        tmp_path / "t.onnx",
        [node("Transpose", "a", "b", perm=[1, 0])],
        [("a", [2, 3], element)],
        [("b", [3, 2], element)],
    )
    a = np.arange(6).reshape(2, 3).astype(dtype)
    (b,) = open_slice(path).run([a])
    assert b.dtype == dtype
    np.testing.assert_array_equal(b, a.T)


def test_lent_inputs_are_neither_changed_nor_kept(tmp_path):
    """The first operator could work in place; the next run must not see what the last was lent."""
    path = save(tmp_path / "r.onnx", [node("Relu", "a", "b")], [("a", [1, 64])], [("b", [1, 64])])
    piece = open_slice(path)
    a = np.linspace(-1, 1, 64, dtype=np.float32).reshape(1, 64)
    locked = a.copy()
    locked.flags.writeable = False
    (first,) = piece.run([locked])
    (again,) = piece.run([a[:, ::-1]])
    np.testing.assert_array_equal(locked, a)
    np.testing.assert_array_equal(first, np.maximum(a, 0))
    np.testing.assert_array_equal(again, np.maximum(a[:, ::-1], 0))


def test_a_shape_that_only_the_engine_knows_is_learnt(tmp_path):
    nodes = [node("NonZero", "a", "n"), node("Gather", "a n", "b", axis=0), node("Relu", "a", "r")]
    outputs = [("r", [4])]
    path = save(tmp_path / "t.onnx", nodes, [("a", [4])], outputs)
    assert [spec.shape for spec in open_slice(path).outputs] == [(4,)]


def test_an_open_input_is_refused_with_the_way_to_fix_it(tmp_path):
    path = save(
        tmp_path / "open.onnx", [node("Relu", "a", "b")], [("a", ["N", 4])], [("b", ["N", 4])]
    )
    with pytest.raises(BackendError, match="open shape") as caught:
        open_slice(path)
    assert "--shape a=" in caught.value.fix


@pytest.mark.parametrize("domain", ["", "x.y"])
def test_an_operator_it_does_not_have_is_named_in_one_line(tmp_path, domain):
    path = save(
        tmp_path / "odd.onnx",
        [node("Frobnicate", "a", "b", domain=domain)],
        [("a", [1, 4])],
        [("b", [1, 4])],
    )
    with pytest.raises(BackendError, match="Frobnicate") as caught:
        open_slice(path)
    assert all("\n" not in row for row in caught.value.lines())


def test_models_are_computed_in_f32_unless_told_otherwise(tangled):
    piece = open_slice(tangled)
    assert piece.info()["precision"] == "f32"
    assert piece.info()["device"] == "CPU"
    with pytest.raises(ConfigError, match="f8"):
        open_slice(tangled, precision="f8")
    half = open_slice(tangled, precision="f16").info()["precision"]
    assert half in {"f16", "f32"}, "what the processor really computes in"


def test_threads_reach_the_engine(tangled):
    assert open_slice(tangled, threads=2).info()["threads"] == "2"
    assert int(open_slice(tangled, threads=0).info()["threads"]) >= 1


def test_exact_says_that_fusion_stays_on(tangled):
    info = open_slice(tangled, exact=True).info()
    assert info["execution"] == "accuracy"
    assert "cannot" in info["optimisation"]


def test_a_device_that_is_not_there_is_refused_with_those_that_are(tangled):
    with pytest.raises(BackendError, match="has no device FOO") as caught:
        open_slice(tangled, device="foo")
    assert "CPU" in caught.value.cause
    assert caught.value.fix == "use device=CPU"


@pytest.mark.parametrize("device", ["AUTO", "auto:gpu,cpu", "MULTI:CPU", "HETERO:CPU"])
def test_devices_that_choose_by_themselves_are_refused(tangled, device):
    with pytest.raises(ConfigError, match=device.upper()):
        open_slice(tangled, device=device)


def test_the_example_agrees_with_onnxruntime():
    pytest.importorskip("onnxruntime")
    image = np.random.default_rng(1).random((1, 1, 28, 28), np.float32)
    (wanted,) = load_backend("onnxruntime", "onnx").open(EXAMPLE).run([image])
    (got,) = open_slice(EXAMPLE).run([image])
    assert np.abs(got - wanted).max() < 1e-5 * wanted.std()


def test_the_example_is_profiled_by_its_own_names():
    image = np.zeros((1, 1, 28, 28), np.float32)
    profile = open_slice(EXAMPLE).profile([image], 3)
    names = [layer.name for layer in profile.layers]
    own = {item.name for item in onnx.load(EXAMPLE).graph.node}
    assert {"stem", "block2_add", "logits"} <= set(names) & own
    assert not [name for name in names if name.endswith("_relu")], "fused away"
    assert sum(layer.duration_s for layer in profile.layers) > 0


def test_counters_of_runs_become_medians():
    rows = [
        KernelRow("conv/WithoutBiases", "Convolution", "jit_f32", 3e-6),
        KernelRow("conv_relu", "Relu", "undef", 0.0),
        KernelRow("input", "Parameter", "unknown_f32", 0.0),
        KernelRow("quick", "Add", "jit_f32", 0.0),
        KernelRow("weights_reordered", "Reorder", "reorder_f32", 0.0),
    ]
    slow = [rows[0]._replace(duration_s=9e-6), *rows[1:]]
    layers = layer_times([executed(rows), executed(rows), executed(slow)])
    assert [(layer.name, layer.operator) for layer in layers] == [
        ("conv", "Convolution"),
        ("quick", "Add"),
    ]
    assert layers[0].duration_s == 3e-6
    assert layers[1].duration_s == 0.0


@pytest.fixture
def tflite():
    pytest.importorskip("ai_edge_litert", reason="needs litert: pip install 'waistline[litert]'")
    import tflite_help

    return tflite_help


@pytest.mark.parametrize("quantized", [False, True], ids=["float", "int8"])
def test_tflite_gives_what_litert_gives(tflite, tmp_path, quantized):
    """The engine's int8 kernels, left on, saturate here: a fifth of one layer was wrong."""
    data = tflite.branched(quantized=quantized)
    path = tmp_path / "m.tflite"
    path.write_bytes(data)
    model = tflite.load(data)
    feeds = tflite.feeds_of(model)
    wanted = tflite.run(data, feeds)
    piece = open_slice(path)
    assert piece.inputs == model.graph.inputs
    assert piece.outputs == model.graph.outputs
    assert all((spec.scale is not None) == quantized for spec in piece.outputs)
    for spec, got in zip(piece.outputs, piece.run(list(feeds.values())), strict=True):
        off = np.abs(got.astype(np.float64) - wanted[spec.name])
        assert off.max() <= (1 if quantized else 1e-5 * wanted[spec.name].std())


def test_an_engine_that_loses_a_quantized_type_is_refused():
    """As versions before 2026.2 do where a pooling layer makes the output."""
    port = Port(0, "f32", (1, 4), "[1,4]")
    with pytest.raises(BackendError, match="quantized in the file") as caught:
        port.spec("y", Path("m.tflite"), {"y": Quantization(0.5, 3)})
    assert "pip install" in caught.value.fix


def test_without_the_schema_a_quantized_tensor_has_no_scale(tflite, tmp_path, monkeypatch):
    """The bundle's specs say it then; they are what node and edge go by in any case."""
    path = tmp_path / "m.tflite"
    path.write_bytes(tflite.branched(quantized=True))
    for name in ("ai_edge_litert", "ai_edge_litert.schema_py_generated"):
        monkeypatch.setitem(sys.modules, name, None)
    piece = open_slice(path)
    assert [(spec.dtype, spec.scale) for spec in piece.inputs] == [("int8", None)]


@pytest.mark.parametrize("quantized", [False, True], ids=["float", "int8"])
def test_tflite_cuts_are_bitwise_equal(tflite, tmp_path, quantized):
    data = tflite.branched(quantized=quantized)
    path = tmp_path / "m.tflite"
    path.write_bytes(data)
    model = tflite.load(data)
    feeds = tflite.feeds_of(model)

    def run(path, known):
        piece = open_slice(path)
        results = piece.run([known[spec.name] for spec in piece.inputs])
        return dict(zip([spec.name for spec in piece.outputs], results, strict=True))

    whole = run(path, feeds)
    for frontier in model.graph.frontiers[1:-1]:
        head, tail = model.write_slices(frontier, tmp_path)
        known = feeds | run(head, feeds)
        known |= run(tail, known)
        for name, array in whole.items():
            assert array.tobytes() == known[name].tobytes(), frontier.names


def test_no_file_of_another_format_is_read(tmp_path):
    """The engine has seven readers, one of which follows a file to other files."""
    other = tmp_path / "ir.onnx"
    other.write_text('<?xml version="1.0"?><net name="n" version="11"><layers/><edges/></net>')
    with pytest.raises(BackendError, match="not an ONNX model"):
        open_slice(other)


MESSAGE = """Exception from src/inference/src/cpp/core.cpp:117:
Exception from src/inference/src/dev/plugin.cpp:54:
Cannot load library "/x/libs/libopenvino_intel_gpu_plugin.so": libOpenCL.so.1: cannot open

"""


def test_of_many_lines_the_useful_one_is_kept():
    assert messages.missing_library(MESSAGE) == "libOpenCL.so.1: cannot open"
    error = messages.cannot_compile(Path("h.onnx"), "GPU", MESSAGE, "openvino 2026.4", ["CPU"])
    assert "libOpenCL.so.1" in error.cause
    nested = "Check 'x' failed at src/a.cpp:1:\nWhile validating node 'y':\nShapes differ.\n\n"
    assert messages.useful_line(nested) == "Shapes differ."
    assert messages.useful_line("") == "it gave no reason"
    assert len(messages.useful_line("x" * 1000)) == 300


def test_probe_lists_the_devices_and_what_others_lack():
    found = plugins.load("waistline.backends", "openvino").probe()
    assert all(isinstance(one, Probe) for one in found)
    assert [one.state for one in found if one.device == "CPU"] == ["ok"]
    assert all(one.detail for one in found)
    assert {one.device.split(".")[0] for one in found} >= {"CPU", "GPU", "NPU"}


SILENT = """
import sys, time, json
import numpy as np
from pathlib import Path
from waistline.backends.base import load_backend
piece = load_backend("openvino", "onnx").open(Path(sys.argv[1]))
piece.run([np.zeros((1, 1, 28, 28), np.float32)])
time.sleep(1.5)
print(json.dumps([piece.info()["telemetry"], "openvino_telemetry.main" in sys.modules]))
"""
TALKING = ("socket(", "connect(", "sendto(", "O_WRONLY", "O_RDWR", "O_CREAT", "mkdir(", "creat(")


def test_import_and_run_open_no_socket_and_write_no_file(tmp_path):
    """Where nothing stops it, the import alone writes to the home folder and asks DNS at once."""
    home, trace = tmp_path / "home", tmp_path / "trace"
    home.mkdir()
    command = [sys.executable, "-c", SILENT, str(EXAMPLE)]
    # A tracer that may not attach prints a line and runs nothing.
    if (
        shutil.which("strace")
        and not subprocess.run(
            ["strace", "-o", "/dev/null", "true"], capture_output=True
        ).returncode
    ):
        calls = "trace=socket,connect,sendto,open,openat,creat,mkdir"
        command = ["strace", "-f", "-qq", "-e", calls, "-o", str(trace), *command]
    kept = {name: text for name, text in os.environ.items() if name not in ("CI", "TF_BUILD")}
    done = subprocess.run(
        command,
        env={**kept, "HOME": str(home), "TMPDIR": str(home), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == ["off", False]
    assert list(home.rglob("*")) == []
    rows = trace.read_text().splitlines() if trace.exists() else []
    told = [row for row in rows if any(call in row for call in TALKING) and "/dev/" not in row]
    assert told == []
