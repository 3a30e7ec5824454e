"""Images to flash: every format, damaged ones, and which chip they are for."""

from __future__ import annotations

import struct

import pytest
from flash_help import (
    FLASH,
    RISCV,
    XTENSA,
    elf,
    esp_image,
    hex_record,
    intel_hex,
    pattern,
    uf2_block,
)
from hypothesis import given
from hypothesis import strategies as st

from waistline.errors import ConfigError
from waistline_bridge.flash import _chips, _elf, _hex, _uf2, read_image
from waistline_bridge.flash._parts import Bad, Segment
from waistline_bridge.flash.base import ImageTooBig, WrongChip

CODE, DATA = pattern(1000), pattern(300, 5)
PARTS = ((FLASH, CODE), (FLASH + 0x1F000, DATA))


def image_of(tmp_path, name, data, address=None):
    path = tmp_path / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return read_image(path, address)


def held(image):
    return tuple((part.address, part.data) for part in image.segments)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.elf", elf(PARTS)),
        ("misnamed.bin", elf(PARTS)),
        ("a.hex", intel_hex(PARTS)),
        ("a.uf2", b"".join(
            uf2_block(address + at, data[at : at + 250], number, 6)
            for number, (address, data, at) in enumerate(
                [(*PARTS[0], at) for at in range(0, 1000, 250)]
                + [(*PARTS[1], at) for at in range(0, 300, 250)]))),
    ],
)  # fmt: skip
def test_every_format_says_the_same(tmp_path, name, data):
    image = image_of(tmp_path, name, data)
    assert held(image) == PARTS
    assert image.placed
    assert image.size_bytes == 1300


def test_a_bin_goes_where_it_is_told(tmp_path):
    assert held(image_of(tmp_path, "a.bin", CODE, FLASH)) == ((FLASH, CODE),)
    unplaced = image_of(tmp_path, "a.bin", CODE)
    with pytest.raises(ConfigError, match="does not say where it goes") as refused:
        _chips.require_placed(unplaced, "stm32f446retx")
    assert "--address 0x8000000" in refused.value.fix


def test_only_a_bin_takes_an_address(tmp_path):
    with pytest.raises(ConfigError, match="--address does not go with"):
        image_of(tmp_path, "a.elf", elf(PARTS), FLASH)


def test_neighbours_become_one_piece(tmp_path):
    image = image_of(tmp_path, "a.elf", elf([(FLASH + 1000, DATA), (FLASH, CODE)]))
    assert held(image) == ((FLASH, CODE + DATA),)


def test_firmware_says_its_board_and_build(tmp_path):
    code = CODE + b"nucleo-f446re\0" + CODE
    image = image_of(tmp_path, "a.elf", elf([(FLASH, code)], symbols=[("wl_build_id", 0xC0FFEE01)]))
    assert (image.board, image.build) == ("nucleo-f446re", 0xC0FFEE01)
    assert image_of(tmp_path, "b.elf", elf(PARTS)).build is None


