"""The node's head on a microcontroller, with the firmware as a program."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from bridge_help import host_program, needs_compiler
from mcu_bundles import (
    WAISTS,
    expected,
    expected_payload,
    frame_array,
    int8_head,
    mcu_bundle,
    sensor_frame,
)
from msgspec.structs import replace

from waistline.bench import DEFAULT, FLAG, resolve, with_board
from waistline.blob.interpret import run_head
from waistline.bundle.golden import read_frame
from waistline.bundle.store import Bundle
from waistline.errors import BridgeError, CodecError, ConfigError, VerificationFailed
from waistline.frame import SensorFrame
from waistline.verification.ends import EndChoice, LocalEnds
from waistline.verify import verify_ends
from waistline_bridge.attached import Attached
from waistline_node.ends import BoardEnds, open_ends
from waistline_node.heads.base import (
    DeviceWaist,
    HeadChoice,
    board_options,
    head_name,
    let_go,
    open_head,
)
from waistline_node.heads.mcu import board_opener
from waistline_node.runtime import reason_of

pytestmark = needs_compiler


@pytest.fixture(scope="module", params=[False, True], ids=["waist", "answer"])
def bundle(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("mcu") / "m.bundle"
    return mcu_bundle(path, answers=request.param)


def on_host(**more):
    return {"board": "host", "firmware": str(host_program()), **more}


@pytest.fixture
def mcu(bundle):
    opened = open_head(bundle, HeadChoice(options=on_host()))
    yield opened
    opened.close()


def test_frames_give_the_bytes_that_the_host_would_send(bundle, mcu):
    for index in range(5):
        encoded, times = mcu.run(sensor_frame(index))
        assert encoded.payload == expected_payload(bundle, frame_array(index))
        assert isinstance(encoded, DeviceWaist)
        assert 0 < encoded.device_s < times.head_ns * 1e-9
        if bundle.tail is not None:
            assert encoded.raw_len == bundle.waist_codec().raw_len


def test_encoding_a_boards_waist_changes_nothing(bundle, mcu):
    made = mcu.head(mcu.preprocess(sensor_frame(3)))
    assert (mcu.encode(made) is made) == (bundle.tail is not None)


def test_it_says_what_it_is(mcu):
    info = mcu.info()
    assert (info["engine"], info["board"], info["emulated"]) == ("mcu", "host", "yes")
    assert info["ticks"] == "SysTick or clock, 1000000000 Hz"
    assert info["features"] == "keeps emulated"
    assert int(info["build"], 16) == mcu.slice.attached.info.build
    assert (info["codec"], info["chosen"]) == ("firmware", "by name")


def test_layers_are_profiled_by_the_boards_ticks(mcu):
    profile = mcu.slice.profile([frame_array(0)], 3)
    assert (profile.method, len(profile.layers), profile.repeat) == ("native", 2, 3)
    assert profile.layers[0].output_bytes == WAISTS[1].size_bytes
    assert all(layer.duration_s > 0 for layer in profile.layers)
    assert profile.whole_s > sum(layer.duration_s for layer in profile.layers)
    assert "emulated" in profile.note


def test_a_frame_of_another_shape_ends_alone(bundle, mcu):
    with pytest.raises(CodecError):
        mcu.run(SensorFrame(0, (np.zeros((1, 2, 2, 6), np.int8),)))
    assert mcu.run(sensor_frame(1))[0].payload == expected_payload(bundle, frame_array(1))


def test_a_board_that_dies_between_frames_is_back_for_the_next(bundle):
    said = []
    choice = HeadChoice(options=on_host(), budget_s=60.0, say=said.append)
    opened = open_head(bundle, choice)
    first = opened.run(sensor_frame(1))[0].payload
    opened.slice.attached._board.process.kill()
    assert opened.run(sensor_frame(1))[0].payload == first
    assert said[-1] == "host is back, without its head"
    opened.close()


def test_auto_means_the_board_where_the_head_is_a_blob(bundle):
    assert head_name(bundle, "auto") == "mcu"
    assert head_name(bundle, "mcu") == "mcu"
    assert head_name(bundle, "blob") == "tensor"


def test_the_interpreter_gives_the_same_frames(bundle):
    plain = open_head(bundle, HeadChoice("blob"))
    for index in range(2):
        encoded = plain.run(sensor_frame(index))[0]
        assert encoded.payload == expected_payload(bundle, frame_array(index))
    plain.close()


def test_a_blob_without_a_golden_frame_runs(tmp_path):
    bare = mcu_bundle(tmp_path / "m.bundle", goldens=0)
    opened = open_head(bare, HeadChoice(options=on_host()))
    assert opened.run(sensor_frame(2))[0].payload == expected_payload(bare, frame_array(2))
    opened.close()


def test_a_bundle_of_another_head_is_refused(bundle):
    manifest = bundle.manifest
    stage = replace(manifest.stages[0], format="onnx")
    other = Bundle(bundle.path, replace(manifest, stages=(stage, *manifest.stages[1:])), bundle.id)
    with pytest.raises(ConfigError, match="no board can run this bundle's head") as refused:
        open_head(other, HeadChoice("mcu", options=on_host()))
    assert "a head in onnx" in refused.value.cause


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"board": "host", "port": "/dev/ttyACM0"}, "two devices"),
        ({"board": "nucleo-f999"}, "no emulated board 'nucleo-f999'"),
        ({"board": "host", "speed": "9"}, "no option 'speed'"),
        ({"port": "1:2:3"}, "no serial port 1:2:3"),
    ],
)
def test_boards_that_cannot_be_meant_are_refused(bundle, options, what):
    if "port" in options:
        pytest.importorskip("serial", reason="pyserial is not installed (extra mcu)")
    with pytest.raises(ConfigError, match=what) as refused:
        open_head(bundle, HeadChoice(options=options))
    assert refused.value.fix or refused.value.cause


def test_the_board_that_nobody_chose_is_named():
    said = []
    board_opener({}, said.append)
    assert "qemu-mps2-an386 is emulated" in said[0]
    board_opener({"board": "host"}, said.append)
    assert len(said) == 1


def test_choices_become_options():
    assert board_options("", "", 9600) == {"baud": "9600"}
    assert board_options("host", "", None, [("arena", "9")]) == {"board": "host", "arena": "9"}
    assert board_options("", "", None) == {}


def test_a_port_puts_the_bench_files_board_aside(tmp_path):
    file = tmp_path / "bench.toml"
    file.write_text('[node]\nboard = "host"\n')
    bench = with_board(resolve(file), FLAG, port="/dev/ttyACM0", baud=9600)
    node = bench.bench.node
    assert (node.board, node.port, node.baud) == ("", "/dev/ttyACM0", 9600)
    assert bench.origins["node.port"] == FLAG
    assert with_board(resolve(file), FLAG).bench.node.board == "host"
    assert resolve(file).origins["node.port"] == DEFAULT
    with pytest.raises(ConfigError, match="two devices"):
        with_board(resolve(file), FLAG, board="host", port="x")


def test_verification_judges_a_board_by_exact_codes(bundle):
    tail = EndChoice() if bundle.tail is None else EndChoice("fake")
    ends = open_ends(bundle, head=EndChoice("mcu", None, on_host()), tail=tail)
    assert isinstance(ends, BoardEnds)
    report = verify_ends(bundle, ends, ends, frames=[])
    assert report.ok, report.reasons
    assert report.head_at.head_backend == "mcu"
    assert report.head_at.head_engine["board"] == "host"
    run = ends.run_head(sensor_frame(4))
    codes, answer = expected(bundle, frame_array(4))
    assert run.codes == codes
    if bundle.tail is None:
        assert (run.values, run.answer) == ((), answer)
    else:
        assert ends.run_tail(run.codes) == answer
        for value, wanted in zip(run.values, run_head(int8_head(), [frame_array(4)]), strict=True):
            assert np.array_equal(value, wanted)
    ends.close()


def test_verification_on_this_machine_is_as_it_was(bundle):
    tail = EndChoice() if bundle.tail is None else EndChoice("fake")
    ends = open_ends(bundle, head=EndChoice(), tail=tail)
    assert isinstance(ends, LocalEnds)
    assert ends.run_head(read_frame(bundle)).codes == expected(bundle, frame_array(99))[0]
    ends.close()


def test_waiting_for_a_board_ends_when_the_run_does(mcu):
    assert not mcu.slice.attached._stopped.is_set()
    let_go(mcu)
    assert mcu.slice.attached._stopped.is_set()
    let_go(object())


def test_faults_of_a_board_have_a_reason_of_their_own():
    for fault in (BridgeError("x"), VerificationFailed("x")):
        assert reason_of(fault) == "board"


def test_opening_the_module_imports_no_pyserial():
    code = "import sys, waistline_node.heads.mcu; print('serial' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_nothing_is_left_running_when_the_head_cannot_be_opened(bundle, monkeypatch):
    opened = []
    real = Attached.__init__

    def keep(self, *args, **more):
        real(self, *args, **more)
        opened.append(self._board.process)

    monkeypatch.setattr(Attached, "__init__", keep)
    monkeypatch.setattr("waistline_node.heads.mcu.McuHead", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        open_head(bundle, HeadChoice(options=on_host()))
    assert opened[0].poll() is not None
