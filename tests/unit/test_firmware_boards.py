"""The firmware on emulated boards, and what its build leaves."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from bridge_help import FIRMWARE, board_elf, payload_of, small_head

from waistline.errors import MissingExtra
from waistline_bridge.boards import names, open_board
from waistline_bridge.boards.qemu import NS_PER_INSTRUCTION, PROGRAM
from waistline_bridge.client import Client
from waistline_bridge.messages import Feature

PLANES = (6, 4, 5)
needs_arm = pytest.mark.skipif(
    shutil.which("arm-none-eabi-gcc") is None or shutil.which("make") is None,
    reason="there is no compiler for Arm (gcc-arm-none-eabi)",
)
needs_qemu = pytest.mark.skipif(
    shutil.which(PROGRAM) is None, reason=f"there is no {PROGRAM} on PATH"
)


def _boards():
    return sorted(path.parent.name for path in FIRMWARE.glob("boards/*/board.c"))


def test_every_emulated_board_has_firmware_and_the_reverse():
    emulated = {name for name in names() if name.startswith("qemu-")}
    assert emulated == {name for name in _boards() if name.startswith("qemu-")}


def test_every_board_has_its_two_files():
    for board in set(_boards()) - {"host"}:
        assert sorted(path.name for path in (FIRMWARE / "boards" / board).iterdir()) == [
            "board.c",
            "board.ld",
        ]


@needs_arm
@pytest.mark.parametrize("board", ["qemu-mps2-an386", "nucleo-f446re"])
def test_firmware_is_free_of_heap_and_of_double_arithmetic(board):
    listing = subprocess.run(
        ["arm-none-eabi-nm", str(board_elf(board))], capture_output=True, text=True, check=True
    )
    symbols = {line.split()[-1] for line in listing.stdout.splitlines()}
    assert "wl_device_take" in symbols
    assert not symbols & {"malloc", "_sbrk", "__aeabi_dadd", "__aeabi_dmul", "printf", "abort"}


@needs_arm
@needs_qemu
@pytest.mark.parametrize(
    ("board", "line"),
    [
        ("qemu-mps2-an386", "tcp"),
        ("qemu-mps2-an386", "pty"),
        ("qemu-mps2-an385", "tcp"),
        ("qemu-mps2-an505", "tcp"),
        ("qemu-mps2-an547", "pty"),
        ("qemu-netduinoplus2", "pty"),
    ],
)
def test_a_head_runs_on_an_emulated_board(board, line):
    with open_board(board, firmware=str(board_elf(board)), line=line, icount="on") as opened:
        client = Client(opened.line, deadline_s=60)
        assert client.info.board == board
        assert Feature.EMULATED in client.info.features
        assert (Feature.DSP in client.info.features) is (board != "qemu-mps2-an385")
        counts = []
        for bits, coder in ((4, "none"), (3, "ctx")):
            blob, values, codes = small_head(bits, coder, seed=1)
            client.load_blob(blob.bytes())
            for _ in range(2):
                client.load_input(values.tobytes())
                assert client.infer().output == payload_of(codes, bits, PLANES, coder)
                counts.append(client.ticks()[:2])
        assert all(count == counts[0] for count in counts), "ticks count instructions"
        tick_ns = 1e9 / client.info.tick_hz
        assert counts[0][0] * tick_ns / NS_PER_INSTRUCTION > 480, "one a byte at the very least"
        assert client.refresh().stack_free > 512
        assert client.reset().sequence == 2, "RAM outlives a reset"
        assert client.head() is not None


def test_a_missing_qemu_is_named(tmp_path):
    with pytest.raises(MissingExtra, match="needs QEMU"):
        open_board("qemu-mps2-an386", qemu=str(tmp_path / "nothing"))
