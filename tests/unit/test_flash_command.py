"""Any tool by a template: programs on PATH that fail in the words of the real ones."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
from flash_help import FLASH, calls, elf, ignore, pattern, program

from waistline.errors import ConfigError, LinkError, MissingExtra, VerificationFailed
from waistline_bridge.flash import Choice, _tool, open_flasher, read_image
from waistline_bridge.flash.base import FlashError, ImageTooBig, NoDevice, WrongChip

OPENOCD = "openocd -f board/st_nucleo_f4.cfg -c 'program {image} verify reset exit'"
DFU = "dfu-util -a 0 -s {address}:leave -D {image}"


@pytest.fixture
def tools(tmp_path, monkeypatch):
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "app.elf"
    path.write_bytes(elf([(FLASH, pattern(3000))]))
    return read_image(path)


def flasher(command, **choice):
    return open_flasher(Choice("command", command=command, **choice))


def test_openocd_is_run_as_the_template_says(tools, image):
    program(tools, "openocd", "print('** Verified OK **', file=sys.stderr)\n")
    ours = flasher(OPENOCD)
    (step,) = ours.plan(image)
    assert not calls(tools, "openocd")
    ours.flash(image, ignore)
    expected = ["-f", "board/st_nucleo_f4.cfg", "-c", f"program {image.path} verify reset exit"]
    assert calls(tools, "openocd") == [expected]
    assert list(step.command) == [str(tools / "openocd"), *expected]
    assert ours.verify(image).how == "tool"


def test_dfu_util_gets_the_address_and_nothing_is_claimed_that_it_did_not_do(tools, image):
    program(tools, "dfu-util", "print('Download\\t[=====    ]  50%          1500 bytes')\n")
    seen = []
    ours = flasher(DFU)
    ours.flash(image, lambda done, total: seen.append(done))
    expected = ["-a", "0", "-s", "0x08000000:leave", "-D", str(image.path)]
    assert calls(tools, "dfu-util") == [expected]
    assert seen == [1500, 3000]
    assert ours.verify(image).how == "not possible"


@pytest.mark.parametrize(
    ("template", "verdict"),
    [
        ("stm32loader -p {port} -e -w -v {image}", "tool"),
        ("stm32loader -p {port} -ewv {image}", "tool"),
        ("stm32loader -p {port} -e -w {image}", "not possible"),
        ("dfu-util -v -D {image}", "not possible"),
        ("st-flash write {image} {address}", "tool"),
    ],
)
def test_which_tools_were_told_to_compare(tools, image, template, verdict):
    program(tools, template.split()[0], "")
    ours = flasher(template, port="socket://127.0.0.1:1")
    ours.flash(image, ignore)
    assert ours.verify(image).how == verdict


@pytest.mark.parametrize(
    ("says", "kind", "what", "code"),
    [
        ("Error: open failed\n** OpenOCD init failed **", NoDevice, "no device answered", 3),
        ("dfu-util: No DFU capable USB device available", NoDevice, "no device answered", 3),
        ("dfu-util: More than one DFU capable USB device found! Try `--list' and specify",
         ConfigError, "none is guessed", 2),
        ("dfu-util: Cannot open DFU device 0483:df11 found on devnum 9 (LIBUSB_ERROR_ACCESS)",
         LinkError, "may not be opened", 4),
        ("Error: libusb_open() failed with LIBUSB_ERROR_BUSY", LinkError, "in use", 4),
        ("Warn : UNEXPECTED idcode: 0x0bc11477\nError: expected 1 of 1: 0x2ba01477",
         WrongChip, "another chip", 2),
        ("Error: checksum mismatch - attempting binary compare\n** Verify Failed **",
         VerificationFailed, "something else is on the device", 5),
        ("Error: no flash bank found for address 0x10000000", ImageTooBig, "does not fit", 2),
        ("Error: timed out while waiting for target halted", FlashError, "did not write", 4),
    ],
)  # fmt: skip
def test_failures_are_told_apart(tools, image, says, kind, what, code):
    program(tools, "openocd", f"print({says!r}, file=sys.stderr)\nsys.exit(1)\n")
    with pytest.raises(kind, match=what) as refused:
        flasher(OPENOCD).flash(image, ignore)
    assert refused.value.cause
    assert refused.value.fix
    assert refused.value.exit_code == code


@pytest.mark.parametrize(
    ("template", "seen"),
    [
        ("", "[flash] command is not set"),
        ("openocd -c 'program {image}", "No closing quotation"),
        ("openocd -c 'program {file}'", "{file} is not one of"),
        ("openocd -c program", "{image} is missing"),
        ("{image} -x", "must be written out"),
    ],
)
def test_templates_that_cannot_be_used(template, seen):
    with pytest.raises(ConfigError) as refused:
        flasher(template)
    assert seen in refused.value.cause
    assert "command = " in refused.value.fix


def test_no_shell_reads_the_template(tools, tmp_path, image):
    program(tools, "tool", "")
    mark = tmp_path / "ran"
    flasher(f"tool {{image}} ; touch {mark} $(touch {mark}) > {mark}").flash(image, ignore)
    assert not mark.exists()
    assert calls(tools, "tool")[0][1:3] == [";", "touch"]


def test_a_path_that_a_tools_own_script_would_obey_is_refused(tools, tmp_path):
    program(tools, "openocd", "")
    path = tmp_path / "app [exec reboot].elf"
    path.write_bytes(elf([(FLASH, pattern(64))]))
    image = read_image(path)
    with pytest.raises(ConfigError, match="cannot stand inside"):
        flasher(OPENOCD).flash(image, ignore)
    assert not calls(tools, "openocd")
    flasher("openocd {image}").flash(image, ignore)
    assert calls(tools, "openocd") == [[str(path)]], "as a word of its own it is only a name"


def test_an_address_of_a_file_in_pieces_is_not_one(tools, tmp_path):
    program(tools, "dfu-util", "")
    path = tmp_path / "app.elf"
    path.write_bytes(elf([(FLASH, pattern(64)), (FLASH + 4096, pattern(64))]))
    with pytest.raises(ConfigError, match="there is not one") as refused:
        flasher(DFU).plan(read_image(path))
    assert "2 pieces" in refused.value.cause


def test_an_image_for_another_chip_than_the_target_is_refused(tools, image):
    program(tools, "openocd", "")
    with pytest.raises(WrongChip, match="is not for rp2040"):
        flasher(OPENOCD, target="rp2040").plan(image)


@pytest.mark.parametrize(
    ("tool", "brings"),
    [("openocd", "sudo apt install openocd"), ("stm32loader", "pip install stm32loader"),
     ("frobnicate", "install frobnicate")],
)  # fmt: skip
def test_a_missing_tool_is_named_with_what_brings_it(tools, image, tool, brings):
    with pytest.raises(MissingExtra, match=f"{tool} is not installed") as refused:
        flasher(f"{tool} {{image}}").plan(image)
    assert brings in refused.value.fix


def test_a_tool_that_falls_silent_is_ended_with_its_children(tools, tmp_path):
    path = program(
        tools, "hangs",
        "import subprocess, time\n"
        f"child = subprocess.Popen(['{sys.executable}', '-c', 'import time; time.sleep(600)'])\n"
        f"pathlib.Path({str(tmp_path / 'child')!r}).write_text(str(child.pid))\n"
        "print('begun', flush=True)\ntime.sleep(600)\n",
    )  # fmt: skip
    with pytest.raises(FlashError, match="hangs hangs") as refused:
        _tool.run([str(path)], quiet_s=5)
    assert "begun" in refused.value.cause
    child = int((tmp_path / "child").read_text())
    until = time.monotonic() + 30
    while _runs(child) and time.monotonic() < until:
        time.sleep(0.05)
    assert not _runs(child)


def _runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_endless_output_is_kept_short(tools):
    path = program(
        tools, "talks", "for n in range(3000):\n    print('x' * 3000, n)\nprint('end')\n"
    )
    said = _tool.run([str(path)])
    assert len(said.text) < 100_000
    assert said.text.endswith("end\n")


def test_what_would_move_a_cursor_is_not_passed_on(tools):
    path = program(tools, "paints", "print('\\x1b[31merror\\x1b[0m: \\x07no')\nsys.exit(3)\n")
    assert _tool.run([str(path)]).last == "error: no"
