from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from waistline import plugins
from waistline.errors import CodecError, ConfigError, NonFinite
from waistline.task.boxes import Boxes, overlap, suppress
from waistline.task.kinds import classify, detect, tensors
from waistline.task.kinds.base import load_kind
from waistline.task.spec import AnswerSpec, Preprocess

DETECT = {
    "classes": ["cat", "dog"],
    "heads": [
        {"output": 0, "stride": 8, "anchors": [[10.0, 14.0], [23.0, 27.0]]},
        {"output": 1, "stride": 4, "anchors": [[4.0, 6.0]]},
    ],
    "score": 0.3,
    "iou": 0.45,
    "max_boxes": 20,
}
TENSORS = {
    "outputs": [
        {"name": "a", "dtype": "float32", "shape": [1, 3]},
        {"name": "b", "dtype": "int64", "shape": [2]},
    ]
}
OPTIONS = {"classify": {"top_k": 3}, "detect": DETECT, "tensors": TENSORS}


def test_every_kind_has_options_to_be_tried_with():
    assert set(OPTIONS) == set(plugins.names("waistline.task.kinds"))


@pytest.mark.parametrize("kind", OPTIONS)
@given(data=st.binary(max_size=100))
def test_unpack_takes_any_bytes_and_raises_nothing_but_codec_error(kind, data):
    opened = load_kind(AnswerSpec(kind, OPTIONS[kind]))
    try:
        answer = opened.unpack(data)
    except CodecError:
        return
    assert len(data) <= opened.max_bytes
    assert opened.pack(answer) == data
    assert opened.describe(answer) or kind == "detect"


@pytest.mark.parametrize("kind", OPTIONS)
def test_unknown_option_is_named(kind):
    with pytest.raises(ConfigError, match="colour"):
        load_kind(AnswerSpec(kind, {**OPTIONS[kind], "colour": 1}))


def test_unknown_kind_lists_the_known_ones():
    with pytest.raises(ConfigError) as caught:
        load_kind(AnswerSpec("clasify", {}))
    assert "classify" in caught.value.fix


def test_classify_gives_softmax_probabilities_best_first():
    kind = classify.open_kind({"top_k": 3, "classes": ["a", "b", "c", "d"]})
    logits = np.array([[0.0, 2.0, 1.0, -1.0]], np.float32)
    answer = kind.postprocess([logits], None)
    total = sum(math.exp(value) for value in logits[0])
    assert answer.classes == (1, 2, 0)
    assert answer.probabilities == pytest.approx([math.exp(v) / total for v in (2, 1, 0)])
    assert kind.unpack(kind.pack(answer)) == answer
    assert len(kind.pack(answer)) == kind.max_bytes
    assert kind.describe(answer).startswith("b 0.6")


def test_classify_survives_huge_logits_and_puts_ties_in_class_order():
    kind = classify.open_kind({"top_k": 2})
    answer = kind.postprocess([np.array([[3e38, 3e38, 0.0]], np.float32)], None)
    assert answer.classes == (0, 1)
    assert answer.probabilities == (0.5, 0.5)


def test_classify_takes_probabilities_as_they_are_and_fewer_classes_than_asked():
    kind = classify.open_kind({"top_k": 9, "softmax": False})
    answer = kind.postprocess([np.array([[0.25, 0.75]], np.float32)], None)
    assert answer.probabilities == (0.75, 0.25)
    assert kind.unpack(kind.pack(answer)) == answer


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_classify_refuses_outputs_that_are_no_numbers(value):
    with pytest.raises(NonFinite):
        classify.open_kind({}).postprocess([np.array([[0.0, value]], np.float32)], None)


def test_classify_agrees_on_the_best_class_only():
    kind = classify.open_kind({"top_k": 2})
    one = classify.Ranking((1, 2), (0.6, 0.4))
    assert kind.agrees(one, classify.Ranking((1, 0), (0.9, 0.1))) == 1.0
    assert kind.agrees(one, classify.Ranking((2, 1), (0.6, 0.4))) == 0.0


@pytest.mark.parametrize("options", [{"top_k": 0}, {"top_k": 10**6}, {"output": -1}])
def test_classify_refuses_absurd_options(options):
    with pytest.raises(ConfigError):
        classify.open_kind(options)


