"""The two sides of a cut, whatever the format: what each takes and yields, and its file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from waistline.model.graph import Frontier, ModelGraph

PartT = TypeVar("PartT")


def cut_sides(
    graph: ModelGraph,
    frontier: Frontier,
    extract: Callable[[Sequence[str], Sequence[str]], PartT],
) -> tuple[PartT | None, PartT | None]:
    """Head and tail by ``extract(inputs, outputs)``. x = 1 has no head, x = N no tail.

    Both list their tensors in the order of the frontier, of the model's inputs and its outputs.
    """
    inputs = [spec.name for spec in graph.inputs]
    outputs = [spec.name for spec in graph.outputs]
    if frontier.x <= 1:
        return None, extract(inputs, outputs)
    if frontier.x >= graph.last_x:
        return extract(inputs, outputs), None
    return extract(inputs, frontier.names), extract(frontier.names, outputs)


def write_sides(
    sides: tuple[PartT | None, PartT | None],
    folder: Path,
    suffix: str,
    write: Callable[[PartT, Path], None],
) -> tuple[Path | None, Path | None]:
    """Write what there is as ``head<suffix>`` and ``tail<suffix>``; their paths."""
    written: list[Path | None] = []
    for role, part in zip(("head", "tail"), sides, strict=True):
        path = folder / f"{role}{suffix}"
        if part is not None:
            write(part, path)
        written.append(None if part is None else path)
    return written[0], written[1]
