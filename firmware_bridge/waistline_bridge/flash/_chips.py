"""Chips: which flash they have, what images for them look like, and how they are told apart.

Only facts that a check needs; a chip that is not here is not checked, and the result says so.
Sources: RM0090/RM0390 (STM32F4, 38.6.1 and 33.6.1: DBGMCU_IDCODE), RP2040 datasheet 2.20.2
(CHIP_ID), nRF52832/833/840 product specifications (FICR, INFO.PART), SAM D21/D5x datasheets,
ESP-IDF esp_app_format.h (chip ids), github.com/microsoft/uf2 and picotool (families).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from waistline.errors import ConfigError
from waistline_bridge.boards import qemu
from waistline_bridge.flash.base import ImageTooBig, WrongChip

if TYPE_CHECKING:
    from waistline_bridge.flash._image import Image

KIB, MIB = 1 << 10, 1 << 20


@dataclass(frozen=True, slots=True)
class Chip:
    """What is known of a chip.

    Attributes:
        name: the beginning of every spelling of it, in small letters and digits.
        machines: processors its images may be for.
        flash: first address and bytes of the largest part of that name.
        families: of UF2, the first one is what is written.
        identity: (address, mask, value) of a word that only this family of chips has.
        uf2_boards: how ``Board-ID`` in INFO_UF2.TXT begins.
        esp_id: in the header of an image.
    """

    name: str
    machines: tuple[str, ...]
    flash: tuple[int, int]
    families: tuple[int, ...] = ()
    identity: tuple[int, int, int] | None = None
    uf2_boards: tuple[str, ...] = ()
    esp_id: int | None = None


_ARM = ("arm",)
_F4_IDENTITY = 0xE0042000
_FICR_PART = 0x10000100
CHIPS = (
    Chip("stm32f405", _ARM, (0x08000000, MIB), (0x57755A57,), (_F4_IDENTITY, 0xFFF, 0x413)),
    Chip("stm32f407", _ARM, (0x08000000, MIB), (0x6D0922FA, 0x57755A57, 0x8FB060FE),
         (_F4_IDENTITY, 0xFFF, 0x413)),
    Chip("stm32f446", _ARM, (0x08000000, 512 * KIB), (0x57755A57,),
         (_F4_IDENTITY, 0xFFF, 0x421)),
    Chip("rp2040", _ARM, (0x10000000, 16 * MIB), (0xE48BFF56,),
         (0x40000000, 0x0FFFFFFF, 0x00002927), ("RPI-RP2",)),
    Chip("rp2350", ("arm", "riscv"), (0x10000000, 32 * MIB),
         (0xE48BFF59, 0xE48BFF5A, 0xE48BFF5B, 0xE48BFF57, 0xE48BFF58), None, ("RP2350",)),
    Chip("nrf52832", _ARM, (0, 512 * KIB), (0x1B57745F,), (_FICR_PART, 0xFFFFF, 0x52832)),
    Chip("nrf52833", _ARM, (0, 512 * KIB), (0x621E937A,), (_FICR_PART, 0xFFFFF, 0x52833),
         ("nRF52833",)),
    Chip("nrf52840", _ARM, (0, MIB), (0xADA52840,), (_FICR_PART, 0xFFFFF, 0x52840),
         ("nRF52840",)),
    Chip("samd21", _ARM, (0, 256 * KIB), (0x68ED2B88,), None, ("SAMD21",)),
    Chip("samd51", _ARM, (0, MIB), (0x55114460,), None, ("SAMD51",)),
    Chip("esp32", ("xtensa",), (0, 16 * MIB), (0x1C5F21B0,), esp_id=0),
    Chip("esp32s2", ("xtensa",), (0, 16 * MIB), (0xBFDD4EEE,), None, ("ESP32S2",), 2),
    Chip("esp32s3", ("xtensa",), (0, 32 * MIB), (0xC47E5767,), None, ("ESP32S3",), 9),
    Chip("esp32c3", ("riscv",), (0, 16 * MIB), (0xD42BA06C,), esp_id=5),
    Chip("esp32c2", ("riscv",), (0, 16 * MIB), (0x2B88D29C,), esp_id=12),
    Chip("esp32c6", ("riscv",), (0, 16 * MIB), (0x540DDF62,), esp_id=13),
    Chip("esp32h2", ("riscv",), (0, 16 * MIB), (0x332726F6,), esp_id=16),
    Chip("esp32p4", ("riscv",), (0, 32 * MIB), (0x3D308E94,), esp_id=18),
)  # fmt: skip

REAL_BOARDS = {"nucleo-f446re": "stm32f446retx"}
"""This project's boards that are no programs, with their chips as pyOCD spells them."""


