from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest

from waistline import plugins
from waistline.errors import ConfigError
from waistline.evidence import Evidence
from waistline.task.boxes import Boxes, truth
from waistline.task.kinds import classify, detect
from waistline.task.metrics.base import load_metric

CLASSES = 3
DETECT = detect.open_kind(
    {
        "classes": ["a", "b", "c"],
        "heads": [{"output": 0, "stride": 8, "anchors": [[8.0, 8.0]]}],
    }
)
CLASSIFY = classify.open_kind({"top_k": 2})


def scene(random: np.random.Generator) -> tuple[Boxes, Boxes]:
    """Objects on a coarse grid and detections around them, so that overlaps and scores tie."""
    count = int(random.integers(0, 9))
    start = random.integers(0, 20, (count, 2)) * 4
    size = random.integers(1, 8, (count, 2)) * 4
    objects = np.concatenate([start, start + size], axis=1).astype(np.float32)
    labels = random.integers(0, CLASSES, count)
    copies = random.integers(0, 4, count)
    found = np.repeat(objects, copies, axis=0)
    found += random.integers(-3, 4, found.shape).astype(np.float32)
    found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
    guesses = np.repeat(labels, copies)
    wrong = random.random(len(guesses)) < 0.2
    guesses[wrong] = random.integers(0, CLASSES, int(wrong.sum()))
    stray = int(random.integers(0, 4))
    corner = random.integers(0, 80, (stray, 2)).astype(np.float32)
    found = np.concatenate([found, np.concatenate([corner, corner + 9], axis=1)])
    guesses = np.concatenate([guesses, random.integers(0, CLASSES, stray)])
    scores = (random.integers(1, 8, len(guesses)) / 8).astype(np.float32)
    return Boxes(found, guesses, scores), truth(objects, labels)


def by_pycocotools(pairs: list[tuple[Boxes, Boxes]]) -> tuple[float, float]:
    """(mAP50, mAP50-95) of the same boxes."""
    coco_module = pytest.importorskip("pycocotools.coco")
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    annotations, results = [], []
    for image, (answer, label) in enumerate(pairs, 1):
        for corners, index in zip(label.corners, label.classes, strict=True):
            x0, y0, x1, y1 = corners.astype(float)
            box = [x0, y0, x1 - x0, y1 - y0]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": int(index) + 1,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
        for corners, index, score in zip(
            answer.corners, answer.classes, answer.scores, strict=True
        ):
            x0, y0, x1, y1 = corners.astype(float)
            box = [x0, y0, x1 - x0, y1 - y0]
            results.append(
                {
                    "image_id": image,
                    "category_id": int(index) + 1,
                    "bbox": box,
                    "score": float(score),
                }
            )
    with contextlib.redirect_stdout(io.StringIO()):
        known = coco_module.COCO()
        known.dataset = {
            "info": {},
            "images": [{"id": image} for image in range(1, len(pairs) + 1)],
            "categories": [{"id": index + 1, "name": str(index)} for index in range(CLASSES)],
            "annotations": annotations,
        }
        known.createIndex()
        judge = evaluation.COCOeval(known, known.loadRes(results), "bbox")
        judge.evaluate()
        judge.accumulate()
    precision = judge.eval["precision"][:, :, :, 0, -1]
    return tuple(float(part[part > -1].mean()) for part in (precision[:1], precision))


@pytest.mark.parametrize("seed", range(12))
def test_average_precision_equals_pycocotools(seed):
    random = np.random.default_rng(seed)
    pairs = [scene(random) for _ in range(15)]
    expected = by_pycocotools(pairs)
    got = [load_metric(name, DETECT, None).score(pairs).value for name in ("map50", "map50_95")]
    assert got == pytest.approx(expected, abs=1e-9)
    assert 0.03 < expected[1] < expected[0] < 1.0


def test_more_than_a_hundred_detections_on_one_image():
    random = np.random.default_rng(1)
    corner = random.integers(0, 300, (250, 2)).astype(np.float32)
    boxes = np.concatenate([corner, corner + 20], axis=1)
    scores = random.random(250).astype(np.float32)
    pairs = [(Boxes(boxes, np.zeros(250, np.int64), scores), truth(boxes[::2], np.zeros(125)))]
    expected = by_pycocotools(pairs)
    got = [load_metric(name, DETECT, None).score(pairs).value for name in ("map50", "map50_95")]
    assert got == pytest.approx(expected, abs=1e-9)


