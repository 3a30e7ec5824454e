"""Node and edge as processes, the head on a board: the firmware as a program, and in QEMU."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from cli_rig import cli, result
from edge_rig import EdgeProcess
from node_rig import WAIT_S, NodeProcess

from waistline.bundle.store import load_bundle
from waistline.stages import open_ends
from waistline_bridge.split import split_mcu
from waistline_hostctl.results import DemoResult, RunResult, VerifyResult
from waistline_node.records import read_records
from waistline_node.service import source_options
from waistline_node.sources.base import open_source

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit"))
from bridge_help import board_elf, host_program, needs_compiler
from mcu_bundles import expected, frame_array, mcu_bundle

pytestmark = needs_compiler
FASHION = Path(__file__).parents[2] / "examples" / "fashion"
COUNT = 25
needs_qemu = pytest.mark.skipif(
    shutil.which("qemu-system-arm") is None or shutil.which("arm-none-eabi-gcc") is None,
    reason="QEMU, or the compiler of its firmware, is not installed",
)


@pytest.fixture(scope="module")
def fashion(tmp_path_factory):
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    path = tmp_path_factory.mktemp("fashion") / "f.bundle"
    split_mcu(FASHION / "model.onnx", 6, path, task=FASHION / "task.toml")
    return load_bundle(path)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A bundle of little work, whose tail is fake."""
    return mcu_bundle(tmp_path_factory.mktemp("small") / "s.bundle")


@pytest.fixture
def frames(tmp_path):
    """200 frames of the small bundle."""
    np.savez(tmp_path / "frames.npz", x=np.stack([frame_array(index) for index in range(200)]))
    return tmp_path / "frames.npz"


def on_host(*options):
    chosen = [f"firmware={host_program()}", *options]
    return ("--board", "host", *(word for one in chosen for word in ("--board-option", one)))


def reference_answers(bundle, source, count):
    """What both ends give on this machine."""
    opened = open_source(str(source), source_options(bundle, count))
    with open_ends("auto", bundle) as (head, tail):
        while (frame := opened.read()) is not None:
            made = head.encode(head.head(head.preprocess(frame)))
            tensors = tail.preprocess(tail.decode(made.payload, made.raw_len))
            yield tail.postprocess(tail.tail(tensors))


def board_of(node):
    """Process id of the board that a node started."""
    children = Path(f"/proc/{node.process.pid}/task").glob("*/children")
    return [int(number) for path in children for number in path.read_text().split()]


@pytest.mark.parametrize("mode", [[], ["--sequential"]], ids=["pipelined", "sequential"])
def test_every_frame_is_answered_as_the_host_would_have(fashion, tmp_path, mode):
    records = tmp_path / "r.csv"
    source = FASHION / "report.npz"
    with EdgeProcess(fashion.path, backend="auto") as edge:
        arguments = (fashion.path, "--source", source, "--count", COUNT, "--edge", edge.endpoint)
        board = on_host(f"flash={tmp_path / 'slots'}")
        # As long as it takes on a busy machine.
        more = ("--records", records, "--budget-s", WAIT_S, *board, *mode)
        with NodeProcess(*arguments, *more, backend=None) as node:
            code, ready, summary = node.end()
    assert code == 0, node.errors
    assert (ready["head"]["engine"], ready["head"]["board"]) == ("mcu", "host")
    assert summary["outcomes"]["remote"] == COUNT
    rows = {record.index: record for record in read_records(records)}
    assert [rows[k].answer for k in range(COUNT)] == [*reference_answers(fashion, source, COUNT)]
    assert all(0 < row.device_s < row.head_s for row in rows.values())


def test_boards_that_die_cost_no_frame_while_budgets_last(small, frames, tmp_path):
    records = tmp_path / "r.csv"
    with EdgeProcess(small.path) as edge:
        arguments = (small.path, "--source", frames, "--loop", "--count", 1500)
        more = ("--edge", edge.endpoint, "--budget-s", WAIT_S, "--records", records, *on_host())
        with NodeProcess(*arguments, *more, backend=None) as node:
            node.until(lambda: node.out, "ready")
            for deaths in (1, 2):
                size = records.stat().st_size
                node.until(lambda size=size: records.stat().st_size > size + 2000, "more records")
                (number,) = board_of(node)
                os.kill(number, signal.SIGKILL)
                node.until_said("is back", deaths)
            code, _, summary = node.end()
    assert code == 0, node.errors
    assert summary["outcomes"]["remote"] == 1500
    assert node.errors.count("starting it again") == 2
    answers = {row.index: row.answer for row in read_records(records)}
    assert all(answers[k] == expected(small, frame_array(k % 200))[1] for k in range(0, 1500, 113))


def test_a_node_that_is_stopped_or_killed_leaves_no_board(small, frames):
    for number in (signal.SIGTERM, signal.SIGKILL):
        with EdgeProcess(small.path) as edge:
            arguments = (small.path, "--source", frames, "--loop", "--edge", edge.endpoint)
            with NodeProcess(*arguments, *on_host(), backend=None) as node:
                node.until_said("connected to edge")
                (board,) = board_of(node)
                node.send(number)
                code, _, summary = node.end()
                node.until(lambda board=board: _ended(board), "the board's end")
        if number == signal.SIGTERM:
            assert code == 0, node.errors
            assert summary["frames"] == sum(summary["outcomes"].values())


