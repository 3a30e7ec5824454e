"""Serial ports: which one is meant, and a line over a pseudoterminal."""

from __future__ import annotations

import pytest
from bridge_help import host_program, needs_compiler, payload_of, small_head

from waistline.errors import ConfigError, LinkClosed
from waistline_bridge.boards import open_board
from waistline_bridge.client import Client

pytest.importorskip("serial", reason="pyserial is not installed (extra mcu)")

from waistline_bridge.boards.serial import Port, SerialLine, choose, lasting_name

ONE = Port("0483:374b:066F", "/dev/ttyACM0", "STLink")
TWO = Port("0483:374b:0672", "/dev/ttyACM1", "STLink")


def test_the_only_board_is_meant():
    assert choose(None, [ONE]) == ONE.path


@pytest.mark.parametrize("wanted", [TWO.id, TWO.path])
def test_a_board_is_chosen_by_id_or_path(wanted):
    assert choose(wanted, [ONE, TWO]) == TWO.path


def test_a_path_that_is_not_listed_is_taken_as_it_is():
    assert choose("/dev/ttyS0", [ONE]) == "/dev/ttyS0"


def test_two_boards_are_listed_and_none_is_guessed():
    with pytest.raises(ConfigError, match="2 serial ports could be the board") as refused:
        choose(None, [ONE, TWO])
    assert ONE.id in refused.value.cause
    assert TWO.id in refused.value.cause


def test_two_boards_of_one_id_are_told_apart_by_path():
    twin = Port(ONE.id, "/dev/ttyACM7", "clone")
    with pytest.raises(ConfigError) as refused:
        choose(ONE.id, [ONE, twin])
    assert "/dev/ttyACM0" in refused.value.fix


def test_a_board_is_found_again_by_what_stays_with_it():
    assert lasting_name(TWO.path, [ONE, TWO]) == TWO.id
    twin = Port(TWO.id, "/dev/ttyACM7", "its second port")
    assert lasting_name(TWO.path, [ONE, TWO, twin]) == TWO.path, "an id of two ports is none"
    unnumbered = Port("1a86:7523", "/dev/ttyUSB0", "CH340")
    assert lasting_name(unnumbered.path, [ONE, unnumbered]) == unnumbered.path
    assert lasting_name("/dev/serial/by-id/usb-x", [ONE]) == "/dev/serial/by-id/usb-x"


@pytest.mark.parametrize(("wanted", "found"), [(None, []), ("1:2", []), ("1:2", [ONE])])
def test_no_board_is_said_plainly(wanted, found):
    with pytest.raises(ConfigError):
        choose(wanted, found)


def test_a_port_that_cannot_be_opened_says_so():
    with pytest.raises(LinkClosed, match="cannot open"):
        SerialLine("/dev/waistline-none", 115200)


@pytest.mark.parametrize(
    ("path", "cause"), [("/dev/null", "it is no serial port"), ("/dev", "Is a directory")]
)
def test_what_is_no_port_is_not_said_to_be_open_elsewhere(path, cause):
    with pytest.raises(LinkClosed, match="cannot open") as refused:
        SerialLine(path, 115200)
    assert refused.value.cause == cause
    assert "waistline mcu info" in refused.value.fix


@pytest.mark.parametrize("baud", ["fast", "0", "-9600", "99999999999999999999"])
def test_a_baud_that_is_no_rate_is_refused(baud):
    with pytest.raises(ConfigError, match="is not a rate"):
        open_board("serial", port="/dev/ttyS0", baud=baud)


@pytest.mark.parametrize("host", ["a..b", "a" * 300, "\x1b[2J"])
def test_a_host_that_no_name_server_knows_is_said_plainly(host):
    with pytest.raises(LinkClosed, match="cannot connect to"):
        open_board("serial", port=f"socket://{host}:4000")


@needs_compiler
def test_a_port_that_is_open_already_says_so():
    with open_board("host", firmware=str(host_program())) as board:
        first = SerialLine(board.line.name, 115200)
        with pytest.raises(LinkClosed) as refused:
            SerialLine(board.line.name, 115200)
        assert refused.value.cause == "another program has it open"
        first.close()


@needs_compiler
def test_a_head_runs_over_a_serial_line():
    with open_board("host", firmware=str(host_program())) as board:
        line = SerialLine(board.line.name, 115200)
        client = Client(line, deadline_s=30)
        blob, values, codes = small_head(filler=3000)
        client.load_blob(blob.bytes())
        client.load_input(values.tobytes())
        assert client.infer().output == payload_of(codes, 4, (6, 4, 5))
        line.close()
        with pytest.raises(LinkClosed):
            client.ping()
