"""Uncut answers where a bundle's head is a blob: from the model's own file, and joined."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx", reason="cuts ONNX models")
pytest.importorskip("onnxruntime", reason="runs the uncut model")

import mcu_help
import model_help
from mcu_help import FASHION, TASK

from waistline.bundle.golden import read_frame
from waistline.task.load import load_task
from waistline_bridge.split import split_mcu
from waistline_hostctl.inprocess import BITS, describe_frames, study_bits
from waistline_hostctl.raw import FLOAT_BITS
from waistline_hostctl.uncut import reference_of, uncut_answers

FLOAT = FASHION / "model.onnx"
FRAMES = 40


@pytest.fixture(scope="module")
def task():
    return load_task(TASK)


@pytest.fixture(scope="module")
def frames(task):
    return list(task.data("selection"))[:FRAMES]


@pytest.fixture(scope="module", params=["block2_add", "logits"])
def bundle(request, task, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uncut")
    return split_mcu(FLOAT, request.param, folder / "m.bundle", task=task).bundle


def test_the_float_model_answers_a_bundle_of_int8_nhwc(bundle, frames):
    """Its own answers: preprocessed into float NCHW, not through the head's int8."""
    (image,) = bundle.manifest.model_inputs
    assert (image.dtype, image.layout) == ("int8", "NHWC")
    kind = bundle.answer_kind
    with uncut_answers(bundle, "auto", FLOAT) as answer:
        for frame in frames[:8]:
            pixels = frame.arrays[0].transpose(2, 0, 1)[np.newaxis].astype(np.float32)
            given = {"image": pixels * np.float32(1 / 255)}
            logits = model_help.run(FLOAT, given)["logits"][0]
            found = kind.unpack(answer(frame))
            assert found.classes[0] == logits.argmax()
            odds = np.exp(logits - logits.max())
            assert found.probabilities[0] == pytest.approx((odds / odds.sum()).max(), abs=1e-4)


def test_head_and_tail_joined_agree_nearly_always_with_the_model(bundle, frames):
    kind = bundle.answer_kind
    rows = [
        [row.input for row in describe_frames(bundle, frames, backend="auto", model=model)]
        for model in (FLOAT, None)
    ]
    agreed = [
        kind.agrees(kind.unpack(one.answer), kind.unpack(other.answer))
        for one, other in zip(*rows, strict=True)
    ]
    assert np.mean(agreed) >= 0.9
    assert any(one.answer != other.answer for one, other in zip(*rows, strict=True))


def test_an_int8_waist_is_studied_at_every_width(task, frames, tmp_path):
    bundle = split_mcu(FLOAT, "block2_add", tmp_path / "m.bundle", task=task).bundle
    calibration = list(task.data("calibration"))[:16]
    rows = study_bits(bundle, calibration, frames, backend="auto", limit=4)
    sizes = {}
    for row in rows:
        sizes.setdefault(row.bits, []).append(row.payload_bytes)
    assert set(sizes) == {*BITS, FLOAT_BITS}
    means = [np.mean(sizes[bits]) for bits in (*BITS, FLOAT_BITS)]
    assert means == sorted(means)
    assert sizes[FLOAT_BITS] == [bundle.cut.tensors[0].tensor.size_bytes] * 4


@pytest.mark.parametrize("cut", ["h", "y"])
def test_frames_that_are_int8_inputs_go_to_the_float_model_as_their_values(cut, tmp_path):
    model, task = mcu_help.write_two_inputs(tmp_path)
    bundle = split_mcu(model, cut, tmp_path / "m.bundle", task=task).bundle
    frame = read_frame(bundle)
    specs = bundle.manifest.model_inputs
    given = {
        spec.name: np.float32(spec.scale) * (array.astype(np.float32) - spec.zero_point)
        for spec, array in zip(specs, frame.arrays, strict=True)
    }
    given["x"] = given["x"].transpose(0, 3, 1, 2)
    wanted = model_help.run(model, given)["y"]
    with uncut_answers(bundle, "auto", model) as answer:
        (found,) = bundle.answer_kind.unpack(answer(frame))
    (spec,) = bundle.manifest.model_outputs
    if cut == "h":
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    else:
        real = spec.scale * (found.astype(np.float64) - spec.zero_point)
        assert np.abs(real - wanted).max() <= spec.scale


def test_a_board_s_answers_are_interpreted_here():
    assert reference_of("mcu") == "auto"
    assert reference_of("openvino") == "openvino"
