"""Top-1 accuracy: the share of frames whose most probable class is the label."""

from __future__ import annotations

from waistline.errors import ConfigError
from waistline.task.kinds.base import Kind
from waistline.task.kinds.classify import Classify, Ranking
from waistline.task.metrics.base import MeanMetric, Metric


def open_metric(kind: Kind) -> Metric:
    if not isinstance(kind, Classify):
        raise ConfigError(
            "top1 scores classes", cause=f"the task's answers are {type(kind).__name__.lower()}"
        )
    return MeanMetric("top1", _hit)


def _hit(answer: Ranking, label: object) -> float:
    if not isinstance(label, int):
        raise ConfigError(
            "top1 needs a class number for each frame",
            cause=f"a label is {type(label).__name__}",
            fix='add labels to the data, or use metric = "agreement"',
        )
    return float(answer.classes[0] == label)
