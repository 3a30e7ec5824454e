from __future__ import annotations

import subprocess
import sys

import msgspec
import numpy as np
import onnx
import pytest
from small_models import write_classifier, write_task, write_two_inputs

from waistline.bundle.golden import read_frame
from waistline.bundle.store import load_bundle
from waistline.errors import CodecError, ConfigError, ModelError
from waistline.evidence import Evidence, Figure
from waistline.model.load import load_model
from waistline.split import list_cuts, pick_default_cut, split
from waistline.task.load import load_task

CALIBRATED = "affine:b=4,clip=mse,per=channel|zstd:1"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("split")
    write_classifier(path)
    write_two_inputs(path)
    write_task(path)
    return path


@pytest.fixture
def small(folder):
    return folder / "small.onnx"


@pytest.fixture
def task(folder):
    return load_task(folder / "task.toml")


def codecs(bundle) -> dict[str, str]:
    return {item.tensor.name: item.codec for item in bundle.cut.tensors}


@pytest.mark.parametrize("cut", range(8))
def test_every_partition_point_gives_a_bundle_that_loads(small, task, tmp_path, cut):
    bundle = split(small, cut, tmp_path / "b.bundle", task=task)
    assert bundle.cut.partition_point == cut
    assert (bundle.head is None) == (cut <= 1)
    assert (bundle.tail is None) == (cut == 7)
    assert load_bundle(bundle.path).id == bundle.id
    for stage in bundle.manifest.stages:
        onnx.checker.check_model(str(bundle.slice_path(stage)), full_check=True)
    codes = bundle.manifest.golden.codes.size_bytes
    waist = bundle.waist_codec()
    assert codes == (waist.raw_len if waist else 0)


def test_two_splits_give_the_same_bundle(small, task, tmp_path):
    ids = {split(small, "b", tmp_path / f"{k}.bundle", task=task).id for k in range(2)}
    assert len(ids) == 1


def test_the_cut_may_be_named(small, tmp_path):
    assert split(small, "c,b", tmp_path / "4.bundle").cut.partition_point == 4
    assert split(small, "d", tmp_path / "5.bundle").cut.after == "add_d"
    assert split(small, "1", tmp_path / "1.bundle").cut.partition_point == 1


@pytest.mark.parametrize(
    ("cut", "fact"), [("conv_q", "conv_q"), ("c", "'b'"), (8, "8"), (-1, "-1"), ("", "no tensor")]
)
def test_an_unknown_or_incomplete_cut(small, tmp_path, cut, fact):
    with pytest.raises(ModelError, match=fact):
        split(small, cut, tmp_path / "b.bundle")
    assert list(tmp_path.iterdir()) == []


def test_the_defaults_are_said(small, task, tmp_path):
    said: list[str] = []
    bundle = split(small, "b", tmp_path / "1.bundle", task=task, say=said.append)
    assert codecs(bundle) == {"b": CALIBRATED}
    assert CALIBRATED in said[0]
    said.clear()
    bundle = split(small, "b", tmp_path / "2.bundle", say=said.append)
    assert codecs(bundle) == {"b": "affine:b=8|zstd:1"}
    assert "no calibration data" in said[0]


def test_static_ranges_come_from_the_head_on_calibration_frames(small, task, tmp_path):
    """relu's output: the lowest value of each channel is 0, the highest that of any frame."""
    codec = "affine:b=8,clip=minmax,per=channel|none"
    bundle = split(small, "b", tmp_path / "b.bundle", codec=codec, task=task)
    model = onnx.load(str(bundle.slice_path(bundle.head)))
    from onnx.reference import ReferenceEvaluator

    head = ReferenceEvaluator(model)
    highest = np.zeros(4)
    for frame in task.data("calibration"):
        image = (frame.arrays[0].astype(np.float32) / 255).reshape(1, 1, 8, 8)
        highest = np.maximum(highest, head.run(None, {"image": image})[0].max(axis=(0, 2, 3)))
    ranges = bundle.cut.tensors[0].ranges
    np.testing.assert_allclose(ranges.hi, highest, rtol=1e-5)
    np.testing.assert_allclose(ranges.lo, np.zeros(4), atol=1e-6)


def test_calibration_runs_the_head_once_a_frame_for_all_tensors(small, task, tmp_path, monkeypatch):
    """At x = 4 two tensors are calibrated; both limits are those of the tensors alone."""
    from waistline.backends import onnxruntime

    runs: list[str] = []
    run = onnxruntime.OnnxSlice.run

    def counted(self, tensors):
        runs.append(self._path.name)
        return run(self, tensors)

    monkeypatch.setattr(onnxruntime.OnnxSlice, "run", counted)
    codec = "affine:b=4,clip=minmax|none"
    bundle = split(small, 4, tmp_path / "4.bundle", codec=codec, task=task)
    golden = 1
    assert runs.count("head.onnx") == len(task.data("calibration")) + golden
    alone = split(small, 3, tmp_path / "3.bundle", codec=codec, task=task)
    both = {item.tensor.name: item.ranges for item in bundle.cut.tensors}
    assert both["b"] == alone.cut.tensors[0].ranges
    assert both["c"] not in (None, both["b"])


