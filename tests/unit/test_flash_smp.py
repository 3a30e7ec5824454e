"""smpclient, by way of the flasher, with an SMP server on a pseudoterminal."""

from __future__ import annotations

import hashlib
import shutil
import struct
import zlib

import pytest
from bridge_help import FIRMWARE, _make, built, host_program, needs_compiler, small_head
from flash_help import elf, esp_image, ignore, pattern

pytest.importorskip("smpclient", reason="smpclient is not installed (extra smp)")

from smp_server import SmpServer

from waistline.errors import ConfigError, LinkError, LinkTimeout, VerificationFailed
from waistline_bridge.boards import open_board
from waistline_bridge.boards.qemu import PROGRAM
from waistline_bridge.client import Client
from waistline_bridge.flash import Choice, open_flasher, read_image
from waistline_bridge.flash.base import FlashError, ImageTooBig, NoDevice, WrongChip
from waistline_bridge.flash.smp import image_hash

SIZE = 9000


def flasher(port, verify=True, **options):
    return open_flasher(Choice("smp", port=port, verify=verify, options=options))


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "head.blob"
    path.write_bytes(pattern(SIZE))
    return read_image(path)


@pytest.mark.parametrize("buffer_bytes", [128, 512, 2048])
def test_an_image_is_uploaded_verified_and_started(image, buffer_bytes):
    seen = []
    with SmpServer(buffer_bytes=buffer_bytes) as server:
        ours = flasher(server.port, slot="2")
        ours.flash(image, lambda done, total: seen.append((done, total)))
        assert server.image == pattern(SIZE)
        assert server.slot == 2
        assert server.resets == 0, "it is asked for its images first"
        verdict = ours.verify(image)
        assert server.resets == 1
    assert verdict.how == "device's hash"
    assert "slot 1" in verdict.detail
    assert seen == sorted(seen)
    assert seen[-1] == (SIZE, SIZE)


def test_without_verification_it_is_started_at_once_or_not_at_all(image):
    with SmpServer() as server:
        flasher(server.port, verify=False, reset="off").flash(image, ignore)
        assert server.resets == 0
        flasher(server.port, verify=False, sha="off").flash(image, ignore)
        assert server.resets == 1


def test_a_device_that_keeps_something_else(image):
    with SmpServer(bends=True) as server:
        ours = flasher(server.port)
        ours.flash(image, ignore)
        with pytest.raises(VerificationFailed, match="does not hold") as refused:
            ours.verify(image)
        assert server.resets == 0
    assert hashlib.sha256(pattern(SIZE)).hexdigest()[:16] in refused.value.cause


def test_an_image_too_big_for_the_slot(image):
    with SmpServer(slot_bytes=4096) as server, pytest.raises(ImageTooBig, match="was not written"):
        flasher(server.port).flash(image, ignore)


def test_a_server_that_asks_for_what_is_not_there(image):
    with SmpServer(jumps=True) as server, pytest.raises(FlashError, match="was not written") as no:
        flasher(server.port).flash(image, ignore)
    assert f"of {SIZE}" in no.value.cause


@pytest.mark.parametrize("how", [{"silent": True}, {"mute_after": 4}])
def test_nobody_answers(image, how):
    with (
        SmpServer(**how) as server,
        pytest.raises(LinkTimeout, match="no SMP server answers") as no,
    ):
        flasher(server.port, timeout="1").flash(image, ignore)
    assert no.value.cause
    assert no.value.exit_code == 4


def test_a_port_that_is_not_there(image):
    with pytest.raises(NoDevice, match="no serial port"):
        flasher("/dev/waistline-none").flash(image, ignore)


def test_a_port_that_another_has(image):
    import serial

    with SmpServer() as server, serial.Serial(server.port, exclusive=True):
        with pytest.raises(LinkError, match="is in use"):
            flasher(server.port).flash(image, ignore)
        assert server.messages == 0


