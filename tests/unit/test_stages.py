from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
from small_models import CLASSES, FRAME_SHAPE, write_classifier, write_task, write_two_inputs

from waistline.backends.base import BackendOptions
from waistline.backends.onnxruntime import open_backend
from waistline.errors import BackendError, CodecError, ConfigError, NonFinite
from waistline.frame import SensorFrame
from waistline.split import split
from waistline.stages import HeadStages, TailStages, open_ends, open_slice
from waistline.task.load import load_task

BACKEND = open_backend(BackendOptions(exact=True))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("stages")
    write_classifier(path)
    write_two_inputs(path)
    write_task(path)
    return path


def both_ends(bundle) -> tuple[HeadStages, TailStages]:
    head = HeadStages(bundle, open_slice(BACKEND, bundle, bundle.head))
    return head, TailStages(bundle, open_slice(BACKEND, bundle, bundle.tail))


def run(head: HeadStages, tail: TailStages, frame: SensorFrame) -> tuple[bytes, bytes]:
    """Payload and reply of one frame."""
    coded = head.encode(head.head(head.preprocess(frame)))
    tensors = tail.preprocess(tail.decode(coded.payload, coded.raw_len))
    return coded.payload, tail.postprocess(tail.tail(tensors))


def uncut(path, feeds) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(str(path), options).run(None, feeds)


@pytest.mark.parametrize("cut", range(8))
def test_lossless_at_every_cut_equals_the_uncut_model(folder, tmp_path, cut):
    task = load_task(folder / "task.toml")
    codec = "raw|zstd:1" if cut == 0 else "f32|zstd:1"
    bundle = split(folder / "small.onnx", cut, tmp_path / "b.bundle", codec=codec, task=task)
    head, tail = both_ends(bundle)
    for frame in task.data("selection"):
        payload, reply = run(head, tail, frame)
        image = (frame.arrays[0].astype(np.float32) * np.float32(1 / 255)).reshape(1, 1, 8, 8)
        outputs = uncut(folder / "small.onnx", {"image": image})
        expected = bundle.answer_kind.pack(bundle.answer_kind.postprocess(outputs, None))
        assert (payload if cut == 7 else reply) == expected
        assert (reply == b"") == (cut == 7)


def test_at_x_0_the_wire_carries_the_frame(folder, tmp_path):
    bundle = split(folder / "small.onnx", 0, tmp_path / "b.bundle", task=folder / "task.toml")
    assert bundle.head is None
    assert bundle.cut.tensors[0].codec == "png"
    head, tail = both_ends(bundle)
    frame = SensorFrame(0, (np.full(FRAME_SHAPE, 7, np.uint8),))
    coded = head.encode(head.head(head.preprocess(frame)))
    assert coded.raw_len == 64
    (image,) = tail.decode(coded.payload, coded.raw_len)
    np.testing.assert_array_equal(image, frame.arrays[0])


def test_inputs_and_finished_outputs_cross_the_cut(folder, tmp_path):
    feeds = {
        "x": np.float32([[1, -2, 3, -4, 5, -6]]),
        "mask": np.int64([[1, 1, 0, 0, 1, 1]]),
    }
    expected = uncut(folder / "two.onnx", feeds)
    for cut in (1, 2, 3, 4, 5):
        out = tmp_path / f"{cut}.bundle"
        bundle = split(folder / "two.onnx", cut, out, codec="f32|none")
        head, tail = both_ends(bundle)
        payload, reply = run(head, tail, SensorFrame(0, (feeds["x"], feeds["mask"])))
        answer = bundle.answer_kind.unpack(reply or payload)
        for got, wanted in zip(answer, expected, strict=True):
            np.testing.assert_array_equal(got, wanted)
    names = {item.tensor.name for item in split(
        folder / "two.onnx", 3, tmp_path / "again.bundle", codec="f32|none"
    ).cut.tensors}  # fmt: skip
    assert names == {"mask", "y", "n"}


@pytest.mark.parametrize(
    "arrays",
    [
        (np.zeros((8, 9, 1), np.uint8),),
        (np.zeros((8, 8, 3), np.uint8),),
        (np.zeros((8, 8), np.uint8),),
        (np.zeros(FRAME_SHAPE, np.float32),),
        (np.zeros(FRAME_SHAPE, np.uint8),) * 2,
        (),
    ],
)
@pytest.mark.parametrize("cut", [0, 1, 3, 7])
def test_a_frame_of_another_size_or_mode_is_refused_by_name(folder, tmp_path, arrays, cut):
    bundle = split(folder / "small.onnx", cut, tmp_path / "b.bundle", task=folder / "task.toml")
    head, _ = both_ends(bundle)
    with pytest.raises(CodecError, match=r"shoe\.png"):
        head.preprocess(SensorFrame(3, arrays, None, "shoe.png"))


