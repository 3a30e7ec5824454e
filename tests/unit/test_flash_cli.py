"""``waistline flash``: what follows from what was said, lists, plans, results and exit codes."""

from __future__ import annotations

import json
import shutil
import sys

import pytest
from bridge_help import board_elf
from click.testing import CliRunner
from flash_help import FLASH, elf, pattern, program, uf2_block

from waistline_bridge.boards.qemu import PROGRAM
from waistline_bridge.flash import UNTRIED, names
from waistline_bridge.flash import uf2 as drives
from waistline_hostctl.flash_results import FlashListResult, FlashResult
from waistline_hostctl.results import decode
from waistline_hostctl.verbs import group

needs_qemu = pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in ("arm-none-eabi-gcc", "make", PROGRAM)),
    reason=f"there is no {PROGRAM}, or no compiler for Arm (gcc-arm-none-eabi)",
)
BOARD = "qemu-mps2-an386"


@pytest.fixture
def call(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(drives, "drives", list)

    def run(*arguments):
        return CliRunner().invoke(group, ["flash", *map(str, arguments)])

    return run


@pytest.fixture
def pico(tmp_path):
    folder = tmp_path / "RPI-RP2"
    folder.mkdir()
    (folder / drives.INFO).write_text("Model: Raspberry Pi RP2\nBoard-ID: RPI-RP2\n")
    (tmp_path / "app.elf").write_bytes(elf([(0x10000000, pattern(5000))]))
    return folder


def test_the_list_says_of_each_method_what_it_was_tried_on(call):
    done = call("--list")
    assert done.exit_code == 0
    for name in names():
        assert f"\n{name} " in f"\n{done.output}"
    assert done.output.count(UNTRIED) == len(names()) - 1, "all but qemu"
    assert f"--via qemu --board {BOARD}" in done.output
    assert ".." not in done.output, "what it was tried on is not cut short"


def test_the_list_goes_on_where_a_package_is_missing(call, monkeypatch):
    monkeypatch.delitem(sys.modules, "waistline_bridge.flash.smp", raising=False)
    monkeypatch.setitem(sys.modules, "smpclient", None)
    listed = decode(call("--list", "--json").stdout, FlashListResult)
    found = {row.name: row for row in listed.methods}
    assert found["smp"].state == "missing extra"
    assert "pip install" in found["smp"].fix
    assert found["smp"].tried == UNTRIED
    assert found["qemu"].state == "ready"


def test_a_list_of_one_method(call):
    listed = decode(call("--list", "--via", "qemu", "--json").stdout, FlashListResult)
    assert [row.name for row in listed.methods] == ["qemu"]


def test_a_plan_is_shown_and_nothing_done(call, pico):
    done = call("app.elf", "--drive", pico, "--dry-run", "--json")
    assert done.exit_code == 0
    result = decode(done.stdout, FlashResult)
    assert (result.method, result.dry_run, result.verified) == ("uf2", True, "")
    assert result.image.ranges == ((0x10000000, 5000),)
    assert [path.name for path in pico.iterdir()] == [drives.INFO]
    said = call("app.elf", "--drive", pico, "--dry-run").output
    assert "nothing is written" in said
    assert UNTRIED in said


def test_what_was_written_is_said_with_what_is_known_of_it(call, pico):
    done = call("app.elf", "--drive", pico, "--no-verify", "--json")
    assert done.exit_code == 0
    assert UNTRIED in done.stderr
    result = decode(done.stdout, FlashResult)
    assert (result.verified, result.dry_run) == ("not asked for", False)
    assert (pico / drives.NAME).stat().st_size == 20 * 512


def test_a_verification_that_fails_ends_with_5(call, pico):
    done = call("app.elf", "--drive", pico, "--option", "wait=0")
    assert done.exit_code == 5
    assert "did not take the image" in done.stderr
    assert done.stderr.count("\n") == 4, "a note, and what, cause and fix"


@pytest.mark.parametrize(
    ("arguments", "code", "seen"),
    [
        ((), 2, "nothing to flash"),
        (("app.elf",), 2, "how is app.elf to be written?"),
        (("none.elf", "--via", "uf2"), 2, "cannot be read"),
        (("app.elf", "--via", "pigeon"), 2, "pigeon"),
        (("app.elf", "--via", "uf2", "--option", "wait"), 2, "--option wait"),
        (("app.elf", "--via", "uf2", "--address", "0x10"), 2, "--address does not go"),
        (("app.elf", "--via", "uf2", "--address", "ten"), 2, "--address ten"),
        (("app.elf", "--via", "uf2", "--address", "0x100000000"), 2, "--address 0x1"),
        (("--board", "pico"), 2, "no board 'pico'"),
        (("app.elf", "--via", "uf2"), 3, "no drive was found"),
        (("app.uf2",), 3, "no drive was found"),
        (("app.elf", "--via", "command"), 2, "no command to flash with"),
        (("app.elf", "--via", "qemu", "--board", BOARD, "--option", "speed=9"), 2, "speed"),
    ],
)
def test_exit_codes_and_three_parts(call, pico, tmp_path, arguments, code, seen):
    (tmp_path / "app.uf2").write_bytes(uf2_block(0x10000000, pattern(256)))
    done = call(*arguments)
    assert done.exit_code == code
    assert seen in done.stderr
    for part in ("error: ", "cause: ", "fix:   "):
        assert part in done.stderr


def test_the_template_comes_from_the_bench_file(call, tmp_path, monkeypatch):
    program(tmp_path, "openocd", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "app.elf").write_bytes(elf([(FLASH, pattern(500))]))
    (tmp_path / "bench.toml").write_text(
        "[flash]\ncommand = \"openocd -c 'program {image} verify reset exit'\"\n"
    )
    result = decode(call("app.elf", "--via", "command", "--json").stdout, FlashResult)
    assert result.verified == "tool"
    assert result.steps[0].command.endswith(f"'program {tmp_path / 'app.elf'} verify reset exit'")


def test_json_of_a_failure_is_one_object(call):
    found = json.loads(call("--json").stdout)
    assert found["command"] == "error"
    assert found["exit_code"] == 2


@needs_qemu
def test_a_board_is_flashed_without_hardware(call):
    done = call(board_elf(BOARD), "--json")
    assert done.exit_code == 0
    assert UNTRIED not in done.stderr
    result = decode(done.stdout, FlashResult)
    assert (result.method, result.image.board) == ("qemu", BOARD)
    assert result.verified == "device's hash"


@needs_qemu
def test_another_boards_firmware_and_another_build_are_found_out(call, tmp_path):
    done = call(board_elf(BOARD), "--board", "qemu-mps2-an385")
    assert done.exit_code == 2
    assert f"it is firmware of board {BOARD}" in done.stderr
    # Its name hidden from us, it still says who it is.
    hidden = tmp_path / "hidden.elf"
    hidden.write_bytes(board_elf(BOARD).read_bytes().replace(BOARD.encode(), b"some-board-or-o"))
    done = call(hidden, "--board", BOARD)
    assert done.exit_code == 2
    assert "it runs, and says that it is some-board-or-o" in done.stderr


@needs_qemu
def test_a_build_that_does_not_answer_as_the_image_says_fails(call, tmp_path):
    from waistline_bridge.flash import read_image

    path = board_elf(BOARD)
    data, build = path.read_bytes(), read_image(path).build
    # The symbol stands behind what is loaded, the code's own copy before it.
    at = data.rindex(build.to_bytes(4, "little"))
    other = tmp_path / "other.elf"
    other.write_bytes(data[:at] + bytes(4) + data[at + 4 :])
    done = call(other)
    assert done.exit_code == 5
    assert "runs another build" in done.stderr


def test_qemu_refuses_what_it_cannot_start(call, tmp_path):
    (tmp_path / "esp.elf").write_bytes(elf([(0x400D0000, pattern(64))], 94))
    done = call("esp.elf", "--via", "qemu", "--board", BOARD)
    assert "it is for xtensa" in done.stderr
    (tmp_path / "app.bin").write_bytes(pattern(64))
    done = call("app.bin", "--via", "qemu", "--board", BOARD)
    assert "QEMU takes an ELF" in done.stderr
    done = call("esp.elf", "--via", "qemu")
    assert "which board is it for?" in done.stderr
