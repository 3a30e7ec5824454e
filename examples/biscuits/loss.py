"""What a raw output should have been: anchors, assignment of objects to cells, the loss."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from net import ANCHORS, CLASSES, STRIDES
from torch import nn

RATIO = 3.0
"""An anchor takes an object whose sides differ from its own by less than this factor (YOLOv5)."""
WEIGHTS = {"box": 1.5, "object": 5.0, "class": 0.6}
COARSE = 32.0
"""Pixels, the side of a square as large as the smallest box for the output at stride 32."""
_COLUMNS = 6


def find_anchors(sizes: np.ndarray, rng: np.random.Generator) -> list[torch.Tensor]:
    """Anchors of each output, (A, 2) whole pixels, found among the box sizes (m, 2) it is to see.

    The coarse output sees boxes from `COARSE` pixels on, so that the few small things on the belt
    get anchors beside the many biscuits.
    """
    coarse = sizes.prod(1) >= COARSE**2
    return [
        torch.from_numpy(np.round(_cluster(sizes[part], ANCHORS, rng))).float()
        for part in (coarse, ~coarse)
    ]


def _cluster(sizes: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """k-means with 1 - overlap as the distance: (count, 2) by area."""
    centres = sizes[rng.choice(len(sizes), count, replace=False)]
    for _ in range(100):
        low = np.minimum(sizes[:, None], centres).prod(2)
        union = sizes.prod(1)[:, None] + centres.prod(1) - low
        nearest = (low / union).argmax(1)
        moved = np.stack(
            [
                np.median(sizes[nearest == k], 0) if (nearest == k).any() else centres[k]
                for k in range(count)
            ]
        )
        if np.allclose(moved, centres):
            break
        centres = moved
    return centres[np.argsort(centres.prod(1))]


def targets_of(corners: Sequence[torch.Tensor], classes: Sequence[torch.Tensor]) -> torch.Tensor:
    """All objects of a batch, (m, 6): image, class, centre x, y, width, height in pixels."""
    rows = [
        torch.cat(
            [
                torch.full((len(label), 1), float(index)),
                label[:, None].float(),
                (box[:, :2] + box[:, 2:]) / 2,
                box[:, 2:] - box[:, :2],
            ],
            1,
        )
        for index, (box, label) in enumerate(zip(corners, classes, strict=True))
    ]
    return torch.cat(rows) if rows else torch.zeros(0, _COLUMNS)


def loss_of(
    outputs: Sequence[torch.Tensor], targets: torch.Tensor, anchors: Sequence[torch.Tensor]
) -> torch.Tensor:
    """Complete-IoU loss of the boxes, their IoU as objectness, cross entropy of the classes.

    Args:
        outputs: as `Net` gives them.
        targets: as `targets_of` makes them.
        anchors: (A, 2) pixels for each output.
    """
    total = torch.zeros(())
    for raw, stride, sizes in zip(outputs, STRIDES, anchors, strict=True):
        count, _, height, width = raw.shape
        cells = raw.float().view(count, ANCHORS, 5 + CLASSES, height, width)
        wanted = torch.zeros(count, ANCHORS, height, width)
        image, label, x, y, w, h = targets.unbind(1)
        ratio = targets[None, :, 4:] / sizes[:, None]
        anchor, which = (torch.maximum(ratio, 1 / ratio).amax(2) < RATIO).nonzero(as_tuple=True)
        if len(which):
            column = (x[which] / stride).long().clamp(0, width - 1)
            row = (y[which] / stride).long().clamp(0, height - 1)
            owner = image[which].long()
            found = cells[owner, anchor, :, row, column]
            corner = torch.stack([column, row], 1)
            centre = (found[:, :2].sigmoid() + corner) * stride
            size = sizes[anchor] * found[:, 2:4].clamp(max=4.0).exp()
            truth = torch.stack([x, y, w, h], 1)[which]
            overlap, complete = overlap_of(torch.cat([centre, size], 1), truth)
            total = total + WEIGHTS["box"] * (1.0 - complete).mean()
            wanted[owner, anchor, row, column] = overlap.detach().clamp(0.0, 1.0)
            names = nn.functional.one_hot(label[which].long(), CLASSES).float()
            entropy = nn.functional.binary_cross_entropy_with_logits(found[:, 5:], names)
            total = total + WEIGHTS["class"] * entropy
        objectness = nn.functional.binary_cross_entropy_with_logits(cells[:, :, 4], wanted)
        total = total + WEIGHTS["object"] * objectness
    return total


def overlap_of(first: torch.Tensor, second: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """IoU and complete IoU (Zheng et al., arXiv:2005.03572) of boxes x, y, w, h, row by row."""
    low = torch.maximum(first[:, :2] - first[:, 2:] / 2, second[:, :2] - second[:, 2:] / 2)
    high = torch.minimum(first[:, :2] + first[:, 2:] / 2, second[:, :2] + second[:, 2:] / 2)
    common = (high - low).clamp(min=0).prod(1)
    union = first[:, 2:].prod(1) + second[:, 2:].prod(1) - common
    overlap = common / (union + 1e-9)
    outer = torch.maximum(
        first[:, :2] + first[:, 2:] / 2, second[:, :2] + second[:, 2:] / 2
    ) - torch.minimum(first[:, :2] - first[:, 2:] / 2, second[:, :2] - second[:, 2:] / 2)
    apart = (first[:, :2] - second[:, :2]).square().sum(1) / (outer.square().sum(1) + 1e-9)
    slant = torch.atan(second[:, 2] / second[:, 3]) - torch.atan(first[:, 2] / first[:, 3])
    shape = (4 / torch.pi**2) * slant.square()
    weight = (shape / (1.0 - overlap + shape + 1e-9)).detach()
    return overlap, overlap - apart - weight * shape
