"""What cannot be split for a microcontroller, and that it is said in words and leaves nothing."""

from __future__ import annotations

import dataclasses

import pytest

pytest.importorskip("onnx", reason="cuts ONNX models")
pytest.importorskip("onnxruntime", reason="quantizes heads")

import model_help
import numpy as np
from mcu_help import EXAMPLES, FASHION, TASK

from waistline.errors import ConfigError, ModelError
from waistline.task.load import load_task
from waistline_bridge import fit
from waistline_bridge.fit import all_limits
from waistline_bridge.split import split_mcu

FLOAT = FASHION / "model.onnx"
BISCUITS = EXAMPLES / "biscuits"


def _refused(tmp_path, kind, model=FLOAT, cut="block2_add", **options):
    options.setdefault("task", TASK)
    with pytest.raises(kind) as caught:
        split_mcu(model, cut, tmp_path / "m.bundle", **options)
    assert not (tmp_path / "m.bundle").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".m.bundle")] == []
    assert caught.value.cause
    assert caught.value.fix
    return caught.value


@pytest.mark.parametrize(
    ("codec", "why"),
    [
        ("affine:b=4|zstd:1", "affine finds its ranges in each frame"),
        ("affine:b=4,clip=mse|ctx", "not with affine"),
        ("q1:b=4|none", "q1 finds its ranges in each frame"),
        ("q2m|none", "q2m finds its ranges in each frame"),
        ("f16|none", "not with f16"),
        ("raw|none", "not with raw"),
        ("i8:b=4|zstd:1", "not with zstd"),
        ("i8:b=8|jpeg:75", "not with jpeg"),
    ],
)
def test_codecs_that_only_a_host_has(codec, why, tmp_path):
    for options in ({"codec": codec}, {"codecs_by_tensor": {"block2_add": codec}}):
        error = _refused(tmp_path, ConfigError, **options)
        assert f"codec {codec} cannot run on a microcontroller" in error.what
        assert why in error.cause
        assert "i8:b=" in error.fix


@pytest.mark.parametrize(
    ("cut", "what"),
    [
        (0, "sensor frame"),
        ("frame", "sensor frame"),
        (1, "model's input"),
        ("image", "model's input"),
    ],
)
def test_a_cut_without_a_head(cut, what, tmp_path):
    error = _refused(tmp_path, ModelError, cut=cut)
    assert "nothing to run" in error.what
    assert what in error.cause
    assert "--cut 2 to 46" in error.fix


@pytest.mark.parametrize("name", ["model.onnx", "model.int8.tflite"])
def test_an_operator_the_firmware_does_not_have_is_named(name, tmp_path):
    if name.endswith("tflite"):
        pytest.importorskip("ai_edge_litert", reason="reads TFLite models")
    task = BISCUITS / "task.toml"
    error = _refused(tmp_path, ModelError, BISCUITS / name, 29, task=task)
    assert "cannot run on a microcontroller" in error.what
    assert "there is no" in error.cause
    assert "--backend mcu --list" in error.fix


def test_a_float_tflite_model(tmp_path):
    pytest.importorskip("ai_edge_litert", reason="reads TFLite models")
    error = _refused(tmp_path, ModelError, FASHION / "model.tflite")
    assert "'image' is float32" in error.cause
    assert "waistline convert --int8" in error.fix


def test_a_float_model_without_calibration_data(tmp_path):
    assert "there is no task" in _refused(tmp_path, ConfigError, task=None).cause
    head, _, rest = TASK.read_text().partition("[data.calibration]")
    rest = rest[rest.index("[data.selection]") :]
    (tmp_path / "task.toml").write_text(head + rest)
    task = load_task(tmp_path / "task.toml")
    assert not task.has_data("calibration")
    assert "has no [data.calibration]" in _refused(tmp_path, ConfigError, task=task).cause


