import os
import subprocess
import sys

import numpy as np
import pytest

from waistline.backends import _ort_errors, _ort_profile
from waistline.backends.base import BackendOptions
from waistline.backends.fake import FakeModel, open_backend, write_fake
from waistline.errors import BackendError, ConfigError, NonFinite, WaistlineError
from waistline.tensors import TensorSpec

X = TensorSpec("x", "float32", (1, 4))
Y = TensorSpec("y", "float32", (1, 6))


@pytest.fixture
def onnx_file(tmp_path):
    """Writes a one-node model and returns its path."""
    onnx = pytest.importorskip("onnx")
    make = onnx.helper

    def write(operator, *, name="first", opset=17, domain="", dtype=1, shape=(1, 4), **more):
        info = make.make_tensor_value_info
        inputs = [info("x", dtype, shape)] + [info(n, dtype, s) for n, s in more.get("more", ())]
        node = make.make_node(
            operator, [i.name for i in inputs], ["y"], name=name, domain=domain,
            **more.get("attributes", {}),
        )  # fmt: skip
        graph = make.make_graph([node], "g", inputs, [info("y", dtype, more.get("out", shape))])
        opsets = [make.make_opsetid("", opset)]
        if domain:
            opsets.append(make.make_opsetid(domain, 1))
        path = tmp_path / "model.onnx"
        path.write_bytes(
            make.make_model(
                graph, opset_imports=opsets, ir_version=more.get("ir", 10)
            ).SerializeToString()
        )
        return path

    return write


@pytest.fixture
def ort():
    module = pytest.importorskip("waistline.backends.onnxruntime")
    return module.open_backend(BackendOptions())


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"operator": "Foo"}, ["Foo", "'first'", "opset 17"]),
        ({"operator": "Foo", "name": ""}, ["Foo"]),
        ({"operator": "Foo", "domain": "acme"}, ["acme:Foo"]),
        (
            {"operator": "Conv", "dtype": 11, "shape": (1, 1, 4, 4), "out": (1, 1, 2, 2),
             "more": [("w", (1, 1, 3, 3))]},
            ["Conv", "'first'", "opset 11"],
        ),
        (
            {"operator": "Conv", "dtype": 16, "shape": (1, 1, 4, 4), "out": (1, 1, 2, 2),
             "more": [("w", (1, 1, 3, 3))]},
            ["Conv", "'first'", "bfloat16"],
        ),
        ({"operator": "Relu", "opset": 99}, ["opset 99"]),
        ({"operator": "Relu", "ir": 99}, ["IR version 99"]),
        ({"operator": "Relu", "shape": ("N", 4)}, ["'x'", "--shape x="]),
    ],
    ids=["op", "op unnamed", "domain", "no kernel", "type", "opset", "ir", "symbolic"],
)  # fmt: skip
def test_what_onnxruntime_cannot_run_is_named(ort, onnx_file, model, words):
    with pytest.raises(BackendError) as caught:
        ort.open(onnx_file(**model))
    text = "\n".join(caught.value.lines())
    assert all(word in text for word in words), text
    assert caught.value.fix


def test_a_failing_run_names_operator_and_node(ort, onnx_file):
    path = onnx_file("Gather", dtype=7, more=[("i", (1,))], out=(1, 4))
    opened = ort.open(path)
    with pytest.raises(BackendError) as caught:
        opened.run([np.full((1, 4), 99, np.int64), np.full((1,), 99, np.int64)])
    assert "Gather" in caught.value.what
    assert "'first'" in caught.value.what
    assert "out of data bounds" in caught.value.cause


def test_onnxruntime_spins_no_idle_threads_and_sends_nothing_home(ort):
    from waistline.backends import onnxruntime as module

    made = module.session_options(BackendOptions(threads=2), module._service_level(ort.options))
    assert made.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert made.get_session_config_entry("session.inter_op.allow_spinning") == "0"
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"


@pytest.mark.parametrize("threads", [-1, 1 << 40])
def test_a_number_of_threads_no_engine_has(threads):
    with pytest.raises(ConfigError, match=str(threads)):
        BackendOptions(threads=threads)


