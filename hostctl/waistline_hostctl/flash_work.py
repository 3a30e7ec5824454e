"""What ``waistline flash`` does. `flash_mcu` and `flash_methods` are of the Python API."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from waistline.bench import ResolvedBench, resolve
from waistline.errors import ConfigError, MissingExtra, WaistlineError
from waistline_bridge import flash
from waistline_bridge.boards import qemu as qemu_boards
from waistline_bridge.flash import Choice, Image
from waistline_bridge.flash.base import Flasher, Step
from waistline_hostctl.console import Console, nobody
from waistline_hostctl.flash_results import (
    READY,
    FlashDevice,
    FlashImage,
    FlashListResult,
    FlashMethod,
    FlashResult,
    FlashStep,
)

_COMMAND = "command"


def flash_mcu(
    image: str | Path | None = None,
    *,
    via: str = "",
    board: str = "",
    target: str = "",
    port: str = "",
    drive: str = "",
    probe: str = "",
    address: int | None = None,
    options: Mapping[str, str] | None = None,
    dry_run: bool = False,
    verify: bool = True,
    bench: ResolvedBench | None = None,
    console: Console | None = None,
) -> FlashResult:
    """Write firmware into a microcontroller and see that it is there.

    Args:
        image: ELF, BIN, Intel HEX or UF2 file; None: the firmware of ``board``, as it was built.
        via: the method, one that `flash_methods` lists; "" where it goes without saying.
        board: whose firmware it is.
        target: the chip, where the device does not say.
        port: serial port, a path or an id.
        drive: folder where a UF2 bootloader is mounted.
        probe: id of a debug probe.
        address: where a BIN goes.
        options: the method's own, such as ``{"baud": "115200"}``.
        dry_run: plan and write nothing; ``steps`` of the result hold the exact commands.
        verify: compare afterwards.
        bench: settings, of which the method ``command`` takes its template; None: the defaults
            and the environment.
        console: is told progress, in bytes, and that a method is untried; None: nobody is.

    Raises:
        ConfigError: nothing to flash, an image or a method that cannot be used.
        MissingExtra: a program or package it needs, or the device, is not there.
        LinkError, BridgeError: the port or the tool failed.
        VerificationFailed: the device holds something else.
    """
    bench, console = bench or resolve(environment=os.environ), console or nobody()
    choice = Choice(
        via, board, target, port, drive, probe, address, bench.bench.flash.command, verify,
        dict(options or {}),
    )  # fmt: skip
    found, choice = chosen(None if image is None else Path(image), choice)
    with console.progress("flashing, bytes", found.size_bytes) as progress:
        return carry_out(found, choice, dry_run=dry_run, progress=progress.update, say=console.note)


def flash_methods(
    via: str = "",
    *,
    board: str = "",
    target: str = "",
    port: str = "",
    drive: str = "",
    probe: str = "",
    bench: ResolvedBench | None = None,
) -> FlashListResult:
    """Every way to flash with what it was tried on and the devices it finds; none is opened.

    Args:
        via: this method alone; "" for all.
        board: whose firmware it would be.
        target: the chip.
        port: look at this serial port alone.
        drive: look at this folder alone.
        probe: look at this debug probe alone.
        bench: settings; None: the defaults and the environment.
    """
    bench = bench or resolve(environment=os.environ)
    command = bench.bench.flash.command
    return listed(Choice(via, board, target, port, drive, probe, None, command))


def chosen(image: Path | None, choice: Choice) -> tuple[Image, Choice]:
    """The image, and the choice with what follows from it.

    Raises:
        ConfigError: neither image nor board, an image that cannot be used, or no method.
    """
    if image is None and not choice.board:
        raise ConfigError(
            "there is nothing to flash",
            cause="neither an image nor --board was given",
            fix="waistline flash IMAGE --via METHOD (waistline flash --list shows methods)",
        )
    if choice.board:
        flash.check_board(choice.board)
    path = flash.firmware_of(choice.board) if image is None else image
    found = flash.read_image(path, choice.address)
    return found, replace(choice, method=choice.method or _method(found, choice))


def _method(image: Image, choice: Choice) -> str:
    """What goes without saying: an emulated board, a drive, a UF2 file."""
    if (choice.board or image.board) in qemu_boards.names():
        return "qemu"
    if choice.drive or image.format == "uf2":
        return "uf2"
    if choice.probe:
        return "pyocd"
    raise ConfigError(
        f"how is {image.path.name} to be written?",
        cause=f"there are: {', '.join(flash.names())}",
        fix="choose one with --via; waistline flash --list says what each finds",
    )


def carry_out(
    image: Image,
    choice: Choice,
    *,
    dry_run: bool,
    progress: Callable[[int], None],
    say: Callable[[str], None],
) -> FlashResult:
    """Plan, write and verify.

    Raises:
        WaistlineError: as the flasher's methods.
    """
    flasher = flash.open_flasher(choice)
    tried = flash.tried(choice.method)
    steps = tuple(_step(step) for step in flasher.plan(image))
    verified, detail = "", ""
    if not dry_run:
        if tried.startswith(flash.UNTRIED):
            say(f"{choice.method}: {tried}")
        flasher.flash(image, lambda done, _: progress(done))
        verified, detail = _verified(flasher, image, choice)
    return FlashResult(
        method=choice.method, image=_described(image), steps=steps, dry_run=dry_run, tried=tried,
        verified=verified, detail=detail,
    )  # fmt: skip


def _verified(flasher: Flasher, image: Image, choice: Choice) -> tuple[str, str]:
    if not choice.verify:
        return "not asked for", "--no-verify"
    verdict = flasher.verify(image)
    return verdict.how, verdict.detail


def _step(step: Step) -> FlashStep:
    return FlashStep(step.text, shlex.join(step.command))


def _described(image: Image) -> FlashImage:
    ranges = tuple((part.address, len(part.data)) for part in image.segments)
    return FlashImage(
        str(image.path), image.format, image.sha256, image.size_bytes,
        ranges if image.placed else (), image.board,
    )  # fmt: skip


def listed(choice: Choice) -> FlashListResult:
    """Every method with the devices it finds; none is opened."""
    names = [choice.method] if choice.method else flash.names()
    return FlashListResult(methods=tuple(_listed(name, choice) for name in names))


def _listed(name: str, choice: Choice) -> FlashMethod:
    tried = flash.UNTRIED
    try:
        tried = flash.tried(name)
        if name == _COMMAND and not choice.command:
            return FlashMethod(
                name, "no [flash] command", tried, fix="write one into bench.toml: see its example"
            )
        found = flash.open_flasher(replace(choice, method=name, options={})).find()
    except MissingExtra as error:
        return FlashMethod(name, "missing extra", tried, fix=error.fix)
    except WaistlineError as error:
        return FlashMethod(name, str(error), tried, fix=error.fix)
    devices = tuple(FlashDevice(one.flags, one.text) for one in found)
    return FlashMethod(name, READY, tried, devices)