def test_a_plan_opens_nothing(image):
    steps = [step.text for step in flasher("/dev/ttyACM9", slot="1").plan(image)]
    assert steps[0] == f"upload {SIZE} bytes to slot 1 by SMP on /dev/ttyACM9, 115200 baud"
    assert len(steps) == 3


def test_only_a_bin_without_a_place_fits_into_a_slot(tmp_path):
    for name, data, address, kind in (
        ("a.elf", elf([(0, pattern(64))]), None, ConfigError),
        ("a.bin", pattern(64), 0x8000, ConfigError),
        ("esp.bin", esp_image(), None, WrongChip),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(kind) as refused:
            flasher("/dev/x").plan(read_image(tmp_path / name, address))
        assert refused.value.cause
        assert refused.value.fix


@pytest.mark.parametrize(
    "options", [{"baud": "fast"}, {"slot": "-1"}, {"sha": "maybe"}, {"speed": "1"}]
)
def test_options_that_cannot_be_used(options):
    with pytest.raises(ConfigError) as refused:
        flasher("/dev/x", **options)
    assert refused.value.fix


def signed(protected=b"", entries=((0x10, bytes(range(32))),)):
    def area(magic, rows):
        body = b"".join(struct.pack("<HH", tag, len(data)) + data for tag, data in rows)
        return struct.pack("<HH", magic, 4 + len(body)) + body

    front = area(0x6908, [(0x50, protected)]) if protected else b""
    head = struct.pack("<IIHHII8xI", 0x96F3B83D, 0, 32, len(front), 500, 0, 0)
    return head + pattern(500) + front + area(0x6907, entries)


def test_the_hash_of_a_signed_image_is_the_one_it_carries():
    assert image_hash(signed()) == bytes(range(32))
    assert image_hash(signed(b"dependency", ((1, b"key"), (0x10, bytes(range(32)))))) == bytes(
        range(32)
    )
    assert image_hash(b"plain") == hashlib.sha256(b"plain").digest()


@pytest.mark.parametrize("cut", [40, 400, 532, 536, 545])
def test_a_signed_image_that_is_cut_off_has_none(cut):
    data = signed()[:cut]
    with pytest.raises(ConfigError, match="has no hash"):
        image_hash(data)


has_update_mode = pytest.mark.skipif(
    "SMP" not in (FIRMWARE / "Makefile").read_text(), reason="this firmware has no update mode"
)


def update_firmware(board):
    """Our firmware with its update mode."""
    name = "waistline-host" if board == "host" else f"{board}.elf"
    return built(
        f"smp/{name}",
        lambda folder: _make(
            board, f"OUT={folder / 'smp'}", "SMP=1", *(["SANITIZE=1"] if board == "host" else [])
        ),
    )


@needs_compiler
@has_update_mode
@pytest.mark.parametrize("board", ["host", "qemu-mps2-an386"])
def test_our_own_firmware_takes_a_head_by_stock_smpclient(tmp_path, board):
    if board != "host" and not (shutil.which("arm-none-eabi-gcc") and shutil.which(PROGRAM)):
        pytest.skip(f"there is no {PROGRAM}, or no compiler for Arm (gcc-arm-none-eabi)")
    blob = small_head(filler=5000)[0].bytes()
    path = tmp_path / "head.blob"
    path.write_bytes(blob)
    options = {"firmware": str(update_firmware(board))}
    options |= {} if board == "host" else {"line": "pty"}
    with open_board(board, **options) as opened:
        assert Client(opened.line, deadline_s=30).head() is None
        ours = flasher(opened.line.name, enter="on")
        ours.flash(read_image(path), ignore)
        assert ours.verify(read_image(path)).how == "device's hash"
        client = Client(opened.line, deadline_s=30)
        assert client.info.active_crc == zlib.crc32(blob)
        assert client.head().layers == 2


@needs_compiler
def test_firmware_without_an_update_mode_says_so(image):
    with (
        open_board("host", firmware=str(host_program())) as opened,
        pytest.raises(ConfigError, match="has no update mode") as refused,
    ):
        flasher(opened.line.name, enter="on").flash(image, ignore)
    assert "SMP=1" in refused.value.fix