@pytest.mark.parametrize(
    ("weight", "frame", "kind", "what"),
    [
        (np.nan, 0.5, ModelError, "weights 'w' have NaN"),
        (np.inf, 0.5, ModelError, "weights 'w' have NaN"),
        (0.5, np.nan, ConfigError, "calibration frame 0 has NaN or infinity in 'x'"),
    ],
)
def test_what_is_no_number_is_found_before_it_is_quantized(tmp_path, weight, frame, kind, what):
    model, task = _conv(tmp_path, 8, weight, frame)
    assert what in _refused(tmp_path, kind, model, "y", task=task).cause


def test_a_head_far_above_any_board_is_not_run_here(tmp_path):
    model, task = _conv(tmp_path, 2400, 0.5, 0.5)
    refused = _refused(tmp_path, ModelError, model, "y", task=task)
    assert refused.what == "the head fits no board"


def _conv(tmp_path, side, weight, frame):
    """A convolution of a picture of this side, and a task for it."""
    folder = tmp_path / "model"
    folder.mkdir()
    text = f"agraph (float[1,3,{side},{side}] x) => (float[1,4,{side},{side}] z) {{\n"
    text += "  y = Conv<pads=[1,1,1,1]>(x, w)\n  z = Relu(y)\n}"
    proto = model_help.parse(text, w=np.full((4, 3, 3, 3), weight, np.float32))
    np.savez(folder / "calibration.npz", x=np.full((1, 3, side, side), frame, np.float32))
    task = folder / "task.toml"
    task.write_text(
        'kind = "tensors"\nmetric = "agreement"\n'
        '[data.calibration]\nkind = "npz"\npath = "calibration.npz"\n'
    )
    return model_help.stored(folder, proto, "conv.onnx"), load_task(task)


def test_clip_limits_without_calibration_data(tmp_path):
    pytest.importorskip("ai_edge_litert", reason="runs TFLite tails")
    model = FASHION / "model.int8.tflite"
    error = _refused(tmp_path, ConfigError, model, task=None, codec="i8:b=4,clip=mse|ctx")
    assert "needs calibration data" in error.what


def test_the_default_codec_is_said_and_depends_on_the_data(tmp_path):
    pytest.importorskip("ai_edge_litert", reason="runs TFLite tails")
    model, said = FASHION / "model.int8.tflite", []
    for task, wanted in ((TASK, "i8:b=4,clip=mse|ctx"), (None, "i8:b=8|ctx")):
        made = split_mcu(
            model, "pool", tmp_path / "m.bundle", task=task, force=True, say=said.append
        )
        assert made.bundle.cut.tensors[0].codec == wanted
        assert said[-1].startswith(f"codec {wanted}, the default for a microcontroller")


def test_a_board_that_is_too_small_and_one_nobody_knows(tmp_path, monkeypatch):
    small = dataclasses.replace(all_limits()[0], board="thimble", slot_bytes=8192)
    monkeypatch.setattr(fit, "all_limits", lambda: (*all_limits(), small))
    shown = []
    error = _refused(tmp_path, ModelError, cut="logits", board="thimble", show=shown.append)
    assert "does not fit thimble" in error.what
    assert "bytes, a slot takes" in error.cause
    (fits,) = shown
    assert {row.limits.board: bool(row.problem) for row in fits}["thimble"]
    error = _refused(tmp_path, ConfigError, board="teapot")
    assert "qemu-mps2-an386" in error.cause


def test_the_boards_are_shown_before_the_bundle_is_there(tmp_path):
    seen = []

    def show(fits):
        seen.append((tuple(fits), (tmp_path / "m.bundle").exists()))

    made = split_mcu(FLOAT, 4, tmp_path / "m.bundle", task=TASK, show=show)
    assert seen == [(made.fits, False)]
    assert {row.blob_bytes for row in made.fits} == {len(made.lowered.data)}


def test_what_is_there_already_is_kept(tmp_path):
    (tmp_path / "m.bundle").mkdir()
    with pytest.raises(ConfigError, match="exists"):
        split_mcu(FLOAT, "block2_add", tmp_path / "m.bundle", task=TASK)
    assert list((tmp_path / "m.bundle").iterdir()) == []
