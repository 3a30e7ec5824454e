"""The smallest emulated board: an STM32F405's memory, and what is found out about its use."""

from __future__ import annotations

import struct
import subprocess
import zlib
from pathlib import Path

import pytest
from bridge_help import board_elf, payload_of, small_head
from qemu_help import Debugger, emulated, needs_boards

from waistline.blob.records import read_blob
from waistline.bundle.cuts import list_cuts, pick_default_cut
from waistline.model.load import load_model
from waistline.task.load import load_task
from waistline_bridge.fit import SEAL_BYTES, limits_of
from waistline_bridge.messages import Refusal, Status

pytestmark = needs_boards

BOARD = "qemu-netduinoplus2"
LIMITS = limits_of(BOARD)
EXAMPLE = Path(__file__).parents[2] / "examples" / "fashion"
PLANES = (6, 4, 5)
RAM_END = 0x20020000


def test_the_examples_default_head_fits_and_runs(tmp_path):
    pytest.importorskip("onnxruntime", reason="quantizing the head needs ONNX Runtime")
    from waistline_bridge.split import split_mcu

    task = load_task(EXAMPLE / "task.toml")
    model = load_model(EXAMPLE / "model.onnx")
    cut = pick_default_cut(list_cuts(model, task))
    split_mcu(model, cut.x, tmp_path / "a.bundle", task=task, board=BOARD)
    data = (tmp_path / "a.bundle" / "head.blob").read_bytes()
    (golden, *_) = read_blob(data).goldens
    with emulated(tmp_path, BOARD, line="pty") as client:
        assert client.info.slot_bytes >= len(data) > LIMITS.second_slot_bytes
        client.load_blob(data)
        assert client.head().arena_bytes <= LIMITS.arena_bytes
        assert zlib.crc32(client.infer(golden=0).output) == golden.crc
        assert client.refresh().stack_free > 512


def test_the_second_slot_takes_small_heads_and_keeps_large_ones_in_force(tmp_path):
    large = small_head(seed=1, filler=60_000)[0].bytes()
    blob, values, codes = small_head(seed=2)
    with emulated(tmp_path, BOARD) as client:
        assert client.info.slot_bytes == LIMITS.slot_bytes - SEAL_BYTES
        assert client.load_blob(large) == 1
        assert client.info.slot_bytes == LIMITS.second_slot_bytes - SEAL_BYTES
        with pytest.raises(Refusal) as caught:
            client.load_blob(large)
        assert caught.value.status == Status.NO_ROOM
        assert client.info.active_crc == zlib.crc32(large)
        assert client.load_blob(blob.bytes()) == 2
        client.load_input(values.tobytes())
        assert client.infer().output == payload_of(codes, 4, PLANES)
        assert client.load_blob(large) == 3, "the first slot is free again"
        assert client.reset().active_crc == zlib.crc32(large), "RAM outlives a reset"


@pytest.mark.parametrize("address", [RAM_END, RAM_END + 0xFFFC])
def test_memory_that_the_part_has_not_got_is_watched(tmp_path, address):
    debugger = Debugger(tmp_path / "gdb")
    with emulated(tmp_path, BOARD, *debugger.arguments) as client:
        assert client.refresh().stack_free > 512
        debugger.write(address, bytes(4))
        assert client.refresh().stack_free == 0
        assert client.reset().stack_free > 512


def test_the_deepest_use_of_the_stack_is_remembered(tmp_path):
    debugger = Debugger(tmp_path / "gdb")
    listing = subprocess.run(
        ["arm-none-eabi-nm", str(board_elf(BOARD))], capture_output=True, text=True, check=True
    )
    symbols = {line.split()[-1]: int(line.split()[0], 16) for line in listing.stdout.splitlines()}
    low = symbols["_stack_low"]
    assert low == 0x20000000, "an overflow leaves the RAM and faults"
    assert symbols["_stack_top"] - low == LIMITS.stack_bytes
    with emulated(tmp_path, BOARD, *debugger.arguments) as client:
        free = client.refresh().stack_free
        assert 512 < free < LIMITS.stack_bytes
        debugger.write(low + 128, struct.pack("<I", 1))
        assert client.refresh().stack_free == 128
        blob, values, _ = small_head(8, "ctx", seed=3)
        client.reset()
        client.load_blob(blob.bytes())
        client.load_input(values.tobytes())
        client.infer()
        assert 512 < client.refresh().stack_free <= free
