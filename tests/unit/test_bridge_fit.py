"""Which board takes which head; the table against the boards' own sources."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from waistline.blob.records import Blob, TensorRecord
from waistline.errors import ConfigError, ModelError
from waistline_bridge.fit import (
    SEAL_BYTES,
    BoardLimits,
    all_limits,
    fit,
    limits_of,
    require_fit,
    table,
)

FIRMWARE = Path(__file__).parents[2] / "firmware_bridge/firmware"
BOARDS = [limits.board for limits in all_limits()]
SMALL = BoardLimits("small", 1000, 1000, 100, 400, 232, "flash", 50, 20)


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


def test_both_slots_count_where_they_lie():
    assert SMALL.flash_used_bytes == 100 + 2 * 232
    assert SMALL.ram_used_bytes == 400 + 50 + 20


def test_the_table_says_every_board_and_its_verdict():
    text = table(fit(_blob(30_000, 60_000)))
    lines = {line.split()[0]: line for line in text.splitlines()[1:]}
    assert list(lines) == BOARDS
    assert lines["qemu-mps2-an386"].endswith("fits")
    assert "does not fit: the blob has 30000 bytes" in lines["qemu-netduinoplus2"]


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


@pytest.mark.parametrize("limits", all_limits(), ids=BOARDS)
def test_the_table_agrees_with_the_boards_sources(limits):
    folder = FIRMWARE / "boards" / limits.board
    if not folder.is_dir():
        pytest.skip(f"the sources of {limits.board} are not here")
    text = "\n".join(path.read_text() for path in sorted(folder.iterdir()))
    if "mps2.h" in text:
        text += (FIRMWARE / "cortexm/mps2.h").read_text()
    assert _defined(text, "ARENA_BYTES") == limits.arena_bytes
    assert _defined(text, "SLOT_BYTES") == limits.slot_bytes
    kibibytes = re.search(r"STACK_BYTES = (\d+)K;", text)
    assert kibibytes is not None
    assert int(kibibytes[1]) * 1024 == limits.stack_bytes
    frames = 2 * (_defined(text, "MAX_PAYLOAD") + 32) + _defined(text, "RING_BYTES")
    assert frames <= limits.frames_bytes


def _defined(text, name):
    found = re.search(rf"#define {name} (?:\((\d+)u << (\d+)\)|(\d+)u)", text)
    assert found is not None, name
    return int(found[3]) if found[3] else int(found[1]) << int(found[2])
