"""From a model to a bundle whose head a microcontroller runs, judged without one."""

from __future__ import annotations

import hashlib
import zlib

import numpy as np
import pytest

pytest.importorskip("onnx", reason="cuts ONNX models")
pytest.importorskip("onnxruntime", reason="quantizes heads and runs tails")

import mcu_help
from mcu_help import EXAMPLES, FASHION, TASK

from waistline.blob.records import read_blob
from waistline.bundle.golden import read_frame
from waistline.bundle.store import load_bundle
from waistline.codec.waist import WaistCodec
from waistline.model.load import load_model
from waistline.split import split
from waistline.stages import open_ends
from waistline.verify import verify
from waistline_bridge.split import HEAD_LAYERS, split_mcu

FLOAT, INT8 = FASHION / "model.onnx", FASHION / "model.int8.tflite"
FRAMES = 500
POINTS = 0.005


@pytest.fixture(scope="module")
def qdq(tmp_path_factory):
    return mcu_help.write_qdq(tmp_path_factory.mktemp("qdq"))


def _model(kind, qdq):
    if kind == "tflite":
        pytest.importorskip("ai_edge_litert", reason="runs TFLite tails")
    return {"float": FLOAT, "tflite": INT8, "qdq": qdq}[kind]


def _passes(bundle):
    report = verify(bundle)
    assert report.ok, report.reasons
    assert report.backend == "blob"
    assert report.engine["engine"] == "interpreter"
    assert [check.verdict for check in report.tensors] == ["identical"] * len(report.tensors)
    assert report.answer_identical


@pytest.mark.parametrize(
    ("kind", "cut", "codec"),
    [
        ("float", "block2_add", "i8:b=4,clip=mse|ctx"),
        ("float", "block1_pw_relu,block2_pw_relu", "i8:b=3|none"),
        ("float", "features", "i8:b=8|none"),
        ("tflite", "block2_add", "i8:b=4|ctx"),
        ("tflite", "block1_pw_relu,block2_pw_relu", "i8:b=2,clip=p99|ctx"),
        ("tflite", "pool", "i8:b=1|none"),
        ("qdq", "block2_add_QuantizeLinear_Output", "i8:b=4|ctx"),
        ("qdq", "block2_add_DequantizeLinear_Output", "i8:b=8|ctx"),
        ("qdq", "block1_pw_relu_DequantizeLinear_Output,block2_dw_relu_QuantizeLinear_Output",
         "i8:b=5|none"),
        ("qdq", "logits_QuantizeLinear_Output", "i8:b=4|none"),
    ],
)  # fmt: skip
def test_every_kind_of_model_becomes_a_bundle_that_verifies(kind, cut, codec, qdq, tmp_path):
    model = _model(kind, qdq)
    made = split_mcu(model, cut, tmp_path / "m.bundle", codec=codec, task=TASK)
    bundle = load_bundle(tmp_path / "m.bundle")
    assert bundle.id == made.bundle.id
    manifest = bundle.manifest
    assert (bundle.head.format, bundle.head.file.name) == ("blob", "head.blob")
    assert bundle.tail.format == ("tflite" if kind == "tflite" else "onnx")
    assert {(t.tensor.dtype, t.codec) for t in bundle.cut.tensors} == {("int8", codec)}
    assert all(t.tensor.scale > 0 for t in bundle.cut.tensors)
    (image,) = manifest.model_inputs
    assert (image.dtype, image.shape, image.layout) == ("int8", (1, 28, 28, 1), "NHWC")
    assert manifest.preprocess.layout == "NHWC"
    assert manifest.model_sha256 == hashlib.sha256(model.read_bytes()).hexdigest()
    _passes(bundle)


@pytest.mark.parametrize("kind", ["float", "tflite", "qdq"])
def test_at_the_last_point_the_board_runs_it_all(kind, qdq, tmp_path):
    model = _model(kind, qdq)
    last = load_model(model).graph.last_x
    bundle = split_mcu(model, last, tmp_path / "m.bundle", task=TASK).bundle
    assert bundle.tail is None
    assert bundle.cut.tensors == ()
    (logits,) = bundle.manifest.model_outputs
    assert (logits.dtype, logits.shape) == ("int8", (1, 10))
    _passes(bundle)


def test_the_blob_holds_the_golden_frame_and_what_it_must_give(tmp_path):
    made = split_mcu(FLOAT, "block2_add", tmp_path / "m.bundle", task=TASK)
    bundle = made.bundle
    blob = read_blob(bundle.slice_path(bundle.head).read_bytes())
    assert blob.data == made.lowered.data
    (golden,) = blob.goldens
    with open_ends("auto", bundle) as (head, _):
        (given,) = head.preprocess(read_frame(bundle))
        sent = head.encode(head.head([given]))
    held = np.frombuffer(blob.data, np.int8, blob.input_bytes, golden.input)
    np.testing.assert_array_equal(held, given.reshape(-1))
    assert golden.crc == zlib.crc32(sent.payload)
    names = bundle.read_evidence()[HEAD_LAYERS]
    assert names[0] == "stem_relu"
    assert len(names) == len(blob.layers)
    assert not [name for name in names if "QuantizeLinear" in name], "as the model has them"