def test_telemetry_is_off_before_the_engine_is_imported():
    pytest.importorskip("onnxruntime")
    code = """
import importlib.abc, os, sys
class Watch(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "onnxruntime":
            print(os.environ.get("ORT_DISABLE_TELEMETRY"))
sys.meta_path.insert(0, Watch())
import waistline.backends.onnxruntime
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1"]


def test_an_unknown_message_is_passed_on_in_one_line(tmp_path):
    error = _ort_errors.cannot_open(tmp_path, "[ONNXRuntimeError] : 1 : FAIL : it\nbroke", "1.0")
    assert error.cause == "it broke"


def test_a_profile_sums_loops_and_leaves_the_first_run_out():
    def event(kind, name, ts, dur, **args):
        return {"cat": kind, "name": name, "ts": ts, "dur": dur, "args": args}

    events = []
    for start, dur in ((0, 900), (1000, 10), (2000, 20), (3000, 30)):
        events += [
            event("Node", "conv_kernel_time", start + 1, dur, op_name="Conv", output_size="64"),
            event("Node", "relu_kernel_time", start + 500, 4, op_name="Relu"),
            event("Node", "relu_kernel_time", start + 600, 6, op_name="Relu"),
            event("Node", "conv_fence_before", start, 1),
            event("Session", "model_run", start, 999),
        ]
    conv, relu = _ort_profile.parse(events)
    assert (conv.name, conv.operator, conv.output_bytes) == ("conv", "Conv", 64)
    assert conv.duration_s == pytest.approx(20e-6)
    assert relu.duration_s == pytest.approx(10e-6)
    with pytest.raises(ValueError, match="at least two"):
        _ort_profile.parse(events[:5])


def _fake(tmp_path, outputs=(Y,), extra=None, **model):
    path = tmp_path / "s.fake"
    write_fake(path, FakeModel((X,), outputs, **model))
    return open_backend(BackendOptions(extra=extra or {})).open(path)


def test_fake_cycles_its_input_through_the_output(tmp_path):
    (y,) = _fake(tmp_path).run([np.array([[1, 2, 3, 4]], np.float32)])
    assert y.tolist() == [[1, 2, 3, 4, 1, 2]]


def test_fake_noise_depends_on_every_byte(tmp_path):
    opened = _fake(tmp_path, (Y, TensorSpec("q", "uint8", (9,))), function="noise")
    one, two = np.zeros((1, 4), np.float32), np.zeros((1, 4), np.float32)
    two[0, 3] = 1e-30
    assert not np.array_equal(opened.run([one])[0], opened.run([two])[0])
    assert opened.run([one])[1].max() <= 127


def test_fake_options_override_the_file(tmp_path):
    opened = _fake(tmp_path, extra={"function": "refuse", "delay_ms": "1.5"}, delay_ms=9e3)
    assert opened.info()["delay_s"] == "0.0015"
    opened.run([np.zeros((1, 4), np.float32)])
    with pytest.raises(BackendError):
        opened.run([np.ones((1, 4), np.float32)])


@pytest.mark.parametrize(
    "extra", [{"function": "nope"}, {"delay_ms": "soon"}, {"delay_ms": "-1"}, {"delay_ms": "nan"}]
)
def test_fake_refuses_what_it_cannot_do(tmp_path, extra):
    with pytest.raises(ConfigError):
        _fake(tmp_path, extra=extra)


@pytest.mark.parametrize(
    "text",
    [
        "[]", "{}", '{"inputs": [], "outputs": []}', "\xff", "[" * 100_000,
        '{"inputs": [{"name": "x", "dtype": "float32", "shape": [1e9]}], "outputs": []}',
        '{"inputs": [{"name": "x", "dtype": "float32", "shape": [99999999999]}],'
        ' "outputs": [{"name": "y", "dtype": "object", "shape": [1]}]}',
    ],
    ids=["list", "empty", "no tensors", "not utf-8", "deep", "float axis", "huge"],
)  # fmt: skip
def test_fake_refuses_a_hostile_file(tmp_path, text):
    path = tmp_path / "s.fake"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(WaistlineError) as caught:
        open_backend(BackendOptions()).open(path)
    assert not isinstance(caught.value, NonFinite)