def test_per_channel_falls_back_where_there_are_no_channels(small, task, tmp_path):
    said: list[str] = []
    bundle = split(small, "e", tmp_path / "b.bundle", codec=CALIBRATED, task=task, say=said.append)
    assert codecs(bundle) == {"e": "affine:b=4,clip=mse|zstd:1"}
    assert "no channel axis" in said[0]


def test_codec_means_float_tensors_and_names_override(folder, tmp_path):
    two = folder / "two.onnx"
    bundle = split(two, 3, tmp_path / "1.bundle", codec="affine:b=2|none")
    expected = {"y": "affine:b=2|none", "n": "affine:b=2|none", "mask": "raw|zstd:1"}
    assert codecs(bundle) == expected
    override = {"n": "q2m|deflate", "mask": "raw|none"}
    bundle = split(
        two, 3, tmp_path / "2.bundle", codec="affine:b=2|none", codecs_by_tensor=override
    )
    assert codecs(bundle) == {**expected, **override}


@pytest.mark.parametrize("cut", [0, 1, 3])
def test_an_override_of_a_tensor_that_does_not_cross(small, task, tmp_path, cut):
    with pytest.raises(ConfigError, match="logits"):
        split(small, cut, tmp_path / "b.bundle", task=task, codecs_by_tensor={"logits": "raw|none"})


@pytest.mark.parametrize("codec", ["affine:b=4,clip=mse|none", "affine:b=4,clip=p99|zstd:1"])
def test_clip_needs_calibration_data(small, folder, tmp_path, codec):
    with pytest.raises(ConfigError, match="needs calibration data"):
        split(small, 3, tmp_path / "b.bundle", codec=codec)
    text = (folder / "task.toml").read_text().split("[data.calibration]")[0]
    (tmp_path / "task.toml").write_text(text)
    with pytest.raises(ConfigError, match="needs calibration data") as caught:
        split(small, 3, tmp_path / "b.bundle", codec=codec, task=tmp_path / "task.toml")
    assert "[data.calibration]" in caught.value.fix
    bundle = split(small, 3, tmp_path / "b.bundle", task=tmp_path / "task.toml")
    assert codecs(bundle) == {"b": "affine:b=8|zstd:1"}


def test_calibration_images_without_preprocessing_are_refused(small, folder, tmp_path):
    whole = (folder / "task.toml").read_text()
    start, end = whole.index("[preprocess]"), whole.index("[answer]")
    path = folder / "no_preprocess.toml"
    path.write_text(whole[:start] + whole[end:])
    with pytest.raises(ConfigError, match="does not fit the model") as caught:
        split(small, 3, tmp_path / "b.bundle", task=path)
    assert "uint8 (12, 8, 8, 1)" in caught.value.cause
    assert "[preprocess]" in caught.value.fix
    path.write_text('kind = "tensors"\n[data.calibration]\nkind = "folder"\npath = "."\n')
    with pytest.raises(ConfigError, match=r"\[data.calibration\] cannot be used") as caught:
        split(small, 3, tmp_path / "b.bundle", task=path)
    assert "[preprocess]" in caught.value.fix


@pytest.fixture
def sensors(tmp_path):
    """A task without images for the model with two inputs, and the inputs it names."""
    random = np.random.default_rng(7)
    x = random.standard_normal((9, 6)).astype(np.float32)
    mask = random.integers(0, 2, (9, 1, 6))
    np.savez(tmp_path / "inputs.npz", mask=mask, x=x, labels=np.arange(9))
    path = tmp_path / "task.toml"
    path.write_text('kind = "tensors"\n[data.calibration]\nkind = "npz"\npath = "inputs.npz"\n')
    return path, x, mask


def test_a_model_that_takes_no_images_is_calibrated_on_its_inputs(folder, tmp_path, sensors):
    path, x, mask = sensors
    codec = "affine:b=8,clip=minmax|none"
    bundle = split(folder / "two.onnx", 2, tmp_path / "b.bundle", task=path, codec=codec)
    waist = {item.tensor.name: item for item in bundle.cut.tensors}
    assert waist["mask"].ranges is None
    assert waist["y"].ranges.lo == (0.0,)
    assert waist["y"].ranges.hi == (float(x.max()),)
    frame = read_frame(bundle)
    np.testing.assert_array_equal(frame.arrays[0], x[:1])
    np.testing.assert_array_equal(frame.arrays[1], mask[0])
    at_the_input = split(folder / "two.onnx", 1, tmp_path / "1.bundle", task=path, codec=codec)
    limits = {item.tensor.name: item.ranges for item in at_the_input.cut.tensors}
    assert limits["x"].lo == (float(x.min()),)


