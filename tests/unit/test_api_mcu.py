"""The Python API of microcontrollers, on the host board: what it returns is the command's JSON."""

from __future__ import annotations

import json

import mcu_cli_help as help_
import msgspec
import pytest
from bridge_help import needs_compiler
from click.testing import CliRunner
from flash_help import calls, elf, pattern, program
from mcu_bundles import mcu_bundle
from mcu_cli_help import head_file
from small_models import write_classifier

from waistline import split
from waistline.bench import resolve
from waistline.errors import BundleError, ConfigError, VerificationFailed
from waistline.evidence import Evidence
from waistline_hostctl import api
from waistline_hostctl.verbs import group

pytestmark = needs_compiler
HOST = {"board": "host"}


@pytest.fixture(autouse=True)
def desk(tmp_path, monkeypatch):
    """A folder without bench file, and firmware of the host board."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WAISTLINE_FIRMWARE", str(help_.firmware_folder("host")))
    for name in ("BOARD", "PORT", "BAUD"):
        monkeypatch.delenv(f"WAISTLINE_NODE_{name}", raising=False)


def shape(found):
    """Keys and kinds of a JSON value, without what each run has its own of."""
    if isinstance(found, dict):
        return {key: shape(value) for key, value in found.items()}
    if isinstance(found, list):
        return [shape(value) for value in found]
    return type(found).__name__


def said(*words):
    done = CliRunner().invoke(group, [*map(str, words), "--json"])
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def same(result, *words):
    """Whether a result encodes to what the command prints."""
    own, printed = json.loads(api.encode(result)), said(*words)
    assert own["command"] == printed["command"]
    assert shape(own) == shape(printed)


def test_what_there_is_to_choose_from():
    found = api.ask_mcu()
    assert found.device is None
    assert "--board host" in {choice.id for choice in found.choices}
    same(found, "mcu", "info")


def test_a_device_is_asked():
    found = api.ask_mcu(**HOST)
    assert found.device is not None
    assert (found.device.board, found.device.emulated) == ("host", True)
    assert found.device.round_trip.unit == "s"
    same(found, "mcu", "info", "--board", "host")


def test_the_bench_names_the_board():
    bench = resolve(flags={"node.board": "host"})
    found = api.ask_mcu(bench=bench)
    assert found.device is not None
    assert found.device.board == "host"


def test_a_head_is_loaded(tmp_path):
    blob, slots = head_file(tmp_path / "head.blob"), {"flash": str(tmp_path / "slots")}
    first = api.load_mcu(blob, **HOST, board_options=slots)
    again = api.load_mcu(blob, **HOST, board_options=slots)
    forced = api.load_mcu(blob, **HOST, board_options=slots, force=True)
    assert [each.already for each in (first, again, forced)] == [False, True, True]
    assert [bool(each.figures) for each in (first, again, forced)] == [True, False, True]
    same(first, "mcu", "load", blob, "--board", "host")


def test_a_head_that_gives_other_codes_is_refused(tmp_path):
    with pytest.raises(VerificationFailed, match="does not reproduce"):
        api.load_mcu(head_file(tmp_path / "wrong.blob", wrong=1), **HOST)


def test_a_head_is_measured(tmp_path):
    blob = head_file(tmp_path / "head.blob")
    found = api.bench_mcu(blob, **HOST, repeat=2, frames=2)
    assert (found.repeat, found.frames, len(found.layers)) == (2, 2, 3)
    assert found.figures["frame_duration"].n == 2
    same(found, "mcu", "bench", blob, "--board", "host", "--repeat", 2, "--frames", 2)


def test_bytes_on_an_emulated_line_are_measured_and_times_emulated(tmp_path):
    blob = head_file(tmp_path / "head.blob")
    for found in (api.load_mcu(blob, **HOST), api.bench_mcu(blob, **HOST)):
        assert {row.unit for row in found.figures.values()} == {"byte", "s"}
        for name, row in found.figures.items():
            wanted = Evidence.MEASURED if row.unit == "byte" else Evidence.EMULATED
            assert row.evidence is wanted, name


@pytest.mark.parametrize("wrong", [{"repeat": 0}, {"frames": -1}, {"icount": True}])
def test_what_cannot_be_measured_is_refused(tmp_path, wrong):
    with pytest.raises(ConfigError):
        api.bench_mcu(head_file(tmp_path / "head.blob"), **HOST, **wrong)


def test_a_bundle_is_verified_on_a_board(tmp_path):
    bundle = mcu_bundle(tmp_path / "a.bundle").path
    found = api.verify_device(bundle, **HOST)
    assert found.ok
    assert found.report.head_at.head_backend == "mcu"
    assert not found.report.reasons
    same(found, "verify", bundle, "--board", "host")


def test_verify_refuses_what_says_nothing(tmp_path):
    with pytest.raises(ConfigError, match="--frames says nothing without --source"):
        api.verify_device(tmp_path, frames=3)


@pytest.fixture
def openocd(tmp_path, monkeypatch):
    """A stand-in on PATH, and the settings that name it."""
    tools = tmp_path / "tools"
    tools.mkdir()
    monkeypatch.setenv("PATH", str(tools), prepend=":")
    program(tools, "openocd", "print('** Verified OK **', file=sys.stderr)\n")
    bench = tmp_path / "bench.toml"
    bench.write_text("[flash]\ncommand = 'openocd -c \"program {image} verify reset exit\"'\n")
    return tools


@pytest.mark.parametrize("dry_run", [True, False])
def test_an_image_is_flashed(tmp_path, openocd, dry_run):
    image = tmp_path / "app.elf"
    image.write_bytes(elf([(0x0800_0000, pattern(256))]))
    found = api.flash_mcu(image, via="command", dry_run=dry_run, bench=resolve("bench.toml"))
    assert found.image.ranges == ((0x0800_0000, 256),)
    assert str(image) in found.steps[0].command
    assert found.verified == ("" if dry_run else "tool")
    assert len(calls(openocd, "openocd")) == (0 if dry_run else 1)
    same(found, "flash", image, "--via", "command", *(["--dry-run"] if dry_run else []))


def test_ways_to_flash_are_listed(tmp_path):
    found = api.flash_methods("uf2")
    assert [row.name for row in found.methods] == ["uf2"]
    same(found, "flash", "--list", "--via", "uf2")


def test_nothing_to_flash_is_refused():
    with pytest.raises(ConfigError, match="nothing to flash"):
        api.flash_mcu()


def test_results_read_back():
    found = api.ask_mcu(**HOST)
    assert msgspec.json.decode(api.encode(found), type=api.McuInfoResult, strict=True) == found


@pytest.mark.parametrize("run", [api.verify_device, api.run_pair])
@pytest.mark.parametrize("where", [HOST, {"port": "/dev/ttyACM0"}])
def test_a_board_that_would_take_no_part_is_refused(tmp_path, run, where):
    bundle = split(write_classifier(tmp_path), "b", tmp_path / "a.bundle").path
    with pytest.raises(BundleError, match="no head for a microcontroller"):
        run(bundle, **where)
    assert not (tmp_path / "runs").exists()


def test_a_word_that_is_no_command_is_answered_with_those_there_are():
    done = CliRunner().invoke(group, ["mcu", "lode"])
    assert done.exit_code == 2
    assert "known: bench, build, emulate, info, load" in done.stderr
