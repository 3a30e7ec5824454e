"""Stock esptool, in its own process, with an emulated ESP32 ROM."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import re
import shutil
import socket
from pathlib import Path

import pytest
from esp32_rom import ESP32S2_MAGIC, FLASH_DATA, FLASH_MD5, Esp32Rom
from flash_help import calls, elf, esp_image, ignore, pattern, program

from waistline.errors import ConfigError, LinkError, LinkTimeout, MissingExtra, VerificationFailed
from waistline_bridge.flash import Choice, open_flasher, read_image
from waistline_bridge.flash.base import FlashError, ImageTooBig, NoDevice, WrongChip

ROOT = Path(__file__).resolve().parents[2]
needs_esptool = pytest.mark.skipif(
    shutil.which("esptool") is None and importlib.util.find_spec("esptool") is None,
    reason="esptool is not installed (extra esptool)",
)
ROM = {"before": "no-reset", "after": "no-reset", "stub": "off", "attempts": "1", "baud": "115200"}
PLACE = 0x10000


def flasher(port, target="esp32", verify=True, **options):
    return open_flasher(
        Choice("esptool", port=port, target=target, verify=verify, options={**ROM, **options})
    )


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "app.bin"
    path.write_bytes(pattern(20_000))
    return read_image(path, PLACE)


@needs_esptool
@pytest.mark.parametrize("target", ["esp32", ""])
def test_stock_esptool_writes_and_verifies(image, target):
    seen = []
    with Esp32Rom() as rom:
        ours = flasher(rom.port, target)
        ours.flash(image, lambda done, total: seen.append((done, total)))
        assert rom.flash[PLACE : PLACE + 20_000] == pattern(20_000)
        assert set(rom.flash[:PLACE]) == {0xFF}
        assert rom.seen.count(FLASH_DATA) == 20
        asked = rom.seen.count(FLASH_MD5)
        assert ours.verify(image).how == "device's hash"
        assert rom.seen.count(FLASH_MD5) > asked
    assert len(set(seen)) > 5, "progress is read from its percentages"
    assert seen == sorted(seen)
    assert seen[-1] == (20_000, 20_000)


@needs_esptool
def test_what_is_there_already_is_told_from_what_is_not(image):
    with Esp32Rom() as rom:
        with pytest.raises(VerificationFailed, match="holds something else"):
            flasher(rom.port).verify(image)
        rom.flash[PLACE : PLACE + 20_000] = pattern(20_000)
        assert flasher(rom.port).verify(image)


@needs_esptool
@pytest.mark.parametrize(
    ("rom", "kind", "what", "code"),
    [
        ({"magic": ESP32S2_MAGIC}, WrongChip, "is not an ESP32", 2),
        ({"wears": True}, VerificationFailed, "holds something else", 5),
        ({"breaks_at": 3}, FlashError, "was not written", 4),
        ({"hangs_up_at": 3}, LinkError, "broke", 4),
        ({"silent": True}, LinkTimeout, "no bootloader answers", 4),
    ],
)
def test_failures_are_told_apart(image, rom, kind, what, code):
    with Esp32Rom(**rom) as chip, pytest.raises(kind, match=what) as refused:
        flasher(chip.port).flash(image, ignore)
    assert refused.value.cause
    assert refused.value.fix
    assert refused.value.exit_code == code


@needs_esptool
def test_the_images_own_chip_is_asked_for(tmp_path):
    path = tmp_path / "app.bin"
    path.write_bytes(esp_image(0, 2000))
    with Esp32Rom(magic=ESP32S2_MAGIC) as rom, pytest.raises(WrongChip, match="not an ESP32"):
        flasher(rom.port, "").flash(read_image(path, PLACE), ignore)


@needs_esptool
def test_an_image_past_the_end_of_the_flash(image, tmp_path):
    path = tmp_path / "big.bin"
    path.write_bytes(bytes(4 << 20))
    with Esp32Rom() as rom, pytest.raises(ImageTooBig, match="too big") as refused:
        flasher(rom.port).flash(read_image(path, PLACE), ignore)
    assert "4194304 bytes of flash" in refused.value.cause


@needs_esptool
def test_nobody_at_the_port(image):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = f"socket://127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(LinkError, match="cannot be opened"):
        flasher(port).flash(image, ignore)


def test_a_plan_has_the_exact_commands_and_opens_nothing(tmp_path, image, monkeypatch):
    tool = program(tmp_path, "esptool", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    write, compare = flasher("/dev/ttyUSB9").plan(image)
    front = [str(tool), "--chip", "esp32", "--port", "/dev/ttyUSB9", "--baud", "115200"]
    front += ["--before", "no-reset", "--after", "no-reset", "--connect-attempts", "1", "--no-stub"]
    assert list(write.command) == [*front, "write-flash", "0x10000", str(image.path)]
    assert list(compare.command) == [*front, "verify-flash", "0x10000", str(image.path)]
    assert not calls(tmp_path, "esptool")


def test_the_chip_is_reset_when_the_last_step_is_done(tmp_path, image, monkeypatch):
    program(tmp_path, "esptool", "")
    monkeypatch.setenv("PATH", str(tmp_path))

    def resets(verify):
        steps = open_flasher(Choice("esptool", port="/dev/x", verify=verify)).plan(image)
        return [step.command[step.command.index("--after") + 1] for step in steps]

    assert resets(verify=True) == ["no-reset", "hard-reset"]
    assert resets(verify=False) == ["hard-reset"]


def test_an_esptool_that_is_too_old_is_named(tmp_path, image, monkeypatch):
    program(tmp_path, "esptool", "print('esptool.py v4.7.0')\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingExtra, match="esptool 5 is needed") as refused:
        flasher("socket://127.0.0.1:9").flash(image, ignore)
    assert "v4.7" in refused.value.cause
    assert "pip install 'waistline[esptool]'" in refused.value.fix


def test_a_missing_esptool_is_named(image):
    with pytest.raises(MissingExtra, match="is not installed") as refused:
        flasher("/dev/ttyUSB9", tool="esptool-that-is-not").plan(image)
    assert "waistline[esptool]" in refused.value.fix
    assert refused.value.exit_code == 3


def test_only_a_bin_can_be_written(tmp_path):
    path = tmp_path / "app.elf"
    path.write_bytes(elf([(0x400D0000, pattern(64))], 94))
    with pytest.raises(ConfigError, match="cannot be written by esptool") as refused:
        flasher("/dev/x").plan(read_image(path))
    assert "elf2image" in refused.value.fix


def test_an_image_for_another_chip_is_refused_before_anything_is_opened(tmp_path):
    path = tmp_path / "app.bin"
    path.write_bytes(esp_image(5))
    with pytest.raises(WrongChip, match="is not for esp32"):
        flasher("/dev/x").plan(read_image(path, 0))


@pytest.fixture
def terminal():
    master, slave = os.openpty()
    yield os.ttyname(slave)
    os.close(master)
    os.close(slave)


def test_a_port_that_somebody_has_is_said_to_be_in_use(tmp_path, image, terminal, monkeypatch):
    program(tmp_path, "esptool", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    with open(terminal, "rb", buffering=0) as holder:  # noqa: PTH123  a device
        fcntl.flock(holder, fcntl.LOCK_EX)
        with pytest.raises(LinkError, match="is in use") as refused:
            flasher(terminal).flash(image, ignore)
    assert "fuser" in refused.value.fix
    assert not calls(tmp_path, "esptool"), "no tool was let at it"


def test_a_port_that_is_not_permitted_names_the_group(image, terminal, monkeypatch):
    real = os.open

    def denied(path, *flags, **more):
        if path == terminal:
            raise PermissionError(13, "Permission denied", path)
        return real(path, *flags, **more)

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(LinkError, match="may not be opened by you") as refused:
        flasher(terminal).flash(image, ignore)
    assert re.fullmatch(r"sudo usermod -aG \w+ \$USER, then log in again", refused.value.fix)


def test_a_port_that_is_not_there(image):
    with pytest.raises(NoDevice, match="no serial port /dev/waistline-none") as refused:
        flasher("/dev/waistline-none").flash(image, ignore)
    assert "--list" in refused.value.fix


def test_nothing_of_ours_imports_a_gpl_tool():
    imports = re.compile(r"^\s*(?:import|from) (?:esptool|stm32loader|ppk2_api)\b", re.MULTILINE)
    guilty = [
        str(path)
        for room in ("core", "node", "edge", "firmware_bridge", "hostctl")
        for path in (ROOT / room).rglob("*.py")
        if imports.search(path.read_text())
    ]
    assert not guilty
