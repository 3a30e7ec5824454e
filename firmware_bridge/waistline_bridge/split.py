"""From a model and a cut to a bundle whose head a microcontroller runs.

As `waistline.split`, but the head is a blob, and what enters and leaves it is int8 NHWC; see
docs/decisions/0009-mcu-bundles.md.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as with_fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from waistline.backends.base import AUTO
from waistline.backends.blob import MAX_ARENA_BYTES, MAX_FILE_BYTES
from waistline.blob import FORMAT
from waistline.blob.records import read_blob
from waistline.blob.waist import ANSWER_CODEC
from waistline.bundle.codecs import no_codec
from waistline.bundle.cuts import answer_spec, fitted
from waistline.bundle.draft import (
    Draft,
    Say,
    coded_waist,
    data_of,
    finished,
    golden_frame,
    means_frame,
    opened_model,
    stage_of,
)
from waistline.bundle.schema import Manifest, Stage
from waistline.bundle.store import Bundle
from waistline.bundle.write import check_target, making, write_bundle
from waistline.errors import ConfigError, ModelError
from waistline.frame import SensorFrame
from waistline.model.frontiers import find_frontier
from waistline.model.load import CutModel
from waistline.task.data.base import DataSet, spread
from waistline.task.load import Task, load_task
from waistline.tensors import TensorSpec, WaistTensor, quantize
from waistline_bridge.fit import BoardLimits, Fit, fit, limits_of, require_fit, smaller_fix
from waistline_bridge.golden import model_inputs
from waistline_bridge.lower.assemble import LoweredHead, assemble
from waistline_bridge.lower.codecs import mcu_codecs
from waistline_bridge.lower.cut import LoweredCut, check_head, is_quantized, lower_cut
from waistline_bridge.lower.head import calibration_feeds

if TYPE_CHECKING:
    from waistline_bridge.lower.quantize import Feeds

MAX_FRAMES = 256
"""Of the calibration data, spread over all of it; ranges hardly move beyond."""
HEAD_FILE = "head.blob"
HEAD_LAYERS = "head_layers"
"""Key of a bundle's evidence: names of the head's layers, in the blob's order."""
_RENAMED = "_QuantizeLinear_Input"
"""What ONNX Runtime's quantizer puts behind the name of a graph's output."""
_IMAGE_RANK = 4
_TO_NHWC = (0, 2, 3, 1)

Show = Callable[[Sequence[Fit]], None]


@dataclass(frozen=True, slots=True)
class McuSplit:
    """A bundle that was written, and what its head takes of a board.

    Attributes:
        bundle: as `waistline.load_bundle` gives it.
        fits: a row for each known board.
        lowered: the head with its arena plan.
    """

    bundle: Bundle
    fits: tuple[Fit, ...]
    lowered: LoweredHead


