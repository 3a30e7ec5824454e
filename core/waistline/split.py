"""From a model and a cut to a bundle; and the list of cuts to choose from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from waistline.backends.base import AUTO, Backend, load_backend
from waistline.bundle import codecs
from waistline.bundle.check import FRAME, check_frame_codec
from waistline.bundle.cuts import (
    CutRow,
    answer_spec,
    fitted,
    frame_tensor,
    list_cuts,
    pick_default_cut,
)
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
from waistline.bundle.write import check_target, write_bundle
from waistline.codec.spec import CodecSpec, parse_spec
from waistline.model.frontiers import find_frontier
from waistline.model.graph import Frontier
from waistline.model.load import CutModel
from waistline.task.load import Task, load_task
from waistline.tensors import TensorSpec

__all__ = ["CutRow", "list_cuts", "pick_default_cut", "split"]


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to be written, decided and checked before anything is."""

    model: CutModel
    frontier: Frontier
    draft: Draft


def split(
    model: str | Path | CutModel,
    cut: str | int,
    out: str | Path,
    *,
    codec: str | None = None,
    task: str | Path | Task | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    codecs_by_tensor: Mapping[str, str] | None = None,
    force: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Bundle:
    """Cut ``model`` and write the bundle ``out``.

    Args:
        model: an ``.onnx`` or ``.tflite`` file, or a model already loaded.
        cut: tensor names ``NAME[,NAME]`` or a partition point 0..N.
        out: the folder to make, ``NAME.bundle``.
        codec: codec spec for float tensors; None chooses one and tells ``say``.
        task: a ``task.toml``; without one, frames are the model's inputs and answers its outputs.
        shapes: shape by input name, for inputs with symbolic axes; only with a file.
        codecs_by_tensor: codec spec by tensor name, before ``codec``.
        force: replace a bundle that is already there.
        say: told, in one line each, what was chosen without being asked for.

    Raises:
        ModelError: the model cannot be read, or not cut there.
        ConfigError: a codec, task or target that cannot be used.
        BackendError: the engine that makes the golden answer refuses a slice.
    """
    check_target(out, force=force)
    loaded = opened_model(model, dict(shapes or {}))
    opened = load_task(task) if isinstance(task, str | Path) else task
    plan = _plan(loaded, cut, opened, codec, codecs_by_tensor or {}, say)
    backend = load_backend(AUTO, loaded.graph.format)
    return write_bundle(out, lambda folder: _build(folder, plan, backend), force=force)


def _plan(
    model: CutModel,
    cut: str | int,
    task: Task | None,
    codec: str | None,
    by_tensor: Mapping[str, str],
    say: Say,
) -> _Plan:
    graph = model.graph
    preprocess = fitted(graph.name, graph.inputs, None if task is None else task.preprocess)
    at_frame = means_frame(graph, cut)
    frontier = graph.frontiers[0] if at_frame else find_frontier(graph, cut)
    x = 0 if at_frame else frontier.x
    calibration = data_of(task, "calibration", graph)
    tensors: tuple[TensorSpec, ...] = ()
    chosen: list[CodecSpec] = []
    if at_frame:
        tensors = (frame_tensor(graph.name, preprocess),)
        chosen = [_frame_codec(codec, by_tensor, say)]
    elif x < graph.last_x:
        tensors = frontier.tensors
        calibrated = calibration is not None
        chosen = codecs.choose_codecs(tensors, codec, by_tensor, calibrated=calibrated, say=say)
    else:
        codecs.no_codec(codec, by_tensor, say)
    draft = Draft(
        graph=graph,
        x=x,
        after=frontier.after if x > 1 else "",
        preprocess=preprocess,
        answer=answer_spec(graph.outputs, task),
        frame=golden_frame(graph, task, preprocess, calibration),
        calibration=calibration or (),
        tensors=tensors,
        codecs=tuple(chosen),
    )
    return _Plan(model, frontier, draft)


def _frame_codec(codec: str | None, by_tensor: Mapping[str, str], say: Say) -> CodecSpec:
    codecs.check_names(by_tensor, [FRAME])
    text = by_tensor.get(FRAME, codec)
    if text is None:
        say(f"codec {codecs.FRAME_CODEC}, the default for the sensor frame")
    return parse_spec(check_frame_codec(text or codecs.FRAME_CODEC))


def _build(folder: Path, plan: _Plan, backend: Backend) -> Manifest:
    """Write slices and golden files into ``folder``."""
    stages = _write_slices(folder, plan)
    waist = coded_waist(folder, plan.draft, stages, backend)
    return finished(folder, plan.draft, stages, waist, backend)


def _write_slices(folder: Path, plan: _Plan) -> list[Stage]:
    graph, crossing = plan.draft.graph, plan.frontier.tensors
    head, tail = plan.model.write_slices(plan.frontier, folder)
    stages = []
    if head is not None:
        stages.append(stage_of("head", head, graph.format, graph.inputs, crossing))
    if tail is not None:
        given = graph.inputs if plan.draft.x <= 1 else crossing
        stages.append(stage_of("tail", tail, graph.format, given, graph.outputs))
    return stages
