"""UF2 drives: a folder in the place of one, with a board behind it that is a thread."""

from __future__ import annotations

import errno
import os
import threading
import time

import pytest
from flash_help import elf, ignore, pattern, uf2_block

from waistline.errors import ConfigError, LinkError, VerificationFailed
from waistline_bridge.flash import Choice, _uf2, open_flasher, read_image
from waistline_bridge.flash import uf2 as method
from waistline_bridge.flash.base import FlashError, ImageTooBig, NoDevice, WrongChip

PICO = "UF2 Bootloader v3.0\nModel: Raspberry Pi RP2\nBoard-ID: RPI-RP2\n"
START = 0x10000000
CODE = pattern(40_000)
PARTS = ((START, CODE), (START + 0x40000, pattern(700, 3)))
NO_WAIT = {"wait": "0"}


@pytest.fixture
def drive(tmp_path):
    folder = tmp_path / "RPI-RP2"
    folder.mkdir()
    (folder / method.INFO).write_text(PICO)
    return folder


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "app.elf"
    path.write_bytes(elf(PARTS))
    return read_image(path)


def flasher(drive, **more):
    return open_flasher(Choice("uf2", drive=str(drive), **more))


@pytest.fixture
def board(drive):
    """What a bootloader does when all has come: ``start(action)``, once the file is whole."""
    threads = []

    def start(size, action):
        def wait():
            until = time.monotonic() + 60
            path = drive / method.NAME
            while time.monotonic() < until and not (path.exists() and path.stat().st_size == size):
                time.sleep(0.01)
            action()

        threads.append(threading.Thread(target=wait))
        threads[-1].start()

    yield start
    for thread in threads:
        thread.join(60)


