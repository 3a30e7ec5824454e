"""Boards as programs and behind cables: pulled, plugged, killed, ended with who started them."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import threading
import time
import tty
from pathlib import Path

import pytest
from attached_help import PATIENT_S, head, run
from bridge_help import board_elf, host_program, needs_compiler

from waistline.errors import LinkClosed
from waistline_bridge.attached import Attached
from waistline_bridge.boards import open_board
from waistline_bridge.boards.base import Board

pytestmark = needs_compiler


class Cable:
    """A pseudoterminal pair for pyserial, whose far end is joined to a board; it can be pulled."""

    def __init__(self, folder, board):
        self.path = folder / "ttyACM0"
        self._board = board
        self.plug()

    def plug(self):
        self._far, self._near = pty.openpty()
        tty.setraw(self._far)
        tty.setraw(self._near)
        self.path.symlink_to(os.ttyname(self._near))
        self._pulled = threading.Event()
        self._pump = threading.Thread(target=self._carry, args=(self._far, self._pulled))
        self._pump.start()

    def _carry(self, far, pulled):
        line = self._board.line
        while not pulled.is_set():
            ready, _, _ = select.select([far, line._descriptor], [], [], 0.05)
            if far in ready:
                line.send(os.read(far, 4096))
            if line._descriptor in ready:
                os.write(far, line.receive(0.0))

    def pull(self):
        self._pulled.set()
        self._pump.join()
        self.path.unlink()
        os.close(self._near)
        os.close(self._far)


def test_a_cable_is_pulled_and_plugged_while_frames_run(tmp_path):
    pytest.importorskip("serial", reason="pyserial is not installed (extra mcu)")
    blob, data, output = head()
    said = []
    options = {"firmware": str(host_program()), "flash": str(tmp_path / "slots")}
    with open_board("host", **options) as board:
        cable = Cable(tmp_path, board)
        attached = Attached(
            lambda: open_board("serial", port=str(cable.path)),
            blob,
            budget_s=PATIENT_S,
            say=said.append,
        )
        assert attached.perform(run(data)) == output
        assert attached.emulated, "by its own word"
        for _ in range(2):
            cable.pull()
            later = threading.Timer(0.3, cable.plug)
            later.start()
            assert attached.perform(run(data)) == output
            later.join()
        attached.close()
        cable.pull()
    assert said[1] == "host is back, with its head"


def test_a_port_that_is_not_there_is_said_at_once(tmp_path):
    pytest.importorskip("serial", reason="pyserial is not installed (extra mcu)")
    with pytest.raises(LinkClosed, match="cannot open"):
        Attached(lambda: open_board("serial", port=str(tmp_path / "none")), head()[0])


def test_emulated_boards_need_no_pyserial():
    code = (
        "import sys; sys.modules['serial'] = None; from waistline_bridge.boards import open_board\n"
        f"open_board('host', firmware={str(host_program())!r}).close()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_board_ends_with_the_process_that_started_it():
    code = (
        "import time; from waistline_bridge.boards import open_board\n"
        f"board = open_board('host', firmware={str(host_program())!r})\n"
        "print(board.process.pid, flush=True); time.sleep(60)"
    )
    node = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    with node:
        number = int(node.stdout.readline())
        node.kill()
    end = time.monotonic() + 30
    while _runs(number):
        assert time.monotonic() < end, "it outlived the process that started it"
        time.sleep(0.02)


def _runs(number):
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(shutil.which("qemu-system-arm") is None, reason="there is no QEMU")
@pytest.mark.skipif(shutil.which("arm-none-eabi-gcc") is None, reason="there is no compiler")
def test_qemu_that_dies_is_started_again_and_loaded():
    elf = str(board_elf("qemu-mps2-an386"))
    blob, data, output = head()
    opened: list[Board] = []

    def open_() -> Board:
        opened.append(open_board("qemu-mps2-an386", firmware=elf))
        return opened[-1]

    attached = Attached(open_, blob, budget_s=PATIENT_S)
    assert attached.perform(run(data)) == output
    opened[-1].process.kill()
    assert attached.perform(run(data)) == output
    assert len(opened) == 2
    attached.close()
