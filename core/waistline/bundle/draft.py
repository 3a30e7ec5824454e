"""What every split does around its slices: frames, manifest, clip limits, golden files.

`waistline.split` writes slices of a model's own format this way, and the bridge writes those of a
microcontroller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from msgspec.structs import replace

from waistline import __version__
from waistline.backends.base import Backend
from waistline.bundle import golden
from waistline.bundle.check import FRAME
from waistline.bundle.codecs import WaistCalibration
from waistline.bundle.schema import SCHEMA_VERSION, Cut, Manifest, Stage
from waistline.bundle.store import Bundle
from waistline.bundle.write import stored_file
from waistline.codec.spec import CodecSpec
from waistline.errors import ConfigError
from waistline.frame import SensorFrame
from waistline.model.graph import ModelGraph
from waistline.model.load import CutModel, load_model
from waistline.stages import HeadStages, engine_for, open_slice
from waistline.task.data.base import DataSet
from waistline.task.load import Task
from waistline.task.spec import AnswerSpec, Preprocess
from waistline.tensors import TensorSpec, WaistTensor

_NO_ID = "0" * 64
"""Of a bundle whose manifest is not written yet."""
Say = Callable[[str], None]
"""Told, in one line each, what was chosen without being asked for."""
Specs = tuple[TensorSpec, ...]


@dataclass(frozen=True, slots=True)
class Draft:
    """A bundle but for its files.

    Attributes:
        graph: the model, whose ``inputs`` and ``outputs`` are those of the slices: int8 where a
            head was quantized.
        x, after: partition point, and the last layer before it.
        preprocess: as ``graph.inputs`` take it.
        answer: made from ``graph.outputs``.
        frame: the golden one.
        calibration: frames for clip limits.
        tensors, codecs: the waist; empty where the answer is sent.
    """

    graph: ModelGraph
    x: int
    after: str
    preprocess: Preprocess | None
    answer: AnswerSpec
    frame: SensorFrame
    calibration: Iterable[SensorFrame]
    tensors: Specs
    codecs: tuple[CodecSpec, ...]

    def manifest(self, stages: Sequence[Stage]) -> Manifest:
        """Without a golden frame, and with a waist that is not coded yet."""
        uncoded = tuple(WaistTensor(tensor, "raw|none") for tensor in self.tensors)
        graph = self.graph
        return Manifest(
            schema_version=SCHEMA_VERSION,
            model_name=graph.name,
            model_sha256=graph.sha256,
            partition_points=graph.last_x,
            stages=tuple(stages),
            cuts=(Cut(self.x, self.after, uncoded),),
            model_inputs=graph.inputs,
            model_outputs=graph.outputs,
            preprocess=self.preprocess,
            answer=self.answer,
            opsets=dict(graph.opsets),
            golden=golden.EMPTY,
            created_by=f"waistline {__version__}",
        )


def coded_waist(
    folder: Path, draft: Draft, stages: Sequence[Stage], chosen: Backend | str
) -> tuple[WaistTensor, ...]:
    """The waist with clip limits where a codec needs them, from the head that lies in ``folder``.

    Raises:
        BackendError: the engine refuses the head or fails.
        ConfigError: limits are needed and there are no frames.
    """
    found = WaistCalibration(draft.tensors, draft.codecs)
    if found.needs_samples:
        bundle = Bundle(folder, draft.manifest(stages), _NO_ID)
        stage = bundle.head
        head = open_slice(engine_for(chosen, stage), bundle, stage) if stage else None
        try:
            ends = HeadStages(bundle, head)
            for frame in draft.calibration:
                found.add(ends.head(ends.preprocess(frame)))
        finally:
            if head is not None:
                head.close()
    return found.waist()


def finished(
    folder: Path,
    draft: Draft,
    stages: Sequence[Stage],
    waist: tuple[WaistTensor, ...],
    chosen: Backend | str,
) -> Manifest:
    """The manifest, with golden files written from the slices in ``folder``.

    Raises:
        BackendError: the engine that makes the golden answer refuses a slice.
    """
    manifest = draft.manifest(stages)
    manifest = replace(manifest, cuts=(replace(manifest.cuts[0], tensors=waist),))
    made = golden.write_golden(folder, Bundle(folder, manifest, _NO_ID), chosen, draft.frame)
    return replace(manifest, golden=made)


def stage_of(
    role: Literal["head", "tail"], path: Path, format_: str, inputs: Specs, outputs: Specs
) -> Stage:
    """The manifest's entry of a slice that was written."""
    return Stage(role, stored_file(path.parent, path.name), format_, inputs, outputs)


def opened_model(model: str | Path | CutModel, shapes: dict[str, tuple[int, ...]]) -> CutModel:
    """A model from its file, or as it was loaded.

    Raises:
        ModelError: it cannot be read.
        ConfigError: shapes for a model that was loaded with its own.
    """
    if isinstance(model, str | Path):
        return load_model(model, shapes)
    if shapes:
        raise ConfigError(
            f"the shapes of {model.graph.name} are fixed already",
            cause="the model was loaded before",
            fix="give the shapes to waistline.model.load.load_model",
        )
    return model


def data_of(task: Task | None, name: str, graph: ModelGraph) -> DataSet | None:
    """A data set of the task, None where it has none of that name."""
    if task is None or not task.has_data(name):
        return None
    return task.data(name, graph.inputs)


def golden_frame(
    graph: ModelGraph,
    task: Task | None,
    preprocess: Preprocess | None,
    calibration: DataSet | None,
) -> SensorFrame:
    """The first frame of the calibration or selection data, else an invented one."""
    data = data_of(task, "selection", graph) if calibration is None else calibration
    if data is None:
        return golden.invented_frame(graph.inputs, preprocess)
    return next(iter(data))


def means_frame(graph: ModelGraph, cut: str | int) -> bool:
    """Whether a cut as the user wrote it is the sensor frame, x = 0."""
    text = str(cut).strip()
    named = {name for frontier in graph.frontiers for name in frontier.names}
    return text == "0" or (text == FRAME and FRAME not in named)