def split_mcu(
    model: str | Path | CutModel,
    cut: str | int,
    out: str | Path,
    *,
    codec: str | None = None,
    task: str | Path | Task | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    codecs_by_tensor: Mapping[str, str] | None = None,
    board: str | None = None,
    force: bool = False,
    say: Say = lambda text: None,
    show: Show = lambda fits: None,
) -> McuSplit:
    """Cut ``model`` for a microcontroller and write the bundle ``out``.

    Args:
        model: float ONNX, ONNX in QDQ form or int8 TFLite; a file, or loaded already.
        cut: tensor names ``NAME[,NAME]`` or a partition point 2..N.
        out: the folder to make, ``NAME.bundle``.
        codec: ``i8`` with ``none`` or ``ctx``; None chooses one and tells ``say``.
        task: a ``task.toml``; a float model needs its calibration data, to quantize the head.
        shapes: shape by input name, for inputs with symbolic axes; only with a file.
        codecs_by_tensor: codec spec by tensor name, before ``codec``.
        board: refuse a head that does not fit it; None: any.
        force: replace a bundle that is already there.
        say: told, in one line each, what was chosen without being asked for.
        show: given the row of each known board before the bundle is there.

    Raises:
        ModelError: the model cannot be read or not cut there, the firmware cannot run the head
            (names the node), or the head does not fit ``board``.
        ConfigError: a codec, task, board or target that cannot be used; no calibration data.
        BackendError: the engine that makes the golden answer refuses the tail.
    """
    limits = None if board is None else limits_of(board)
    check_target(out, force=force)
    loaded = opened_model(model, dict(shapes or {}))
    opened = load_task(task) if isinstance(task, str | Path) else task
    done: list[tuple[LoweredHead, list[Fit]]] = []
    with making(Path(out)) as work:
        plan = _plan(loaded, cut, opened, work, codec, codecs_by_tensor or {}, say)

        def build(folder: Path) -> Manifest:
            lowered, manifest = _build(folder, plan, limits, say, show)
            done.append(lowered)
            return manifest

        bundle = write_bundle(out, build, force=force)
    lowered, fits = done[-1]
    # A blob has no names, and `waistline mcu bench` shows what each layer costs.
    names = [layer.name.removesuffix(_RENAMED) for layer in lowered.head.layers]
    bundle.write_evidence({HEAD_LAYERS: names})
    return McuSplit(bundle, tuple(fits), lowered)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to be written; the tail lies in a folder that goes."""

    cut: LoweredCut
    draft: Draft

    @property
    def sent(self) -> tuple[WaistTensor, ...]:
        """What the head makes, before clip limits are known."""
        return tuple(WaistTensor(spec, ANSWER_CODEC) for spec in self.cut.made)


def _plan(
    model: CutModel,
    cut: str | int,
    task: Task | None,
    work: Path,
    codec: str | None,
    by_tensor: Mapping[str, str],
    say: Say,
) -> _Plan:
    graph = model.graph
    frontier = graph.frontiers[0] if means_frame(graph, cut) else find_frontier(graph, cut)
    check_head(graph, 0 if means_frame(graph, cut) else frontier.x)
    calibration = _calibration(model, task)
    feeds = _feeds(model, task, calibration)
    lowered = lower_cut(model, frontier, work, feeds)
    last = frontier.x == graph.last_x
    known = {spec.name: spec for spec in lowered.outputs}
    outputs = tuple(known.get(spec.name, spec) for spec in graph.outputs)
    shown = with_fields(graph, inputs=lowered.inputs, outputs=outputs)
    preprocess = fitted(graph.name, shown.inputs, None if task is None else task.preprocess)
    crossing, calibrated = () if last else lowered.outputs, bool(calibration)
    chosen = []
    if last:
        no_codec(codec, by_tensor, say)
    else:
        chosen = mcu_codecs(crossing, codec, by_tensor, calibrated=calibrated, say=say)
    first = golden_frame(graph, task, preprocess, calibration)
    draft = Draft(
        graph=shown,
        x=frontier.x,
        after=frontier.after,
        preprocess=preprocess,
        answer=answer_spec(shown.outputs, task),
        frame=first if preprocess else _as_int8(first, shown.inputs),
        calibration=(
            frame if preprocess else _as_int8(frame, shown.inputs) for frame in _spread(calibration)
        ),
        tensors=crossing,
        codecs=tuple(chosen),
    )
    return _Plan(lowered, draft)


def _calibration(model: CutModel, task: Task | None) -> DataSet | None:
    found = data_of(task, "calibration", model.graph)
    if found is None and not is_quantized(model.graph):
        where = "there is no task" if task is None else f"{task.path} has no [data.calibration]"
        raise ConfigError(
            f"the head of {model.graph.name} cannot be quantized",
            cause=f"it is float, and without calibration frames its ranges are unknown: {where}",
            fix="give --task FILE with [data.calibration], or a model that is int8 already",
        )
    return found


def _feeds(model: CutModel, task: Task | None, data: DataSet | None) -> Iterator[Feeds]:
    inputs = model.graph.inputs
    if not is_quantized(model.graph):
        own = fitted(model.graph.name, inputs, None if task is None else task.preprocess)
        yield from calibration_feeds(_spread(data), inputs, own)


def _spread(data: DataSet | None) -> Iterator[SensorFrame]:
    if data is not None:
        places = spread(len(data), MAX_FRAMES)
        yield from (frame for place, frame in enumerate(data) if place in places)


def _as_int8(frame: SensorFrame, inputs: Sequence[TensorSpec]) -> SensorFrame:
    """A frame that is the float model's inputs as the int8 head takes them."""
    arrays = []
    for array, spec in zip(frame.arrays, inputs, strict=True):
        if array.dtype == spec.numpy_dtype:
            arrays.append(array)
            continue
        turned = array.ndim == _IMAGE_RANK and spec.layout == "NHWC"
        arrays.append(quantize(spec, array.transpose(_TO_NHWC) if turned else array))
    return with_fields(frame, arrays=tuple(np.ascontiguousarray(array) for array in arrays))


