"""Methods with a serial port: planned without one that was named, refused where there is none."""

from __future__ import annotations

import pytest
from click.testing import CliRunner
from flash_help import esp_image, program

pytest.importorskip("serial", reason="pyserial is not installed (extra mcu)")

from waistline_bridge.boards import serial
from waistline_hostctl.flash_results import FlashResult
from waistline_hostctl.results import decode
from waistline_hostctl.verbs import group

ID = "0403:6001:ABC"
HERE = serial.Port("1366:0105", "/dev/waistline-here", "J-Link")
METHODS = {
    "esptool": ("--address", "0x10000"),
    "command": ("--address", "0x10000"),
    "smp": (),
}


@pytest.fixture(params=METHODS)
def call(request, tmp_path, monkeypatch):
    """``call(ports, arguments..)`` flashes by one of the methods."""
    if request.param == "smp":
        pytest.importorskip("smpclient", reason="smpclient is not installed (extra smp)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("esptool", "stm32loader"):
        program(tmp_path, name, "")
    (tmp_path / "bench.toml").write_text('[flash]\ncommand = "stm32loader -p {port} {image}"\n')
    content = esp_image(0) if request.param == "esptool" else bytes(64)
    (tmp_path / "app.bin").write_bytes(content)
    given = ("app.bin", "--via", request.param, *METHODS[request.param])

    def run(ports, *arguments):
        monkeypatch.setattr(serial, "ports", lambda: list(ports))
        return CliRunner().invoke(group, ["flash", *given, *arguments])

    return run


@pytest.mark.parametrize("port", [ID, "/dev/waistline-none", "socket://127.0.0.1:9"])
def test_a_port_that_was_named_need_not_be_there_for_a_plan(call, port):
    done = call([], "--port", port, "--dry-run", "--json")
    assert done.exit_code == 0, done.stderr
    steps = decode(done.stdout, FlashResult).steps
    assert any(port in (step.command or step.text) for step in steps)


def test_an_id_that_is_there_is_planned_with_its_path(call):
    done = call([HERE], "--port", HERE.id, "--dry-run")
    assert HERE.path in done.stdout


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_without_a_port_it_is_said_what_is_missing(call, more):
    done = call([], *more)
    assert done.exit_code == 3
    assert "error: there is no serial port to write to" in done.stderr
    assert "cause: no USB serial port was found" in done.stderr
    assert "fix:   plug the board in, or give its path: --port" in done.stderr


@pytest.mark.parametrize("port", [ID, "/dev/waistline-none"])
def test_a_port_that_is_not_there_is_not_written_to(call, port):
    done = call([HERE], "--port", port)
    assert done.exit_code == 3
    assert f"there is no serial port {port}" in done.stderr


def test_between_two_ports_none_is_guessed(call):
    done = call([HERE, serial.Port(ID, "/dev/waistline-too", "")], "--dry-run")
    assert done.exit_code == 2
    assert "2 serial ports could be the board" in done.stderr
