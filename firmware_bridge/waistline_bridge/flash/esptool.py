"""Espressif's chips, by esptool as a program: it is GPL, so it is never imported.

Options: ``baud`` (default 460800), ``before`` and ``after`` (resets), ``stub=off`` (talk to the
ROM alone), ``flash-size``, ``attempts`` (to connect) and ``tool`` (the program).
"""

from __future__ import annotations

import re

from waistline.errors import ConfigError, LinkError, LinkTimeout, MissingExtra, VerificationFailed
from waistline_bridge.flash import _chips, _ports, _tool
from waistline_bridge.flash._image import Image
from waistline_bridge.flash._tool import Rule
from waistline_bridge.flash.base import (
    UNTRIED,
    Choice,
    Flasher,
    FlashError,
    Found,
    ImageTooBig,
    Progress,
    Step,
    Verdict,
    WrongChip,
)

TRIED = f"{UNTRIED}; stock esptool 5.6 with an emulated ESP32 ROM"
_BAUD = "460800"
_MAJOR = 5
_OPTIONS = ("baud", "before", "after", "stub", "flash-size", "attempts", "tool")
_BOOT = "hold BOOT, press RESET, let BOOT go, then run the same command again"


def open_flasher(choice: Choice) -> Flasher:
    """Raises `ConfigError` for an option it does not have."""
    choice.check_options(_OPTIONS)
    if choice.options.get("stub", "on") not in {"on", "off"}:
        raise ConfigError(
            f"stub={choice.options['stub']} cannot be used", cause="it is on or off", fix="stub=off"
        )
    return _Esptool(choice)


def _rules(port: str, image: Image) -> tuple[Rule, ...]:
    return (
        Rule(r"This chip is (\S+), not (\S+)\. Wrong chip",
             lambda found: WrongChip(
                 f"the chip on {port} is not an {found[2]}", cause=f"it says it is an {found[1]}",
                 fix=f"use an image for it and --target {found[1].lower().replace('-', '')}")),
        Rule(r"is not an? (\S+) image|Unexpected chip ID in image|requires chip revision.*",
             lambda found: WrongChip(
                 f"{image.path.name} is not for the chip on {port}", cause=found[0],
                 fix="build it for that chip")),
        Rule(r"MD5 of file does not match data in flash|Verification failed",
             lambda found: VerificationFailed(
                 f"the chip on {port} holds something else than {image.path.name}", cause=found[0],
                 fix="run the same command again; if it stays, its flash may be worn out")),
        Rule(r"will not fit in (\d+) bytes of flash.*|doesn't fit in the available flash.*",
             lambda found: ImageTooBig(
                 f"{image.path.name} is too big for the chip on {port}", cause=found[0],
                 fix="make it smaller; --option flash-size=SIZE where the size is not that")),
        Rule(r"Could not (?:exclusively )?(?:open|lock) .*|could not open port.*",
             lambda found: _ports.busy_or_gone(port, found[0])),
        Rule(r"Failed to connect to .*|No serial data received.*|Invalid head of packet.*",
             lambda found: LinkTimeout(
                 f"no bootloader answers on {port}", cause=found[0], fix=_BOOT)),
        Rule(r"serial exception error occurred: (.*)",
             lambda found: LinkError(
                 f"the line to {port} broke", cause=found[1],
                 fix="check the cable, then try again")),
        Rule(r"Failed to write to target flash.*",
             lambda found: FlashError(
                 f"the flash of the chip on {port} was not written", cause=found[0],
                 fix="check its power supply; a slower --option baud=115200 may help")),
    )  # fmt: skip


class _Esptool:
    def __init__(self, choice: Choice) -> None:
        self._choice = choice

    def find(self) -> list[Found]:
        self._tool()
        return _ports.find_ports()

    def plan(self, image: Image) -> list[Step]:
        self._check(image)
        port = _ports.planned_port(self._choice.port)
        steps = [Step(f"write {image.size_bytes} bytes", tuple(self._write(image, port)))]
        if self._choice.verify:
            steps.append(Step("compare hashes on the device", tuple(self._compare(image, port))))
        return steps

    def flash(self, image: Image, progress: Progress) -> None:
        port = self._checked(image)
        _ports.check_port(port)
        command = self._write(image, port)
        self._check_version(command)
        said = _tool.run(command, progress=progress, total=image.size_bytes)
        if said.code != 0:
            what = f"{image.path.name} was not written to {port}"
            raise _tool.explain(said, _rules(port, image), what)
        progress(image.size_bytes, image.size_bytes)

    def verify(self, image: Image) -> Verdict:
        port = self._checked(image)
        said = _tool.run(self._compare(image, port))
        if said.code != 0:
            raise _tool.explain(said, _rules(port, image), f"{port} could not be verified")
        return Verdict("device's hash", "the MD5 that the chip made of its flash is the image's")

    def _checked(self, image: Image) -> str:
        """The port, when all that can be seen from here fits."""
        self._check(image)
        return _ports.the_port(self._choice.port)

    def _check(self, image: Image) -> None:
        if image.format != "bin":
            raise ConfigError(
                f"{image.path.name} cannot be written by esptool",
                cause=f"this is {image.format}; the chip boots from images in BIN",
                fix="python -m esptool --chip CHIP elf2image FILE, then give the BIN and --address",
            )
        _chips.require_placed(image)
        _chips.check(image, self._chip(image), self._choice.board)

    def _chip(self, image: Image) -> str:
        """As esptool spells it; ``auto`` where neither user nor image say."""
        named = re.sub(r"[^a-z0-9]", "", self._choice.target.lower())
        stated = None if image.chip_id is None else _chips.by_esp_id(image.chip_id)
        return named or (stated.name if stated else "auto")

    def _start(self, image: Image, port: str, after: str) -> list[str]:
        options = self._choice.options
        command = self._tool()
        command += ["--chip", self._chip(image), "--port", port]
        command += ["--baud", options.get("baud", _BAUD)]
        command += ["--before", options.get("before", "default-reset"), "--after", after]
        if "attempts" in options:
            command += ["--connect-attempts", options["attempts"]]
        return [*command, "--no-stub"] if options.get("stub") == "off" else command

    def _tool(self) -> list[str]:
        given = self._choice.options.get("tool", "")
        return _tool.program("esptool", given, module="esptool", extra="'waistline[esptool]'")

    def _write(self, image: Image, port: str) -> list[str]:
        last = self._choice.options.get("after", "hard-reset")
        after = "no-reset" if self._choice.verify else last
        command = [*self._start(image, port, after), "write-flash"]
        if "flash-size" in self._choice.options:
            command += ["--flash-size", self._choice.options["flash-size"]]
        return [*command, *_pair(image)]

    def _compare(self, image: Image, port: str) -> list[str]:
        last = self._choice.options.get("after", "hard-reset")
        return [*self._start(image, port, last), "verify-flash", *_pair(image)]

    def _check_version(self, command: list[str]) -> None:
        start = command[: command.index("--chip")]
        said = _tool.run([*start, "version"], quiet_s=60)
        found = re.search(r"esptool(?:\.py)? v(\d+)[.\w]*", said.text)
        if said.code == 0 and found is not None and int(found[1]) >= _MAJOR:
            return
        raise MissingExtra(
            f"esptool {_MAJOR} is needed",
            cause=f"{' '.join(start)} says: {found[0] if found else said.last}",
            fix=_tool.pip("'waistline[esptool]'"),
        )


def _pair(image: Image) -> tuple[str, str]:
    return f"{image.segments[0].address:#x}", str(image.path.resolve())