def test_no_file_is_said_plainly(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read") as refused:
        read_image(tmp_path / "none.elf")
    assert refused.value.cause == "No such file or directory"


LINES = intel_hex(PARTS).splitlines(keepends=True)


@pytest.mark.parametrize(
    ("name", "data", "seen"),
    [
        ("a.bin", b"", "empty"),
        ("a.elf", elf(PARTS)[:40], "header is cut off"),
        ("a.elf", elf(PARTS, bits=2), "not for a 32-bit"),
        ("a.elf", elf(PARTS, kind=3), "not an executable"),
        ("a.elf", elf(PARTS)[:600], "past the end of the file"),
        ("a.elf", elf([(FLASH, CODE), (FLASH + 999, DATA)]), "two parts of it go to"),
        ("a.elf", elf([(0xFFFFFFF0, CODE)]), "past the address space"),
        ("a.elf", elf([(FLASH, b"")]), "nothing to write"),
        ("a.hex", "".join(LINES[:-1]), "cut off"),
        ("a.hex", LINES[0] + LINES[1][:-3] + "00\n" + LINES[-1], "checksum"),
        ("a.hex", LINES[0] + LINES[1][:-5] + "\n" + LINES[-1], "length"),
        ("a.hex", "hello\n", "not a record"),
        ("a.hex", ":00zz\n", "hexadecimal digits"),
        ("a.hex", hex_record(4, 0, b"\x08"), "type 4"),
        ("a.hex", hex_record(9, 0, b""), "type 9"),
        ("a.hex", "".join(LINES) + LINES[1], "behind the end"),
        ("a.hex", hex_record(2, 0, b"\0\0") + hex_record(0, 0xFFFF, b"ab"), "64 KiB"),
        ("a.uf2", uf2_block(0, CODE[:256])[:500], "not whole blocks"),
        ("a.uf2", uf2_block(0, CODE[:256], 0, 2), "1 of 2 blocks"),
        ("a.uf2", uf2_block(0, CODE[:256], 2, 2), "no such block"),
        ("a.uf2", uf2_block(0, CODE[:256]) * 2, "there twice"),
        ("a.uf2", uf2_block(0, b"", flags=0x1000), "holds files"),
        ("a.uf2", uf2_block(0, CODE[:256])[:-1] + b"\0", "not one of UF2"),
        ("a.uf2", b"\0" * 512, "not one of UF2"),
    ],
)
def test_damaged_files_are_refused_with_the_fact(tmp_path, name, data, seen):
    with pytest.raises(ConfigError, match="cannot be used") as refused:
        image_of(tmp_path, name, data)
    assert seen in refused.value.cause
    assert refused.value.fix


def test_segments_that_share_bytes_of_the_file_are_refused_before_they_are_copied():
    """Headers are cheap: 256 of them could make 16 GB of a file of 64 MB."""
    whole = bytearray(elf([(FLASH + (k << 20), b"x") for k in range(8)]) + bytes(4000))
    for k in range(8):
        struct.pack_into("<I", whole, 52 + 32 * k + 16, 3000)
        struct.pack_into("<I", whole, 52 + 32 * k + 20, 3000)
    with pytest.raises(Bad, match="together are longer than the file"):
        _elf.read(bytes(whole))


def test_a_second_symbol_table_is_not_read():
    """Sections are cheap, too: each could be the symbols of the whole file."""
    whole = elf(PARTS, symbols=[("wl_build_id", 5)])
    at = struct.unpack_from("<I", whole, 32)[0]
    first, table, names = (whole[at + 40 * k : at + 40 * (k + 1)] for k in range(3))
    decoy = table[:20] + struct.pack("<I", 0) + table[24:]
    many = bytearray(whole[:at] + first + decoy + names + table * 5)
    struct.pack_into("<H", many, 48, 8)
    assert _elf.read(whole).symbol("wl_build_id") == 5
    assert _elf.read(bytes(many)).symbol("wl_build_id") is None


@given(st.data())
def test_mutated_files_are_read_or_refused(data):
    reader, whole = data.draw(
        st.sampled_from(
            [
                (_elf.read, elf(PARTS, symbols=[("wl_build_id", 1)])),
                (_hex.read, intel_hex(PARTS).encode()),
                (_uf2.read, uf2_block(0, CODE[:256], 0, 2) + uf2_block(256, CODE[:256], 1, 2)),
            ]
        )
    )
    mutated = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = reader(bytes(mutated[: data.draw(st.integers(0, len(mutated)))]))
    except Bad:
        return
    if isinstance(found, _elf.Elf):
        found.symbol("wl_build_id")


@given(
    st.lists(st.tuples(st.integers(0, 1 << 16), st.binary(min_size=1, max_size=600)), max_size=5)
)
def test_uf2_holds_what_was_put_in_and_fills_with_erased_bytes(parts):
    segments, end = [], 0
    for address, content in sorted(parts):
        start = max(address, end + 1)
        segments.append(Segment(start, content))
        end = start + len(content)
    written = _uf2.write(segments, 7)
    if not segments:
        assert written == b""
        return
    pages, families = _uf2.read(written)
    assert families == {7}
    memory = {page.address + at: byte for page in pages for at, byte in enumerate(page.data)}
    for segment in segments:
        for at, byte in enumerate(segment.data):
            assert memory.pop(segment.address + at) == byte
    assert set(memory.values()) <= {0xFF}
    assert all(page.address % 256 == 0 and len(page.data) % 256 == 0 for page in pages)


@pytest.mark.parametrize(
    ("data", "name", "target", "seen"),
    [
        (elf(PARTS, XTENSA), "a.elf", "stm32f446retx", "it is for xtensa"),
        (elf([(0x42000000, CODE)], RISCV), "a.elf", "rp2040", "it is for riscv"),
        (elf([(0x20000000, CODE)]), "a.elf", "stm32f446re", "writes to 0x20000000"),
        (elf([(FLASH, CODE)]), "a.elf", "nRF52840_xxAA", "writes to 0x08000000"),
        (uf2_block(0x10000000, CODE[:256]), "a.uf2", "rp2350", "it is for rp2040"),
        (uf2_block(0, CODE[:256], family=5), "a.uf2", "samd21", "family 0x00000005"),
        (esp_image(5), "a.bin", "ESP32-S3", "its header says esp32c3"),
        (esp_image(5), "a.bin", "stm32f446", "its header says esp32c3"),
        (elf([(FLASH, b"nucleo-f446re\0")]), "a.elf", "stm32f407vg", "firmware of board nucleo"),
    ],
)
def test_images_of_other_chips_are_refused(tmp_path, data, name, target, seen):
    with pytest.raises(WrongChip, match="is not for") as refused:
        _chips.check(image_of(tmp_path, name, data), target)
    assert seen in refused.value.cause
    assert refused.value.exit_code == 2


def test_an_image_too_big_for_the_chip_is_refused(tmp_path):
    image = image_of(tmp_path, "a.elf", elf([(FLASH + 512 * 1024 - 100, CODE)]))
    with pytest.raises(ImageTooBig, match="too big for stm32f446") as refused:
        _chips.check(image, "stm32f446retx")
    assert "0x08080000" in refused.value.cause


def test_a_fitting_image_passes_and_unknown_chips_are_not_judged(tmp_path):
    image = image_of(tmp_path, "a.elf", elf(PARTS))
    assert _chips.check(image, "STM32F446RETx").name == "stm32f446"
    assert _chips.check(image, "gd32vf103") is None


def test_a_name_within_a_name_is_the_longer_one():
    assert _chips.chip("esp32s3").name == "esp32s3"
    assert _chips.chip("ESP32").name == "esp32"
    assert _chips.chip("esp32-c3-wroom").name == "esp32c3"
