"""What ``waistline flash`` does, and its results."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec

from waistline.errors import ConfigError, MissingExtra, WaistlineError
from waistline_bridge import flash
from waistline_bridge.boards import qemu as qemu_boards
from waistline_bridge.flash import Choice, Image
from waistline_bridge.flash.base import Flasher, Step
from waistline_hostctl.console import indented, size
from waistline_hostctl.results import Result

COMMAND, READY = "command", "ready"
_ABOUT = 10
"""Columns in front of what is said of a method."""


class FlashStep(msgspec.Struct, frozen=True):
    """``command`` is exactly what is run, "" where no program is."""

    text: str
    command: str = ""


class FlashImage(msgspec.Struct, frozen=True):
    """The file and what is in it; ``ranges`` as (first address, bytes), none where it says none."""

    file: str
    format: str
    sha256: str
    size_bytes: int
    ranges: tuple[tuple[int, int], ...]
    board: str = ""


class FlashResult(Result, frozen=True, kw_only=True, tag="flash"):
    """An image was written, or (``dry_run``) would be.

    Attributes:
        tried: what this method was run on before it was released.
        verified: ``read back``, ``device's hash``, ``tool``, ``not possible`` or ``not asked for``.
        detail: the fact behind it.
    """

    method: str
    image: FlashImage
    steps: tuple[FlashStep, ...]
    dry_run: bool
    tried: str
    verified: str = ""
    detail: str = ""


class FlashDevice(msgspec.Struct, frozen=True):
    """``flags`` choose it on the command line."""

    flags: str
    text: str


class FlashMethod(msgspec.Struct, frozen=True):
    """A way to flash; ``state`` is ``ready``, or what is in the way, which ``fix`` mends."""

    name: str
    state: str
    tried: str
    devices: tuple[FlashDevice, ...] = ()
    fix: str = ""


class FlashListResult(Result, frozen=True, kw_only=True, tag="flash --list"):
    methods: tuple[FlashMethod, ...]


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
        if name == COMMAND and not choice.command:
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


def list_text(result: FlashListResult) -> str:
    """Each method with what it was tried on, and what it finds, to be pasted."""
    name = max(len(row.name) for row in result.methods)
    lines = []
    for row in result.methods:
        nothing = "" if row.devices or row.state != READY else ", no device found"
        lines.append(f"{row.name.ljust(name)}  {row.state}{nothing}")
        lines.append(indented(row.tried, indent=_ABOUT))
        lines += [f"  fix     {row.fix}"] if row.fix else []
        flags = max((len(one.flags) for one in row.devices), default=0)
        lines += [
            f"  choose  --via {row.name} {one.flags.ljust(flags)}  {one.text}".rstrip()
            for one in row.devices
        ]
    return "\n".join(lines)


def text(result: FlashResult) -> str:
    """The plan with its commands, or what was done."""
    image = result.image
    where = ", ".join(f"{address:#010x}" for address, _ in image.ranges[:4])
    head = f"{Path(image.file).name}: {image.format}, {size(image.size_bytes)}"
    lines = [f"{head} at {where}" if where else head]
    if result.dry_run:
        lines.append(f"by {result.method} ({result.tried}); nothing is written:")
        for number, step in enumerate(result.steps, start=1):
            lines.append(indented(step.text, f"  {number}.", 5))
            lines += [f"     {step.command}"] if step.command else []
    else:
        lines.append(f"written by {result.method}; verified: {result.verified} ({result.detail})")
    return "\n".join(lines)
