"""Mean average precision over the overlaps 0.50, 0.55, .. 0.95, COCO's main figure."""

from __future__ import annotations

import numpy as np

from waistline.task.kinds.base import Kind
from waistline.task.metrics._precision import MeanPrecision


def open_metric(kind: Kind) -> MeanPrecision:
    return MeanPrecision("map50_95", tuple(np.linspace(0.5, 0.95, 10).tolist()), kind)
