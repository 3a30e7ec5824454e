"""Sound, sensor rows and a camera from the source to the answer, over processes and loopback."""

from __future__ import annotations

import os
import signal
import wave
from pathlib import Path

import numpy as np
import onnx
import pytest
from cli_rig import cli, result, tiny_model
from edge_rig import EdgeProcess
from node_rig import NodeProcess
from onnx import TensorProto, helper, numpy_helper

import waistline
from waistline.bundle.store import Bundle
from waistline.run import load_run, read_table
from waistline.task.load import load_task
from waistline.tensors import TensorSpec
from waistline_hostctl.results import RunResult
from waistline_node.records import read_records

RATE = 8000
WINDOW = 256
TONES_HZ = {"high": 1000, "low": 250}


def tone_model(path: Path, channels: int) -> Path:
    """Which of two tones is louder in float32 (1, channels, 256): conv - abs - mean - dense."""
    time_s = np.arange(64) / RATE
    filters = np.stack([np.cos(2 * np.pi * hz * time_s) / 64 for hz in TONES_HZ.values()])
    weights = {
        "w": np.repeat(filters[:, None], channels, axis=1),
        "v": np.array([[60, -60], [-60, 60]]),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["conv"], "conv", strides=[4]),
        helper.make_node("Abs", ["conv"], ["abs"], "abs"),
        helper.make_node("GlobalAveragePool", ["abs"], ["mean"], "mean"),
        helper.make_node("Flatten", ["mean"], ["flat"], "flat"),
        helper.make_node("Gemm", ["flat", "v"], ["scores"], "scores"),
    ]
    graph = helper.make_graph(
        nodes,
        "tones",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, channels, WINDOW])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 2])],
        [
            numpy_helper.from_array(array.astype(np.float32), name)
            for name, array in weights.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path


def tone(hz: float, samples: int, rng: np.random.Generator) -> np.ndarray:
    wave_ = np.sin(2 * np.pi * hz * np.arange(samples) / RATE + rng.uniform(0, 6))
    return wave_ * 0.5 + rng.normal(0, 0.05, samples)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with class folders of WAV files, a task and a bundle."""
    home = tmp_path_factory.mktemp("sound")
    rng = np.random.default_rng(1)
    for name, hz in TONES_HZ.items():
        for number in range(3):
            path = home / "sounds" / name / f"{number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            with wave.open(str(path), "wb") as file:
                file.setparams((1, 2, RATE, 0, "NONE", ""))
                file.writeframes((tone(hz, 2 * WINDOW, rng) * 32767).astype("<i2").tobytes())
    (home / "task.toml").write_text(
        'kind = "classify"\nmetric = "top1"\n[answer]\nclasses = ["high", "low"]\n'
        f'[data.calibration]\nkind = "wav"\npath = "sounds"\nrate = {RATE}\nhop = 128\n'
    )
    split(home, tone_model(home / "tones.onnx", 1))
    return home


@pytest.fixture(scope="module")
def motion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV file of two axes that shake at two rates in turn, a task and a bundle."""
    home = tmp_path_factory.mktemp("motion")
    rng = np.random.default_rng(2)
    rows = ["time,ax,ay,state"]
    for name, hz in TONES_HZ.items():
        ax, ay = (tone(hz, 3 * WINDOW, rng) for _ in range(2))
        rows += [f"{i},{x:.6f},{y:.6f},{name}" for i, (x, y) in enumerate(zip(ax, ay, strict=True))]
    (home / "motion.csv").write_text("\n".join(rows) + "\n")
    (home / "task.toml").write_text(
        'kind = "classify"\nmetric = "top1"\n[answer]\nclasses = ["high", "low"]\n'
        '[data.calibration]\nkind = "csv"\npath = "motion.csv"\ncolumns = ["ax", "ay"]\n'
        'label = "state"\n'
    )
    split(home, tone_model(home / "tones.onnx", 2))
    return home


def split(home: Path, model: Path) -> Bundle:
    codec = "affine:b=4,clip=minmax|zstd:1"
    return waistline.split(
        model, "abs", home / "tones.bundle", codec=codec, task=home / "task.toml"
    )


def test_a_model_of_sound_runs_end_to_end(sound: Path) -> None:
    assert len(load_task(sound / "task.toml").data("calibration", [spec_of(sound)])) == 18
    source = f"wav:sounds?rate={RATE}&hop=128"
    done = cli("run", "tones.bundle", "--source", source, "--json", cwd=sound)
    assert done.returncode == 0, done.stderr
    found = result(done, RunResult)
    assert found.outcomes == {"remote": 18}
    assert found.figures["accuracy_cut"].value == 1
    assert found.figures["agreement"].value == 1
    table = read_table(sound / found.folder, "frames")
    assert table.column("index") == list(range(18))


def test_a_model_of_motion_runs_end_to_end(motion: Path) -> None:
    source = "motion.csv?columns=ax,ay&label=state"
    done = cli("run", "tones.bundle", "--source", source, "--json", cwd=motion)
    assert done.returncode == 0, done.stderr
    found = result(done, RunResult)
    assert found.outcomes == {"remote": 6}
    assert found.figures["accuracy_cut"].value == 1
    assert found.figures["accuracy_cut"].n == 6
    assert load_run(motion / found.folder).inputs["motion.csv"]


def test_a_run_is_not_made_of_frames_that_cannot_be_read_twice(motion: Path) -> None:
    done = cli("run", "tones.bundle", "--source", "csv:-?columns=ax,ay", cwd=motion)
    assert done.returncode == 2
    assert "waistline node" in done.stderr
    assert len(list((motion / "runs").glob("*"))) <= 1


def test_rows_piped_into_a_node_are_answered_as_they_come(motion: Path, tmp_path: Path) -> None:
    fifo = tmp_path / "sensor"
    os.mkfifo(fifo)
    lines = (motion / "motion.csv").read_text().splitlines(keepends=True)
    records = tmp_path / "records.csv"
    bundle = motion / "tones.bundle"
    with EdgeProcess(bundle, backend="onnxruntime") as edge:
        arguments = (bundle, "--edge", edge.endpoint, "--records", records)
        source = f"csv:{fifo}?columns=ax,ay&label=state"
        with NodeProcess(*arguments, "--source", source, backend="onnxruntime") as node:
            node.until_said("connected to edge")
            with fifo.open("w") as writer:
                writer.writelines(lines[: WINDOW + 1])
                writer.flush()
                node.until(lambda: lines_of(records) > 1, "an answer")
                writer.writelines(lines[WINDOW + 1 :])
            code, _, summary = node.end()
    assert code == 0, node.errors
    assert summary["frames"] == 6
    rows = list(read_records(records))
    assert rows[0].outcome == "remote"
    assert rows[0].label == "0"
    assert {row.outcome for row in rows} <= {"remote", "dropped"}


def test_a_node_on_a_silent_pipe_obeys_a_signal(motion: Path, tmp_path: Path) -> None:
    fifo = tmp_path / "sensor"
    os.mkfifo(fifo)
    arguments = (motion / "tones.bundle", "--edge", "tcp://127.0.0.1:9")
    with NodeProcess(*arguments, "--source", f"csv:{fifo}", backend="onnxruntime") as node:
        node.until(lambda: node.out, "the ready line")
        node.send(signal.SIGTERM)
        code, _, summary = node.end()
    assert code == 0, node.errors
    assert summary["frames"] == 0


def test_a_busy_node_loses_frames_of_a_camera_and_counts_them(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="the extra camera is not installed")
    (tmp_path / "task.toml").write_text(
        'kind = "classify"\n[preprocess]\nframe_shape = [8, 8, 1]\nsize = [8, 8]\n'
    )
    model = tiny_model(tmp_path / "tiny.onnx")
    bundle = tmp_path / "tiny.bundle"
    waistline.split(model, "relu1", bundle, task=tmp_path / "task.toml")
    records = tmp_path / "records.csv"
    camera = "camera:testsrc=size=64x48:rate=400,realtime?api=lavfi&scale=1"
    with EdgeProcess(bundle, backend="onnxruntime") as edge:
        arguments = (bundle, "--edge", edge.endpoint, "--source", camera, "--rate", 20)
        with NodeProcess(*arguments, "--records", records, backend="onnxruntime") as node:
            node.until(lambda: lines_of(records) > 3, "three answers")
            node.send(signal.SIGTERM)
            code, _, summary = node.end()
    assert code == 0, node.errors
    assert summary["outcomes"]["remote"] >= 3
    assert summary["lost"]["overtaken"] > 0


def lines_of(path: Path) -> int:
    return path.read_text().count("\n") if path.exists() else 0


def spec_of(home: Path) -> TensorSpec:
    return waistline.load_bundle(home / "tones.bundle").manifest.model_inputs[0]
