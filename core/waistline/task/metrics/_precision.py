"""Average precision as COCO computes it (pycocotools cocoeval.py: evaluateImg, accumulate).

Per class and overlap: detections of each image by falling score, at most 100, each takes the free
object it overlaps most (the later of equals) if the overlap is large enough; all images'
detections by falling score give precision against recall, made monotonic and read at 101 recalls
0, 0.01, .. 1. The mean runs over overlaps, recalls and the classes that have objects. No crowd
regions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from waistline.errors import ConfigError
from waistline.evidence import Evidence, Figure
from waistline.task.boxes import Boxes, overlap
from waistline.task.kinds.base import Kind
from waistline.task.kinds.detect import Detect
from waistline.task.metrics.base import bootstrap_draws, check_same_frames, no_frames

MAX_DETECTIONS = 100
_RECALLS = np.linspace(0.0, 1.0, 101)
_EPSILON = float(np.spacing(1))
_TOP_OVERLAP = 1.0 - 1e-10


@dataclass(frozen=True, slots=True)
class _Matches:
    """One class on one image: scores (d,), hits bool (thresholds, d), number of objects."""

    scores: np.ndarray
    hits: np.ndarray
    objects: int


class MeanPrecision:
    """Mean average precision; its uncertainty is that of a bootstrap over frames.

    Args:
        name: for messages and the figure's source.
        overlaps: thresholds of intersection over union, ascending.
        kind: must be detection.
    """

    needs_labels = True

    def __init__(self, name: str, overlaps: Sequence[float], kind: Kind) -> None:
        if not isinstance(kind, Detect):
            raise ConfigError(
                f"{name} scores boxes",
                cause=f"the task's answers are {type(kind).__name__.lower()}",
            )
        self._name = name
        self._overlaps = np.asarray(overlaps, np.float64)

    def score(self, pairs: Iterable[tuple[Boxes, Boxes]]) -> Figure:
        classes = self._matches(pairs)
        count = len(classes[0])
        spread = None
        if count > 1:
            draws = bootstrap_draws(count)
            spread = float(np.std([self._mean(classes, draw) for draw in draws], ddof=1))
        value = self._mean(classes, np.arange(count))
        source = f"{self._name} over {count} frames"
        return Figure(value, "1", Evidence.MEASURED, source, spread, count)

    def compare(
        self, pairs: Iterable[tuple[Boxes, Boxes]], reference: Iterable[tuple[Boxes, Boxes]]
    ) -> Figure:
        ours, others = self._matches(pairs), self._matches(reference)
        count = len(ours[0])
        check_same_frames(self._name, count, len(others[0]))

        def change(frames: np.ndarray) -> float:
            return self._mean(ours, frames) - self._mean(others, frames)

        spread = None
        if count > 1:
            spread = float(np.std([change(draw) for draw in bootstrap_draws(count)], ddof=1))
        source = f"{self._name}, paired over {count} frames"
        value = change(np.arange(count))
        return Figure(value, "1", Evidence.MEASURED, source, spread, count)

    def _matches(self, pairs: Iterable[tuple[Boxes, Boxes]]) -> list[list[_Matches]]:
        """Per class that has an object anywhere: what was found on each frame."""
        rows = list(pairs)
        if not rows:
            raise no_frames(self._name)
        for _, label in rows:
            if not isinstance(label, Boxes):
                raise ConfigError(
                    f"{self._name} needs ground-truth boxes",
                    cause=f"a label is {type(label).__name__}",
                    fix='add boxes to the data, or use metric = "agreement"',
                )
        classes = sorted({int(index) for _, label in rows for index in label.classes})
        if not classes:
            raise ConfigError(f"{self._name} has no object to find", cause="no frame has a box")
        return [[self._match(answer, label, index) for answer, label in rows] for index in classes]

    def _mean(self, classes: Sequence[Sequence[_Matches]], frames: np.ndarray) -> float:
        """Over overlaps, recalls and the classes that have an object on one of ``frames``."""
        chosen = [[images[frame] for frame in frames] for images in classes]
        precision = [
            self._class_precision(images)
            for images in chosen
            if any(image.objects for image in images)
        ]
        return float(np.mean(precision)) if precision else 0.0

    def _class_precision(self, images: Sequence[_Matches]) -> np.ndarray:
        """Precision (thresholds, 101) of one class over images."""
        objects = sum(image.objects for image in images)
        scores = np.concatenate([image.scores for image in images])
        order = np.argsort(-scores, kind="mergesort")
        hits = np.concatenate([image.hits for image in images], axis=1)[:, order]
        true = np.cumsum(hits, axis=1, dtype=np.float64)
        false = np.cumsum(~hits, axis=1, dtype=np.float64)
        recall = true / objects
        raw = true / (false + true + _EPSILON)
        falling = np.maximum.accumulate(raw[:, ::-1], axis=1)[:, ::-1]
        table = np.zeros((len(self._overlaps), len(_RECALLS)))
        for row, (reached, values) in enumerate(zip(recall, falling, strict=True)):
            places = np.searchsorted(reached, _RECALLS, side="left")
            inside = places < len(values)
            table[row, inside] = values[places[inside]]
        return table

    def _match(self, answer: Boxes, label: Boxes, index: int) -> _Matches:
        found, known = answer.classes == index, label.classes == index
        scores = answer.scores[found]
        order = np.argsort(-scores, kind="mergesort")[:MAX_DETECTIONS]
        shared = overlap(answer.corners[found][order], label.corners[known])
        hits = np.zeros((len(self._overlaps), len(order)), bool)
        for row, threshold in enumerate(np.minimum(self._overlaps, _TOP_OVERLAP)):
            free = np.ones(shared.shape[1], bool)
            for column, candidates in enumerate(shared):
                open_overlaps = np.where(free, candidates, -1.0)
                if not open_overlaps.size or open_overlaps.max() < threshold:
                    continue
                # pycocotools keeps the last of equal overlaps.
                last = len(free) - 1 - int(open_overlaps[::-1].argmax())
                free[last] = False
                hits[row, column] = True
        return _Matches(scores[order], hits, int(known.sum()))
