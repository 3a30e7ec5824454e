"""From a model and a cut to a bundle; and the list of cuts to choose from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from waistline import __version__
from waistline.backends.base import AUTO, Backend, load_backend
from waistline.bundle import codecs, golden
from waistline.bundle.check import FRAME, check_frame_codec
from waistline.bundle.cuts import (
    CutRow,
    answer_spec,
    fitted,
    frame_tensor,
    list_cuts,
    pick_default_cut,
)
from waistline.bundle.schema import SCHEMA_VERSION, Cut, Manifest, Stage
from waistline.bundle.store import Bundle
from waistline.bundle.write import check_target, stored_file, write_bundle
from waistline.codec.spec import CodecSpec, parse_spec
from waistline.errors import ConfigError
from waistline.frame import SensorFrame
from waistline.model.frontiers import find_frontier
from waistline.model.graph import Frontier, ModelGraph
from waistline.model.load import CutModel, load_model
from waistline.stages import HeadStages, open_slice
from waistline.task.data.base import DataSet
from waistline.task.load import Task, load_task
from waistline.task.spec import AnswerSpec, Preprocess
from waistline.tensors import TensorSpec, WaistTensor

__all__ = ["CutRow", "list_cuts", "pick_default_cut", "split"]

_NO_ID = "0" * 64
"""Of a bundle whose manifest is not written yet."""

Specs = tuple[TensorSpec, ...]


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to be written, decided and checked before anything is."""

    model: CutModel
    calibration: DataSet | None
    golden: SensorFrame
    x: int
    frontier: Frontier
    tensors: tuple[TensorSpec, ...]
    codecs: tuple[CodecSpec, ...]
    preprocess: Preprocess | None
    answer: AnswerSpec


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
    loaded = _loaded(model, shapes)
    opened = load_task(task) if isinstance(task, str | Path) else task
    plan = _plan(loaded, cut, opened, codec, codecs_by_tensor or {}, say)
    backend = load_backend(AUTO, loaded.graph.format)
    return write_bundle(out, lambda folder: _build(folder, plan, backend), force=force)


def _loaded(model: str | Path | CutModel, shapes: Mapping[str, tuple[int, ...]] | None) -> CutModel:
    if not isinstance(model, str | Path):
        if shapes:
            raise ConfigError(
                f"the shapes of {model.graph.name} are fixed already",
                cause="the model was loaded before",
                fix="give the shapes to waistline.model.load.load_model",
            )
        return model
    return load_model(model, shapes)


def _plan(
    model: CutModel,
    cut: str | int,
    task: Task | None,
    codec: str | None,
    by_tensor: Mapping[str, str],
    say: Callable[[str], None],
) -> _Plan:
    graph = model.graph
    preprocess = fitted(graph, None if task is None else task.preprocess)
    at_frame = _means_frame(graph, cut)
    frontier = graph.frontiers[0] if at_frame else find_frontier(graph, cut)
    x = 0 if at_frame else frontier.x
    calibration = _data(task, "calibration", graph)
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
        codecs.check_names(by_tensor, ())
        if codec:
            say("the last partition point sends the answer, so no codec is used")
    data = _data(task, "selection", graph) if calibration is None else calibration
    frame = golden.invented_frame(graph.inputs, preprocess) if data is None else next(iter(data))
    answer = answer_spec(graph, task)
    return _Plan(model, calibration, frame, x, frontier, tensors, tuple(chosen), preprocess, answer)


def _data(task: Task | None, name: str, graph: ModelGraph) -> DataSet | None:
    if task is None or not task.has_data(name):
        return None
    return task.data(name, graph.inputs)


def _means_frame(graph: ModelGraph, cut: str | int) -> bool:
    text = str(cut).strip()
    named = {name for frontier in graph.frontiers for name in frontier.names}
    return text == "0" or (text == FRAME and FRAME not in named)


def _frame_codec(
    codec: str | None, by_tensor: Mapping[str, str], say: Callable[[str], None]
) -> CodecSpec:
    codecs.check_names(by_tensor, [FRAME])
    text = by_tensor.get(FRAME, codec)
    if text is None:
        say(f"codec {codecs.FRAME_CODEC}, the default for the sensor frame")
    return parse_spec(check_frame_codec(text or codecs.FRAME_CODEC))


def _build(folder: Path, plan: _Plan, backend: Backend) -> Manifest:
    """Write slices and golden files into ``folder``."""
    graph = plan.model.graph
    stages = _write_slices(folder, plan)
    uncoded = tuple(
        WaistTensor(tensor, "raw|none") for tensor in plan.tensors
    )  # the head runs before its codec is calibrated
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        model_name=graph.name,
        model_sha256=graph.sha256,
        partition_points=graph.last_x,
        stages=stages,
        cuts=(Cut(plan.x, plan.frontier.after if plan.x > 1 else "", uncoded),),
        model_inputs=graph.inputs,
        model_outputs=graph.outputs,
        preprocess=plan.preprocess,
        answer=plan.answer,
        opsets=dict(graph.opsets),
        golden=golden.EMPTY,
        created_by=f"waistline {__version__}",
    )
    replace = msgspec.structs.replace
    waist = _calibrated(Bundle(folder, manifest, _NO_ID), plan, backend)
    manifest = replace(manifest, cuts=(replace(manifest.cuts[0], tensors=waist),))
    made = golden.write_golden(folder, Bundle(folder, manifest, _NO_ID), backend, plan.golden)
    return replace(manifest, golden=made)


def _write_slices(folder: Path, plan: _Plan) -> tuple[Stage, ...]:
    graph = plan.model.graph
    head, tail = plan.model.write_slices(plan.frontier, folder)
    stages = []
    waist = graph.inputs if plan.x <= 1 else plan.frontier.tensors
    ends: list[tuple[Literal["head", "tail"], Path | None, Specs, Specs]] = [
        ("head", head, graph.inputs, plan.frontier.tensors),
        ("tail", tail, waist, graph.outputs),
    ]
    for role, path, inputs, outputs in ends:
        if path is not None:
            file = stored_file(folder, path.name)
            stages.append(Stage(role, file, graph.format, inputs, outputs))
    return tuple(stages)


def _calibrated(bundle: Bundle, plan: _Plan, backend: Backend) -> tuple[WaistTensor, ...]:
    found = codecs.WaistCalibration(plan.tensors, plan.codecs)
    if found.needs_samples:
        head = open_slice(backend, bundle, bundle.head)
        try:
            stages = HeadStages(bundle, head)
            for frame in plan.calibration or ():
                found.add(stages.head(stages.preprocess(frame)))
        finally:
            if head is not None:
                head.close()
    return found.waist()
