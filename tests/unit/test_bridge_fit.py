"""Which board takes which head; the table against the firmware."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace

import pytest
from bridge_help import FIRMWARE, board_elf, host_program, needs_compiler

from waistline.blob.records import LOOKUP, Blob, LayerRecord, TensorRecord
from waistline.errors import ConfigError, ModelError
from waistline_bridge.boards import open_board
from waistline_bridge.client import Client
from waistline_bridge.fit import (
    NO_CUT_FITS,
    SEAL_BYTES,
    BoardLimits,
    all_limits,
    first_layer_bytes,
    fit,
    limits_of,
    require_fit,
)
from waistline_hostctl.console import WIDTH
from waistline_hostctl.fit_text import fit_text

BOARDS = [limits.board for limits in all_limits()]
ARM = [limits for limits in all_limits() if limits.board != "host"]
SMALL = BoardLimits("small", 1000, 1000, 100, 400, 232, 132, "flash", 50, 20, 7, 512)

needs_arm = pytest.mark.skipif(
    shutil.which("arm-none-eabi-gcc") is None or shutil.which("make") is None,
    reason="there is no compiler for Arm (gcc-arm-none-eabi)",
)


def _blob(blob_bytes, arena_bytes):
    tensors = (TensorRecord(0, 1, 1, 4, 0),)
    return Blob(arena_bytes, 1, tensors, (), (), (), (0, 0), bytes(8), bytes(blob_bytes))


@pytest.mark.parametrize(
    ("blob_bytes", "arena_bytes", "problem"),
    [
        (200, 400, ""),
        (201, 400, "the blob has 201 bytes, a slot takes 200"),
        (200, 401, "its tensors take 401 bytes, the arena has 400"),
    ],
)
def test_the_last_byte_decides(blob_bytes, arena_bytes, problem):
    (row,) = fit(_blob(blob_bytes, arena_bytes), [SMALL])
    assert row.problem == problem
    assert row.blob_left_bytes == 200 - blob_bytes
    if problem:
        with pytest.raises(ModelError, match="does not fit small") as caught:
            require_fit(_blob(blob_bytes, arena_bytes), SMALL)
        assert caught.value.cause == problem
    else:
        assert require_fit(_blob(blob_bytes, arena_bytes), SMALL) == row


@pytest.mark.parametrize(
    ("offset", "scratch", "first_bytes"),
    [(300, (0, 0), 600), (0, (0, 0), 300), (100, (0, 0), 400), (300, (590, 20), 610)],
)
def test_where_the_first_layer_is_above_the_arena_no_other_cut_is_advised(
    offset, scratch, first_bytes
):
    tensors = (TensorRecord(0, 10, 10, 3, 0), TensorRecord(offset, 10, 10, 3, 0))
    layers = (LayerRecord(LOOKUP, (0,), 1, scratch=scratch),)
    blob = Blob(900, 1, tensors, layers, (), (), (0, 0), bytes(8), bytes(50))
    assert first_layer_bytes(blob) == first_bytes
    for arena_bytes, no_cut in ((first_bytes, False), (first_bytes - 1, True)):
        with pytest.raises(ModelError) as caught:
            require_fit(blob, replace(SMALL, arena_bytes=arena_bytes))
        assert (caught.value.fix == NO_CUT_FITS) == no_cut


def test_both_slots_count_where_they_lie():
    assert SMALL.flash_used_bytes == 100 + 232 + 132
    assert SMALL.ram_used_bytes == 400 + 50 + 20 + 7
    volatile = replace(SMALL, slots="ram")
    assert volatile.flash_used_bytes == 100
    assert volatile.ram_used_bytes == 400 + 50 + 20 + 7 + 232 + 132


def test_the_table_says_every_board_and_below_it_the_reasons():
    text = fit_text(fit(_blob(30_000, 29_700)))
    title, _, *lines = text.splitlines()
    assert "30 kB" in title
    assert "29.7 kB" in title
    assert all(len(line) <= WIDTH for line in text.splitlines())
    rows, reasons = lines[: len(BOARDS)], " ".join(" ".join(lines[len(BOARDS) :]).split())
    assert [row.split()[0] for row in rows] == BOARDS
    fits = {row.split()[0]: not row.endswith("does not fit") for row in rows}
    assert [board for board in BOARDS if not fits[board]] == ["qemu-netduinoplus2"]
    assert reasons.startswith("qemu-netduinoplus2: its tensors take 29700 bytes, the arena has")


def test_an_unknown_board_is_named_with_those_that_are_known():
    with pytest.raises(ConfigError, match="abacus") as caught:
        limits_of("abacus")
    assert "nucleo-f446re" in caught.value.cause


@pytest.mark.parametrize("limits", all_limits(), ids=BOARDS)
def test_what_is_set_aside_lies_within_the_part(limits):
    assert limits.flash_used_bytes <= limits.flash_bytes
    assert limits.ram_used_bytes <= limits.ram_bytes
    assert limits.slots in {"flash", "ram"}
    assert limits.slot_bytes > SEAL_BYTES


def _symbols(elf):
    """Bytes of each symbol, and of each section."""
    listing = _said("arm-none-eabi-nm", "-S", str(elf))
    sizes = {}
    for line in listing.splitlines():
        fields = line.split()
        if len(fields) == 4:
            sizes[fields[3]] = int(fields[1], 16)
    for line in _said("arm-none-eabi-size", "-A", str(elf)).splitlines():
        fields = line.split()
        if len(fields) == 3 and fields[0].startswith("."):
            sizes[fields[0]] = int(fields[1])
    return sizes


def _said(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@needs_arm
@pytest.mark.parametrize("limits", ARM, ids=[limits.board for limits in ARM])
def test_the_table_agrees_with_what_is_built(limits):
    sizes = _symbols(board_elf(limits.board))
    exidx = sizes.get(".ARM.exidx", 0)
    assert sizes[".text"] + exidx + sizes[".data"] <= limits.firmware_bytes == 16384
    assert sizes["arena"] == limits.arena_bytes
    assert sizes.get("slots", 0) == (limits.slots_bytes if limits.slots == "ram" else 0)
    assert sizes[".stack"] == limits.stack_bytes
    assert sizes["frames"] == 2 * (limits.max_payload + 8)
    assert sizes["frames"] + sizes["ring"] == limits.link_bytes
    big = limits.ram_used_bytes - limits.stack_bytes - limits.variables_bytes
    assert big <= sizes[".big"] < big + 16 * 4, "nothing else is large"
    assert sizes[".data"] + sizes[".bss"] <= limits.variables_bytes


@needs_compiler
def test_the_host_board_is_as_large_as_the_table_says():
    with open_board("host", firmware=str(host_program())) as board:
        info = Client(board.line).info
    limits = limits_of("host")
    assert info.max_payload == limits.max_payload
    assert info.arena_bytes == limits.arena_bytes
    assert info.slot_bytes == limits.slot_bytes - SEAL_BYTES


@needs_arm
def test_a_firmware_above_its_limit_is_not_built(tmp_path):
    command = ["make", "-s", "-C", str(FIRMWARE), f"OUT={tmp_path}", "LIMIT=12000", ARM[0].board]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0
    assert "larger than its limit" in done.stderr
    assert not (tmp_path / f"{ARM[0].board}.bin").exists()
