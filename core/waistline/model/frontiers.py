"""The frontiers of a model in its pinned order, and finding the one a user means.

After each layer, the tensors that a later layer or the answer still needs form a frontier: one
sweep, linear in layers plus the frontiers' widths. Graph inputs and outputs that are already
computed cross a cut as long as they are needed. Every layer adds a tensor of its own, so all
frontiers are distinct. Other sets of tensors inside parallel branches would split the model too;
they are refused, because only listed frontiers have a partition point.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence

from waistline.errors import ModelError
from waistline.model.fusion import broken_by_cutting
from waistline.model.graph import Frontier, Layer, ModelGraph
from waistline.tensors import TensorSpec


def list_frontiers(
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    layers: Sequence[Layer],
    specs: Mapping[str, TensorSpec],
) -> tuple[Frontier, ...]:
    """Frontiers x = 1 .. N. x = 1 holds all inputs, x = N all outputs, in the file's order.

    A frontier with a tensor that is not in ``specs`` (its size depends on the data) is left out,
    and x counts on without it.

    Args:
        inputs: of the model.
        outputs: of the model.
        layers: in the pinned order, none of them without effect on an output.
        specs: of every tensor of fixed size.
    """
    last = {name: k for k, layer in enumerate(layers) for name in layer.inputs}
    last.update({spec.name: len(layers) for spec in outputs})
    broken = broken_by_cutting(layers, (spec.name for spec in outputs))
    found = [Frontier(1, tuple(inputs), "", _size(inputs), 0, 0)]
    live = dict.fromkeys(spec.name for spec in inputs if spec.name in last)
    macs = parameters = 0
    for k, layer in enumerate(layers):
        live.update(dict.fromkeys(name for name in layer.outputs if last.get(name, -1) > k))
        for name in layer.inputs:
            if last[name] == k:
                live.pop(name, None)
        macs += layer.macs
        parameters += layer.parameters
        final = k == len(layers) - 1
        if not final and not all(name in specs for name in live):
            continue
        tensors = tuple(outputs) if final else tuple(specs[name] for name in live)
        reasons = "" if final else ", ".join(_unique(broken.get(name, "") for name in live))
        found.append(
            Frontier(len(found) + 1, tensors, layer.name, _size(tensors), macs, parameters, reasons)
        )
    return tuple(found)


def _size(tensors: Iterable[TensorSpec]) -> int:
    return sum(tensor.size_bytes for tensor in tensors)


def _unique(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(filter(None, texts)))


def find_frontier(graph: ModelGraph, cut: str | int) -> Frontier:
    """The frontier a user means: ``INDEX`` or ``NAME[,NAME]`` in any order.

    Digits are an index; a tensor whose name is digits is written with a comma: ``"190,"``.

    Raises:
        ModelError: unknown (near names offered), incomplete (the missing tensor named), or valid
            but not listed (the nearest listed frontier named).
    """
    text = str(cut).strip()
    if re.fullmatch("-?[0-9]{1,9}", text):
        return _by_index(graph, int(text))
    tensors = _tensor_names(graph)
    wanted = [text] if text in tensors else [part.strip() for part in text.split(",")]
    wanted = _unique(wanted)
    for frontier in graph.frontiers:
        if len(frontier.tensors) == len(wanted) and set(frontier.names) == set(wanted):
            return frontier
    if not wanted:
        raise ModelError("the cut names no tensor", fix="give --cut NAME[,NAME] or --cut INDEX")
    for name in wanted:
        _check_known(graph, name, tensors)
    raise _not_listed(graph, wanted)


def _by_index(graph: ModelGraph, x: int) -> Frontier:
    if 1 <= x <= graph.last_x:
        return graph.frontiers[x - 1]
    fix = f"choose 1..{graph.last_x}"
    if str(x) in _tensor_names(graph):
        fix += f", or write --cut '{x},' for the tensor of that name"
    raise ModelError(
        f"{graph.name} has no partition point {x}",
        cause=f"its frontiers are 1 (the model's input) to {graph.last_x} (the answer)",
        fix=fix,
    )


def _tensor_names(graph: ModelGraph) -> set[str]:
    names = {spec.name for spec in (*graph.inputs, *graph.outputs)}
    return names.union(*(layer.outputs for layer in graph.layers))


def _check_known(graph: ModelGraph, name: str, tensors: set[str]) -> None:
    if name in graph.unsized:
        raise ModelError(
            f"cannot cut {graph.name} at {name!r}",
            cause=f"the tensor has no fixed size: {graph.unsized[name]}",
            fix="choose another frontier (waistline split MODEL --list)",
        )
    if name in tensors:
        return
    layer = next((layer for layer in graph.layers if layer.name == name), None)
    if layer is not None:
        raise ModelError(
            f"{graph.name} has no tensor {name!r}",
            cause=f"that is a layer; a cut is named by tensors, and it writes {layer.outputs[0]!r}",
            fix=f"use --cut {layer.outputs[0]}",
        )
    listed = _unique(n for frontier in graph.frontiers for n in frontier.names)
    near = difflib.get_close_matches(name, listed, n=3, cutoff=0.5)
    near = near or [n for n in listed if name.lower() in n.lower()][:3]
    raise ModelError(
        f"{graph.name} has no tensor {name!r}",
        cause=f"near names: {', '.join(near)}" if near else "no name is near it",
        fix=f"use --cut {near[0]}" if near else "waistline split MODEL --list shows all cuts",
    )


def _not_listed(graph: ModelGraph, wanted: Sequence[str]) -> ModelError:
    what = f"{','.join(wanted)} is not a cut of {graph.name}"
    missing, needed = _walk_back(graph, wanted)
    nearest = _nearest(graph, {*(name for name in wanted if name in needed), *missing})
    fix = f"the nearest is --cut {','.join(nearest.names)} (x = {nearest.x})"
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        cause = f"incomplete: {', '.join(map(repr, missing))} {verb} also needed after it"
    elif extra := [name for name in wanted if name not in needed]:
        cause = f"{', '.join(map(repr, extra))} is not needed after the rest of the cut"
    else:
        cause = "it splits the model, but not at a frontier of the file's order of layers"
    return ModelError(what, cause=cause, fix=fix)


def _walk_back(graph: ModelGraph, wanted: Sequence[str]) -> tuple[list[str], set[str]]:
    """Tensors the layers after a cut still need from before it, and all tensors they read."""
    maker = {name: layer for layer in graph.layers for name in layer.outputs}
    before = {layer.name for layer in _upstream(wanted, set(), maker)}
    outputs = [spec.name for spec in graph.outputs]
    after = [layer for layer in _upstream(outputs, set(wanted), maker) if layer.name not in before]
    needed = dict.fromkeys([*(name for layer in after for name in layer.inputs), *outputs])
    missing = [
        name
        for name in needed
        if name not in wanted
        and (maker[name].name in before if name in maker else _is_input(graph, name))
    ]
    return missing, set(needed)


def _upstream(names: Iterable[str], stop: set[str], maker: Mapping[str, Layer]) -> list[Layer]:
    """Layers that ``names`` depend on, without walking past ``stop``."""
    found: dict[str, Layer] = {}
    waiting = [name for name in names if name not in stop]
    while waiting:
        layer = maker.get(waiting.pop())
        if layer is not None and layer.name not in found:
            found[layer.name] = layer
            waiting += [name for name in layer.inputs if name not in stop]
    return list(found.values())


def _is_input(graph: ModelGraph, name: str) -> bool:
    return any(spec.name == name for spec in graph.inputs)


def _nearest(graph: ModelGraph, names: set[str]) -> Frontier:
    """The frontier sharing most with ``names``, then the one with least beyond them."""

    def distance(frontier: Frontier) -> tuple[float, int]:
        theirs = set(frontier.names)
        return (-len(theirs & names) / len(theirs | names), frontier.x)

    return min(graph.frontiers, key=distance)
