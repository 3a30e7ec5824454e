"""The interpreter of head blobs as a backend, and bundles whose blob is not what they say."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="its heads are made from TFLite models")

import mcu_help
import tflite_help
from lower_help import lowered, random_inputs
from lower_nets import NETS
from mcu_help import FASHION, TASK

from waistline.backends import blob as backend
from waistline.backends.base import AUTO, BackendOptions, home_of, load_backend
from waistline.blob.interpret import run_head
from waistline.blob.records import read_blob, write_blob
from waistline.bundle.store import load_bundle
from waistline.errors import BackendError, ConfigError, WaistlineError
from waistline.stages import engine_for, open_ends, open_slice
from waistline.verify import verify
from waistline_bridge.lower.tflite import lower_tflite
from waistline_bridge.split import split_mcu


@pytest.fixture
def bundle(tmp_path):
    made = split_mcu(
        FASHION / "model.int8.tflite",
        "block2_add",
        tmp_path / "m.bundle",
        codec="i8:b=4|ctx",
        task=TASK,
    )
    return made.bundle


def _open(data, tmp_path):
    path = tmp_path / "head.blob"
    path.write_bytes(data)
    return load_backend(AUTO, "blob").open(path)


def _head(name):
    return lower_tflite(tflite_help.load(NETS[name]()))


@pytest.mark.parametrize("name", ["conv", "everything"])
def test_it_gives_what_the_head_computes(name, tmp_path):
    head = _head(name)
    made = lowered(head)
    piece = _open(made.data, tmp_path)
    given = random_inputs(head)
    results = piece.run(
        [x.reshape(spec.shape) for x, spec in zip(given, piece.inputs, strict=True)]
    )
    for got, wanted in zip(results, run_head(head, given), strict=True):
        np.testing.assert_array_equal(got.reshape(-1), wanted.reshape(-1))
    profile = piece.profile(
        [x.reshape(spec.shape) for x, spec in zip(given, piece.inputs, strict=True)], 2
    )
    assert [layer.operator for layer in profile.layers] == [type(x).__name__ for x in head.layers]
    assert profile.method == "native"


def test_it_is_at_home_in_blobs_alone():
    assert home_of("blob") == "blob"
    assert load_backend(AUTO, "blob").formats == ("blob",)
    with pytest.raises(ConfigError, match="icount"):
        load_backend("blob", "blob", BackendOptions(extra={"icount": "on"}))


def test_a_file_that_is_too_long_is_not_read(tmp_path, monkeypatch):
    data = lowered(_head("conv")).data
    monkeypatch.setattr(backend, "MAX_FILE_BYTES", len(data) - 1)
    with pytest.raises(BackendError, match="no head blob") as caught:
        _open(data, tmp_path)
    assert "is over" in caught.value.cause


def test_a_blob_that_would_take_too_much_memory_is_refused(tmp_path, monkeypatch):
    data = lowered(_head("conv")).data
    blob = read_blob(data)
    behind = data[min(offset for offset, _ in _sections(blob)) :]
    huge = write_blob(dataclasses.replace(blob, arena_bytes=backend.MAX_ARENA_BYTES + 1), behind)
    with pytest.raises(BackendError) as caught:
        _open(huge, tmp_path)
    assert "ARENA".lower() in caught.value.cause
    monkeypatch.setattr(backend, "MAX_TAPS", 10)
    with pytest.raises(BackendError) as caught:
        _open(data, tmp_path)
    assert "the limit is 10" in caught.value.cause


def _sections(blob):
    for layer in blob.layers:
        yield from (where for where in (layer.weights, layer.params) if where[1])


def test_the_other_end_runs_on_the_engine_that_was_chosen(bundle):
    chosen = load_backend("litert", "tflite")
    assert engine_for(chosen, bundle.tail) is chosen
    assert isinstance(engine_for(chosen, bundle.head), backend.Interpreter)
    with open_ends("litert", bundle) as (head, tail):
        assert head.engine["engine"] == "interpreter"
        assert tail.engine["engine"] == "litert"
    report = verify(bundle, backend="litert")
    assert report.ok
    assert report.backend == "blob"
    assert report.tail_at.tail_backend == "litert"


def _flipped_layer(data):
    """The blob with one weight changed, and whole again."""
    blob = read_blob(data)
    start = min(offset for offset, _ in _sections(blob))
    behind = bytearray(data[start:])
    behind[blob.layers[0].weights[0] - start] ^= 0x08
    return write_blob(blob, bytes(behind))


def test_a_head_that_computes_something_else_fails(bundle):
    mcu_help.reseal(bundle, _flipped_layer(bundle.slice_path(bundle.head).read_bytes()))
    report = verify(bundle.path)
    assert not report.ok
    (check,) = report.tensors
    assert check.verdict == "fault"
    assert check.different > 0


def test_no_code_of_an_int8_head_may_differ(bundle):
    """Golden codes off by one in one place: another engine's rounding would excuse it."""
    golden = bundle.manifest.golden.codes
    codes = bytearray(bundle.read(golden))
    codes[100] ^= 1
    (bundle.path / golden.name).write_bytes(bytes(codes))
    from waistline.bundle.write import stored_file

    file = stored_file(bundle.path, golden.name)
    mcu_help.reseal(bundle, change=lambda tree: tree["golden"]["codes"].update(sha256=file.sha256))
    (check,) = verify(bundle.path).tensors
    assert (check.verdict, check.different, check.largest_step) == ("fault", 1, 1)


@pytest.mark.parametrize("junk", [b"", b"WLB1", b"\0" * 4096, "cut", "twice"])
def test_bytes_that_are_no_blob_are_refused_by_path(bundle, junk):
    path = bundle.slice_path(bundle.head)
    data = path.read_bytes()
    content = {"cut": data[:-8], "twice": data * 2}.get(junk, junk)
    mcu_help.reseal(bundle, content)
    with pytest.raises(WaistlineError) as caught:
        verify(bundle.path)
    assert str(path) in caught.value.what


def test_a_head_of_other_sizes_is_refused(bundle, tmp_path):
    other = split_mcu(
        FASHION / "model.int8.tflite",
        "block3_pw_relu",
        tmp_path / "o.bundle",
        codec="i8:b=4|ctx",
        task=TASK,
    )
    mcu_help.reseal(bundle, other.lowered.data)
    changed = load_bundle(bundle.path)
    with pytest.raises(BackendError, match="not the one that it describes") as caught:
        open_slice(load_backend(AUTO, "blob"), changed, changed.head)
    assert "int8[1, 14, 14, 32]" in caught.value.cause
