"""ONNX to TFLite through a converter in a tool environment, checked before it is kept."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from waistline import toolenv
from waistline.bundle.golden import invented_frame
from waistline.errors import ConfigError, ModelError
from waistline.evidence import Figure
from waistline.files import unwritable, write_atomically
from waistline.frame import SensorFrame
from waistline.model.onnx_graph import OnnxModel, load_onnx
from waistline.model.tflite_file import TfliteFile, pack, parse
from waistline.model.tflite_graph import TfliteModel, load_tflite
from waistline.task.data.base import spread
from waistline.task.load import Task
from waistline_hostctl import convert_names
from waistline_hostctl.convert_check import compare, inputs_of
from waistline_hostctl.results import Result

TOOL = "tflite"
DEFAULT_FRAMES = 200
CHECKED_FRAMES = 32
"""Frames on which the converted model is compared; they were calibration frames, so this finds
faults and is no figure of quality."""
_WORKER = Path(__file__).with_name("convert_worker.py")
_KEPT_ENVIRONMENT = ("HOME", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT")
_LOG_LINES = 4
_NOT_IN_TFLITE = re.compile(r"'tf\.(\w+)' op is neither a custom op nor a flex op")

Say = Callable[[str], None]


class ConvertResult(Result, frozen=True, kw_only=True, tag="convert"):
    """What ``waistline convert`` wrote.

    Attributes:
        model, output: paths.
        sha256: of the output.
        quantized: int8 throughout.
        calibration_frames: behind the ranges of an int8 model; 0 for a float one.
        figures: as `waistline_hostctl.convert_check.compare` gives them.
        size_bytes: of the output.
    """

    model: str
    output: str
    sha256: str
    quantized: bool
    calibration_frames: int
    figures: dict[str, Figure]
    size_bytes: int


def convert(
    model: str | Path,
    output: str | Path | None = None,
    *,
    int8: bool = False,
    task: Task | None = None,
    frames: int = DEFAULT_FRAMES,
    force: bool = False,
    say: Say = lambda text: None,
) -> ConvertResult:
    """Convert an ONNX model and compare the result with it.

    Args:
        model: an ``.onnx`` file with float inputs and fixed shapes.
        output: the file to write; None: beside the model, ``.tflite`` or ``.int8.tflite``.
        int8: quantize weights, activations, inputs and outputs; needs calibration data.
        task: preprocessing, calibration data, and how answers are compared.
        frames: calibration frames, the first of the task's.
        force: replace ``output``.
        say: told what happens, in lines.

    Raises:
        ModelError: it cannot be read or converted, or the result computes something else.
        ConfigError: int8 without calibration data, or the output is there already.
        MissingExtra: the tool environment, LiteRT or onnxruntime is not installed.
    """
    model = Path(model)
    target = model.with_suffix(".int8.tflite" if int8 else ".tflite")
    target = target if output is None else Path(output)
    _check_target(target, force)
    python = toolenv.tool_python(TOOL)
    source = load_onnx(model)
    _check_inputs(source)
    calibration = _calibration(source, task, frames) if int8 else []
    frame = calibration[0] if calibration else _one_frame(source, task)
    with tempfile.TemporaryDirectory(prefix="waistline-convert-") as name:
        folder = Path(name)
        request = _request(folder, source, task, calibration)
        _run_worker(python, folder, request, say, int8=int8)
        say("giving it the names of the ONNX model")
        file = _named(folder, source, inputs_of(source.graph, task, frame), int8=int8)
        data = pack(file)
    made = _stored(target, data)
    checked = calibration[:CHECKED_FRAMES] or [frame]
    where = "calibration frames" if calibration else "one frame"
    say(f"comparing with onnxruntime on {len(checked)} frame(s)")
    return ConvertResult(
        model=str(model),
        output=str(target),
        sha256=made.graph.sha256,
        quantized=int8,
        calibration_frames=len(calibration),
        figures=compare(source, made, task, checked, f"{model.name} in onnxruntime, {where}"),
        size_bytes=len(data),
    )


def _check_target(target: Path, force: bool) -> None:
    if target.exists() and not force:
        raise ConfigError(
            f"{target} is there already", cause="--force was not given", fix="add --force, or -o"
        )
    if not target.parent.is_dir():
        raise ConfigError(f"cannot write {target}", cause="its folder is not there", fix="-o FILE")


def _check_inputs(source: OnnxModel) -> None:
    for spec in source.graph.inputs:
        if spec.dtype != "float32":
            raise ModelError(
                f"{source.path.name} cannot be converted",
                cause=f"input {spec.name!r} is {spec.dtype}, and the converter takes float32",
                fix="export it with float inputs",
            )


def _calibration(source: OnnxModel, task: Task | None, frames: int) -> list[SensorFrame]:
    if frames < 1:
        raise ConfigError(f"--frames {frames} is none", fix="give --frames 200")
    if task is None or not task.has_data("calibration"):
        raise ConfigError(
            "an int8 model needs calibration data",
            cause="its ranges are found on it, and no task names any",
            fix="give --task FILE with [data.calibration], or leave --int8 out",
        )
    data = task.data("calibration", source.graph.inputs)
    places = spread(len(data), frames)
    found = [frame for place, frame in enumerate(data) if place in places]
    if not found:
        raise ConfigError("the calibration data is empty", fix=f"mend {task.path}")
    return found


def _one_frame(source: OnnxModel, task: Task | None) -> SensorFrame:
    if task is not None and task.has_data("calibration"):
        return next(iter(task.data("calibration", source.graph.inputs)))
    return invented_frame(source.graph.inputs, None if task is None else task.preprocess)


def _request(
    folder: Path, source: OnnxModel, task: Task | None, calibration: list[SensorFrame]
) -> Path:
    samples = ""
    if calibration:
        columns = zip(*(inputs_of(source.graph, task, frame) for frame in calibration), strict=True)
        names = [spec.name for spec in source.graph.inputs]
        arrays = {name: np.concatenate(column) for name, column in zip(names, columns, strict=True)}
        samples = str(folder / "samples.npz")
        np.savez(samples, **arrays)  # type: ignore[arg-type]
    request = folder / "request.json"
    told = {"model": str(source.path.absolute()), "folder": str(folder), "samples": samples}
    request.write_text(json.dumps(told))
    return request


def _run_worker(python: Path, folder: Path, request: Path, say: Say, *, int8: bool) -> None:
    """Run the converter to its end.

    Raises:
        ModelError: it failed; names the operator where it knows one.
    """
    environment = {key: os.environ[key] for key in _KEPT_ENVIRONMENT if key in os.environ}
    # onnx2tf calls programs of its environment by name.
    environment["PATH"] = os.pathsep.join([str(python.parent), "/usr/bin", "/bin"])
    environment |= {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    errors = folder / "errors.log"
    told: list[tuple[str, str]] = []
    log: list[str] = []
    with (
        errors.open("wb") as stderr,
        subprocess.Popen(
            [python, _WORKER, request],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
        ) as worker,
    ):
        assert worker.stdout is not None
        try:
            for raw in worker.stdout:
                line = raw.decode("utf-8", "replace").rstrip()
                found = re.match(r"@(\w+) ?(.*)", line)
                if found is None:
                    log.append(line)
                    continue
                told.append((found[1], found[2]))
                if found[1] == "step":
                    say(found[2])
        except BaseException:
            worker.kill()
            raise
    if worker.returncode != 0 or ("done", "") not in told:
        raise _failure(told, log + errors.read_text(errors="replace").splitlines())
    for name in ("float.tflite", "int8.tflite" if int8 else "float.tflite"):
        if not (folder / name).is_file():
            raise _failure([("failed", f"it wrote no {name}")], [])


def _failure(told: list[tuple[str, str]], log: list[str]) -> ModelError:
    other = "convert it by other means; waistline takes any .tflite"
    everything = "\n".join([*(text for _, text in told), *log])
    unknown = [(text, "onnx2tf has no rule for it") for kind, text in told if kind == "unsupported"]
    unknown += [
        (name, "TFLite has no such operator") for name in _NOT_IN_TFLITE.findall(everything)
    ]
    if unknown:
        return ModelError(
            f"the converter cannot write the operator {unknown[0][0]}",
            cause=unknown[0][1],
            fix=f"export the model without it, or {other}",
        )
    plain = (re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in log)
    errors = [line for line in plain if re.match(r"(ERROR|.*Error\b)", line)]
    causes = [text for kind, text in told if kind == "failed"] or errors[:_LOG_LINES]
    return ModelError(
        "the model could not be converted",
        cause="; ".join(causes)[:1000] or "the converter ended without a word",
        fix=other,
    )


def _named(folder: Path, source: OnnxModel, inputs: list[np.ndarray], *, int8: bool) -> TfliteFile:
    """The wanted file with ONNX's names and order, after the float one was found to be right."""
    data = (folder / "float.tflite").read_bytes()
    file = parse(data, "the converted model")
    order = _input_order(file, source)
    specs = source.graph.inputs
    feeds = [
        convert_names.turned(inputs[place], file.graph.tensors[number].shape)
        for number, place in zip(file.graph.inputs, order, strict=True)
    ]
    wanted = convert_names.onnx_values(
        source, {spec.name: array for spec, array in zip(specs, inputs, strict=True)}
    )
    values = convert_names.tflite_values(data, file, feeds)
    ends = {spec.name: wanted[spec.name] for spec in source.graph.outputs}
    outputs = convert_names.outputs_of(file, values, ends)
    names = {
        file.graph.tensors[number].name: name
        for number, name in convert_names.match(values, wanted).items()
    }
    if int8:
        file = parse((folder / "int8.tflite").read_bytes(), "the int8 model")
    given = [(order.index(place), spec.name) for place, spec in enumerate(specs)]
    return convert_names.renamed(file, names, given, outputs)


def _input_order(file: TfliteFile, source: OnnxModel) -> list[int]:
    """For each input of the file, its place among the ONNX model's inputs."""
    names = [_plain(spec.name) for spec in source.graph.inputs]
    if len(names) == 1:
        return [0]
    found = []
    for number in file.graph.inputs:
        name = file.graph.tensors[number].name
        name = _plain(name.removeprefix("serving_default_").rpartition(":")[0] or name)
        found.append(names.index(name) if name in names else -1)
    if sorted(found) != list(range(len(names))):
        raise ModelError(
            "the inputs of the converted model cannot be told apart",
            cause=f"the ONNX model has {', '.join(names)}",
            fix="convert it by other means; waistline takes any .tflite",
        )
    return found


def _plain(name: str) -> str:
    return re.sub(r"\W", "_", name)


def _stored(target: Path, data: bytes) -> TfliteModel:
    try:
        write_atomically(target, data)
    except OSError as error:
        raise unwritable(target, error, elsewhere="give -o FILE") from error
    return load_tflite(target)