def _ended(number):
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_a_board_that_is_unplugged_for_good_ends_frames_and_not_the_node(
    small, frames, tmp_path, request
):
    pytest.importorskip("serial", reason="pyserial is not installed (extra mcu)")
    from waistline_bridge.boards import open_board

    board = open_board("host", firmware=str(host_program()))
    request.addfinalizer(board.close)
    port = tmp_path / "ttyACM0"
    port.symlink_to(board.line.name)
    with EdgeProcess(small.path) as edge:
        arguments = (small.path, "--source", frames, "--loop", "--edge", edge.endpoint)
        more = ("--port", port, "--budget-s", "0.5")
        with NodeProcess(*arguments, *more, backend=None) as node:
            node.until_said("connected to edge")
            port.unlink()
            board.process.kill()
            node.until_said("ended as error(board)")
            node.send()
            code, ready, summary = node.end()
    assert code == 0, node.errors
    assert ready["head"]["emulated"] == "yes", "by its own word"
    assert summary["outcomes"]["error"] == summary["reasons"]["error(board)"] >= 1
    assert summary["frames"] == sum(summary["outcomes"].values())
    assert node.errors.count("waiting for it") == 1


def test_a_board_where_none_is_used_is_remarked_on(tmp_path, small, frames):
    with EdgeProcess(small.path) as edge:
        arguments = (small.path, "--source", frames, "--count", 2, "--edge", edge.endpoint)
        with NodeProcess(*arguments, "--board", "host", backend="blob") as node:
            code, ready, _ = node.end()
    assert (code, ready["head"]["engine"]) == (0, "interpreter")
    assert "no board is used" in node.errors


def test_both_ends_run_and_say_where_the_time_went(fashion, tmp_path):
    arguments = ("run", fashion.path, "--source", FASHION / "report.npz", "--count", COUNT)
    done = cli(*arguments, *on_host(), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    flat = " ".join(done.stdout.split())
    assert f"{COUNT} frames: {COUNT} remote" in flat
    assert "head on its board" in flat
    assert "host computed" in flat
    assert "emulated: its ticks are no time of a processor" in flat
    again = cli(*arguments, *on_host(), "--json", "--overlap", cwd=tmp_path)
    made = result(again, RunResult)
    for name in ("head_board_p50_s", "head_bridge_p50_s", "latency_p50_waist_s"):
        assert made.figures[name].evidence == "emulated"
    report = cli("report", Path(made.folder), "--recompute", cwd=tmp_path)
    assert report.returncode == 0, report.stderr
    page = (tmp_path / made.report).read_text()
    assert "head on its board" in page


def test_a_board_is_verified_here_and_through_a_pipe(fashion, tmp_path):
    probe = f"{sys.executable} -m waistline_node.probe"
    for more in ([], ["--via", probe]):
        done = cli("verify", fashion.path, "--backend", "mcu", *on_host(), *more, "--json",
                   cwd=tmp_path)  # fmt: skip
        report = result(done, VerifyResult).report
        assert done.returncode == 0, done.stderr
        assert report.backend == "mcu"
        assert report.codec == "firmware"
        assert report.engine["emulated"] == "yes"
        assert [(check.verdict, check.different) for check in report.tensors] == [("identical", 0)]
        assert report.answer_identical
    done = cli("verify", fashion.path, *on_host(), "--source", FASHION / "report.npz",
               "--frames", "5", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "mcu firmware" in done.stdout
    assert "0 of 31360 codes differ" in " ".join(done.stdout.split())


@needs_qemu
def test_live_split_inference_through_qemu(fashion, tmp_path):
    elf = board_elf("qemu-mps2-an386")
    done = cli(
        "run", fashion.path, "--source", FASHION / "report.npz", "--count", "10",
        "--board-option", f"firmware={elf}", "--json", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert result(done, RunResult).outcomes == {"remote": 10}
    assert "no board was chosen: qemu-mps2-an386 is emulated" in done.stderr


def test_reference_frames_are_all_different(fashion):
    """Else equal answers would say nothing."""
    answers = [*islice(reference_answers(fashion, FASHION / "report.npz", COUNT), COUNT)]
    assert len(set(answers)) > COUNT // 2


@needs_qemu
def test_the_demo_has_an_act_on_a_microcontroller(tmp_path):
    elf = board_elf("qemu-mps2-an386")
    there = {"WAISTLINE_FIRMWARE": str(elf.parent)}
    done = cli("demo", "--act", "mcu", "--frames", "8", "--json", cwd=tmp_path, env=there)
    assert done.returncode == 0, done.stderr
    (found,) = result(done, DemoResult).acts
    assert (found.example, found.outcomes) == ("mcu", {"remote": 8})
    assert found.figures["agreement"].value > 0.8
    assert found.figures["head_board_p50_s"].evidence == "emulated"


def test_the_demo_says_what_its_last_act_lacks(tmp_path):
    lacking = {"WAISTLINE_FIRMWARE": str(tmp_path)}
    done = cli("demo", "--act", "mcu", cwd=tmp_path, env=lacking)
    assert done.returncode in {2, 3}
    assert "fix" in done.stderr
