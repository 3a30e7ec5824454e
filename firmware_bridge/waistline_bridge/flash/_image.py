"""Images: what a file says is to be written where. Files are hostile."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from pathlib import Path

from waistline.errors import ConfigError
from waistline.files import read_limited
from waistline_bridge.flash import _elf, _hex, _uf2
from waistline_bridge.flash._chips import board_names, by_esp_id
from waistline_bridge.flash._parts import Bad, Segment, joined

MAX_FILE_BYTES = 64 << 20
"""More than the flash of any microcontroller that this is for; Intel HEX and UF2 take 2-3 times."""

_ESP_HEAD = struct.Struct("<BBBBIBBBBHBHHIB")
_ESP_MAGIC, _ESP_SEGMENTS = 0xE9, 16


@dataclass(frozen=True, slots=True)
class Image:
    """What is to be written.

    Attributes:
        path: of the file.
        format: ``elf``, ``bin``, ``hex`` or ``uf2``.
        segments: sorted, apart from each other; addresses count from 0 where `placed` is not set.
        placed: the addresses are the device's.
        machine: ``arm``, ``xtensa`` or ``riscv`` where the file says so, else "".
        families: of a UF2 file.
        chip_id: of an image for Espressif's chips.
        board: of this project's firmware, "" for others.
        build: of this project's firmware, where it says so.
        sha256: of the file.
    """

    path: Path
    format: str
    segments: tuple[Segment, ...]
    placed: bool
    machine: str = ""
    families: frozenset[int] = frozenset()
    chip_id: int | None = None
    board: str = ""
    build: int | None = None
    sha256: str = ""

    @property
    def size_bytes(self) -> int:
        return sum(len(segment.data) for segment in self.segments)


def read_image(path: str | Path, address: int | None = None) -> Image:
    """Read a file; its content says what it is, and ``.hex`` or ``.uf2`` what it should be.

    Args:
        path: ELF, BIN, Intel HEX or UF2.
        address: where a BIN goes.

    Raises:
        ConfigError: it cannot be read, is damaged, or says itself where it goes.
    """
    path = Path(path)
    try:
        data = read_limited(path, MAX_FILE_BYTES)
        image = _parsed(path, data, address)
    except OSError as error:
        raise ConfigError(
            f"the image {path} cannot be read",
            cause=error.strerror or str(error),
            fix="give a file: ELF, BIN, Intel HEX or UF2",
        ) from error
    except ValueError as error:  # `Bad` is one
        raise ConfigError(
            f"the image {path} cannot be used", cause=str(error), fix="build or copy it anew"
        ) from error
    if address is not None and image.format != "bin":
        raise ConfigError(
            f"--address does not go with {path.name}",
            cause=f"the format {image.format} says itself where it goes",
            fix="leave --address out",
        )
    return image


def _parsed(path: Path, data: bytes, address: int | None) -> Image:
    if not data:
        raise Bad("it is empty")
    digest = hashlib.sha256(data).hexdigest()
    if data.startswith(_elf.MAGIC):
        elf = _elf.read(data)
        return Image(
            path, "elf", elf.segments, True, machine=elf.machine, board=_board(elf.segments),
            build=elf.symbol("wl_build_id"), sha256=digest,
        )  # fmt: skip
    if data.startswith(_uf2.MAGIC) or path.suffix.lower() == ".uf2":
        segments, families = _uf2.read(data)
        return Image(
            path, "uf2", segments, True, families=families, board=_board(segments), sha256=digest
        )
    if path.suffix.lower() in {".hex", ".ihex", ".ihx"}:
        segments = _hex.read(data)
        return Image(path, "hex", segments, True, board=_board(segments), sha256=digest)
    segments = joined([Segment(address or 0, data)])
    return Image(
        path, "bin", segments, address is not None, chip_id=_espressif(data),
        board=_board(segments), sha256=digest,
    )  # fmt: skip


def _board(segments: tuple[Segment, ...]) -> str:
    """The board whose name the firmware holds, as INFO gives it; "" unless it is exactly one."""
    found = {
        name
        for name in board_names()
        for segment in segments
        if name.encode() + b"\0" in segment.data
    }
    return found.pop() if len(found) == 1 else ""


def _espressif(data: bytes) -> int | None:
    """Chip of an application image: esp_image_header_t of ESP-IDF's esp_app_format.h."""
    if len(data) < _ESP_HEAD.size:
        return None
    magic, count, *_, chip, _, _, _, reserved, hashed = _ESP_HEAD.unpack_from(data)
    if magic != _ESP_MAGIC or not 1 <= count <= _ESP_SEGMENTS or reserved or hashed > 1:
        return None
    return int(chip) if by_esp_id(chip) else None
