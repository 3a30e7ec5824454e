"""``waistline mcu info``, ``load`` and ``bench``, with the host board, and devices that lie."""

from __future__ import annotations

import json
import re
import time

import mcu_cli_help as help_
import pytest
from bridge_help import needs_compiler
from mcu_bundles import mcu_bundle
from mcu_cli_help import FakeDevice, call, head_file, needs_arm, needs_qemu

from waistline.evidence import Evidence
from waistline_bridge.split import HEAD_LAYERS
from waistline_hostctl import mcu_open
from waistline_hostctl.mcu_info import core
from waistline_hostctl.mcu_results import McuBenchResult, McuInfoResult, McuLoadResult
from waistline_hostctl.results import ErrorResult, decode

pytestmark = needs_compiler
HOST = ("--board", "host")


@pytest.fixture(autouse=True)
def desk(tmp_path, monkeypatch):
    """A folder without bench file, and firmware of the host board."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WAISTLINE_FIRMWARE", str(help_.firmware_folder("host")))
    for name in ("BOARD", "PORT", "BAUD"):
        monkeypatch.delenv(f"WAISTLINE_NODE_{name}", raising=False)


def as_json(kind, *arguments):
    done = call(*arguments, "--json")
    assert done.exit_code == 0, done.stderr
    return decode(done.stdout, kind)


def kept(tmp_path):
    """Options of a host board whose slots outlive it."""
    return (*HOST, "--board-option", f"flash={tmp_path / 'slots'}")


def test_info_without_a_board_lists_what_there_is():
    found = as_json(McuInfoResult, "info")
    assert found.device is None
    assert "--board host" in {choice.id for choice in found.choices}
    assert "--board host" in call("info").stdout


def test_info_says_what_a_device_is():
    device = as_json(McuInfoResult, "info", *HOST).device
    assert (device.board, device.emulated, device.protocol) == ("host", True, 1)
    assert device.head is None
    assert device.stack_free_bytes is None
    assert device.round_trip.evidence is Evidence.EMULATED
    assert device.round_trip.n > 1
    shown = call("info", *HOST).stdout
    assert "head      none: waistline mcu load" in shown
    assert max(map(len, shown.splitlines())) <= 100


@pytest.mark.parametrize(
    ("cpuid", "name"),
    [(0x410FC241, "Cortex-M4 r0p1"), (0x411FD221, "Cortex-M55 r1p1"),
     (0x12345678, "unknown processor, CPUID 12345678")],
)  # fmt: skip
def test_a_core_is_known_by_its_cpuid(cpuid, name):
    assert core(cpuid) == name


def test_a_head_is_loaded_once_and_checked_there(tmp_path):
    blob = head_file(tmp_path / "head.blob")
    first = as_json(McuLoadResult, "load", blob, *kept(tmp_path))
    assert (first.already, first.goldens, first.sequence, first.ends) == (False, 1, 1, True)
    assert first.figures["upload_bytes"].value > len(blob.read_bytes())
    assert first.blob_left_bytes > 0
    again = as_json(McuLoadResult, "load", blob, *kept(tmp_path))
    assert (again.already, again.goldens, again.sequence, again.figures) == (True, 1, 1, {})
    forced = as_json(McuLoadResult, "load", blob, "--force", *kept(tmp_path))
    assert (forced.already, forced.sequence) == (True, 2)
    device = as_json(McuInfoResult, "info", *kept(tmp_path)).device
    assert (device.head.crc, device.head.layers, device.head.goldens) == (first.crc, 2, 1)


def test_load_says_what_it_did_and_that_the_board_is_gone(tmp_path):
    blob = head_file(tmp_path / "head.blob")
    done = call("load", blob, *kept(tmp_path))
    assert "1 golden input gives its output" in done.stdout
    assert "note: host ended with this command" in done.stderr
    assert "it was there already" in call("load", blob, *kept(tmp_path)).stdout


def test_another_golden_output_ends_with_5(tmp_path):
    done = call("load", head_file(tmp_path / "head.blob", wrong=1), *HOST, "--json")
    assert done.exit_code == 5
    assert "does not reproduce" in decode(done.stdout, ErrorResult).what


def test_a_head_that_does_not_fit_is_refused_before_anything_is_sent(tmp_path):
    blob = head_file(tmp_path / "head.blob")
    options = (*kept(tmp_path), "--board-option", "arena=4096")
    done = call("load", blob, *options)
    assert done.exit_code == 2
    assert "the head does not fit host" in done.stderr
    assert "it has 4096" in done.stderr
    assert as_json(McuInfoResult, "info", *options).device.head is None


@pytest.mark.parametrize("content", [b"", b"WLB1" + bytes(100), None])
def test_what_is_no_head_is_refused(tmp_path, content):
    path = tmp_path / "head.blob"
    if content is not None:
        path.write_bytes(content)
    done = call("load", path, *HOST)
    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 3


def test_bench_gives_each_layer_its_share_and_no_time_to_an_emulated_board(tmp_path):
    blob = head_file(tmp_path / "head.blob")
    found = as_json(McuBenchResult, "bench", blob, *HOST, "--repeat", 2, "--frames", 2)
    assert [layer.operator for layer in found.layers] == [
        "lookup", "max pool 2x2/2", "coding 4 bit|none",
    ]  # fmt: skip
    assert [layer.shape for layer in found.layers] == ["8x10x6", "4x5x6", ""]
    assert sum(layer.share for layer in found.layers) == pytest.approx(1)
    assert all(layer.cost is None and layer.cycles is None for layer in found.layers)
    assert "total" not in found.figures
    assert "not of a microcontroller" in found.tick_meaning
    assert found.figures["input_bytes"].value == 480
    assert found.figures["waist_bytes"].value == 64
    assert found.figures["waist_bytes"].evidence is Evidence.MEASURED
    assert found.figures["line_up_bytes"].value > 480
    assert found.figures["frame_duration"].evidence is Evidence.EMULATED
    assert found.figures["frame_duration"].n == 2


def test_bench_names_layers_as_the_bundle_does_and_counts_their_macs(tmp_path):
    bundle = mcu_bundle(tmp_path / "small.bundle")
    unnamed = as_json(McuBenchResult, "bench", bundle.path, *HOST)
    assert {layer.name for layer in unnamed.layers} == {""}
    for names in (["first", "second"], ["only one"], "no list", [1, 2]):
        bundle.write_evidence({HEAD_LAYERS: names})
        found = as_json(McuBenchResult, "bench", bundle.path, *HOST)
        if names == ["first", "second"]:
            assert [layer.name for layer in found.layers] == ["first", "second", ""]
        else:
            assert {layer.name for layer in found.layers} == {""}
    conv, pool, coding = found.layers
    high, wide, channels = map(int, conv.shape.split("x"))
    assert (conv.operator, conv.macs) == ("conv 3x3", high * wide * channels * 9 * 6)
    assert pool.macs == coding.macs == 0
    assert coding.operator == "coding 3 bit|ctx, 4 bit|none"


def test_load_and_bench_say_bundle_and_head_and_info_the_head(tmp_path):
    bundle = mcu_bundle(tmp_path / "small.bundle")
    loaded = as_json(McuLoadResult, "load", bundle.path, *kept(tmp_path))
    measured = as_json(McuBenchResult, "bench", bundle.path, *HOST)
    assert loaded.bundle_id == measured.bundle_id == bundle.id
    assert loaded.id == measured.id != bundle.id
    for verb in ("load", "bench"):
        shown = call(verb, bundle.path, *HOST).stdout
        assert re.search(rf"^ *bundle +{bundle.id[:12]} \(", shown, re.MULTILINE)
        assert re.search(rf"^ *head +{loaded.id},", shown, re.MULTILINE)
    assert re.search(rf"^head +{loaded.id},", call("info", *kept(tmp_path)).stdout, re.MULTILINE)
    blob = head_file(tmp_path / "head.blob")
    assert as_json(McuBenchResult, "bench", blob, *HOST).bundle_id == ""
    assert "bundle " not in call("load", blob, *HOST).stdout


def test_bench_models_a_uart_from_the_bytes_it_counted(tmp_path):
    blob = head_file(tmp_path / "head.blob")
    found = as_json(McuBenchResult, "bench", blob, *HOST)
    up = found.figures["line_up_bytes"].value
    slowest = found.uart[0]
    assert slowest.up.value == pytest.approx(10 * up / slowest.baud)
    assert {row.up.evidence for row in found.uart} == {Evidence.MODELLED}
    shown = call("bench", "head.blob", *HOST).stdout
    assert "modelled" in shown
    assert max(map(len, shown.splitlines())) <= 100


@needs_arm
@needs_qemu
def test_bench_counts_the_same_instructions_each_time(tmp_path, monkeypatch):
    board = "qemu-mps2-an386"
    monkeypatch.setenv("WAISTLINE_FIRMWARE", str(help_.firmware_folder(board)))
    blob = head_file(tmp_path / "head.blob")
    runs = [
        as_json(McuBenchResult, "bench", blob, "--board", board, "--icount", "--frames", 1)
        for _ in range(2)
    ]
    costs = [[layer.cost.value for layer in run.layers] for run in runs]
    assert costs[0] == costs[1]
    total = runs[0].figures["total"]
    assert (total.unit, total.evidence) == ("instruction", Evidence.EMULATED)
    assert total.value == pytest.approx(sum(costs[0]))
    assert runs[0].layers[0].cost.value == runs[0].layers[0].ticks * 1.25, "25 MHz, 32 ns"
    clocked = as_json(McuBenchResult, "bench", blob, "--board", board, "--frames", 1)
    assert "no measure" in clocked.tick_meaning
    assert not any(layer.cost for layer in clocked.layers)


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("info", "--board", "host", "--port", "/dev/ttyACM0"), "two devices"),
        (("info", "--board", "host", "--baud", "9600"), "--baud goes with --port"),
        (("info", "--board", "nothing"), "there is no emulated board 'nothing'"),
        (("info", "--board", "host", "--board-option", "icount"), "cannot be used"),
        (("info", "--board", "host", "--board-option", "colour=red"), "no option 'colour'"),
        (("bench", "head.blob", "--board", "host", "--icount"), "cannot count instructions"),
        (("bench", "head.blob", "--port", "/dev/null", "--icount"), "--icount goes with --board"),
        (("info", "--port", "socket://nowhere"), "is no address"),
    ],
)
def test_options_that_do_not_go_together_are_named(tmp_path, arguments, what):
    head_file(tmp_path / "head.blob")
    done = call(*arguments)
    assert done.exit_code == 2
    assert what in done.stderr


def test_the_bench_file_names_the_board_and_a_flag_puts_it_aside(tmp_path):
    (tmp_path / "bench.toml").write_text('[node]\nport = "/dev/waistline-none"\n')
    done = call("info")
    assert done.exit_code == 4
    assert "/dev/waistline-none" in done.stderr
    assert as_json(McuInfoResult, "info", *HOST).device.board == "host"
    (tmp_path / "bench.toml").write_text('[node]\nboard = "host"\n')
    assert as_json(McuInfoResult, "info").device.board == "host"


@pytest.mark.parametrize(
    ("device", "what"),
    [
        (FakeDevice, "no reply to PING"),
        (lambda: FakeDevice(noise=b"\x00\xffboot: hello\r\n"), "no reply to PING"),
        (lambda: FakeDevice(lambda frame: b"\0\1\2\3\0" * 9), "no reply to PING"),
        (lambda: FakeDevice(help_.other_version), "speaks version 9"),
        (lambda: FakeDevice(help_.short_info), "not a reply to INFO"),
    ],
    ids=["silent", "noise", "garbage", "version", "short"],
)
def test_what_is_no_board_of_ours_is_found_out_soon(monkeypatch, device, what):
    pytest.importorskip("serial", reason="pyserial is not installed (extra mcu)")
    # Only where nothing will come is the wait a short one.
    monkeypatch.setattr(mcu_open, "GREET_S", 0.6 if "no reply" in what else 15.0)
    with device() as there:
        began = time.monotonic()
        done = call("info", "--port", there.path, "--json")
        assert time.monotonic() - began < 20
    assert done.exit_code == 4
    assert what in done.stderr
    assert json.loads(done.stdout)["exit_code"] == 4


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({"output_bytes": 65}, "announces more than its head can give"),
        ({"active_crc": 5}, "does not hold the head that it took"),
    ],
)
def test_a_board_that_lies_about_its_head_is_found_out_at_once(tmp_path, more, what):
    pytest.importorskip("serial", reason="pyserial is not installed (extra mcu)")
    blob = head_file(tmp_path / "head.blob")
    for verb in ("load", "bench"):
        device = help_.TakesAll(**more)
        with FakeDevice(device) as there:
            done = call(verb, blob, "--port", there.path, "--json")
        assert done.exit_code == 4
        assert what in done.stderr
        assert json.loads(done.stdout)["exit_code"] == 4
        assert device.reads == 0