def _build(
    folder: Path, plan: _Plan, limits: BoardLimits | None, say: Say, show: Show
) -> tuple[tuple[LoweredHead, list[Fit]], Manifest]:
    """Write slices and golden files into ``folder``."""
    head, draft = plan.cut.head, plan.draft
    # A head with no codec yet, for the clip limits.
    first = assemble(head, plan.sent)
    _check_size(first)
    stages = _stages(folder, plan, first)
    waist = coded_waist(folder, draft, stages, AUTO)
    identity = bytes.fromhex(draft.graph.sha256)
    made = {spec.name for spec in plan.cut.made}
    coded = [item for item in waist if item.tensor.name in made] or plan.sent
    bare = assemble(head, coded, identity=identity)
    given = model_inputs(draft.frame, draft.preprocess, draft.graph.inputs)
    frame = [given[spec.name] for spec in plan.cut.taken]
    lowered = _with_golden(bare, assemble(head, coded, [frame], identity=identity), limits, say)
    blob = read_blob(lowered.data)
    fits = fit(blob)
    show(fits)
    if limits is not None:
        require_fit(blob, limits)
    stages = _stages(folder, plan, lowered)
    return (lowered, fits), finished(folder, draft, stages, waist, AUTO)


def _with_golden(
    bare: LoweredHead, full: LoweredHead, limits: BoardLimits | None, say: Say
) -> LoweredHead:
    """The head that holds its golden input, unless there is a board that takes only the other."""
    boards = None if limits is None else [limits]
    both = zip(fit(read_blob(bare.data), boards), fit(read_blob(full.data), boards), strict=True)
    lost = [small.limits.board for small, large in both if large.problem and not small.problem]
    if not lost:
        return full
    more = len(full.data) - len(bare.data)
    say(
        f"the golden input, {more} bytes, stays out of the head's blob, which would not fit "
        f"{', '.join(lost)} with it; the host sends it where a board is checked"
    )
    return bare


def _check_size(head: LoweredHead) -> None:
    """Refuse a head that is far above any board, before it is run here."""
    blob = read_blob(head.data)
    arena_bytes = blob.arena_bytes
    if arena_bytes > MAX_ARENA_BYTES or len(head.data) > MAX_FILE_BYTES:
        raise ModelError(
            "the head fits no board",
            cause=f"its tensors take {arena_bytes} bytes, its blob {len(head.data)}",
            fix=smaller_fix(blob, MAX_ARENA_BYTES),
        )


def _stages(folder: Path, plan: _Plan, lowered: LoweredHead) -> list[Stage]:
    cut = plan.cut
    path = folder / HEAD_FILE
    path.write_bytes(lowered.data)
    stages = [stage_of("head", path, FORMAT, cut.taken, cut.made)]
    if cut.tail is not None:
        format_ = cut.tail.suffix[1:]
        tail = Path(shutil.copy(cut.tail, folder / f"tail.{format_}"))
        stages.append(stage_of("tail", tail, format_, cut.outputs, plan.draft.graph.outputs))
    return stages
