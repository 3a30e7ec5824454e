"""The codec advisor: what every codec costs at a bundle's cut, and which one a link calls for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from waistline.bench import ResolvedBench
from waistline.blob import FORMAT as BLOB
from waistline.blob.records import CODERS
from waistline.bundle.schema import MANIFEST
from waistline.bundle.store import Bundle, load_bundle
from waistline.codec.calibrate import SAMPLE_SEED
from waistline.codec.spec import parse_spec
from waistline.errors import ConfigError
from waistline.evidence import Figure
from waistline.frame import SensorFrame
from waistline.links._profiles import profile
from waistline.run import Table, new_run
from waistline.task.data.base import spread
from waistline.task.load import Task, load_task
from waistline_bridge.lower.codecs import problem_of, refused_codec
from waistline_hostctl import recording, study_grid, study_tables
from waistline_hostctl.console import Console
from waistline_hostctl.models import TASK_FILE
from waistline_hostctl.recording import About
from waistline_hostctl.results import Result
from waistline_hostctl.study_board import StudyBoard, check_unused, study_board
from waistline_hostctl.study_measure import Measured, measure
from waistline_hostctl.study_tables import StudySettings
from waistline_hostctl.uncut import reference_of

LINKS = ("ble5-2m-nrf52840", "lte-cat1", "wifi-n-esp32")
"""Compared where nobody chose one: a short-range radio, a modem, a local network."""
FRAMES, CODED = 400, 50
"""Frames that are answered, and those of them that bytes and times are from."""
MAX_LOSS = 0.01
_SHARED = 0.1
"""Frames in both data sets above this share make the study worthless."""


@dataclass(frozen=True, slots=True)
class Request:
    """What to study.

    Attributes:
        bundle: its folder.
        task: a task file; None: ``task.toml`` beside the bundle.
        data: set that gives accuracy, ``selection`` or ``test``.
        frames: at most so many of it, evenly over all of it.
        coded: of these, likewise, for bytes and times.
        quantizers, coders: see `study_grid.grid`.
        links: profiles to compare under.
        slowdown: how many times slower than this machine the node computes.
        max_loss: of the metric, that an advised codec may have.
        board, clock_hz, baud: see `study_board.study_board`; for a head on a microcontroller.
    """

    bundle: Path
    task: Path | None = None
    data: str = "selection"
    frames: int = FRAMES
    coded: int = CODED
    quantizers: tuple[str, ...] = ()
    coders: tuple[str, ...] = ()
    links: tuple[str, ...] = LINKS
    slowdown: float = 1.0
    max_loss: float = MAX_LOSS
    board: str | None = None
    clock_hz: float | None = None
    baud: int | None = None


@dataclass(frozen=True, slots=True)
class Study:
    """A study that is on disk; tables raw and computed, by name."""

    folder: Path
    report: Path
    tables: dict[str, Table]
    figures: dict[str, Figure]
    remarks: tuple[str, ...]
    settings: StudySettings


class FrontRow(msgspec.Struct, frozen=True):
    """A codec of the front; lengths in seconds of CPU time.

    The front is that over bytes and loss; on a microcontroller, also over its time and the tail's.

    Attributes:
        instructions: of the microcontroller that encodes.
    """

    codec: str
    mean_bytes: float
    encode_s: float
    decode_s: float
    accuracy: float | None
    loss: float
    agreement: float
    instructions: float | None = None


class Advised(msgspec.Struct, frozen=True):
    """What to send over a link; "" where no codec is within the bound.

    Attributes:
        line_s: from the microcontroller to the bridge, where there is one.
        why: against the other coder behind the same quantizer, for people.
    """

    link: str
    codec: str
    time_s: float | None
    encode_s: float | None = None
    line_s: float | None = None
    send_s: float | None = None
    why: str = ""


class StudyResult(Result, frozen=True, kw_only=True, tag="study codec"):
    """A study was written; ``figures`` as in its run.json."""

    folder: str
    report: str
    codecs: int
    front: tuple[FrontRow, ...]
    advised: tuple[Advised, ...]
    figures: dict[str, Figure]
    remarks: tuple[str, ...]
    board: str = ""
    clock_hz: float | None = None
    baud: int | None = None


def run_study(
    request: Request, *, bench: ResolvedBench, console: Console, runs: str | Path, name: str
) -> Study:
    """Measure, compute, write a run folder.

    Raises:
        WaistlineError: anything that keeps the study from being whole.
    """
    bundle = load_bundle(request.bundle)
    task = _task(bundle, request.task)
    for link in request.links:
        profile(link)
    if not bundle.cut.tensors:
        raise ConfigError(
            "this bundle has no waist",
            cause="at the last partition point the wire carries the answer, which no codec codes",
            fix="study a bundle that was split at an earlier cut",
        )
    board = _board(request, bundle, bench)
    candidates = _candidates(request, bundle, task)
    inputs = bundle.manifest.model_inputs
    clipped = any(item.spec.clip for item in candidates)
    calibration = task.data("calibration", inputs) if clipped else ()
    judged = task.data(request.data, inputs)
    places = spread(len(judged), request.frames)
    with new_run(runs, name) as folder:
        overlap = _Overlap()
        with console.progress(f"{_count(candidates)} codecs: frames", len(places)) as progress:
            found = measure(
                bundle,
                candidates,
                overlap.calibrating(calibration),
                overlap.judging(frame for place, frame in enumerate(judged) if place in places),
                backend=reference_of(bench.bench.node.backend),
                coded=spread(len(places), request.coded),
                board=board,
                step=progress.update,
            )
        if not found.labels:
            raise ConfigError(f"the {request.data} data holds no frame", fix="check the task file")
        remarks = _remarks(request, task, found, overlap.count, clipped=clipped)
        settings = _settings(request, bundle, task, found)
        if board is not None:
            remarks = (*remarks, board.remark)
            settings = msgspec.structs.replace(
                settings,
                board=board.processor.board,
                clock_hz=board.processor.clock_hz,
                baud=board.baud,
            )
        tables = study_tables.raw_tables(found, bundle.answer_kind, settings.board)
        derived = study_tables.derive({row.name: row for row in tables}, settings)
        about = About(
            name=name,
            title=f"Codecs for {bundle.manifest.model_name} at x = {bundle.cut.partition_point}",
            bench=bench,
            seeds={"calibration sample": SAMPLE_SEED},
            inputs={str(bundle.path / MANIFEST): bundle.id, **recording.hashes([task.path])},
            settings=settings,
            remarks=remarks,
            more={"study": "codec", "data": request.data, "coded": request.coded},
        )
        report = recording.record_run(folder, tables, derived, about)
        named = {row.name: row for row in (*tables, *derived.tables)}
        return Study(folder.path, report, named, derived.figures, remarks, settings)


def result_of(study: Study, links: Sequence[str]) -> StudyResult:
    """For programs."""
    rows = study.tables[study_tables.CODECS].dicts()
    found = study.tables.get(study_tables.LINKS)
    first = {row["link"]: row for row in (found.dicts() if found else []) if row["rank"] == 1}
    names, shown = FrontRow.__struct_fields__, Advised.__struct_fields__
    on_board = study.settings
    return StudyResult(
        folder=str(study.folder),
        report=str(study.report),
        codecs=len(rows) - 1,
        front=tuple(
            FrontRow(**{name: row[name] for name in names if name in row})
            for row in study_tables.front_rows(rows)
        ),
        advised=tuple(
            Advised(**{name: first[link][name] for name in shown if name in first[link]})
            if link in first
            else Advised(link, "", None)
            for link in links
        ),
        figures=study.figures,
        remarks=study.remarks,
        board=on_board.board,
        clock_hz=on_board.clock_hz or None,
        baud=on_board.baud or None,
    )


def _task(bundle: Bundle, given: Path | None) -> Task:
    path = given or bundle.path.parent / TASK_FILE
    if given is None and not path.is_file():
        raise ConfigError(
            "a study needs the task's data",
            cause=f"there is no {path}, and a bundle carries no data",
            fix="give --task FILE, the task file that the model was split with",
        )
    task = load_task(path)
    sent, wanted = bundle.manifest.preprocess, task.preprocess
    same = (sent is None) == (wanted is None) and task.answer.kind == bundle.manifest.answer.kind
    if same and sent is not None and wanted is not None:
        same = sent.frame_shape == wanted.frame_shape
    if not same:
        raise ConfigError(
            f"{path} is not the task of this bundle",
            cause=f"the bundle answers {bundle.manifest.answer.kind}, the task {task.kind}, or "
            "their frames differ",
            fix="give --task FILE, the task file that the model was split with",
        )
    return task


def _candidates(request: Request, bundle: Bundle, task: Task) -> list[study_grid.Candidate]:
    at_frame = bundle.cut.partition_point == 0
    board = _on_board(bundle)
    tensors = [item.tensor for item in bundle.cut.tensors]
    found = study_grid.grid(
        # Inputs that only pass a board by are the node's, and go as they are beside its own.
        [tensor for tensor in tensors if tensor.scale is not None] if board else tensors,
        at_frame=at_frame,
        calibrated=task.has_data("calibration") and not at_frame,
        quantizers=request.quantizers,
        coders=request.coders or (CODERS if board else ()),
    )
    for spec in (parse_spec(text) for item in found for text in item.codecs() if board):
        if why := problem_of(spec):
            raise refused_codec(spec, "", why)
    return found


def _board(request: Request, bundle: Bundle, bench: ResolvedBench) -> StudyBoard | None:
    """The microcontroller that encodes, if one does."""
    if not _on_board(bundle):
        check_unused(request.board, request.clock_hz, request.baud)
        return None
    if request.slowdown != 1.0:
        raise ConfigError(
            "--slowdown is for nodes that encode as this machine does",
            cause="this bundle's head is for a microcontroller, whose own time is computed",
            fix="say which one: --board NAME, and --clock MHZ where yours is clocked otherwise",
        )
    return study_board(request.board, request.clock_hz, request.baud, bench.bench.node)


def _on_board(bundle: Bundle) -> bool:
    """Whether a microcontroller codes the waist."""
    return bundle.head is not None and bundle.head.format == BLOB


def _settings(request: Request, bundle: Bundle, task: Task, found: Measured) -> StudySettings:
    metric = ""
    kind = bundle.answer_kind
    if study_tables.has_labels(found.labels.values()) and task.open_metric(kind).needs_labels:
        metric = task.metric
    waist = [item.tensor for item in bundle.cut.tensors]
    left = {row.codec.partition("|")[0] for row in found.answers if "|" not in row.codec}
    return StudySettings(
        answer=bundle.manifest.answer,
        metric=metric,
        link="",
        radios=(),
        partition_point=bundle.cut.partition_point,
        codec=", ".join(dict.fromkeys(item.codec for item in bundle.cut.tensors)),
        metric_folder=str(task.path.parent),
        links=request.links,
        slowdown=request.slowdown,
        max_loss=request.max_loss,
        data=request.data,
        float_bytes=found.float_bytes,
        exact=tuple(sorted(name for name in left if name and study_grid.is_exact(name, waist))),
    )


def _remarks(
    request: Request, task: Task, found: Measured, shared: int, *, clipped: bool
) -> tuple[str, ...]:
    """What a reader should know; ``clipped``: some codec took limits from calibration data."""
    limits = "clip limits from the task's calibration data, everything else" if clipped else "all"
    remarks = [f"{limits} from {len(found.labels)} frames of {request.data}; nothing was retrained"]
    if shared:
        remarks.append(f"{shared} of these frames are in the calibration data as well")
    if not study_tables.has_labels(found.labels.values()):
        remarks.append("the frames have no labels: what codecs lose is agreement with the model")
    if shared > _SHARED * len(found.labels):
        raise ConfigError(
            "calibration and selection data overlap",
            cause=f"{shared} of {len(found.labels)} {request.data} frames are in both",
            fix=f"give them other frames in {task.path}",
        )
    return tuple(remarks)


class _Overlap:
    """Counts the frames to judge by that clip limits came from as well."""

    def __init__(self) -> None:
        self.count = 0
        self._digests: set[bytes] = set()

    def calibrating(self, frames: Iterable[SensorFrame]) -> Iterator[SensorFrame]:
        for frame in frames:
            self._digests.add(_digest(frame))
            yield frame

    def judging(self, frames: Iterable[SensorFrame]) -> Iterator[SensorFrame]:
        for frame in frames:
            self.count += _digest(frame) in self._digests
            yield frame


def _digest(frame: SensorFrame) -> bytes:
    found = hashlib.sha256()
    for array in frame.arrays:
        found.update(array.tobytes())
    return found.digest()


def _count(candidates: Sequence[study_grid.Candidate]) -> int:
    return sum(len(item.lossless) + len(item.lossy) for item in candidates)
