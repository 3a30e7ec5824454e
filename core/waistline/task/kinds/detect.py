"""Detection: boxes of objects, decoded from raw YOLOv3 heads, in frame pixels.

A head's output is (1, A * (5 + C), H, W): for each of A anchors x, y, w, h, objectness and C class
logits. Cell (i, j) of a head with stride s gives, in input pixels (Redmon and Farhadi, YOLOv3,
section 2.1): centre ((sigmoid(x) + j) * s, (sigmoid(y) + i) * s), size (anchor_w * exp(w),
anchor_h * exp(h)), score of a class sigmoid(objectness) * sigmoid(class).

Packed: u16 n, then n rows of {f32 x0, y0, x1, y1, f32 score, u16 class}, best score first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from waistline.errors import ConfigError
from waistline.task.boxes import Boxes, overlap, suppress
from waistline.task.kinds.base import bad_answer, finite, read_options
from waistline.task.preprocess import Geometry
from waistline.task.spec import Preprocess

_ROW = np.dtype([("corners", "<f4", 4), ("score", "<f4"), ("index", "<u2")])
_COUNT_BYTES = 2
_MAX_BOXES = 1000
_MAX_CANDIDATES = 4096
"""Best candidates that enter the suppression; bounds its time on a noisy frame."""
_MAX_EXPONENT = 16.0
"""exp(16) anchors are wider than any frame; keeps a wild head from overflowing."""
AGREES_IOU = 0.5
"""Two boxes of one class are the same object from this overlap on, as in mAP50."""


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One output of the model: its index, input pixels per cell, anchors (width, height)."""

    output: int
    stride: int
    anchors: tuple[tuple[float, float], ...]


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of the kind.

    Attributes:
        classes: names by class index; their number fixes C.
        heads: how to read each output.
        score: boxes below are dropped.
        iou: overlap above which the lower score of two boxes of a class goes.
        max_boxes: most boxes in an answer.
    """

    classes: tuple[str, ...]
    heads: tuple[Head, ...]
    score: float = 0.25
    iou: float = 0.45
    max_boxes: int = 100


class Detect:
    raw = False

    def __init__(self, options: Options) -> None:
        problem = _problem(options)
        if problem:
            raise ConfigError(
                "the options of detect cannot be used",
                cause=problem,
                fix="mend [answer] in the task file",
            )
        self.options = options

    @property
    def max_bytes(self) -> int:
        return _COUNT_BYTES + self.options.max_boxes * _ROW.itemsize

    def postprocess(self, outputs: Sequence[np.ndarray], preprocess: Preprocess | None) -> Boxes:
        parts = [self._decode(head, outputs) for head in self.options.heads]
        corners = np.concatenate([part.corners for part in parts])
        if preprocess is not None:
            corners = Geometry.of(preprocess).to_frame(corners)
        scores = np.concatenate([part.scores for part in parts]).astype(np.float32)
        classes = np.concatenate([part.classes for part in parts])
        best = np.argsort(-scores, kind="stable")[:_MAX_CANDIDATES]
        found = Boxes(corners[best].astype(np.float32), classes[best], scores[best])
        return suppress(found, self.options.iou, self.options.max_boxes)

    def _decode(self, head: Head, outputs: Sequence[np.ndarray]) -> Boxes:
        """Candidates of one head above the score, corners float64 in input pixels."""
        anchors, count = len(head.anchors), len(self.options.classes)
        shape = outputs[head.output].shape if head.output < len(outputs) else ()
        if len(shape) != 4 or shape[:2] != (1, anchors * (5 + count)):
            raise ConfigError(
                f"detect cannot read output {head.output} of the model",
                cause=f"its shape is {shape}, expected (1, {anchors * (5 + count)}, H, W)",
                fix="mend classes and heads in [answer] of the task file",
            )
        finite(outputs[head.output], "the model's output")
        raw = outputs[head.output].reshape(anchors, 5 + count, *shape[2:])
        # No class scores above its cell's objectness, so most cells need no look at their classes.
        objectness = _sigmoid(raw[:, 4].astype(np.float64))
        cells = np.nonzero(objectness >= self.options.score)
        logits = raw[cells[0], 5:, cells[1], cells[2]].astype(np.float64)
        scores = objectness[cells][:, np.newaxis] * _sigmoid(logits)
        cell, label = np.nonzero(scores >= self.options.score)
        # The order in which equal scores are kept: by anchor, class, row and column.
        order = np.lexsort((cell, label, cells[0][cell]))
        cell, label = cell[order], label[order]
        anchor, row, column = (place[cell] for place in cells)
        x, y, w, h = raw[anchor, :4, row, column].astype(np.float64).T
        sizes = np.asarray(head.anchors, np.float64)[anchor]
        centre_x = (_sigmoid(x) + column) * head.stride
        centre_y = (_sigmoid(y) + row) * head.stride
        half_w = sizes[:, 0] * np.exp(np.minimum(w, _MAX_EXPONENT)) / 2
        half_h = sizes[:, 1] * np.exp(np.minimum(h, _MAX_EXPONENT)) / 2
        sides = (centre_x - half_w, centre_y - half_h, centre_x + half_w, centre_y + half_h)
        return Boxes(np.stack(sides, axis=1), label, scores[cell, label])

    def pack(self, answer: Boxes) -> bytes:
        rows = np.empty(len(answer), _ROW)
        rows["corners"] = answer.corners
        rows["score"] = answer.scores
        rows["index"] = answer.classes
        return len(rows).to_bytes(_COUNT_BYTES, "little") + rows.tobytes()

    def unpack(self, data: bytes | memoryview) -> Boxes:
        count = int.from_bytes(data[:_COUNT_BYTES], "little")
        expected = _COUNT_BYTES + count * _ROW.itemsize
        if count > self.options.max_boxes or len(data) != expected:
            raise bad_answer("detect", f"{len(data)} bytes that claim {count} boxes")
        rows = np.frombuffer(data, _ROW, count, _COUNT_BYTES)
        corners, scores = rows["corners"].copy(), rows["score"].copy()
        classes = rows["index"].astype(np.int64)
        if not (np.isfinite(corners).all() and np.isfinite(scores).all()):
            raise bad_answer("detect", "a coordinate or score is not a number")
        if (classes >= len(self.options.classes)).any():
            raise bad_answer("detect", f"class {classes.max()} of {len(self.options.classes)}")
        return Boxes(corners, classes, scores)

    def agrees(self, answer: Boxes, reference: Boxes) -> float:
        """F1 of the boxes of ``answer`` against ``reference`` at `AGREES_IOU`; 1 if both empty."""
        if not len(answer) and not len(reference):
            return 1.0
        shared = overlap(answer.corners, reference.corners)
        shared[answer.classes[:, np.newaxis] != reference.classes] = 0.0
        matched = 0
        for row in shared:
            if row.size and row.max() >= AGREES_IOU:
                shared[:, int(row.argmax())] = 0.0
                matched += 1
        return 2 * matched / (len(answer) + len(reference))

    def describe(self, answer: Boxes) -> str:
        names = self.options.classes
        rows = zip(answer.classes, answer.scores, answer.corners, strict=True)
        return "; ".join(
            f"{names[index]} {score:.2f} at {[round(float(side)) for side in corners]}"
            for index, score, corners in rows
        )


def _problem(options: Options) -> str:
    if not options.classes or len(options.classes) > 0xFFFF or not options.heads:
        return "classes and heads must not be empty, and classes at most 65535"
    if not 1 <= options.max_boxes <= _MAX_BOXES:
        return f"max_boxes = {options.max_boxes} is not 1..{_MAX_BOXES}"
    if not (0.0 < options.score <= 1.0 and 0.0 < options.iou <= 1.0):
        return f"score = {options.score} and iou = {options.iou} must be above 0 and at most 1"
    for head in options.heads:
        sides = [side for anchor in head.anchors for side in anchor]
        if head.output < 0 or head.stride < 1 or not sides or not all(0 < s < 1e6 for s in sides):
            return f"head {head} has a negative output or stride, or no positive anchors"
    return ""


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 0.5 * (1.0 + np.tanh(0.5 * values))


def open_kind(options: Mapping[str, Any]) -> Detect:
    return Detect(read_options(options, Options, "detect"))
