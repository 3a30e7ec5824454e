"""Boards that show up as a USB drive and take UF2 files: RP2040, RP2350, nRF52, SAMD, ESP32-S2.

Options: ``wait`` (seconds for the board to take the file; default 10). ``target`` names the chip
where the drive's Board-ID is not one that is known.
"""

from __future__ import annotations

import errno
import math
import os
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from waistline.errors import ConfigError, LinkError, VerificationFailed
from waistline.files import DISK_FULL, read_limited
from waistline_bridge.flash import _chips, _uf2
from waistline_bridge.flash._image import MAX_FILE_BYTES, Image
from waistline_bridge.flash._parts import Bad, Segment
from waistline_bridge.flash.base import (
    UNTRIED,
    Choice,
    Flasher,
    FlashError,
    Found,
    NoDevice,
    Progress,
    Step,
    Verdict,
    WrongChip,
    only,
)

TRIED = f"{UNTRIED}; a folder in the place of a drive"
INFO, CURRENT, NAME = "INFO_UF2.TXT", "CURRENT.UF2", "WAISTLIN.UF2"
_MOUNTS = Path("/proc/self/mounts")
_INFO_BYTES = 4096
_WRITE_BYTES = 16384
_WAIT_S, _POLL_S = 10.0, 0.1
_GONE = frozenset({errno.EIO, errno.ENODEV, errno.ENXIO, errno.ENOENT, errno.ESTALE, errno.ENOTDIR})
_PLUG = "hold BOOT (or press reset twice) while you plug the board in, and mount its drive"


@dataclass(frozen=True, slots=True)
class Drive:
    """A drive of a bootloader. ``device`` is what is mounted there, "" where not known."""

    path: Path
    model: str
    board: str
    device: str = ""

    @property
    def there(self) -> bool:
        """False once the board has left its bootloader, whatever is still mounted."""
        if self.device.startswith("/") and not Path(self.device).exists():
            return False
        try:
            os.stat(self.path / INFO)  # noqa: PTH116  the error is wanted, whichever
        except OSError:
            return False
        return True


def open_flasher(choice: Choice) -> Flasher:
    """Raises `ConfigError` for an option it does not have."""
    choice.check_options(("wait",))
    try:
        wait_s = float(choice.options.get("wait", _WAIT_S))
    except ValueError:
        wait_s = math.nan
    if not 0 <= wait_s <= 3600:
        raise ConfigError(
            f"wait={choice.options['wait']} cannot be used",
            cause="it is not a number of seconds from 0 to 3600",
            fix="leave it out",
        )
    return _Uf2(choice, wait_s)


def drives(mounts: Path = _MOUNTS) -> list[Drive]:
    """Mounted drives of bootloaders."""
    try:
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        device, place, kind = [*line.split(" "), "", "", ""][:3]
        if kind in {"vfat", "msdos", "exfat"}:
            # Spaces stand as \040 (proc(5)).
            path = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), place))
            drive = _drive(path, device)
            if drive is not None:
                found.append(drive)
    return sorted(found, key=lambda drive: str(drive.path))


def _drive(path: Path, device: str = "") -> Drive | None:
    try:
        text = read_limited(path / INFO, _INFO_BYTES).decode("utf-8", "replace")
    except (OSError, ValueError):
        return None
    fields = dict(re.findall(r"^([\w-]+):[ \t]*(.*?)\s*$", text, re.MULTILINE))
    return Drive(path, fields.get("Model", ""), fields.get("Board-ID", ""), device)


