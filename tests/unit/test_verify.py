from __future__ import annotations

import shutil

import msgspec
import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from small_models import write_classifier, write_task

from waistline.bundle import store, write
from waistline.codec.waist import WaistCodec
from waistline.errors import BundleError, ConfigError, VerificationFailed
from waistline.split import split
from waistline.tensors import StaticRanges, TensorSpec, WaistTensor
from waistline.verify import compare_codes, verify


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("verify")
    write_classifier(path)
    write_task(path)
    return path


@pytest.mark.parametrize("cut", range(8))
def test_a_bundle_verifies_where_it_was_written(folder, tmp_path, cut):
    out = tmp_path / "b.bundle"
    split(folder / "small.onnx", cut, out, task=folder / "task.toml")
    report = verify(out)
    assert report.ok
    assert report.reasons == ()
    assert report.answer_identical
    assert report.engine["engine"] == "onnxruntime"
    assert all(check.verdict == "identical" for check in report.tensors)
    assert report.codec == ("none" if cut == 7 else report.codec)
    report.raise_if_failed()
    msgspec.json.encode(report)


def forge(bundle, out, role: str, weight: str, change) -> store.Bundle:
    """The bundle with other weights in one slice, all hashes in order."""

    def build(folder):
        for file in bundle.path.iterdir():
            shutil.copy(file, folder)
        stage = next(stage for stage in bundle.manifest.stages if stage.role == role)
        proto = onnx.load(str(folder / stage.file.name))
        tensor = next(item for item in proto.graph.initializer if item.name == weight)
        tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), weight))
        onnx.save(proto, str(folder / stage.file.name))
        stored = write.stored_file(folder, stage.file.name)
        stages = tuple(
            msgspec.structs.replace(item, file=stored) if item.role == role else item
            for item in bundle.manifest.stages
        )
        return msgspec.structs.replace(bundle.manifest, stages=stages)

    return write.write_bundle(out, build)


@pytest.mark.parametrize("codec", ["affine:b=8|zstd:1", "affine:b=4,clip=minmax|none", "f32|none"])
def test_a_wrong_head_is_a_fault_of_the_head(folder, tmp_path, codec):
    task = folder / "task.toml"
    good = split(folder / "small.onnx", "b", tmp_path / "a.bundle", codec=codec, task=task)
    bad = forge(good, tmp_path / "b.bundle", "head", "wa", lambda weights: weights[::-1].copy())
    report = verify(bad)
    assert not report.ok
    assert "fault in the head" in report.reasons[0]
    assert report.answer_identical
    with pytest.raises(VerificationFailed, match="fault in the head"):
        report.raise_if_failed()


def test_a_wrong_tail_is_a_fault_of_the_tail(folder, tmp_path):
    task = folder / "task.toml"
    good = split(folder / "small.onnx", "b", tmp_path / "a.bundle", task=task)
    bad = forge(good, tmp_path / "b.bundle", "tail", "wd", lambda weights: -weights)
    report = verify(bad)
    assert not report.ok
    assert report.tensors[0].verdict == "identical"
    assert report.reasons[0].startswith("fault in the tail")


def test_last_bits_of_a_head_are_no_fault(folder, tmp_path):
    task, codec = folder / "task.toml", "affine:b=4|zstd:1"
    good = split(folder / "small.onnx", "b", tmp_path / "a.bundle", codec=codec, task=task)
    near = forge(
        good,
        *(tmp_path / "b.bundle", "head", "wa"),
        lambda weights: np.nextafter(weights, np.float32(9)),
    )
    assert verify(near).ok


def waist(codec: str, shape=(2000,), dtype="float32", ranges=None) -> WaistTensor:
    return WaistTensor(TensorSpec("w", dtype, shape), codec, ranges)


def verdict(tensor: WaistTensor, here: np.ndarray, there: np.ndarray):
    codec = WaistCodec([tensor])
    (check,) = compare_codes((tensor,), codec.codes([here]), codec.codes([there]))
    return check


STATIC = StaticRanges((0.0,), (15.0,))


@pytest.mark.parametrize(
    ("changed", "step", "expected"),
    [(2, 1, "rounding"), (3, 1, "quantization"), (1, 2, "fault"), (2000, 1, "quantization")],
)
def test_one_step_in_a_thousand_codes_is_rounding(changed, step, expected):
    values = (np.arange(2000) % 14).astype(np.float32)
    other = values.copy()
    other[:changed] += step
    check = verdict(waist("affine:b=4,clip=minmax|none", ranges=STATIC), other, values)
    assert (check.verdict, check.different, check.largest_step) == (expected, changed, step)


def test_ranges_may_drift_by_rounding_only():
    values = np.linspace(-1, 3, 2000, dtype=np.float32)
    tensor = waist("affine:b=2|none")
    assert verdict(tensor, values * np.float32(1 + 1e-7), values).verdict == "rounding"
    assert verdict(tensor, values * np.float32(1.01), values).verdict == "fault"


def test_integer_waists_must_be_identical():
    values = (np.arange(2000) % 100).astype(np.int8)
    other = values.copy()
    other[5] += 1
    for codec in ("raw|none", "i8:b=8|none"):
        tensor = waist(codec, dtype="int8")
        assert verdict(tensor, values, values).verdict == "identical"
        assert verdict(tensor, other, values).verdict == "fault"


def test_unquantized_waists_are_compared_as_numbers():
    values = np.linspace(-1, 3, 2000, dtype=np.float32)
    for codec in ("f32|none", "raw|none"):
        near = np.nextafter(values, np.float32(9))
        assert verdict(waist(codec), near, values).verdict == "rounding"
        assert verdict(waist(codec), values + np.float32(0.1), values).verdict == "fault"
        odd = values.copy()
        odd[3] = np.nan
        assert verdict(waist(codec), odd, values).verdict == "fault"
        assert verdict(waist(codec), odd, odd).verdict == "identical"


def test_infinity_has_a_sign():
    values = np.linspace(-1, 3, 2000, dtype=np.float32)
    values[7] = np.inf
    near, other = np.nextafter(values, np.float32(9)), values.copy()
    near[7], other[7] = np.inf, -np.inf
    assert verdict(waist("f32|none"), near, values).verdict == "rounding"
    assert verdict(waist("f32|none"), other, values).verdict == "fault"


def test_tensors_are_told_apart():
    tensors = (waist("affine:b=3|none", (7,)), waist("raw|none", (5,), "int64"))
    codec = WaistCodec(tensors)
    first, second = np.arange(7, dtype=np.float32), np.arange(5)
    here, there = codec.codes([first, second + 1]), codec.codes([first, second])
    assert [check.verdict for check in compare_codes(tensors, here, there)] == [
        "identical",
        "fault",
    ]


def test_an_edited_golden_file_is_no_verification_failure_but_a_bundle_error(folder, tmp_path):
    out = tmp_path / "b.bundle"
    split(folder / "small.onnx", 3, out)
    (out / "golden.answer").write_bytes(bytes(16))
    with pytest.raises(BundleError, match="edited"):
        verify(out)


def test_an_unknown_backend_is_named(folder, tmp_path):
    bundle = split(folder / "small.onnx", 3, tmp_path / "b.bundle")
    with pytest.raises(ConfigError, match="onnxrunner"):
        verify(bundle, backend="onnxrunner")