@pytest.mark.parametrize(
    ("options", "shape"),
    [({}, (1, 2, 8, 8)), ({"classes": ["a", "b"]}, (1, 3)), ({"classes": ["a", "b"]}, (2, 1, 2))],
)
def test_classify_refuses_an_output_that_is_no_score_a_class(options, shape):
    with pytest.raises(ConfigError, match="one score for each") as caught:
        classify.open_kind(options).postprocess([np.zeros(shape, np.float32)], None)
    assert str(shape) in caught.value.cause


def test_classify_takes_scores_on_any_axis():
    answer = classify.open_kind({}).postprocess([np.float32([[[[1]], [[2]]]])], None)
    assert answer.classes == (1,)


def test_classify_names_an_output_that_is_not_there():
    with pytest.raises(ConfigError, match="output"):
        classify.open_kind({"output": 1}).postprocess([np.zeros((1, 3), np.float32)], None)


def sigmoid(value: float) -> float:
    return 1.0 / (1.0 + math.exp(-value))


def decode_one_by_one(outputs, options):
    """Redmon's formulas, one cell at a time."""
    found = []
    for head in options["heads"]:
        raw = outputs[head["output"]][0].astype(float)
        size = 5 + len(options["classes"])
        for a, (anchor_w, anchor_h) in enumerate(head["anchors"]):
            for i in range(raw.shape[1]):
                for j in range(raw.shape[2]):
                    x, y, w, h, thing, *labels = raw[a * size : (a + 1) * size, i, j]
                    cx = (sigmoid(x) + j) * head["stride"]
                    cy = (sigmoid(y) + i) * head["stride"]
                    bw, bh = anchor_w * math.exp(w), anchor_h * math.exp(h)
                    for label, logit in enumerate(labels):
                        score = sigmoid(thing) * sigmoid(logit)
                        if score >= options["score"]:
                            box = (cx - bw / 2, cy - bh / 2, cx + bw / 2, cy + bh / 2)
                            found.append((score, label, box))
    return sorted(found, key=lambda row: -row[0])


def iou(a, b):
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    if w <= 0 or h <= 0:
        return 0.0
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h
    return w * h / union


def heads(seed: int) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    shapes = [(1, 14, 4, 5), (1, 7, 8, 10)]
    return [random.normal(0, 1.2, shape).astype(np.float32) for shape in shapes]


@pytest.mark.parametrize("seed", range(4))
def test_detect_equals_decoding_and_suppressing_one_box_at_a_time(seed):
    outputs = heads(seed)
    preprocess = Preprocess((64, 80, 3), (32, 40), resize="stretch")
    answer = detect.open_kind(DETECT).postprocess(outputs, preprocess)
    kept: list = []
    for score, label, box in decode_one_by_one(outputs, DETECT):
        frame_box = tuple(
            min(max(2 * side, 0.0), limit)
            for side, limit in zip(box, (80, 64, 80, 64), strict=True)
        )
        rivals = [other for _, known, other in kept if known == label]
        if all(iou(frame_box, other) <= DETECT["iou"] for other in rivals):
            kept.append((score, label, frame_box))
    kept = kept[: DETECT["max_boxes"]]
    assert len(kept) > 3
    assert answer.classes.tolist() == [label for _, label, _ in kept]
    np.testing.assert_allclose(answer.scores, [score for score, _, _ in kept], rtol=1e-6)
    np.testing.assert_allclose(answer.corners, [box for _, _, box in kept], rtol=1e-5, atol=1e-4)


