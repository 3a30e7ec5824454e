"""Cumulative layer times of a TFLite slice: its prefixes, cut off and timed in turn with the whole.

Neither engine times operators from Python. The time of a prefix is what a plan needs of a head
anyway; differences between neighbours are not layer times, because a cut undoes fusion.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from waistline.backends.base import LayerTime, Profile
from waistline.errors import BackendError, ModelError

Timed = Callable[[], float]
"""Runs a slice once and returns the seconds it took."""


def by_prefixes(
    path: Path,
    data: bytes,
    open_prefix: Callable[[bytes, Sequence[str]], Timed],
    whole: Timed,
    repeat: int,
) -> Profile:
    """Time every prefix ``repeat`` times, each run beside one of the whole.

    Both run in the same moment, so a slow one slows both: a prefix's time is the median ratio of
    the two, times the whole's median over all. One prefix is held in memory at a time.

    Args:
        path: named in errors.
        data: the slice's file.
        open_prefix: opens the file it is given, with outputs in the order it is given.
        whole: runs the slice itself.
        repeat: runs behind each median; one more warms up.

    Raises:
        BackendError: the slice cannot be cut.
        MissingExtra: the cutter's package is not installed.
    """
    from waistline.model.tflite_cut import extract
    from waistline.model.tflite_graph import from_bytes

    try:
        model = from_bytes(data, path)
    except ModelError as error:
        raise BackendError(
            f"{path.name} cannot be profiled", cause=str(error), fix=error.fix
        ) from error
    graph = model.graph
    inputs = [spec.name for spec in graph.inputs]
    operators = {layer.name: layer for layer in graph.layers}
    frontiers = [frontier for frontier in graph.frontiers if frontier.after in operators]
    ratios, whole_s = [], []
    for frontier in frontiers:
        prefix = whole
        names = frontier.names
        if frontier is not frontiers[-1]:
            prefix = open_prefix(extract(model, inputs, names), names)
        pairs = [_pair(prefix, whole, k) for k in range(repeat + 1)][1:]
        ratios.append([one / other for one, other in pairs])
        whole_s += [other for _, other in pairs]
    scale_s = statistics.median(whole_s)
    layers = []
    for frontier, found in zip(frontiers, ratios, strict=True):
        layer = operators[frontier.after]
        made = [spec.size_bytes for spec in frontier.tensors if spec.name in layer.outputs]
        median = 1.0 if frontier is frontiers[-1] else statistics.median(found)
        layers.append(
            LayerTime(
                layer.name, layer.operator, median * scale_s, _spread(found) * scale_s, sum(made)
            )
        )
    return Profile("prefix", tuple(layers), scale_s, repeat, _note(layers))


def _pair(prefix: Timed, whole: Timed, k: int) -> tuple[float, float]:
    """One run of each, the first one second every other time."""
    if k % 2:
        other = whole()
        return prefix(), other
    return prefix(), whole()


def _spread(values: Sequence[float]) -> float:
    if len(values) < 2:
        return 0.0
    low, _, high = statistics.quantiles(values, n=4)
    return (high - low) / 2


def _note(layers: Sequence[LayerTime]) -> str:
    pairs = itertools.pairwise(layers)
    shorter = sum(after.duration_s < before.duration_s for before, after in pairs)
    note = "cumulative: the time of the prefix that ends with the layer, cut off"
    if not shorter:
        return note
    return (
        f"{note}; {shorter} of {len(layers)} are below the one before, where the cut undoes fusion"
        " or the difference is noise: take such differences as 0"
    )
