"""Mean average precision at an overlap of 0.5."""

from __future__ import annotations

from waistline.task.kinds.base import Kind
from waistline.task.metrics._precision import MeanPrecision


def open_metric(kind: Kind) -> MeanPrecision:
    return MeanPrecision("map50", (0.5,), kind)