def board_names() -> tuple[str, ...]:
    """Boards whose firmware can be recognised."""
    return (*qemu.names(), *REAL_BOARDS)


def chip(spelling: str) -> Chip | None:
    """The chip that is meant by ``nRF52840_xxAA``, ``stm32f446retx`` or ``ESP32-C3``."""
    plain = re.sub(r"[^a-z0-9]", "", spelling.lower())
    fitting = [one for one in CHIPS if plain.startswith(one.name)]
    return max(fitting, key=lambda one: len(one.name), default=None)


def by_esp_id(number: int) -> Chip | None:
    return next((one for one in CHIPS if one.esp_id == number), None)


def by_family(family: int) -> Chip | None:
    return next((one for one in CHIPS if family in one.families), None)


def by_uf2_board(board: str) -> Chip | None:
    return next((one for one in CHIPS if board.startswith(one.uf2_boards or ("\0",))), None)


def check(image: Image, target: str, board: str = "") -> Chip | None:
    """Refuse an image that is not for this chip or board; None: nothing is known of the chip.

    Raises:
        WrongChip, ImageTooBig: it is for another one, or too big for it.
    """
    if board and image.board and image.board != board:
        raise WrongChip(
            f"{image.path.name} is not for board {board}",
            cause=f"it is firmware of board {image.board}",
            fix=f"use --board {image.board}, or give the firmware of {board}",
        )
    known = chip(target)
    meant = REAL_BOARDS.get(image.board, "")
    if known is None:
        return None
    if image.board and chip(meant) != known:
        raise _wrong(image, known.name, f"it is firmware of board {image.board}")
    if image.machine and image.machine not in known.machines:
        raise _wrong(image, known.name, f"it is for {image.machine}")
    if image.families and not image.families & set(known.families):
        raise _wrong(image, known.name, f"it is for {_families(image)}")
    if image.chip_id is not None and image.chip_id != known.esp_id:
        other = by_esp_id(image.chip_id)
        raise _wrong(image, known.name, f"its header says {other.name if other else image.chip_id}")
    if image.placed:
        _check_room(image, known)
    return known


def _check_room(image: Image, known: Chip) -> None:
    start, size = known.flash
    for segment in image.segments:
        if not start <= segment.address < start + size:
            raise _wrong(
                image, known.name,
                f"it writes to {segment.address:#010x}, flash is at {start:#010x}",
            )  # fmt: skip
        if segment.end > start + size:
            raise ImageTooBig(
                f"{image.path.name} is too big for {known.name}",
                cause=f"it ends at {segment.end:#010x}, the flash at {start + size:#010x}",
                fix="make it smaller, or choose a larger chip",
            )


def require_placed(image: Image, target: str = "") -> None:
    """Raise `ConfigError` for a BIN whose place nobody gave."""
    if not image.placed:
        known = chip(target)
        raise ConfigError(
            f"{image.path.name} does not say where it goes",
            cause="a BIN holds no address",
            fix="give --address, or an ELF"
            if known is None
            else f"--address {known.flash[0]:#x} for the start of flash, or give an ELF",
        )


def _families(image: Image) -> str:
    names = (by_family(family) for family in sorted(image.families))
    return ", ".join(
        one.name if one else f"family {family:#010x}"
        for one, family in zip(names, sorted(image.families), strict=True)
    )


def _wrong(image: Image, wanted: str, seen: str) -> WrongChip:
    return WrongChip(
        f"{image.path.name} is not for {wanted}",
        cause=seen,
        fix="give the image of that chip, or name the right one with --target",
    )
