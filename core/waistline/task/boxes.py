"""Boxes on a frame: the answer and the ground truth of detection, and their overlap."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_BLOCK = 32
"""Boxes whose overlaps are found at once: few steps in Python, and arrays that fit the cache."""


@dataclass(frozen=True, slots=True, eq=False)
class Boxes:
    """Objects found on one frame, or known to be there.

    Attributes:
        corners: float32 (n, 4): x0, y0, x1, y1 in frame pixels, x to the right, y down.
        classes: int64 (n,).
        scores: float32 (n,), 0..1; ones for ground truth.
    """

    corners: np.ndarray
    classes: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.classes)


def truth(corners: np.ndarray, classes: np.ndarray) -> Boxes:
    """Ground-truth boxes from arrays (n, 4) and (n,)."""
    count = len(classes)
    return Boxes(
        np.asarray(corners, np.float32).reshape(count, 4),
        np.asarray(classes, np.int64),
        np.ones(count, np.float32),
    )


def overlap(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union, float64 (n, m), of corner boxes (n, 4) and (m, 4).

    Computed as pycocotools does (``bbIou`` in maskApi.c), widths first, so that equal overlaps
    come out equal in the last bit; 0 where the union is empty.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    size_a, size_b = a[:, 2:] - a[:, :2], b[:, 2:] - b[:, :2]
    far_a, far_b = size_a + a[:, :2], size_b + b[:, :2]
    high = np.minimum(far_a[:, np.newaxis], far_b[np.newaxis])
    low = np.maximum(a[:, np.newaxis, :2], b[np.newaxis, :, :2])
    side = np.maximum(high - low, 0.0)
    common = side[..., 0] * side[..., 1]
    union = np.prod(size_a, axis=1)[:, np.newaxis] + np.prod(size_b, axis=1) - common
    ratio: np.ndarray = np.zeros_like(common)
    np.divide(common, union, out=ratio, where=union > 0.0)
    return ratio


def suppress(boxes: Boxes, limit_iou: float, max_boxes: int) -> Boxes:
    """Greedy non-maximum suppression within each class, best score first, at most ``max_boxes``.

    Of two boxes of one class that overlap by more than ``limit_iou`` the lower score goes; equal
    scores keep the earlier box.
    """
    order = np.argsort(-boxes.scores, kind="stable")
    corners, classes = boxes.corners[order], boxes.classes[order]
    kept: list[int] = []
    for start in range(0, len(order), _BLOCK):
        block = slice(start, start + _BLOCK)
        # Those kept so far and the block itself, in one matrix: a row for each that may suppress.
        over = np.concatenate([kept, np.arange(start, min(start + _BLOCK, len(order)))]).astype(int)
        rivals = overlap(corners[over], corners[block]) > limit_iou
        rivals &= classes[over, np.newaxis] == classes[block]
        before = len(kept)
        alive = np.logical_not(np.logical_or.reduce(rivals[:before], axis=0))
        for index in range(len(alive)):
            if not alive[index]:
                continue
            kept.append(start + index)
            if len(kept) == max_boxes:
                break
            alive[index + 1 :] &= ~rivals[before + index, index + 1 :]
        if len(kept) == max_boxes:
            break
    chosen = order[kept]
    return Boxes(boxes.corners[chosen], boxes.classes[chosen], boxes.scores[chosen])
