"""The metric contract: a figure from answers and what they are compared with.

A metric module exports ``open_metric(kind: Kind) -> Metric``. A task may instead name a function of
its own as ``path.py:function``, called as ``function(answer, label) -> float`` and averaged; it is
read from the task's folder and never from a bundle.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from waistline import plugins
from waistline.errors import ConfigError
from waistline.evidence import Evidence, Figure, mean
from waistline.task.entry import load_entry
from waistline.task.kinds.base import Kind

PACKAGE = "waistline.task.metrics"
RESAMPLES = 200
_SEED = 20_260_101


class Metric(Protocol):
    """Scores answers of one kind."""

    @property
    def needs_labels(self) -> bool:
        """False for `agreement`, which compares with the uncut model's answers."""
        ...

    def score(self, pairs: Iterable[tuple[Any, Any]]) -> Figure:
        """The figure over (answer, label) pairs, one a frame, unit ``1``.

        Raises:
            ConfigError: there is no pair, or a label is not of the kind the metric needs.
        """
        ...

    def compare(
        self, pairs: Iterable[tuple[Any, Any]], reference: Iterable[tuple[Any, Any]]
    ) -> Figure:
        """Score of ``pairs`` less that of ``reference``: answers to the same frames, in order.

        The frames are the same, so the difference is surer than the two scores are.

        Raises:
            ConfigError: as of `score`, or one has more frames than the other.
        """
        ...


class MeanMetric:
    """The mean of one number a frame; its standard uncertainty is s / sqrt(n).

    Args:
        name: for messages and the figure's source.
        each: (answer, label) to a number.
        needs_labels: see `Metric`.
    """

    def __init__(
        self, name: str, each: Callable[[Any, Any], float], *, needs_labels: bool = True
    ) -> None:
        self._name = name
        self._each = each
        self.needs_labels = needs_labels

    def score(self, pairs: Iterable[tuple[Any, Any]]) -> Figure:
        values = self._values(pairs)
        score, spread = mean(values)
        source = f"{self._name} over {len(values)} frames"
        return Figure(score, "1", Evidence.MEASURED, source, spread, len(values))

    def compare(
        self, pairs: Iterable[tuple[Any, Any]], reference: Iterable[tuple[Any, Any]]
    ) -> Figure:
        values, others = self._values(pairs), self._values(reference)
        check_same_frames(self._name, len(values), len(others))
        changes = [value - other for value, other in zip(values, others, strict=True)]
        change, spread = mean(changes)
        source = f"{self._name}, paired over {len(values)} frames"
        return Figure(change, "1", Evidence.MEASURED, source, spread, len(values))

    def _values(self, pairs: Iterable[tuple[Any, Any]]) -> list[float]:
        values = [float(self._each(answer, label)) for answer, label in pairs]
        if not values:
            raise no_frames(self._name)
        if not all(map(math.isfinite, values)):
            raise ConfigError(
                f"{self._name} gave NaN or infinity for a frame",
                cause="the mean over all frames would be none either",
                fix="have it give a number for every answer",
            )
        return values


def bootstrap_draws(frames: int, count: int = RESAMPLES) -> np.ndarray:
    """``count`` choices of ``frames`` frames with replacement, (count, frames), always the same."""
    return np.random.default_rng(_SEED).integers(frames, size=(count, frames))


def load_metric(name: str, kind: Kind, folder: Path | None) -> Metric:
    """Open the metric ``name``; ``path.py:function`` is relative to ``folder``.

    Args:
        name: of a plug-in, or ``path.py:function``.
        kind: of the answers.
        folder: of a task file that the user named; None: ``name`` is from elsewhere, such as a run
            folder, and no code of its choice is run.

    Raises:
        ConfigError: there is no such metric, file or function, or it may not be run.
    """
    if ":" in name:
        if folder is None:
            raise ConfigError(
                f"the metric {name!r} is code, and is not run because a file names it",
                cause="a run folder may be a stranger's",
                fix="if you trust the task: waistline report RUN --recompute --task task.toml",
            )
        return MeanMetric(name, load_entry(name, folder, "metric"))
    metric: Metric = plugins.load(PACKAGE, name).open_metric(kind)
    return metric


def check_same_frames(name: str, count: int, others: int) -> None:
    """Refuse a comparison of answers to different numbers of frames."""
    if count != others:
        raise ConfigError(
            f"{name} cannot compare answers in pairs",
            cause=f"{count} frames on one side, {others} on the other",
            fix="give answers to the same frames in the same order",
        )


def no_frames(name: str) -> ConfigError:
    """The error for a metric that was given nothing to score."""
    return ConfigError(f"{name} has no frame to score", cause="the data set gave none")