def test_inputs_that_do_not_fit_are_refused_by_name(folder, tmp_path, sensors):
    path, x, mask = sensors
    for arrays, words in (
        ({"x": x}, "no array 'mask'"),
        ({"x": x, "mask": mask.astype(np.int32)}, "array 'mask'"),
        ({"x": x[:, :5], "mask": mask}, "array 'x'"),
        ({"x": x[:8], "mask": mask}, "do not belong together"),
        ({"x": x[:0], "mask": mask[:0]}, "no frame"),
    ):
        np.savez(tmp_path / "inputs.npz", **arrays)
        with pytest.raises(ConfigError, match=words):
            split(folder / "two.onnx", 2, tmp_path / "b.bundle", task=path)
    assert not (tmp_path / "b.bundle").exists()


@pytest.mark.parametrize("cut", [0, 3, 7])
def test_a_codec_for_a_tensor_that_does_not_cross_is_refused(small, task, tmp_path, cut):
    named = {"nothing": "raw|none"}
    with pytest.raises(ConfigError, match="'nothing', which does not cross this cut") as caught:
        split(small, cut, tmp_path / "b.bundle", task=task, codecs_by_tensor=named)
    assert "--codec" in caught.value.fix


def test_shapes_of_a_loaded_model_are_refused(small, tmp_path):
    with pytest.raises(ConfigError, match="fixed already"):
        split(load_model(small), 3, tmp_path / "b.bundle", shapes={"image": (1, 1, 8, 8)})


def test_calibration_data_that_is_not_there_leaves_nothing(small, folder, tmp_path):
    text = (folder / "task.toml").read_text()
    (tmp_path / "task.toml").write_text(text)
    with pytest.raises(ConfigError, match=r"calibration\.npz"):
        split(small, 3, tmp_path / "b.bundle", task=tmp_path / "task.toml")
    assert [item.name for item in tmp_path.iterdir()] == ["task.toml"]


@pytest.mark.parametrize(
    "codec",
    ["png", "jpeg:80", "webp:80", "webp", "raw|none", "raw|zstd:1", "raw|deflate", "raw|ctx"],
)
def test_codecs_of_the_frame(small, task, tmp_path, codec):
    assert codecs(split(small, 0, tmp_path / "b.bundle", codec=codec, task=task)) == {
        "frame": codec
    }


@pytest.mark.parametrize("codec", ["affine:b=4|zstd:1", "f32|none", "q1|none"])
def test_other_codecs_cannot_code_the_frame(small, task, tmp_path, codec):
    with pytest.raises(ConfigError, match="sensor frame"):
        split(small, "frame", tmp_path / "b.bundle", codec=codec, task=task)


def test_image_codecs_are_for_the_frame_only(small, task, tmp_path):
    with pytest.raises(ConfigError, match="image codecs"):
        split(small, 3, tmp_path / "b.bundle", codec="png", task=task)
    with pytest.raises(ConfigError, match="image codecs") as caught:
        split(small, 3, tmp_path / "b.bundle", codec="jpeg:60", task=task)
    assert "affine:b=8|jpeg:60" in caught.value.fix


def test_a_mosaic_codes_a_waist(small, task, tmp_path):
    wanted = "affine:b=8,clip=mse,per=channel|webp:70"
    assert codecs(split(small, 3, tmp_path / "b.bundle", codec=wanted, task=task)) == {"b": wanted}


@pytest.mark.parametrize("with_task", [True, False])
def test_the_codec_offered_instead_of_an_image_codec_works(small, task, tmp_path, with_task):
    given = {"task": task if with_task else None}
    with pytest.raises(ConfigError) as caught:
        split(small, 3, tmp_path / "b.bundle", codec="png", **given)
    codec = caught.value.fix.split("'")[1]
    assert codecs(split(small, 3, tmp_path / "b.bundle", codec=codec, **given)) == {"b": codec}
    with pytest.raises(ConfigError) as caught:
        split(small, 3, tmp_path / "c.bundle", codecs_by_tensor={"b": "png"}, **given)
    assert caught.value.fix.split("'")[1] == f"b={codec}"


