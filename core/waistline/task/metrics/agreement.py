"""Agreement with the uncut model, where there are no labels; never called accuracy.

Pairs are (answer, the uncut model's answer); what counts as the same is the kind's own `agrees`.
"""

from __future__ import annotations

from waistline.task.kinds.base import Kind
from waistline.task.metrics.base import MeanMetric, Metric


def open_metric(kind: Kind) -> Metric:
    return MeanMetric("agreement", kind.agrees, needs_labels=False)