BLOCKS = sum(-(-len(data) // 256) for _, data in PARTS)
WHOLE = 512 * BLOCKS


def test_an_elf_becomes_blocks_for_the_boards_family(drive, image, board):
    board(WHOLE, (drive / method.INFO).unlink)
    seen = []
    ours = flasher(drive)
    ours.flash(image, lambda done, total: seen.append((done, total)))
    segments, families = _uf2.read((drive / method.NAME).read_bytes())
    assert families == {0xE48BFF56}
    assert [part.address for part in segments] == [address for address, _ in PARTS]
    for part, (_, data) in zip(segments, PARTS, strict=True):
        assert part.data[: len(data)] == data
    assert seen == sorted(seen)
    assert seen[-1] == (image.size_bytes, image.size_bytes)
    verdict = ours.verify(image)
    assert verdict.how == "not possible"
    assert "the board has restarted" in verdict.detail


def test_a_drive_that_stays_is_read_back(drive, image, board):
    def take():
        data = (drive / method.NAME).read_bytes()
        (drive / "new").write_bytes(data)
        (drive / "new").rename(drive / method.CURRENT)

    board(WHOLE, take)
    ours = flasher(drive, options={"wait": "60"})
    ours.flash(image, ignore)
    assert ours.verify(image).how == "read back"


def test_a_drive_that_vanishes_with_the_last_block_has_taken_it(drive, image, monkeypatch):
    written = []
    real = os.fsync

    def sync(descriptor):
        written.append(os.fstat(descriptor).st_size)
        real(descriptor)
        if written[-1] == WHOLE:
            (drive / method.INFO).unlink()
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(method.os, "fsync", sync)
    ours = flasher(drive)
    ours.flash(image, ignore)
    assert written[-1] == WHOLE
    assert ours.verify(image).how == "not possible"


@pytest.mark.parametrize(
    ("code", "leaves", "kind", "what"),
    [
        (errno.EIO, True, LinkError, "vanished while"),
        (errno.EIO, False, FlashError, "could not be written"),
        (errno.EROFS, False, LinkError, "may not be written to"),
    ],
)
def test_a_drive_that_fails_earlier(drive, image, monkeypatch, code, leaves, kind, what):
    def sync(descriptor):
        if leaves:
            (drive / method.INFO).unlink()
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(method.os, "fsync", sync)
    with pytest.raises(kind, match=what) as refused:
        flasher(drive).flash(image, ignore)
    assert "after 16384 of" in refused.value.cause
    assert refused.value.fix


def test_a_full_drive_says_so(drive, image):
    (drive / method.NAME).symlink_to("/dev/full")
    with pytest.raises(FlashError, match="is full") as refused:
        flasher(drive).flash(image, ignore)
    assert f"after 0 of {WHOLE}" in refused.value.cause


@pytest.mark.parametrize("current", [None, b"", uf2_block(START, bytes(256))])
def test_a_board_that_does_not_take_the_image(drive, image, current):
    if current is not None:
        (drive / method.CURRENT).write_bytes(current)
    ours = flasher(drive, options=NO_WAIT)
    ours.flash(image, ignore)
    with pytest.raises(VerificationFailed, match="did not take the image") as refused:
        ours.verify(image)
    assert method.CURRENT in refused.value.cause
    assert refused.value.exit_code == 5


def test_a_uf2_file_is_passed_on_as_it_is(tmp_path, drive):
    path = tmp_path / "both.uf2"
    path.write_bytes(
        uf2_block(START, CODE[:256]) + uf2_block(START + 4096, CODE[:256], family=0xE48BFF59)
    )
    flasher(drive, options=NO_WAIT).flash(read_image(path), ignore)
    assert (drive / method.NAME).read_bytes() == path.read_bytes()


def test_a_bin_needs_its_place(tmp_path, drive):
    path = tmp_path / "app.bin"
    path.write_bytes(CODE)
    with pytest.raises(ConfigError, match="does not say where it goes"):
        flasher(drive).plan(read_image(path))
    flasher(drive, options=NO_WAIT).flash(read_image(path, START), ignore)
    assert _uf2.read((drive / method.NAME).read_bytes())[0][0].data[: len(CODE)] == CODE


def test_images_of_other_chips_and_too_big_ones_are_refused(tmp_path, drive):
    for name, data, kind in (
        ("stm.elf", elf([(0x08000000, CODE)]), WrongChip),
        ("nrf.uf2", uf2_block(0x1000, CODE[:256], family=0xADA52840), WrongChip),
        ("big.elf", elf([(START + (16 << 20) - 8, CODE)]), ImageTooBig),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(kind) as refused:
            flasher(drive).plan(read_image(tmp_path / name))
        assert refused.value.cause
        assert refused.value.fix
    assert not (drive / method.NAME).exists()


def test_a_target_that_is_not_the_drives_is_refused(drive, image):
    with pytest.raises(WrongChip, match="is not a nrf52840") as refused:
        flasher(drive, target="nrf52840").plan(image)
    assert "RPI-RP2" in refused.value.cause


def test_an_unknown_board_needs_its_chip_named(drive, image, tmp_path):
    (drive / method.INFO).write_text("Model: Something\nBoard-ID: SOME-v1\n")
    with pytest.raises(ConfigError, match="is not known") as refused:
        flasher(drive).plan(image)
    assert "SOME-v1" in refused.value.cause
    assert flasher(drive, target="rp2040").plan(image)
    (tmp_path / "app.uf2").write_bytes(uf2_block(0, CODE[:256], family=99))
    steps = flasher(drive).plan(read_image(tmp_path / "app.uf2"))
    assert "the chip is not checked" in steps[0].text


def test_a_plan_writes_nothing_and_says_what_would_be(drive, image):
    steps = [step.text for step in flasher(drive).plan(image)]
    assert f"write {BLOCKS} blocks" in steps[0]
    assert method.CURRENT in steps[-1]
    assert [path.name for path in drive.iterdir()] == [method.INFO]


@pytest.mark.parametrize("info", [None, "x" * 5000])
def test_a_folder_that_is_no_drive(drive, image, info):
    (drive / method.INFO).unlink()
    if info:
        (drive / method.INFO).write_text(info)
    with pytest.raises(NoDevice, match="not the drive of a bootloader") as refused:
        flasher(drive).plan(image)
    assert refused.value.exit_code == 3


def mounts(tmp_path, *drives):
    path = tmp_path / "mounts"
    lines = [f"/dev/sd{name} {str(place).replace(' ', chr(92) + '040')} vfat rw 0 0"
             for name, place in zip("bcd", drives, strict=False)]  # fmt: skip
    path.write_text("/dev/sda1 / ext4 rw 0 0\nproc /proc proc rw 0 0\n" + "\n".join(lines) + "\n")
    return path


def test_mounted_drives_are_found_and_two_are_never_chosen_between(
    tmp_path, drive, image, monkeypatch
):
    other = tmp_path / "my board"
    other.mkdir()
    (other / method.INFO).write_text(PICO)
    plain = tmp_path / "stick"
    plain.mkdir()
    found = method.drives(mounts(tmp_path, drive, other, plain))
    assert [one.path for one in found] == [drive, other]
    assert not found[0].there, "its device is not there any more, whatever is mounted"
    monkeypatch.setattr(method, "drives", lambda: found)
    with pytest.raises(ConfigError, match="2 drives are there, and none is guessed") as refused:
        open_flasher(Choice("uf2")).plan(image)
    assert f"--drive {drive}" in refused.value.cause
    assert f"--drive {other}" in refused.value.cause
    monkeypatch.setattr(method, "drives", lambda: found[:1])
    assert open_flasher(Choice("uf2")).plan(image)
    monkeypatch.setattr(method, "drives", list)
    with pytest.raises(NoDevice, match="no drive was found"):
        open_flasher(Choice("uf2")).plan(image)


@pytest.mark.parametrize("wait", ["x", "nan", "-1", "1e9"])
def test_a_wait_that_is_none_is_refused(drive, wait):
    with pytest.raises(ConfigError, match="wait="):
        flasher(drive, options={"wait": wait})


def test_options_it_does_not_have_are_named(drive):
    with pytest.raises(ConfigError, match="no option 'speed'"):
        flasher(drive, options={"speed": "9"})