def test_no_default_is_said_that_no_tensor_gets(folder, tmp_path):
    said: list[str] = []
    named = {"y": "affine:b=4", "n": "affine:b=4"}
    two = folder / "two.onnx"
    split(two, 3, tmp_path / "1.bundle", codecs_by_tensor=named, say=said.append)
    assert said == []
    split(two, 3, tmp_path / "2.bundle", codecs_by_tensor={"y": "affine:b=4"}, say=said.append)
    assert ["the default" in line for line in said] == [True]


def test_an_existing_target_is_noticed_before_anything_is_said(small, tmp_path):
    target = tmp_path / "b.bundle"
    split(small, 3, target)
    said: list[str] = []
    with pytest.raises(ConfigError, match="exists"):
        split(small, 3, target, say=said.append)
    assert said == []


def test_the_frame_needs_a_task(small, tmp_path):
    with pytest.raises(ConfigError, match="needs a task"):
        split(small, 0, tmp_path / "b.bundle")


def test_a_task_for_another_model_is_refused(folder, tmp_path):
    with pytest.raises(ConfigError, match="does not fit"):
        split(folder / "two.onnx", 3, tmp_path / "b.bundle", task=folder / "task.toml")


def test_classes_and_outputs_of_a_task_without_a_fit_in_the_answer(small, folder, tmp_path):
    text = (folder / "task.toml").read_text().split("[answer]")[0].replace("top1", "agreement")
    (tmp_path / "task.toml").write_text(text.replace('"classify"', '"tensors"'))
    bundle = split(small, 3, tmp_path / "b.bundle", task=tmp_path / "task.toml")
    assert bundle.manifest.answer.kind == "tensors"
    assert bundle.answer_kind.max_bytes == 16


def test_calibration_frames_of_another_size_are_named(small, folder, tmp_path):
    (tmp_path / "task.toml").write_text((folder / "task.toml").read_text())
    np.savez(tmp_path / "calibration.npz", images=np.zeros((3, 8, 9, 1), np.uint8))
    with pytest.raises((ConfigError, CodecError), match=r"calibration\.npz"):
        split(small, 3, tmp_path / "b.bundle", task=tmp_path / "task.toml")


def test_the_list_of_cuts(small, task):
    rows = list_cuts(load_model(small), task)
    assert [row.x for row in rows] == list(range(8))
    assert rows[0].size_bytes == 64
    assert rows[1].packed_bytes == 32
    assert [tensor.name for tensor in rows[4].tensors] == ["b", "c"]
    assert rows[4].packed_bytes == 4 * 64
    assert rows[-1].packed_bytes == 2 + 2 * 8
    assert rows[1].macs_share == 0.0
    assert rows[-1].macs_share == 1.0
    shares = [row.macs_share for row in rows]
    assert shares == sorted(shares)
    assert any("Relu" in row.breaks_fusion for row in rows)
    for figure in rows[0].frame_bytes.values():
        assert (figure.unit, figure.evidence, figure.n) == ("byte", Evidence.MEASURED, 12)
    assert rows[0].frame_bytes["raw|none"].value >= 64
    assert rows[0].packed_bytes == round(rows[0].frame_bytes["png"].value)
    assert msgspec.json.decode(msgspec.json.encode(rows), type=list[type(rows[0])]) == rows


def test_the_list_without_a_task_has_no_frame(small):
    rows = list_cuts(load_model(small))
    assert [row.x for row in rows] == list(range(1, 8))
    assert rows[-1].packed_bytes == 16


def test_the_default_cut_is_the_earliest_below_the_picture(small, task):
    rows = [msgspec.structs.replace(row, breaks_fusion="") for row in list_cuts(load_model(small),
                                                                                task)]  # fmt: skip
    edit = msgspec.structs.replace

    def picture(size_bytes):
        figure = Figure(size_bytes, "byte", Evidence.MEASURED, "test")
        return edit(rows[0], frame_bytes={"png": figure, "jpeg:90": figure.scaled(2, "byte")})

    packed = [row.packed_bytes for row in rows]
    first = next(x for x in range(2, 7) if packed[x] < 130)
    assert pick_default_cut([picture(130), *rows[1:]]).x == first
    fused = [edit(row, breaks_fusion="Conv+Relu") if row.x == first else row for row in rows]
    assert pick_default_cut([picture(130), *fused[1:]]).x > first
    assert pick_default_cut([picture(1), *rows[1:]]).packed_bytes == min(packed[2:7])
    with pytest.raises(ConfigError, match="no cut"):
        pick_default_cut([rows[1], edit(rows[7], x=2)])


def test_importing_split_brings_neither_onnx_nor_an_engine():
    code = (
        "import sys, waistline.split\n"
        "sys.exit(int(bool({'onnx', 'onnxruntime', 'PIL'} & set(sys.modules))))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