def test_a_tail_that_does_not_open_leaves_no_head_open(folder, tmp_path):
    bundle = split(folder / "small.onnx", "b", tmp_path / "b.bundle")
    closed: list[str] = []

    class Engine:
        formats = ("onnx",)

        def open(self, path, *, inputs, outputs):
            if path.name == "tail.onnx":
                raise BackendError("no")
            return SimpleNamespace(close=lambda: closed.append(path.name))

    with pytest.raises(BackendError), open_ends(Engine(), bundle):
        pass
    assert closed == ["head.onnx"]


def test_arrays_that_are_not_the_models_inputs_are_refused(folder, tmp_path):
    bundle = split(folder / "small.onnx", 3, tmp_path / "b.bundle", codec="f32|none")
    head, _ = both_ends(bundle)
    for array in (np.zeros((1, 1, 8, 9), np.float32), np.zeros((1, 1, 8, 8), np.float64)):
        with pytest.raises(CodecError, match="frame 0"):
            head.preprocess(SensorFrame(0, (array,)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("codec", ["affine:b=4|zstd:1", "affine:b=4,clip=minmax|none", "q1|none"])
def test_a_waist_without_numbers_ends_the_frame(folder, tmp_path, value, codec):
    task = folder / "task.toml"
    bundle = split(folder / "small.onnx", "b", tmp_path / "b.bundle", codec=codec, task=task)
    head, _ = both_ends(bundle)
    waist = np.zeros((1, 4, 8, 8), np.float32)
    waist[0, 2, 3, 4] = value
    with pytest.raises(NonFinite):
        head.encode([waist])


def test_what_a_float_waist_passes_is_stopped_at_the_answer(folder, tmp_path):
    out = tmp_path / "b.bundle"
    bundle = split(folder / "small.onnx", 3, out, codec="f32|none", task=folder / "task.toml")
    head, tail = both_ends(bundle)
    coded = head.encode([np.full((1, 4, 8, 8), np.nan, np.float32)])
    with pytest.raises(NonFinite):
        tail.postprocess(tail.tail(tail.decode(coded.payload, coded.raw_len)))
    last = split(folder / "small.onnx", 7, tmp_path / "n.bundle", task=folder / "task.toml")
    with pytest.raises(NonFinite):
        both_ends(last)[0].encode([np.full((1, CLASSES), np.nan, np.float32)])


def test_a_constant_waist_is_answered(folder, tmp_path):
    out = tmp_path / "b.bundle"
    bundle = split(folder / "small.onnx", 3, out, codec="affine:b=2|zstd:1")
    head, tail = both_ends(bundle)
    coded = head.encode([np.full((1, 4, 8, 8), 2.5, np.float32)])
    (waist,) = tail.decode(coded.payload, coded.raw_len)
    assert (waist == 2.5).all()


@pytest.mark.parametrize("cut", [0, 1, 3, 4, 7])
def test_damaged_payloads_are_refused_at_every_cut(folder, tmp_path, cut):
    bundle = split(folder / "small.onnx", cut, tmp_path / "b.bundle", task=folder / "task.toml")
    head, tail = both_ends(bundle)
    frame = next(iter(load_task(folder / "task.toml").data("selection")))
    coded = head.encode(head.head(head.preprocess(frame)))
    for payload, raw_len in [
        (b"", coded.raw_len),
        (coded.payload[:-1], coded.raw_len),
        (coded.payload + b"\x00", coded.raw_len),
        (coded.payload, coded.raw_len + 1),
        (b"\xff" * len(coded.payload), coded.raw_len),
    ]:
        with pytest.raises(CodecError):
            tail.decode(payload, raw_len)


def test_a_slice_must_be_there_exactly_where_the_bundle_has_one(folder, tmp_path):
    whole = split(folder / "small.onnx", 1, tmp_path / "1.bundle")
    cut = split(folder / "small.onnx", 3, tmp_path / "3.bundle")
    with pytest.raises(ConfigError, match="has a head"):
        HeadStages(cut, None)
    with pytest.raises(ConfigError, match="has no head"):
        HeadStages(whole, open_slice(BACKEND, whole, whole.tail))
    with pytest.raises(ConfigError, match="has a tail"):
        TailStages(cut, None)


def test_a_backend_of_another_format_is_refused(folder, tmp_path):
    from waistline.backends import fake

    bundle = split(folder / "small.onnx", 3, tmp_path / "3.bundle")
    with pytest.raises(ConfigError, match="cannot open") as caught:
        open_slice(fake.open_backend(BackendOptions()), bundle, bundle.head)
    assert "onnx" in caught.value.cause