def test_perfect_and_empty_answers():
    box = truth(np.float32([[0, 0, 10, 10]]), np.array([1]))
    nothing = truth(np.zeros((0, 4)), np.zeros(0))
    metric = load_metric("map50_95", DETECT, None)
    assert metric.score([(box, box)]).value == pytest.approx(1.0)
    assert metric.score([(nothing, box)]).value == 0.0
    with pytest.raises(ConfigError, match="no object"):
        metric.score([(box, nothing)])
    with pytest.raises(ConfigError, match="ground-truth boxes"):
        metric.score([(box, 3)])


def test_top1_with_its_standard_uncertainty():
    pairs = [(classify.Ranking((k % 2, 5), (0.7, 0.3)), 0) for k in range(10)]
    figure = load_metric("top1", CLASSIFY, None).score(pairs)
    assert (figure.value, figure.n, figure.evidence) == (0.5, 10, Evidence.MEASURED)
    hits = [1 - k % 2 for k in range(10)]
    assert figure.standard_uncertainty == pytest.approx(np.std(hits, ddof=1) / np.sqrt(10))
    with pytest.raises(ConfigError, match="class number"):
        load_metric("top1", CLASSIFY, None).score([(classify.Ranking((0,), (1.0,)), None)])


def test_agreement_compares_with_the_uncut_model():
    one, two = classify.Ranking((1,), (1.0,)), classify.Ranking((2,), (1.0,))
    metric = load_metric("agreement", CLASSIFY, None)
    assert metric.score([(one, one), (two, one), (one, one), (one, one)]).value == 0.75
    assert "agreement" in metric.score([(one, one)]).source


@pytest.mark.parametrize("name", plugins.names("waistline.task.metrics"))
def test_every_metric_refuses_to_score_nothing(name):
    kind = DETECT if name.startswith("map") else CLASSIFY
    with pytest.raises(ConfigError, match="no frame"):
        load_metric(name, kind, None).score([])


def test_a_paired_change_is_surer_than_two_scores() -> None:
    random = np.random.default_rng(3)
    pairs = [scene(random) for _ in range(120)]
    worse = [(answer if k % 10 else Boxes(answer.corners[:0], answer.classes[:0],
              answer.scores[:0]), label) for k, (answer, label) in enumerate(pairs)]  # fmt: skip
    metric = load_metric("map50", DETECT, None)
    change = metric.compare(worse, pairs)
    assert change.value == pytest.approx(metric.score(worse).value - metric.score(pairs).value)
    assert change.value < 0 < change.standard_uncertainty < metric.score(pairs).standard_uncertainty
    same = metric.compare(pairs, pairs)
    assert (same.value, same.standard_uncertainty, same.n) == (0, 0, 120)
    with pytest.raises(ConfigError, match="119"):
        metric.compare(pairs[:-1], pairs)


def test_a_paired_change_of_a_mean_is_that_of_its_frames() -> None:
    eye = np.eye(3, dtype=np.float32)
    cat, dog = (CLASSIFY.postprocess([eye[[k]]], None) for k in (0, 1))
    metric = load_metric("top1", CLASSIFY, None)
    change = metric.compare([(cat, 0), (dog, 0), (cat, 1), (cat, 0)],
                            [(cat, 0), (cat, 0), (cat, 1), (dog, 0)])  # fmt: skip
    assert change.value == 0
    assert change.standard_uncertainty == pytest.approx((2 / 3 / 4) ** 0.5)


def test_precision_carries_an_uncertainty_that_shrinks_with_frames() -> None:
    random = np.random.default_rng(5)
    pairs = [scene(random) for _ in range(160)]
    metric = load_metric("map50", DETECT, None)
    few, many = metric.score(pairs[:20]), metric.score(pairs)
    assert few.standard_uncertainty > many.standard_uncertainty > 0
    assert metric.score(pairs[:1]).standard_uncertainty is None
