"""An emulated board: start it with the image and greet it. Nothing is kept when it ends.

Options: those of the board, ``line``, ``icount`` and ``qemu`` (see ``boards/qemu.py``).
"""

from __future__ import annotations

from waistline.errors import ConfigError, VerificationFailed
from waistline_bridge.boards import open_board
from waistline_bridge.boards import qemu as boards
from waistline_bridge.client import Client
from waistline_bridge.flash import _chips
from waistline_bridge.flash._image import Image
from waistline_bridge.flash.base import Choice, Flasher, Found, Progress, Step, Verdict, WrongChip
from waistline_bridge.messages import DeviceInfo

TRIED = "every board it emulates; no hardware takes part"
_OPTIONS = ("line", "icount", "qemu")


def open_flasher(choice: Choice) -> Flasher:
    """Raises `ConfigError` for an option it does not have."""
    choice.check_options(_OPTIONS)
    return _Qemu(choice)


class _Qemu:
    def __init__(self, choice: Choice) -> None:
        self._choice = choice
        self._info: DeviceInfo | None = None

    def find(self) -> list[Found]:
        return [Found(f"--board {name}", "emulated") for name in boards.names()]

    def plan(self, image: Image) -> list[Step]:
        board = self._board(image)
        command = boards.command(board, self._options(image))
        steps = [
            Step(f"start {board} with {image.path.name}", tuple(command)),
            Step(f"greet it, and see that it says {board}"),
        ]
        if self._choice.verify:
            steps.append(Step(f"compare its build with {_build(image.build)}"))
        return steps

    def flash(self, image: Image, progress: Progress) -> None:
        board = self._board(image)
        with open_board(board, **self._options(image)) as opened:
            info = Client(opened.line).info
        if info.board != board:
            raise WrongChip(
                f"{image.path.name} is not for {board}",
                cause=f"it runs, and says that it is {info.board}",
                fix=f"use --board {info.board}",
            )
        self._info = info
        progress(image.size_bytes, image.size_bytes)

    def verify(self, image: Image) -> Verdict:
        if self._info is None:
            self.flash(image, lambda done, total: None)
        assert self._info is not None
        said = self._info.build
        if image.build is None:
            return Verdict("not possible", f"build {said:08x} answers; the image does not say its")
        if said != image.build:
            raise VerificationFailed(
                f"{self._info.board} runs another build than {image.path.name}",
                cause=f"it says {said:08x}, the image {image.build:08x}",
                fix=f"waistline mcu build --board {self._info.board}",
            )
        return Verdict("device's hash", f"build {said:08x} answers")

    def _options(self, image: Image) -> dict[str, str]:
        return {**self._choice.options, "firmware": str(image.path)}

    def _board(self, image: Image) -> str:
        if image.format != "elf":
            raise ConfigError(
                f"{image.path.name} cannot be started",
                cause=f"QEMU takes an ELF, this is {image.format}",
                fix="give the ELF it was made from",
            )
        board = self._choice.board or image.board
        if board not in boards.names():
            raise ConfigError(
                f"{board} is not an emulated board" if board else "which board is it for?",
                cause=f"there are: {', '.join(boards.names())}",
                fix=f"choose one: --board {boards.names()[0]}",
            )
        if image.machine != "arm":
            raise WrongChip(
                f"{image.path.name} is not for {board}",
                cause=f"it is for {image.machine or 'another processor'}",
                fix="give an ELF for Arm",
            )
        _chips.check(image, "", board)
        return board


def _build(build: int | None) -> str:
    return "the image's, which is not known" if build is None else f"{build:08x}, the image's"