def test_detect_keeps_equal_scores_by_anchor_class_row_and_column():
    output = np.full((1, 14, 2, 2), -20.0, np.float32)
    places = [(1, 0, 1, 0), (0, 1, 0, 1), (0, 0, 1, 1), (0, 1, 0, 0), (1, 1, 1, 0), (0, 0, 0, 0)]
    for anchor, label, row, column in places:
        output[0, 7 * anchor : 7 * anchor + 4, row, column] = 0.0
        output[0, 7 * anchor + 4, row, column] = output[0, 7 * anchor + 5 + label, row, column] = 3
    heads = [{"output": 0, "stride": 100, "anchors": [[8.0, 9.0], [5.0, 6.0]]}]
    answer = detect.open_kind({"classes": ["a", "b"], "heads": heads}).postprocess([output], None)
    wide = answer.corners[:, 2] - answer.corners[:, 0]
    found = [
        (0 if side > 7 else 1, label, int(y // 100), int(x // 100))
        for side, label, (x, y, *_) in zip(wide, answer.classes, answer.corners, strict=True)
    ]
    assert found == sorted(places)


def test_detect_maps_letterboxed_boxes_back_to_the_frame():
    """A 200 x 100 frame in a 64 x 64 input lies 32 high, 16 from the top; scale 0.32."""
    options = {
        "classes": ["thing"],
        "heads": [{"output": 0, "stride": 64, "anchors": [[32.0, 16.0]]}],
    }
    output = np.zeros((1, 6, 1, 1), np.float32)
    output[0, 4:] = 9.0
    preprocess = Preprocess((100, 200, 3), (64, 64), resize="letterbox")
    answer = detect.open_kind(options).postprocess([output], preprocess)
    np.testing.assert_allclose(answer.corners, [[50.0, 25.0, 150.0, 75.0]], rtol=1e-6)


def test_detect_packs_and_unpacks_and_fits_its_limit():
    kind = detect.open_kind(DETECT)
    answer = kind.postprocess(heads(1), None)
    data = kind.pack(answer)
    again = kind.unpack(data)
    assert len(data) <= kind.max_bytes
    np.testing.assert_array_equal(again.corners, answer.corners)
    np.testing.assert_array_equal(again.scores, answer.scores)
    np.testing.assert_array_equal(again.classes, answer.classes)
    assert "cat" in kind.describe(answer)
    assert kind.agrees(again, answer) == 1.0


def test_detect_of_an_empty_scene():
    kind = detect.open_kind(DETECT)
    quiet = [np.full(head.shape, -20.0, np.float32) for head in heads(0)]
    answer = kind.postprocess(quiet, None)
    assert len(answer) == 0
    assert len(kind.unpack(kind.pack(answer))) == 0
    assert kind.agrees(answer, answer) == 1.0
    assert kind.agrees(answer, kind.postprocess(heads(1), None)) == 0.0


def test_detect_survives_a_wild_head_and_refuses_one_without_numbers():
    kind = detect.open_kind(DETECT)
    wild = [np.full(head.shape, 1e30, np.float32) for head in heads(0)]
    assert np.isfinite(kind.postprocess(wild, None).corners).all()
    wild[0][0, 0, 0, 0] = np.nan
    with pytest.raises(NonFinite):
        kind.postprocess(wild, None)


def test_detect_names_the_output_whose_shape_does_not_fit():
    with pytest.raises(ConfigError, match="output 1") as caught:
        detect.open_kind(DETECT).postprocess(heads(0)[:1], None)
    assert "expected (1, 7, H, W)" in caught.value.cause


def test_detect_unpack_refuses_a_class_it_does_not_have():
    kind = detect.open_kind(DETECT)
    corners = np.zeros((1, 4), np.float32)
    data = kind.pack(Boxes(corners, np.array([2]), np.ones(1, np.float32)))
    with pytest.raises(CodecError, match="class 2"):
        kind.unpack(data)


@pytest.mark.parametrize(
    "change",
    [
        {"classes": []},
        {"heads": []},
        {"score": 0.0},
        {"iou": float("nan")},
        {"max_boxes": 10**9},
        {"heads": [{"output": 0, "stride": 8, "anchors": [[0.0, 1.0]]}]},
        {"heads": [{"output": 0, "stride": 8, "anchors": [[float("inf"), 1.0]]}]},
    ],
)
def test_detect_refuses_absurd_options(change):
    with pytest.raises(ConfigError):
        detect.open_kind({**DETECT, **change})


def test_detect_agreement_counts_each_box_once():
    kind = detect.open_kind(DETECT)
    box = [0.0, 0.0, 10.0, 10.0]
    one = Boxes(np.float32([box]), np.array([0]), np.ones(1, np.float32))
    two = Boxes(np.float32([box, box]), np.array([0, 0]), np.ones(2, np.float32))
    assert kind.agrees(two, one) == pytest.approx(2 / 3)
    other = Boxes(np.float32([box]), np.array([1]), np.ones(1, np.float32))
    assert kind.agrees(other, one) == 0.0


def test_suppression_keeps_the_earlier_of_equal_scores():
    corners = np.float32([[0, 0, 10, 10], [1, 0, 11, 10], [50, 0, 60, 10]])
    boxes = Boxes(corners, np.zeros(3, np.int64), np.float32([0.5, 0.5, 0.4]))
    kept = suppress(boxes, 0.45, 10)
    np.testing.assert_array_equal(kept.corners, corners[[0, 2]])
    assert len(suppress(boxes, 0.45, 1)) == 1


def suppress_one_by_one(boxes: Boxes, limit: float, max_boxes: int) -> list[int]:
    kept: list[int] = []
    for index in sorted(range(len(boxes)), key=lambda index: -boxes.scores[index]):
        rivals = [other for other in kept if boxes.classes[other] == boxes.classes[index]]
        row = overlap(boxes.corners[[index]], boxes.corners[rivals])
        if not (row > limit).any() and len(kept) < max_boxes:
            kept.append(index)
    return kept


@pytest.mark.parametrize("count", [0, 1, 31, 32, 33, 150])
@pytest.mark.parametrize(("classes", "max_boxes"), [(1, 1000), (3, 20), (40, 1000)])
def test_suppression_in_blocks_equals_that_of_one_box_at_a_time(count, classes, max_boxes):
    random = np.random.default_rng([count, classes])
    near = random.random((count, 2)) * 100
    corners = np.concatenate([near, near + random.random((count, 2)) * 50], axis=1)
    scores = random.integers(1, 12, count) / 12  # many are equal
    boxes = Boxes(
        corners.astype(np.float32), random.integers(0, classes, count), scores.astype(np.float32)
    )
    expected = suppress_one_by_one(boxes, 0.3, max_boxes)
    kept = suppress(boxes, 0.3, max_boxes)
    np.testing.assert_array_equal(kept.corners, boxes.corners[expected])
    np.testing.assert_array_equal(kept.classes, boxes.classes[expected])
    np.testing.assert_array_equal(kept.scores, boxes.scores[expected])


def test_overlap_of_empty_boxes_is_zero():
    flat = np.zeros((1, 4))
    assert overlap(flat, flat).tolist() == [[0.0]]


def test_tensors_pack_in_order_little_endian():
    kind = tensors.open_kind(TENSORS)
    outputs = [np.float32([[1, 2, 3]]), np.int64([7, -1])]
    data = kind.pack(kind.postprocess(outputs, None))
    assert data == np.float32([1, 2, 3]).tobytes() + np.array([7, -1], "<i8").tobytes()
    assert len(data) == kind.max_bytes == 28
    for got, expected in zip(kind.unpack(data), outputs, strict=True):
        np.testing.assert_array_equal(got, expected)
    assert "a float32[1, 3] in [1, 3]" in kind.describe(kind.unpack(data))


def test_tensors_agree_within_a_share_of_the_spread_and_integers_exactly():
    kind = tensors.open_kind(TENSORS)
    floats, whole = np.float32([[1, 2, 3]]), np.int64([7, -1])
    assert kind.agrees((floats + np.float32(1e-5), whole), (floats, whole)) == 1.0
    assert kind.agrees((floats + np.float32(0.1), whole), (floats, whole)) == 0.5
    assert kind.agrees((floats, whole + 1), (floats, whole)) == 0.5
    nothing = np.full((1, 3), np.nan, np.float32)
    endless = np.float32([[np.inf, -np.inf, 1.0]])
    assert kind.agrees((nothing, whole), (nothing, whole)) == 1.0
    assert kind.agrees((endless, whole), (endless, whole)) == 1.0
    assert kind.agrees((-endless, whole), (endless, whole)) == 0.5
    assert kind.agrees((floats, whole), (nothing, whole)) == 0.5


def test_tensors_refuse_other_outputs():
    kind = tensors.open_kind(TENSORS)
    with pytest.raises(ConfigError, match="outputs"):
        kind.postprocess([np.zeros((1, 3), np.float32)], None)