class _Uf2:
    def __init__(self, choice: Choice, wait_s: float) -> None:
        self._choice = choice
        self._wait_s = wait_s
        self._written: Drive | None = None

    def find(self) -> list[Found]:
        return [_found(drive) for drive in drives()]

    def plan(self, image: Image) -> list[Step]:
        drive, chip, blocks = self._prepared(image)
        steps = [
            Step(f"write {len(blocks) // _uf2.BLOCK_BYTES} blocks to {drive.path / NAME}"),
            Step(
                f"wait at most {self._wait_s:g} s until {drive.board or 'the board'} has taken it"
            ),
        ]
        if chip is None:
            steps.insert(0, Step(f"nothing is known of {drive.board!r}: the chip is not checked"))
        if self._choice.verify:
            steps.append(Step(f"compare with {CURRENT} where the drive stays"))
        return steps

    def flash(self, image: Image, progress: Progress) -> None:
        drive, _, blocks = self._prepared(image)
        target = drive.path / NAME
        done = 0
        try:
            with target.open("wb", buffering=0) as stream:
                while done < len(blocks):
                    done += stream.write(blocks[done : done + _WRITE_BYTES])
                    # Without it the bar would show how fast memory is.
                    os.fsync(stream.fileno())
                    progress(image.size_bytes * done // len(blocks), image.size_bytes)
        except OSError as error:
            # The board restarts with the last block, often before the write has returned.
            last = done + _WRITE_BYTES >= len(blocks)
            if not (last and error.errno in _GONE and not drive.there):
                raise _failed(drive, error, done, len(blocks)) from error
        progress(image.size_bytes, image.size_bytes)
        self._written = drive

    def verify(self, image: Image) -> Verdict:
        drive = self._written or self._drive()
        until = time.monotonic() + self._wait_s
        while True:
            if self._written is not None and not drive.there:
                return Verdict("not possible", f"{drive.path} is gone: the board has restarted")
            found = _differs(drive.path / CURRENT, image)
            if found == "":
                return Verdict("read back", f"{CURRENT} holds the image")
            if time.monotonic() >= until:
                break
            time.sleep(_POLL_S)
        raise VerificationFailed(
            f"{drive.board or 'the board'} did not take the image",
            cause=f"after {self._wait_s:g} s {drive.path} is still there and {found}",
            fix="check that the image is for this board, then unplug it, hold BOOT and try again",
        )

    def _drive(self) -> Drive:
        choice = self._choice
        if choice.drive:
            path = Path(choice.drive)
            known = {drive.path: drive for drive in drives()}
            drive = known.get(path) or _drive(path)
            if drive is None:
                raise NoDevice(
                    f"{path} is not the drive of a bootloader",
                    cause=f"it has no {INFO}" if path.is_dir() else "there is no such folder",
                    fix=_PLUG,
                )
            return drive
        here = drives()
        return here[_index(only([_found(one) for one in here], "", "drive", _PLUG), here)]

    def _prepared(self, image: Image) -> tuple[Drive, _chips.Chip | None, bytes]:
        drive = self._drive()
        chip = _chips.by_uf2_board(drive.board)
        named = _chips.chip(self._choice.target)
        if chip is not None and named is not None and chip != named:
            raise WrongChip(
                f"{drive.path} is not a {self._choice.target}",
                cause=f"{INFO} says {drive.board}",
                fix="leave --target out, or choose another drive",
            )
        chip = chip or named
        _chips.check(image, chip.name if chip else "", self._choice.board)
        if image.format == "uf2":
            return drive, chip, _same(image)
        _chips.require_placed(image, chip.name if chip else "")
        if chip is None:
            raise ConfigError(
                f"the chip of {drive.path} is not known",
                cause=f"{INFO} says {drive.board or 'nothing'}, which fits none of the known ones",
                fix="name it, such as --target rp2040, or give a UF2 file",
            )
        return drive, chip, _uf2.write(image.segments, chip.families[0])


def _index(found: Found, here: list[Drive]) -> int:
    return [_found(drive) for drive in here].index(found)


def _found(drive: Drive) -> Found:
    return Found(f"--drive {drive.path}", f"{drive.model} {drive.board}".strip())


def _same(image: Image) -> bytes:
    """The file as it is: it may hold blocks for several chips."""
    try:
        return read_limited(image.path, MAX_FILE_BYTES)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{image.path} cannot be read", cause=str(error)) from error


def _differs(current: Path, image: Image) -> str:
    """What is the matter with the drive's own copy; "" where it holds the image."""
    try:
        there, _ = _uf2.read(read_limited(current, 2 * MAX_FILE_BYTES))
    except OSError:
        return f"it has no {CURRENT}"
    except (Bad, ValueError) as error:
        return f"its {CURRENT} cannot be read: {error}"
    for segment in image.segments:
        if not _holds(there, segment):
            return f"its {CURRENT} holds something else at {segment.address:#010x}"
    return ""


def _holds(there: Iterable[Segment], wanted: Segment) -> bool:
    for segment in there:
        start = wanted.address - segment.address
        if start >= 0 and segment.end >= wanted.end:
            return segment.data[start : start + len(wanted.data)] == wanted.data
    return False


def _failed(drive: Drive, error: OSError, done: int, total: int) -> FlashError | LinkError:
    fact = f"{error.strerror or error}, after {done} of {total} bytes"
    if error.errno in DISK_FULL:
        return FlashError(
            f"{drive.path} is full", cause=fact, fix=f"delete what is on it but {INFO}, then again"
        )
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return LinkError(
            f"{drive.path} may not be written to", cause=fact, fix="mount it for your user"
        )
    if not drive.there:
        return LinkError(
            f"{drive.path} vanished while the image was being written",
            cause=fact,
            fix="plug the board in firmly, then run the same command again",
        )
    return FlashError(f"{drive.path} could not be written", cause=fact, fix=_PLUG)
