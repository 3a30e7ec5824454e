"""Which cuts of a model a microcontroller can run, and what each would take of a board.

Every head is really lowered. That of a float model is quantized with one frame of noise for it:
its sizes are those it will have, only its scales are not.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from waistline.blob.records import read_blob
from waistline.blob.waist import ANSWER_CODEC
from waistline.bundle.golden import invented_frame
from waistline.errors import ModelError
from waistline.model.graph import Frontier
from waistline.model.load import CutModel
from waistline.tensors import TensorSpec, WaistTensor
from waistline_bridge.cuts import PACKED_BITS, McuCut
from waistline_bridge.fit import first_layer_bytes, fit
from waistline_bridge.lower.assemble import assemble
from waistline_bridge.lower.cut import FIRST_X, LoweredCut, lower_cut
from waistline_bridge.lower.refuse import NoLayer

_PACKED = f"i8:b={PACKED_BITS}|ctx"


def list_mcu_cuts(
    model: CutModel, step: Callable[[int], None] = lambda done: None
) -> Iterator[McuCut]:
    """A row for each partition point with a head, x ascending.

    Args:
        model: as `waistline_bridge.split.split_mcu` takes it; no task is needed.
        step: told how many are done.

    Raises:
        MissingExtra: what quantizes a float head is not installed.
    """
    never = ""
    for done, frontier in enumerate(model.graph.frontiers[FIRST_X - 1 :], 1):
        try:
            row = McuCut(frontier.x, refused=never) if never else _row(model, frontier)
        except ModelError as error:
            row = McuCut(frontier.x, refused=f"{error.what.split(' cannot run')[0]}: {error.cause}")
            if isinstance(error.__cause__, NoLayer):  # no later head does without it
                never = row.refused
        step(done)
        yield row


def _row(model: CutModel, frontier: Frontier) -> McuCut:
    last = frontier.x == model.graph.last_x
    cut = _lowered(model, frontier)
    codec = ANSWER_CODEC if last else _PACKED
    lowered = assemble(cut.head, [WaistTensor(spec, codec) for spec in cut.made])
    blob = read_blob(lowered.data)
    whole = sum(spec.size_bytes for spec in cut.outputs)
    return McuCut(
        x=frontier.x,
        waist_bytes=whole,
        packed_bytes=whole if last else sum(map(_packed_bytes, cut.outputs)),
        blob_bytes=len(lowered.data),
        arena_bytes=lowered.plan.size_bytes,
        first_layer_bytes=first_layer_bytes(blob),
        boards=tuple(row.limits.board for row in fit(blob) if not row.problem),
    )


def _packed_bytes(spec: TensorSpec) -> int:
    """What a codec of `PACKED_BITS` leaves of it; integers that only cross the cut stay whole."""
    coded = spec.scale is not None or spec.numpy_dtype.kind == "f"
    return -(-spec.elements * PACKED_BITS // 8) if coded else spec.size_bytes


def _lowered(model: CutModel, frontier: Frontier) -> LoweredCut:
    frame = invented_frame(model.graph.inputs, None)
    feed = {spec.name: a for spec, a in zip(model.graph.inputs, frame.arrays, strict=True)}
    with tempfile.TemporaryDirectory(prefix="waistline-cuts-") as folder:
        return lower_cut(model, frontier, Path(folder), [feed])
