"""A head and its tail together: int8 on one side of the waist, float on the other."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="cuts ONNX models")
pytest.importorskip("onnxruntime", reason="quantizes and runs them")

import onnxruntime
from lower_help import lowered

from waistline.blob.interpret import run_head
from waistline.codec.waist import WaistCodec
from waistline.errors import CodecError, ModelError
from waistline.frame import SensorFrame
from waistline.model.load import load_model
from waistline.task.load import load_task
from waistline.tensors import TensorSpec, quantize
from waistline_bridge.lower.head import calibration_feeds, lower_head
from waistline_bridge.lower.quantize import quantize_head
from waistline_bridge.lower.tail import write_int8_tail

FASHION = Path(__file__).parents[2] / "examples/fashion"
FRAMES = 48


@pytest.fixture(scope="module")
def feeds():
    task = load_task(FASHION / "task.toml")
    model = load_model(FASHION / "model.onnx")
    frames = islice(task.data("calibration", model.graph.inputs), FRAMES)
    return list(calibration_feeds(frames, model.graph.inputs, task.preprocess))


def _session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options)


@pytest.mark.parametrize(
    "names", [("block2_add",), ("block1_pw_relu", "block2_pw_relu"), ("pool",)]
)
def test_head_and_tail_answer_as_the_float_model_does(names, feeds, tmp_path):
    model = load_model(FASHION / "model.onnx")
    frontier = next(item for item in model.graph.frontiers if item.names == names)
    source, rest = model.write_slices(frontier, tmp_path)
    quantize_head(source, feeds, tmp_path / "int8.onnx")
    head = lower_head(tmp_path / "int8.onnx")
    waist = [port.spec for port in head.outputs]
    assert {spec.name for spec in waist} == set(names)
    write_int8_tail(rest, waist, tmp_path / "tail8.onnx")
    whole, tail = _session(FASHION / "model.onnx"), _session(tmp_path / "tail8.onnx")
    codec = WaistCodec(lowered(head, "i8:b=8|none").waist)
    same = 0
    for feed in feeds:
        image = feed["image"].transpose(0, 2, 3, 1)
        made = run_head(head, [quantize(head.inputs[0].spec, image)])
        sent = codec.encode(made)
        got = codec.decode(sent.payload, sent.raw_len)
        named = {spec.name: array for spec, array in zip(waist, got, strict=True)}
        answer = tail.run(None, named)[0]
        same += int(answer.argmax() == whole.run(None, feed)[0].argmax())
    assert same >= 0.95 * len(feeds)


def test_a_tflite_head_is_told_by_its_content(tmp_path):
    pytest.importorskip("ai_edge_litert", reason="reads TFLite models")
    path = tmp_path / "head.bin"
    path.write_bytes((FASHION / "model.int8.tflite").read_bytes())
    assert len(lower_head(path).layers) == 27


def test_a_tail_of_other_tensors_is_refused(tmp_path):
    model = load_model(FASHION / "model.onnx")
    frontier = next(item for item in model.graph.frontiers if item.names == ("block2_add",))
    _, rest = model.write_slices(frontier, tmp_path)

    def refuse(spec):
        with pytest.raises(ModelError, match="cannot take an int8 waist") as caught:
            write_int8_tail(rest, [spec], tmp_path / "no.onnx")
        return caught.value.cause

    shape = (1, 14, 14, 32)
    assert "no input 'other'" in refuse(TensorSpec("other", "int8", shape, "NHWC", 3, 0.1, 0))
    assert "not int8" in refuse(TensorSpec("block2_add", "float32", shape, "NHWC", 3))
    wrong = TensorSpec("block2_add", "int8", (1, 14, 13, 32), "NHWC", 3, 0.1, 0)
    assert "it takes (1, 32, 14, 14)" in refuse(wrong)


def test_frames_that_do_not_fit_are_named():
    frame = SensorFrame(3, (np.zeros((1, 2), np.float32),), name="odd.npy")
    spec = TensorSpec("x", "float32", (1, 4))
    with pytest.raises(CodecError, match=r"odd\.npy"):
        list(calibration_feeds([frame], [spec], None))
