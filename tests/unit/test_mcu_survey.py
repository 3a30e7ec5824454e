"""What devices and doctor say of boards, their tools and serial ports."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from waistline_hostctl import mcu_build, mcu_survey
from waistline_hostctl.mcu_info import choices_text


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("WAISTLINE_FIRMWARE", str(tmp_path))
    return tmp_path


def states():
    return {row.name: (row.state, row.fix) for row in mcu_survey.emulated()}


def finding(name):
    return next(one for one in mcu_survey.findings() if one.name == name)


def test_boards_without_firmware_say_what_builds_it(folder, monkeypatch):
    monkeypatch.setattr(mcu_survey.shutil, "which", lambda name: f"/bin/{name}")
    board = "qemu-mps2-an386"
    assert states()[board] == ("not built", f"waistline mcu build --board {board}")
    assert finding("firmware").fix == "waistline mcu build"
    (folder / f"{board}.elf").touch()
    assert states()[board] == ("usable", "")
    assert finding("firmware").level == "info"
    assert "1 of" in finding("firmware").found


def test_firmware_older_than_its_sources_is_said(folder, monkeypatch):
    monkeypatch.setattr(mcu_survey.shutil, "which", lambda name: f"/bin/{name}")
    elf = folder / "qemu-mps2-an386.elf"
    elf.touch()
    os.utime(elf, (1, 1))
    row = next(row for row in mcu_survey.emulated() if row.name == elf.stem)
    assert (row.state, row.fix) == ("usable", f"waistline mcu build --board {elf.stem}")
    assert finding("firmware").state == "stale"
    assert f"{row.id}" in choices_text((row,))
    assert row.fix in choices_text((row,))


def test_a_missing_emulator_leaves_the_host_board(folder, monkeypatch):
    monkeypatch.setattr(mcu_survey.shutil, "which", lambda name: None)
    (folder / "waistline-host").touch()
    assert states()["host"] == ("usable", "")
    assert states()["qemu-mps2-an386"] == ("missing program", mcu_survey.APT_QEMU)
    assert finding("qemu").fix == mcu_survey.APT_QEMU
    assert finding("arm compiler").fix == mcu_build.APT_ARM


def test_ports_have_names_that_last_and_say_who_may_not_open_them(tmp_path, monkeypatch):
    pytest.importorskip("serial", reason="pyserial is not installed (extra mcu)")
    from waistline_bridge.boards import serial

    by_id = tmp_path / "serial" / "by-id"
    by_id.mkdir(parents=True)
    port = tmp_path / "ttyACM0"
    port.touch()
    (by_id / "usb-Maker_Board_0123-if00").symlink_to(port)
    listed = [
        serial.Port("0483:374b:0123", str(port), "the one above"),
        serial.Port("10c4:ea60:7", str(tmp_path / "ttyUSB0"), "Bridge"),
        serial.Port("1a86:7523", str(tmp_path / "ttyUSB1"), "Twin"),
        serial.Port("1a86:7523", str(tmp_path / "ttyUSB2"), "Twin"),
    ]
    monkeypatch.setattr(serial, "ports", lambda: listed)
    found = mcu_survey.ports(tmp_path)
    assert [row.id for row in found] == [
        f"--port {by_id / 'usb-Maker_Board_0123-if00'}",
        "--port 10c4:ea60:7",
        f"--port {tmp_path / 'ttyUSB1'}",
        f"--port {tmp_path / 'ttyUSB2'}",
    ]
    assert {row.state for row in found} == {"present"}
    monkeypatch.setattr(mcu_survey.os, "access", lambda path, mode: False)
    closed = mcu_survey.ports(tmp_path)[0]
    assert closed.state == "no permission"
    assert closed.fix.startswith("sudo usermod -aG ")
    assert closed.fix in choices_text((closed,))
    monkeypatch.setattr(mcu_survey, "ports", lambda: (closed,))
    assert finding("serial ports").level == "warn"
    assert Path(port).name in finding("serial ports").found