def test_equal_splits_give_equal_bundles_and_others_other_heads(tmp_path):
    def ids(name, **options):
        made = split_mcu(INT8, "block2_add", tmp_path / name, task=TASK, **options)
        return made.bundle.id, read_blob(made.lowered.data).id

    pytest.importorskip("ai_edge_litert", reason="runs TFLite tails")
    first = ids("a.bundle", codec="i8:b=4|ctx")
    assert ids("b.bundle", codec="i8:b=4|ctx") == first
    for spec in ("i8:b=3|ctx", "i8:b=4|none"):
        assert set(ids(f"{spec[5]}{spec[7:]}.bundle", codec=spec)).isdisjoint(first)


def test_a_tflite_bundle_codes_as_the_engine_s_own(tmp_path):
    """The same cut and codec with the head in LiteRT: other kernels, nearly the same codes."""
    pytest.importorskip("ai_edge_litert", reason="runs TFLite models")
    options = {"codec": "i8:b=4|none", "task": TASK}
    board = split_mcu(INT8, "block2_add", tmp_path / "board.bundle", **options).bundle
    engine = split(INT8, "block2_add", tmp_path / "engine.bundle", **options)
    assert board.cut == engine.cut
    assert board.manifest.model_inputs == engine.manifest.model_inputs
    one, other = (
        np.frombuffer(each.read(each.manifest.golden.codes), np.uint8) for each in (board, engine)
    )
    assert np.mean(one != other) < 0.01


def test_frames_may_be_the_model_s_inputs(tmp_path):
    model, task = mcu_help.write_two_inputs(tmp_path)
    graph = load_model(model).graph
    bundle = split_mcu(model, "h", tmp_path / "m.bundle", task=task).bundle
    specs = {spec.name: spec for spec in bundle.manifest.model_inputs}
    assert specs["x"].shape == (1, 8, 8, 3)
    assert specs["v"].shape == (1, 4)
    x, v = read_frame(bundle).arrays
    data = np.load(tmp_path / "calibration.npz")
    real = specs["x"].scale * (x.astype(float) - specs["x"].zero_point)
    assert np.abs(real - data["x"][0].transpose(1, 2, 0)).max() <= specs["x"].scale
    real = specs["v"].scale * (v.astype(float) - specs["v"].zero_point)
    assert np.abs(real - data["v"][0]).max() <= specs["v"].scale
    _passes(bundle)
    whole = split_mcu(model, graph.last_x, tmp_path / "n.bundle", task=task).bundle
    assert [spec.dtype for spec in whole.manifest.model_outputs] == ["int8"]
    assert whole.answer_kind.max_bytes == 5
    _passes(whole)


def test_the_detector_s_backbone_runs(tmp_path):
    pytest.importorskip("ai_edge_litert", reason="runs TFLite tails")
    biscuits = EXAMPLES / "biscuits"
    made = split_mcu(
        biscuits / "model.int8.tflite",
        "pool4",
        tmp_path / "m.bundle",
        codec="i8:b=4|ctx",
        task=biscuits / "task.toml",
        board="qemu-mps2-an386",
    )
    assert made.bundle.tail.format == "tflite"
    assert len(made.bundle.manifest.model_outputs) == 2
    _passes(made.bundle)


def test_four_bits_keep_the_accuracy_of_the_float_model(tmp_path):
    """Within half a point of the float model on the same images (all 10,000: `make bench`)."""
    from waistline.task.load import load_task
    from waistline_hostctl.uncut import uncut_answers

    task = load_task(TASK)
    bundle = split_mcu(FLOAT, "block2_add", tmp_path / "m.bundle", task=task).bundle
    assert "b=4" in bundle.cut.tensors[0].codec
    kind, right = bundle.answer_kind, {"float": 0, "board": 0}
    frames = list(task.data("report"))[:FRAMES]
    with uncut_answers(bundle, "auto", FLOAT) as whole, open_ends("auto", bundle) as (head, tail):
        for frame in frames:
            sent = head.encode(head.head(head.preprocess(frame)))
            waist = tail.decode(sent.payload, sent.raw_len)
            answers = {"float": whole(frame), "board": tail.postprocess(tail.tail(waist))}
            for name, answer in answers.items():
                right[name] += kind.unpack(answer).classes[0] == frame.label
    assert right["float"] > 0.85 * FRAMES
    assert right["board"] >= right["float"] - POINTS * FRAMES


def test_payloads_are_those_of_the_waist_codec(tmp_path):
    """What the blob's records say of the waist is what the manifest says."""
    made = split_mcu(FLOAT, "block1_pw_relu,block2_pw_relu", tmp_path / "m.bundle", task=TASK)
    blob = read_blob(made.lowered.data)
    codec = WaistCodec(made.bundle.cut.tensors)
    assert blob.output[1] == codec.raw_len + 4 * len(blob.waists)
    names = [item.tensor.name for item in made.lowered.waist]
    assert names == [item.tensor.name for item in made.bundle.cut.tensors]
