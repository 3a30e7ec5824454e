"""The codec advisor for a head on a microcontroller: its time, its line, and what is refused."""

from __future__ import annotations

import itertools
import json

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from mcu_bundles import WAISTS, frame_array, int8_head, mcu_bundle
from small_models import write_classifier, write_task

from waistline.bench import NodeBench, resolve
from waistline.blob.interpret import run_head
from waistline.codec.waist import WaistCodec
from waistline.errors import ConfigError
from waistline.run import load_run, read_table
from waistline.split import split
from waistline.tensors import WaistTensor
from waistline_bridge.boards import DEFAULT
from waistline_bridge.coder_cost import coding_cost, processor_of
from waistline_bridge.frames import Frame, encode_frame
from waistline_hostctl import study, study_tables
from waistline_hostctl.console import Console
from waistline_hostctl.recording import report_again
from waistline_hostctl.results import decode
from waistline_hostctl.study_board import framed, study_board
from waistline_hostctl.verbs import group

BOARD = "nucleo-f446re"
SETS = ("calibration", "selection")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two bundles of two int8 tensors each, and one whose head is not a blob."""
    path = tmp_path_factory.mktemp("boards")
    mcu_bundle(path / "mcu.bundle")
    mcu_bundle(path / "answers.bundle", answers=True)
    for seed, name in enumerate(SETS):
        frames = np.concatenate([frame_array(100 * seed + k)[None] for k in range(8)])
        np.savez(path / f"{name}.npz", x=frames)
    (path / "task.toml").write_text(
        'kind = "tensors"\n'
        + "".join(f'[data.{name}]\nkind = "npz"\npath = "{name}.npz"\n' for name in SETS)
    )
    other = path / "other"
    other.mkdir()
    write_classifier(other)
    write_task(other)
    split(other / "small.onnx", 3, other / "x3.bundle", task=other / "task.toml")
    return path


def run(folder, runs, bundle="mcu.bundle", **options):
    options = {"frames": 6, "coded": 2, "max_loss": 1.0, "board": BOARD, **options}
    return study.run_study(
        study.Request(bundle=folder / bundle, **options),
        bench=resolve(environment={}), console=Console(json=True), runs=runs, name="s",
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    return run(folder, tmp_path_factory.mktemp("runs"))


def rows_of(made):
    return {row["codec"]: row for row in made.tables[study_tables.CODECS].dicts()}


def test_a_codec_costs_what_its_tensors_cost_the_board(whole, folder):
    rows = rows_of(whole)
    assert {"none", "ctx"} == {row["coder"] for row in rows.values()} - {""}
    stored = read_table(whole.folder, study_tables.SIZES).dicts()
    processor = processor_of(BOARD)
    for codec, bits in (("i8:b=3|none", 3), ("i8:b=8|ctx", 8), ("i8:b=1|ctx", 1)):
        coder = codec.rpartition("|")[2]
        found = [row for row in stored if row["codec"] == codec]
        assert len(found) == 2
        for row in found:
            sizes = _sizes(folder, codec, row["index"])
            assert sum(size + 4 for size in sizes) == row["payload_bytes"]
            cost = [
                coding_cost("m4", coder, bits, elements=spec.elements,
                            rows=spec.shape[1] * spec.shape[3], sent_bytes=size)
                for spec, size in zip(WAISTS, sizes, strict=True)
            ]  # fmt: skip
            both = cost[0] + cost[1]
            assert row["instructions"] == pytest.approx(both.instructions)
            assert row["cycles"] == pytest.approx(both.cycles)
            assert row["encode_s"] == pytest.approx(both.cycles / processor.clock_hz)
        mean = sum(row["instructions"] for row in found) / 2
        assert rows[codec]["instructions"] == pytest.approx(mean)


def _sizes(folder, codec, index):
    """Payload bytes of each tensor, by the codec itself."""
    arrays = run_head(int8_head(), [frame_array(100 + index)])
    return [
        len(WaistCodec([WaistTensor(spec, codec)]).encode([array]).payload) - 4
        for spec, array in zip(WAISTS, arrays, strict=True)
    ]


def test_the_boards_figures_are_modelled_and_bytes_are_not(whole):
    grades = {column.name: column.evidence for column in whole.tables["codecs"].columns}
    assert {grades[name] for name in ("encode_s", "instructions", "line_bytes")} == {"modelled"}
    assert {grades[name] for name in ("mean_bytes", "decode_s", "agreement")} == {"measured"}
    for name, figure in whole.figures.items():
        modelled = name.endswith(("_encode_s", "_instructions", "_time_s"))
        assert figure.evidence == ("modelled" if modelled else "measured"), name
    assert any(BOARD in one and "168 MHz" in one and "QEMU" in one for one in whole.remarks)


def test_the_advice_is_the_least_sum_of_board_line_link_and_tail(whole):
    rows, links = rows_of(whole), whole.tables[study_tables.LINKS].dicts()
    assert {row["link"] for row in links} == set(study.LINKS)
    for row in links:
        codec = rows[row["codec"]]
        assert row["line_s"] == pytest.approx(codec["line_bytes"] * 10 / 921_600)
        parts = row["encode_s"] + row["line_s"] + row["send_s"] + codec["decode_s"]
        assert row["time_s"] == pytest.approx(parts)
        assert row["encode_s"] == codec["encode_s"]
    for link in study.LINKS:
        times = [row["time_s"] for row in links if row["link"] == link]
        assert times == sorted(times)
        assert 1 <= len(times) <= 5


def test_a_slow_line_asks_for_fewer_bytes_and_a_slow_board_for_fewer_instructions(folder, tmp_path):
    few = {"quantizers": ("i8:b=8",), "links": ("wifi-n-esp32",)}

    def best(name, **options):
        links = run(folder, tmp_path / name, **few, **options).tables[study_tables.LINKS].dicts()
        return next(row for row in links if row["rank"] == 1)

    slow, fast = best("a", baud=300, clock_hz=1e9), best("b", baud=1 << 30, clock_hz=1e6)
    rows = rows_of(run(folder, tmp_path / "c", **few))
    less = min((row for row in rows.values() if row["coder"]), key=lambda row: row["line_bytes"])
    assert slow["codec"] == less["codec"]
    assert fast["codec"] == "i8:b=8|none"
    assert fast["why"].startswith("against ctx: encode -")
    assert ", line " in fast["why"]
    assert ", link " in fast["why"]


def test_the_front_has_what_is_small_and_what_is_quick(whole):
    found = study.result_of(whole, study.LINKS)
    assert {"none", "ctx"} == {row.codec.rpartition("|")[2] for row in found.front}
    assert all(row.instructions > 0 for row in found.front)
    assert [row.mean_bytes for row in found.front] == sorted(r.mean_bytes for r in found.front)
    assert (found.board, found.clock_hz, found.baud) == (BOARD, 168e6, 921_600)


def test_the_run_folder_is_computed_again_without_a_board(whole):
    assert load_run(whole.folder).settings["compute"]["board"] == BOARD
    page = whole.report.read_text()
    assert "What the board should send" in page
    assert "168&nbsp;MHz" in page
    again = report_again(whole.folder, recompute=True)
    assert again.changed == ()
    assert set(again.recomputed) >= {"codecs", "codec_links"}


def test_where_nobody_chose_a_board_it_is_that_of_the_bench_or_the_usual_one():
    usual = study_board(None, None, None, NodeBench())
    assert (usual.processor, usual.baud) == (processor_of(DEFAULT), 921_600)
    assert "the default" in usual.remark
    bench = NodeBench(board="qemu-mps2-an547", baud=115_200)
    assert study_board(None, None, None, bench).processor.core == "m55"
    assert "bench.toml" in study_board(None, None, None, bench).remark
    told = study_board(BOARD, 84e6, 2_000_000, bench)
    assert (told.processor.board, told.processor.clock_hz, told.baud) == (BOARD, 84e6, 2_000_000)


def test_a_line_carries_frames_of_the_bridge():
    for size in (1, 7, 246, 247, 255, 500, 512, 1024):
        payload = bytes(k % 255 + 1 for k in range(size))
        assert 0 <= framed(size) - len(encode_frame(Frame(0x85, 1, 0, payload))) <= 1
    board = study_board(BOARD, None, None, NodeBench())
    sizes = [board.line_bytes(size) for size in range(1, 3000)]
    assert all(later > before for before, later in itertools.pairwise(sizes))
    assert sizes[99] == framed(24 + 100)
    assert board.line_bytes(488 + 512 + 1) == framed(512) * 2 + framed(12) * 2 + framed(1)


@pytest.mark.parametrize(
    ("bundle", "options", "says", "fix"),
    [
        ("mcu.bundle", {"board": "arduino-uno"}, "processor of board 'arduino-uno'", "--board"),
        ("mcu.bundle", {"board": "host"}, "processor of board 'host'", "--board"),
        ("mcu.bundle", {"slowdown": 6.0}, "--slowdown is for nodes", "--board"),
        ("mcu.bundle", {"quantizers": ("i8:b=9",)}, "b", ""),
        ("mcu.bundle", {"quantizers": ("i8:b=0",)}, "b", ""),
        ("mcu.bundle", {"coders": ("zstd",)}, "zstd", ""),
        ("answers.bundle", {}, "no waist", "earlier cut"),
        ("other/x3.bundle", {}, "--board, --clock and --baud", "--slowdown"),
        ("other/x3.bundle", {"board": None, "baud": 9600}, "--board, --clock and --baud", ""),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_measured(
    folder, tmp_path, bundle, options, says, fix
):
    with pytest.raises(ConfigError, match=says) as caught:
        run(folder, tmp_path / "runs", bundle, **options)
    assert fix in caught.value.fix
    assert not (tmp_path / "runs").exists()


def test_a_head_that_is_no_blob_is_timed_here(folder, tmp_path):
    made = run(folder, tmp_path, "other/x3.bundle", board=None, quantizers=("f32",))
    assert "instructions" not in rows_of(made)["f32|none"]
    assert "line_s" not in made.tables[study_tables.LINKS].dicts()[0]
    found = study.result_of(made, study.LINKS)
    assert (found.board, found.baud, found.advised[0].line_s) == ("", None, None)


@pytest.fixture
def call(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few = ["--frames", "4", "--max-loss", "1", "--link", "lte-cat1"]

    def invoke(*arguments):
        words = ["study", "codec", str(folder / "mcu.bundle"), *few, *arguments]
        return CliRunner().invoke(group, words)

    return invoke


def test_the_command_shows_instructions_and_why(call):
    done = call("--board", BOARD, "--baud", "115200")
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert {"instructions", "board"} <= set(lines[2].split())
    place = next(k for k, line in enumerate(lines) if line.split()[:1] == ["lte-cat1"])
    assert lines[place + 1].split()[0] == "encode"
    assert "line" in lines[place + 1].split()
    assert lines[place + 2].split()[0] == "against"
    assert "115200 baud" in " ".join(done.output.split())
    assert max(map(len, lines[:-1])) <= 100


def test_the_command_as_json_says_where_the_time_goes(call):
    done = call("--clock", "100", "--json")
    assert done.exit_code == 0, done.output
    found = decode(done.stdout, study.StudyResult)
    assert (found.board, found.clock_hz) == (DEFAULT, 100e6)
    (advised,) = found.advised
    rest = advised.time_s - advised.encode_s - advised.line_s - advised.send_s
    assert 0 < rest < advised.time_s
    assert advised.why.startswith("against ")
    assert json.loads(done.stdout)["figures"]["lte-cat1_encode_s"]["evidence"] == "modelled"
    assert msgspec.json.decode(done.stdout)["front"][0]["instructions"] > 0


def test_the_command_refuses_what_is_no_clock_or_baud(call):
    for words in (("--clock", "0"), ("--clock", "nan"), ("--baud", "0"), ("--board", "pdp11")):
        assert call(*words).exit_code == 2, words
