"""The list of cuts for a microcontroller, and the command that shows it and splits."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

pytest.importorskip("onnx", reason="cuts ONNX models")
pytest.importorskip("onnxruntime", reason="quantizes heads")
pytest.importorskip("ai_edge_litert", reason="reads TFLite models")

import model_help
import numpy as np
from mcu_help import EXAMPLES, FASHION, TASK
from small_models import write_classifier, write_task

from waistline import plugins
from waistline.blob.records import read_blob
from waistline.model.load import load_model
from waistline.model.onnx_graph import from_proto
from waistline.verify import verify
from waistline_bridge import fit, listing
from waistline_bridge.fit import all_limits
from waistline_bridge.listing import list_mcu_cuts
from waistline_bridge.split import split_mcu
from waistline_hostctl.results import CutsResult, SplitResult, decode
from waistline_hostctl.verbs import group

INT8 = FASHION / "model.int8.tflite"


@pytest.fixture
def call(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        return CliRunner().invoke(group, [str(argument) for argument in arguments])

    return run


@pytest.fixture
def small(monkeypatch):
    """A board that takes the first layers of the example only."""
    board = dataclasses.replace(all_limits()[0], board="thimble", slot_bytes=8192)
    monkeypatch.setattr(fit, "all_limits", lambda: (*all_limits(), board))
    return board.board


@pytest.fixture(scope="module")
def fashion():
    return {row.x: row for row in list_mcu_cuts(load_model(INT8))}


def test_every_cut_of_the_example_runs_and_says_what_it_takes(fashion):
    graph = load_model(INT8).graph
    assert list(fashion) == list(range(2, graph.last_x + 1))
    for frontier in graph.frontiers[1:]:
        row = fashion[frontier.x]
        assert row.refused == ""
        assert row.waist_bytes == frontier.size_bytes
        if frontier.x < graph.last_x:
            assert row.packed_bytes == sum(-(-s.elements // 2) for s in frontier.tensors)
        assert row.arena_bytes >= row.waist_bytes
    assert set(fashion[2].boards) == {limits.board for limits in all_limits()}


@pytest.mark.parametrize("cut", ["block1_pw_relu", "pool"])
def test_the_list_tells_the_sizes_that_a_split_then_has(cut, fashion, tmp_path):
    graph = load_model(INT8).graph
    x = next(item.x for item in graph.frontiers if item.names == (cut,))
    made = split_mcu(INT8, x, tmp_path / "m.bundle", codec="i8:b=4|ctx", task=TASK)
    blob = read_blob(made.lowered.data)
    assert fashion[x].arena_bytes == blob.arena_bytes
    assert 0 <= len(blob.data) - blob.input_bytes - fashion[x].blob_bytes < 16


def test_a_float_model_s_list_needs_no_task_and_has_the_sizes_of_its_split(tmp_path):
    model, task = write_classifier(tmp_path), write_task(tmp_path)
    rows = {row.x: row for row in list_mcu_cuts(load_model(model))}
    assert "flattened" in rows[6].refused
    made = split_mcu(model, "d", tmp_path / "m.bundle", codec="i8:b=4|ctx", task=task)
    blob = read_blob(made.lowered.data)
    assert rows[5].arena_bytes == blob.arena_bytes
    assert 0 <= len(blob.data) - blob.input_bytes - rows[5].blob_bytes < 16


def test_after_an_operator_that_is_missing_nothing_more_is_lowered(monkeypatch):
    lowered = []
    real = listing.lower_cut
    monkeypatch.setattr(listing, "lower_cut", lambda *a: lowered.append(a[1].x) or real(*a))
    proto = model_help.parse(
        """
        agraph (float[1,2,4,4] x) => (float[1,2,4,4] y) {
          a = Conv<pads=[1,1,1,1]>(x, w)
          b = Sin(a)
          c = Relu(b)
          y = Cos(c)
        }""",
        w=np.ones((2, 2, 3, 3), np.float32),
    )
    rows = list(list_mcu_cuts(from_proto(proto, Path("odd.onnx"))))
    assert [bool(row.refused) for row in rows] == [False, True, True, True]
    assert lowered == [2, 3]
    assert {row.refused for row in rows[1:]} == {rows[1].refused}
    assert "there is no Sin" in rows[1].refused


def test_the_command_lists(call):
    done = call("split", INT8, "--backend", "mcu", "--list", "--json")
    assert done.exit_code == 0, done.output
    result = decode(done.stdout, CutsResult)
    assert [row.x for row in result.mcu] == list(range(2, result.last_x + 1))
    assert 2 <= result.default_x < result.last_x
    biscuits = EXAMPLES / "biscuits/model.int8.tflite"
    text = call("split", biscuits, "--no-task", "--backend", "mcu", "--list").stdout
    assert "no board runs it" in text


def test_the_list_for_one_board_says_whether_it_fits(call, small):
    text = call("split", INT8, "--backend", "mcu", "--board", small, "--list").stdout
    rows = [line.split() for line in text.splitlines() if line[:2].strip().isdigit()]
    assert "yes" in rows[0]
    assert "big" in rows[-1]
    done = call("split", INT8, "--backend", "mcu", "--board", "teapot", "--list")
    assert done.exit_code == 2
    assert "qemu-mps2-an386" in done.stderr


def test_the_command_splits_and_says_what_the_head_takes(call, small, tmp_path):
    arguments = ("split", INT8, "--backend", "mcu", "--cut", "pool", "-o", "m.bundle")
    done = call(*arguments, "--board", "nucleo-f446re")
    assert done.exit_code == 0, done.output
    assert "default for a microcontroller" in done.stderr
    assert done.stdout.index("arena left") < done.stdout.index("m.bundle  id")
    assert _next(done) == [
        ["verify", "m.bundle", "--port", "DEVICE"],
        ["run", "m.bundle", "--port", "DEVICE"],
    ]
    assert verify(tmp_path / "m.bundle").ok
    done = call(*arguments, "--json", "--force")
    result = decode(done.stdout, SplitResult)
    assert json.loads(done.stdout)["head"]["blob_bytes"] == result.head.blob_bytes
    assert result.head.live_bytes <= result.head.arena_bytes
    assert {row.board for row in result.head.boards} >= {item.board for item in all_limits()}
    hints = [
        hint
        for board in ((), ("--board", "qemu-netduinoplus2"))
        for hint in _next(call(*arguments, *board, "--force"))
    ]
    assert [hint[2:] for hint in hints] == [
        ["--backend", "mcu"], [], *[["--board", "qemu-netduinoplus2"]] * 2
    ]  # fmt: skip
    done = call(*arguments, "--force", "--cut", "28", "--board", small)
    assert done.exit_code == 2
    assert "does not fit" in done.stderr


def _next(done):
    """Commands that are proposed, each of which its own parser takes."""
    lines = done.stdout[done.stdout.index("next: ") :].splitlines()
    found = [line.split("waistline ")[1].split() for line in lines]
    for verb, *arguments in found:
        command = plugins.load("waistline_hostctl.commands", verb).command
        command.make_context(verb, list(arguments))
    return found


def test_a_board_needs_a_microcontroller_s_head(call):
    done = call("split", INT8, "--board", "nucleo-f446re", "--list")
    assert done.exit_code == 2
    assert "--backend mcu" in done.stderr


def test_other_splits_say_nothing_of_boards(call):
    done = call("split", INT8, "--cut", "pool", "-o", "m.bundle", "--json")
    assert decode(done.stdout, SplitResult).head is None
    listed = decode(call("split", INT8, "--list", "--json").stdout, CutsResult)
    assert listed.mcu == ()


def test_a_board_below_the_first_layer_is_told_so_in_the_list(monkeypatch):
    found = list(list_mcu_cuts(load_model(INT8)))
    first = {row.first_layer_bytes for row in found}
    assert len(first) == 1
    need = first.pop()
    assert need <= min(row.arena_bytes for row in found)
    for arena_bytes, told in ((need, False), (need - 1, True)):
        thimble = dataclasses.replace(all_limits()[0], board="thimble", arena_bytes=arena_bytes)
        monkeypatch.setattr(fit, "all_limits", lambda limits=thimble: (limits,))
        done = CliRunner().invoke(
            group, ["split", str(INT8), "--backend", "mcu", "--list", "--board", "thimble"]
        )
        assert done.exit_code == 0, done.stderr
        assert (fit.NO_CUT_FITS in " ".join(done.stdout.split())) == told
