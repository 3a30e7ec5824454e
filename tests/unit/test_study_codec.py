"""The codec advisor on a small bundle: what is tried, what is measured, fronts, advice, files."""

from __future__ import annotations

import itertools
import json
import shutil

import msgspec
import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from small_models import FRAME_SHAPE, weights, write_classifier, write_task, write_two_inputs

from waistline.bench import resolve
from waistline.bundle.store import load_bundle
from waistline.codec.waist import WaistCodec
from waistline.errors import ConfigError
from waistline.frame import SensorFrame
from waistline.run import load_run, read_table
from waistline.split import split
from waistline.task.data.base import spread
from waistline.tensors import TensorSpec, WaistTensor
from waistline_hostctl import study, study_report, study_tables
from waistline_hostctl.console import Console
from waistline_hostctl.recording import report_again
from waistline_hostctl.results import decode
from waistline_hostctl.study_front import loss_bound
from waistline_hostctl.verbs import group

FLOAT = TensorSpec("b", "float32", (1, 4, 8, 8), "NCHW", 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("study")
    write_classifier(path)
    write_two_inputs(path)
    write_task(path)
    for cut in (0, 3, 7):
        split(path / "small.onnx", cut, path / f"x{cut}.bundle", task=path / "task.toml")
    return path


def run(folder, runs, bundle="x3.bundle", **options):
    request = study.Request(bundle=folder / bundle, **{"frames": 12, "coded": 3, **options})
    return study.run_study(
        request, bench=resolve(environment={}), console=Console(json=True), runs=runs, name="s"
    )


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    """The default grid, once."""
    return run(folder, tmp_path_factory.mktemp("runs"))


def rows_of(made):
    return made.tables[study_tables.CODECS].dicts()


def test_lossless_coders_share_what_their_quantizer_answers(whole):
    shared = {}
    for row in rows_of(whole)[1:]:
        if row["lossless"]:
            quality = tuple(row[name] for name in ("accuracy", "loss", "agreement", "n"))
            assert shared.setdefault(row["quantizer"], quality) == quality
    assert len(shared) == 84
    float32 = next(row for row in rows_of(whole) if row["codec"] == "f32|none")
    assert (float32["loss"], float32["agreement"], float32["n"]) == (0, 1, 12)


def test_the_fronts_are_what_nothing_beats(whole):
    rows = rows_of(whole)[1:]
    for flag, aims in study_tables._AIMS.items():
        points = [aims(row) for row in rows]
        for row, point in zip(rows, points, strict=True):
            beaten = any(
                other != point and all(a <= b for a, b in zip(other, point, strict=True))
                for other in points
            )
            assert row[flag] == (not beaten), row["codec"]
    # What is on the smaller front is on the larger one, or equal to one that is and slower.
    assert any(row["front_bytes"] for row in rows)
    assert sum(row["front_cpu"] for row in rows) >= sum(row["front_bytes"] for row in rows) / 2


def test_bytes_are_those_of_the_codec_itself(whole, folder):
    bundle = load_bundle(folder / "x3.bundle")
    task = study.load_task(folder / "task.toml")
    waists = _waists(bundle, task)
    places = sorted(spread(len(waists), 12))
    coded = [waists[places[place]] for place in sorted(spread(12, 3))]
    measured = {row["codec"]: row for row in rows_of(whole)}
    for codec in ("affine:b=8|jpeg:75", "affine:b=3|ctx", "affine:b=4,per=channel|deflate",
                  "q1:b=2|zstd:1", "q2m|none", "f16|zstd:3"):  # fmt: skip
        waist = WaistCodec([WaistTensor(bundle.cut.tensors[0].tensor, codec)])
        sizes = [len(waist.encode(tensors).payload) for tensors in coded]
        assert measured[codec]["mean_bytes"] == pytest.approx(np.mean(sizes))
        stored = read_table(whole.folder, study_tables.SIZES).dicts()
        found = [one["payload_bytes"] for one in stored if one["codec"] == codec]
        assert found == sizes


def test_every_codec_is_sized_on_the_same_frames_and_lossy_ones_answer_all(whole):
    rows = rows_of(whole)[1:]
    assert {row["n_coded"] for row in rows} == {3}
    assert {row["n"] for row in rows} == {12}
    sizes = read_table(whole.folder, study_tables.SIZES).dicts()
    by_codec = {row["codec"]: set() for row in sizes}
    for row in sizes:
        by_codec[row["codec"]].add(row["index"])
    assert len({frozenset(found) for found in by_codec.values()}) == 1


def _waists(bundle, task):
    from waistline.backends.base import load_backend
    from waistline.stages import open_ends

    with open_ends(load_backend("auto", "onnx"), bundle) as (head, _):
        return [head.head(head.preprocess(frame)) for frame in task.data("selection")]


def test_frames_are_taken_evenly_over_the_data(folder, tmp_path):
    """Data in class folders begins with one class."""
    made = run(folder, tmp_path, frames=4, coded=2, quantizers=("f32",), coders=("none",))
    frames = read_table(made.folder, study_tables.FRAMES).dicts()
    assert [row["index"] for row in frames] == [0, 3, 6, 9]
    assert [row["index"] for row in read_table(made.folder, study_tables.SIZES).dicts()] == [0, 6]


@given(st.integers(1, 500), st.integers(1, 500))
def test_a_spread_has_its_count_and_even_gaps(total, count):
    places = sorted(spread(total, count))
    assert len(places) == min(total, count)
    assert (places[0], places[-1] < total) == (0, True)
    gaps = {after - before for before, after in itertools.pairwise([*places, total])}
    assert max(gaps) - min(gaps) <= 1


def test_the_run_folder_is_whole_and_can_be_computed_again(whole):
    record = load_run(whole.folder)
    assert {row.name for row in record.tables} >= {"codecs", "codec_sizes", "codec_answers"}
    for stored in record.tables:
        table = read_table(whole.folder, stored.name)
        assert len(table.rows) == stored.rows
        header = (whole.folder / f"{stored.name}.csv").read_text().splitlines()[0]
        assert header == ",".join(column.name for column in table.columns)
        for column in table.columns:
            measured = column.unit in {"byte", "s", "1"} and "uncertainty" not in column.meaning
            assert not measured or column.evidence in {"measured", "modelled"}, column
    before = (whole.folder / "report.html").read_bytes()
    again = report_again(whole.folder, recompute=True)
    assert set(again.recomputed) >= {"codecs"}
    assert again.changed == ()
    assert (whole.folder / "report.html").read_bytes() == before


def test_a_run_folder_names_no_code_that_is_run(folder, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    for name in ("calibration.npz", "selection.npz"):
        shutil.copy(folder / name, own / name)
    (own / "mine.py").write_text(
        "def score(answer, label):\n    return float(answer.classes[0] == label)\n"
    )
    text = (folder / "task.toml").read_text()
    (own / "task.toml").write_text(text.replace('"top1"', '"mine.py:score"'))
    options = {"task": own / "task.toml", "quantizers": ("f32",), "coders": ("none",)}
    made = run(folder, tmp_path / "runs", **options)
    record = json.loads((made.folder / "run.json").read_text())
    assert record["settings"]["compute"]["metric"] == "mine.py:score"
    assert report_again(made.folder, recompute=False).changed == ()
    trusted = report_again(made.folder, recompute=True, task=own / "task.toml")
    assert trusted.changed == ()
    (own / "mine.py").write_text("from pathlib import Path\nPath(__file__ + '.ran').touch()\n")
    for words in ((), ("--task", folder / "task.toml")):
        told = CliRunner().invoke(
            group, ["report", str(made.folder), "--recompute", *map(str, words)]
        )
        assert told.exit_code == 2
    with pytest.raises(ConfigError, match="is code") as caught:
        report_again(made.folder, recompute=True)
    assert "--task" in caught.value.fix
    with pytest.raises(ConfigError, match="not the task of this study"):
        report_again(made.folder, recompute=True, task=folder / "task.toml")
    assert not (own / "mine.py.ran").exists()


def test_the_report_stands_alone(whole):
    page = whole.report.read_text()
    assert page.count("<svg ") == 2
    assert "as in the seeds" in page
    assert "<script" not in page
    assert "src=" not in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "")


def test_figures_have_evidence_and_name_their_data(whole, folder, tmp_path):
    uncut = whole.figures["uncut_accuracy"]
    assert uncut.evidence == "measured"
    assert uncut.source.startswith("selection frames")
    for name in ("calibration.npz", "selection.npz"):
        shutil.copy(folder / name, tmp_path / name)
    text = (folder / "task.toml").read_text().replace("[data.selection]", "[data.test]")
    (tmp_path / "task.toml").write_text(text)
    made = run(folder, tmp_path, task=tmp_path / "task.toml", data="test", quantizers=("f32",))
    assert made.figures["uncut_accuracy"].source.startswith("test frames")
    assert not any("clip limits" in remark for remark in made.remarks)
    assert any("clip limits" in remark for remark in whole.remarks)
    times = [figure for name, figure in whole.figures.items() if name.endswith("_time_s")]
    assert all(figure.evidence == "modelled" for figure in times)


def test_the_sensor_frame_has_a_study_of_its_own(folder, tmp_path):
    made = run(folder, tmp_path, "x0.bundle")
    rows = {row["codec"]: row for row in rows_of(made)}
    assert {"png", "jpeg:75", "webp", "webp:75", "raw|ctx"} <= set(rows)
    assert rows["png"]["loss"] == rows["raw|ctx"]["loss"] == 0
    assert rows["raw|none"]["mean_bytes"] == 4 + 64
    assert "as in the seeds" not in made.report.read_text()


def test_a_waist_of_integers_and_floats(folder, tmp_path):
    """Without labels agreement decides; integers go without loss beside what is studied."""
    inputs = {"x": np.linspace(-1, 2, 48, dtype="f4").reshape(8, 1, 6),
              "mask": np.arange(48, dtype=np.int64).reshape(8, 1, 6) % 3}  # fmt: skip
    for name in ("calibration", "selection"):
        np.savez(tmp_path / f"{name}.npz", **inputs)
        inputs = {key: array[::-1] * 2 for key, array in inputs.items()}
    text = 'kind = "tensors"\n' + "".join(
        f'[data.{name}]\nkind = "npz"\npath = "{name}.npz"\n'
        for name in ("calibration", "selection")
    )
    (tmp_path / "task.toml").write_text(text)
    bundle = split(folder / "two.onnx", 2, tmp_path / "two.bundle", task=tmp_path / "task.toml")
    made = run(tmp_path, tmp_path, bundle.path.name, coders=("zstd", "none"))
    rows = rows_of(made)
    assert rows[0]["accuracy"] is None
    assert all(row["loss"] == pytest.approx(1 - row["agreement"]) for row in rows)
    assert {row["quantizer"] for row in rows} >= {"affine:b=4", "q2", "f32"}
    assert any("no labels" in remark for remark in made.remarks)


def int8_model(path):
    """(1, 1, 8, 8) float -> int8 (1, 4, 8, 8) at a cut -> (1, 4)."""
    nodes = [
        helper.make_node("Conv", ["image", "wa"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("QuantizeLinear", ["a", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("Flatten", ["d"], ["e"]),
        helper.make_node("MatMul", ["e", "wd"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes, "quantized",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 4])],
        [weights("wa", 4, 1, 3, 3), weights("wd", 256, 4),
         helper.make_tensor("s", TensorProto.FLOAT, [], [0.05]),
         helper.make_tensor("z", TensorProto.INT8, [], [-10])],
    )  # fmt: skip
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path
    )


def test_an_int8_waist(folder, tmp_path):
    int8_model(tmp_path / "q.onnx")
    bundle = split(tmp_path / "q.onnx", "q", tmp_path / "q.bundle", task=folder / "task.toml")
    assert bundle.cut.tensors[0].tensor.dtype == "int8"
    made = run(tmp_path, tmp_path, "q.bundle", task=folder / "task.toml")
    rows = {row["codec"]: row for row in rows_of(made)}
    assert rows["i8:b=8|ctx"]["loss"] == 0
    assert {"i8:b=8|jpeg:75", "i8:b=4,clip=mse|zstd:1"} <= set(rows)
    assert rows["i8:b=4|none"]["mean_bytes"] == 4 + 128


@pytest.mark.parametrize(
    ("bundle", "options", "says"),
    [
        ("x7.bundle", {}, "no waist"),
        ("x3.bundle", {"links": ("lte-cat9",)}, "lte-cat9"),
        ("x3.bundle", {"data": "test"}, "no test data"),
    ],
)
def test_what_cannot_be_studied_is_refused(folder, tmp_path, bundle, options, says):
    with pytest.raises(ConfigError, match=says):
        run(folder, tmp_path / "runs", bundle, **options)
    assert not (tmp_path / "runs").exists()


def test_a_study_needs_the_task(folder, tmp_path):
    shutil.copytree(folder / "x3.bundle", tmp_path / "x3.bundle")
    with pytest.raises(ConfigError, match=r"task\.toml") as caught:
        run(tmp_path, tmp_path)
    assert "--task" in caught.value.fix
    (tmp_path / "other.toml").write_text('kind = "tensors"\n')
    with pytest.raises(ConfigError, match="not the task of this bundle"):
        run(tmp_path, tmp_path, task=tmp_path / "other.toml")


def test_calibration_frames_do_not_judge(folder, tmp_path):
    for name in ("task.toml", "calibration.npz"):
        shutil.copy(folder / name, tmp_path / name)
    shutil.copy(folder / "calibration.npz", tmp_path / "selection.npz")
    with pytest.raises(ConfigError, match="overlap"):
        run(folder, tmp_path, task=tmp_path / "task.toml", quantizers=("affine",), coders=("none",))


def test_what_loses_much_is_not_compared(whole):
    rows = rows_of(whole)
    assert all((row["u_loss"] is None) == (row["loss"] > 0.2) for row in rows)
    assert all(loss_bound(row, ()) > row["loss"] for row in rows)


def test_a_loss_that_the_user_accepts_is_compared_however_large(whole):
    tables = {name: read_table(whole.folder, name) for name in (
        study_tables.FRAMES, study_tables.SIZES, study_tables.ANSWERS)}  # fmt: skip
    settings = study_tables.recorded_settings(load_run(whole.folder))
    assert any(row["loss"] > 0.2 for row in rows_of(whole))
    made = study_tables.derive(tables, msgspec.structs.replace(settings, max_loss=1.0))
    rows = next(table for table in made.tables if table.name == study_tables.CODECS).dicts()
    assert all(row["u_loss"] is not None for row in rows)


def test_a_study_of_codecs_that_all_lose_much_has_its_report():
    rows = [
        {"codec": "uncut", "quantizer": "uncut", "coder": "", "lossless": True, "bits": None,
         "mean_bytes": 4000.0, "u_bytes": None, "loss": 0.0, "accuracy": 0.9, "u_accuracy": 0.01},
        {"codec": "q1:b=1|deflate", "quantizer": "q1:b=1", "coder": "deflate", "lossless": True,
         "bits": 1, "mean_bytes": 80.0, "u_bytes": 1.0, "loss": 0.6, "accuracy": 0.3,
         "u_accuracy": 0.02},
    ]  # fmt: skip
    measured = ("encode_s", "decode_s", "u_loss", "agreement", "u_agreement")
    rows = [{**dict.fromkeys(measured, 0.0), "n": 9, "front_bytes": True, "front_cpu": True, **row}
            for row in rows]  # fmt: skip
    for section in (study_report._front, study_report._seeds):
        assert "q1:b=1|deflate: " in section(rows, "accuracy")


def test_labels_that_tables_can_hold():
    frames = [SensorFrame(0, (np.zeros(FRAME_SHAPE, np.uint8),), 3, "f")]
    assert study_tables.has_labels(frame.label for frame in frames)
    assert not study_tables.has_labels([None, 1])
    assert not study_tables.has_labels([])


@pytest.fixture
def call(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few = ["--frames", "6", "--quantizer", "affine", "--coder", "ctx", "--coder", "jpeg"]

    def invoke(*arguments):
        return CliRunner().invoke(group, ["study", "codec", *arguments, *few])

    return invoke


def test_the_command_prints_the_front_and_an_advice(folder, call):
    done = call(str(folder / "x3.bundle"), "--link", "lte-cat1", "--max-loss", "1")
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert lines[0].startswith("front ")
    assert any(line.split()[:1] == ["lte-cat1"] and "|ctx" in line for line in lines)
    assert any(line.startswith("report ") for line in lines)
    assert max(map(len, lines[:-1])) <= 100


def test_the_command_says_where_nothing_is_proved(folder, call):
    done = call(str(folder / "x3.bundle"), "--link", "lte-cat1", "--max-loss", "0.001")
    assert done.exit_code == 0
    assert "more --frames" in " ".join(done.output.split())


def test_the_command_as_json(folder, call):
    done = call(str(folder / "x3.bundle"), "--link", "lte-cat1", "--max-loss", "1", "--json")
    assert done.exit_code == 0, done.output
    data = json.dumps(json.loads(done.stdout))
    found = decode(data, study.StudyResult)
    assert json.loads(data)["command"] == "study codec"
    assert found.codecs == 64 + 8 * 4
    assert [one.link for one in found.advised] == ["lte-cat1"]
    assert [one.mean_bytes for one in found.front] == sorted(one.mean_bytes for one in found.front)
