"""What every backend owes its callers. Backends are found by file name; see backends/base.py.

A backend of a new file format adds a sample of it to `SAMPLES`, nothing else.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from waistline import plugins
from waistline.backends.base import BackendOptions
from waistline.errors import BackendError, ConfigError, MissingExtra, WaistlineError

PACKAGE = "waistline.backends"
A = np.linspace(-1, 1, 12, dtype=np.float32).reshape(1, 3, 4)
B = np.linspace(2, 3, 4, dtype=np.float32).reshape(1, 4)


def _onnx_sample(path: Path) -> None:
    """Inputs a (1, 3, 4), b (1, 4); outputs s = a + b (1, 3, 4), m = b * b (1, 4)."""
    onnx = pytest.importorskip("onnx", reason="needs onnx: pip install 'waistline[host]'")
    make = onnx.helper
    f32 = onnx.TensorProto.FLOAT
    graph = make.make_graph(
        [make.make_node("Add", ["a", "b"], ["s"]), make.make_node("Mul", ["b", "b"], ["m"])],
        "sample",
        [make.make_tensor_value_info("a", f32, [1, 3, 4]),
         make.make_tensor_value_info("b", f32, [1, 4])],
        [make.make_tensor_value_info("s", f32, [1, 3, 4]),
         make.make_tensor_value_info("m", f32, [1, 4])],
    )  # fmt: skip
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, path)


def _fake_sample(path: Path) -> None:
    from waistline.backends.fake import FakeModel, write_fake
    from waistline.tensors import TensorSpec

    a, b = TensorSpec("a", "float32", (1, 3, 4)), TensorSpec("b", "float32", (1, 4))
    s, m = TensorSpec("s", "float32", (1, 3, 4)), TensorSpec("m", "float32", (1, 4))
    write_fake(path, FakeModel((a, b), (s, m), function="noise"))


SAMPLES = {"onnx": _onnx_sample, "fake": _fake_sample}
REFERENCE = {"onnx": (A + B, B * B)}


@pytest.fixture(params=plugins.names(PACKAGE))
def name(request):
    return request.param


@pytest.fixture
def make(name):
    """Opens the backend with options."""
    try:
        module = plugins.load(PACKAGE, name)
    except MissingExtra as error:
        pytest.skip("; ".join(error.lines()))
    return lambda **options: module.open_backend(BackendOptions(**options))


@pytest.fixture
def sample(make, tmp_path):
    """The sample slice in the backend's first format."""
    (kind, *_) = make().formats
    assert kind in SAMPLES, f"add a sample of format {kind!r} to SAMPLES"
    path = tmp_path / f"sample.{kind}"
    SAMPLES[kind](path)
    return path


@pytest.fixture
def opened(make, sample):
    piece = make().open(sample)
    yield piece
    piece.close()


def test_it_says_what_it_takes_and_gives(opened):
    assert [(i.name, i.dtype, i.shape) for i in opened.inputs] == [
        ("a", "float32", (1, 3, 4)),
        ("b", "float32", (1, 4)),
    ]
    results = opened.run([A, B])
    assert [(r.dtype.name, r.shape) for r in results] == [
        (o.dtype, o.shape) for o in opened.outputs
    ]


def test_it_computes_what_the_model_says(opened, sample):
    if sample.suffix[1:] not in REFERENCE:
        pytest.skip("the format computes nothing that could be checked")
    for got, wanted in zip(opened.run([A, B]), REFERENCE[sample.suffix[1:]], strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-3)


def test_callers_choose_the_order(make, sample, opened):
    first, second = opened.run([A, B])
    names = [spec.name for spec in opened.outputs]
    turned = make().open(sample, inputs=["b", "a"], outputs=names[::-1])
    assert [spec.name for spec in turned.inputs] == ["b", "a"]
    assert [spec.name for spec in turned.outputs] == names[::-1]
    got_second, got_first = turned.run([B, A])
    turned.close()
    assert got_first.shape == first.shape
    assert got_second.shape == second.shape
    if sample.suffix == ".onnx":
        np.testing.assert_array_equal(got_first, first)


def test_equal_inputs_give_equal_bits_and_the_caller_owns_the_result(opened):
    a, b = A.copy(), B.copy()
    first = opened.run([a, b])
    kept = [array.copy() for array in first]
    for array in first:
        array += 1
    np.testing.assert_array_equal(a, A)
    np.testing.assert_array_equal(b, B)
    for again, before in zip(opened.run([a, b]), kept, strict=True):
        np.testing.assert_array_equal(again, before)


def test_arrays_that_are_not_contiguous_are_taken(opened):
    wide = np.zeros((1, 3, 8), np.float32)
    wide[..., ::2] = A
    for got, wanted in zip(opened.run([wide[..., ::2], B]), opened.run([A, B]), strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize(
    "tensors",
    [[A], [A, B, B], [A.astype(np.float64), B], [A[:, :2], B], [A[0], B], [B, A]],
    ids=["too few", "too many", "type", "shape", "rank", "order"],
)
def test_wrong_tensors_are_refused(opened, tensors):
    with pytest.raises(BackendError) as caught:
        opened.run(tensors)
    assert caught.value.cause
    opened.run([A, B])


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
    for wanted in ({"inputs": ["a", "c"]}, {"outputs": ["s"]}, {"inputs": ["a", "b", "b"]}):
        with pytest.raises(BackendError):
            make().open(sample, **wanted)


def test_a_profile_names_layers_and_times(opened):
    profile = opened.profile([A, B], 3)
    assert profile.method in {"native", "prefix"}
    assert profile.repeat == 3
    assert profile.whole_s > 0
    assert profile.layers
    assert all(layer.name and layer.operator for layer in profile.layers)
    assert all(layer.duration_s >= 0 and layer.spread_s >= 0 for layer in profile.layers)


def test_a_profile_leaves_nothing_behind(opened, sample, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    opened.profile([A, B], 2)
    assert [path.name for path in tmp_path.iterdir()] == [sample.name]


@pytest.mark.parametrize("options", [{}, {"threads": 2}, {"exact": True}])
def test_a_result_can_record_what_ran_it(make, sample, options):
    piece = make(**options).open(sample)
    info = piece.info()
    assert {"engine", "version", "device", "precision", "threads"} <= set(info)
    assert all(isinstance(value, str) and value for value in info.values())
    piece.run([A, B])
    piece.close()


def test_an_unknown_option_is_an_error_that_names_it(make):
    with pytest.raises(ConfigError, match="no_such_option"):
        make(extra={"no_such_option": "1"})


def test_errors_are_ours(opened):
    with pytest.raises(WaistlineError):
        opened.run([A.astype(object), B])
