"""Any other tool, by a template in the bench file: openocd, dfu-util, stm32loader and their like.

``[flash] command = "openocd -f board/st_nucleo_f4.cfg -c 'program {image} verify reset exit'"``;
``{image}``, ``{port}`` and ``{address}`` are filled in. No shell is involved.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

from waistline.errors import ConfigError, LinkError, VerificationFailed, WaistlineError
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
    NoDevice,
    Progress,
    Step,
    Verdict,
    WrongChip,
)

TRIED = f"{UNTRIED}; openocd 0.12, dfu-util 0.11 without a device; stand-ins"
EXAMPLE = "command = \"openocd -f board/st_nucleo_f4.cfg -c 'program {image} verify reset exit'\""
_APT = {
    "openocd": "openocd",
    "dfu-util": "dfu-util",
    "bossac": "bossa-cli",
    "st-flash": "stlink-tools",
}
_PIP = {"stm32loader": "stm32loader"}
_KNOWN = ("image", "port", "address")
_PLACE = re.compile(r"\{(\w*)\}")
# openocd's -c is a Tcl script, in which brackets run commands and spaces part words.
_PLAIN = re.compile(r"[\w./+@%=,:~-]+")
_VERIFIES = {"stm32loader": r"(?<!\S)-\w*v", "st-flash": ""}
"""What in a template says that the tool compares; for others the word ``verify``."""


def open_flasher(choice: Choice) -> Flasher:
    """Raises `ConfigError` where there is no template, or one that cannot be used."""
    choice.check_options(())
    return _Command(choice)


def _no(text: str) -> WaistlineError:
    return NoDevice(
        "no device answered the tool", cause=text, fix="plug it in, and check its cable and power"
    )


_RULES = (
    Rule(r"^.*Verify Failed.*|^.*(?:checksum mismatch|contents differ|verification failed).*$",
         lambda found: VerificationFailed(
             "something else is on the device than the image", cause=found[0].strip(),
             fix="run the same command again; a chip that is protected must be unlocked first")),
    Rule(r"^.*(?:No DFU capable USB device available|no device found|open failed|"
         r"unable to find a matching CMSIS-DAP device|Couldn't find any ST-Link).*$",
         lambda found: _no(found[0].strip())),
    Rule(r"^.*(?:More than one DFU capable USB device|multiple devices found).*$",
         lambda found: ConfigError(
             "several devices are there, and none is guessed", cause=found[0].strip(),
             fix="name one in the template, such as dfu-util -S SERIAL or openocd "
             "-c 'adapter serial ID'")),
    Rule(r"^.*(?:LIBUSB_ERROR_ACCESS|Permission denied|insufficient permissions).*$",
         lambda found: LinkError(
             "the device may not be opened by you", cause=found[0].strip(),
             fix="install the tool's udev rules, then plug the device in again; for a serial port: "
             "sudo usermod -aG dialout $USER")),
    Rule(r"^.*(?:LIBUSB_ERROR_BUSY|Resource busy|Device or resource busy).*$",
         lambda found: LinkError(
             "the device is in use", cause=found[0].strip(), fix="close the program that has it")),
    Rule(r"^.*(?:UNEXPECTED idcode|expected: 0x\w+|Wrong chip|Cannot identify target).*$",
         lambda found: WrongChip(
             "another chip is there than the template is for", cause=found[0].strip(),
             fix="use the configuration of that chip in [flash] command")),
    Rule(r"^.*(?:no flash bank found for address|beyond end of (?:flash|bank)|too large|"
         r"too big).*$",
         lambda found: ImageTooBig(
             "the image does not fit into the device's flash", cause=found[0].strip(),
             fix="make it smaller, or check its addresses")),
)  # fmt: skip


class _Command:
    def __init__(self, choice: Choice) -> None:
        self._choice = choice
        self._said: _tool.Said | None = None
        self._words = _words(choice.command)

    def find(self) -> list[Found]:
        """Nothing: the tool behind the template is not known to list."""
        return []

    def plan(self, image: Image) -> list[Step]:
        command = self._filled(image, _ports.planned_port)
        return [Step(f"run {command[0]}", tuple(command))]

    def flash(self, image: Image, progress: Progress) -> None:
        command = self._filled(image, _open_port)
        said = _tool.run(command, progress=progress, total=image.size_bytes)
        if said.code != 0:
            raise _tool.explain(said, _RULES, f"{self._words[0]} did not write the image")
        self._said = said
        progress(image.size_bytes, image.size_bytes)

    def verify(self, image: Image) -> Verdict:
        if self._said is None:
            raise FlashError(
                "there is nothing to verify by",
                cause="only the command that writes can verify",
                fix="flash the image",
            )
        template = self._choice.command
        tool = Path(self._words[0]).name
        if re.search(_VERIFIES.get(tool, r"\bverify\b"), template):
            return Verdict("tool", f"{tool} was told to compare, and ended with code 0")
        return Verdict("not possible", f"[flash] command does not let {self._words[0]} verify")

    def _filled(self, image: Image, port: Callable[[str], str]) -> list[str]:
        _chips.check(image, self._choice.target, self._choice.board)
        values = {"image": str(image.path.resolve())}
        if any("{port}" in word for word in self._words):
            values["port"] = port(self._choice.port)
        if any("{address}" in word for word in self._words):
            values["address"] = self._address(image)
        words = [_fill(word, values) for word in self._words]
        tool = words[0]
        start = _tool.program(tool, "", extra=_PIP.get(tool, ""), apt=_APT.get(tool, ""))
        return [*start, *words[1:]]

    def _address(self, image: Image) -> str:
        _chips.require_placed(image, self._choice.target)
        if len(image.segments) != 1:
            raise ConfigError(
                "[flash] command has {address}, and there is not one",
                cause=f"{image.path.name} is in {len(image.segments)} pieces",
                fix="take {address} out of the template, or give a BIN with --address",
            )
        return f"{image.segments[0].address:#010x}"


def _open_port(wanted: str) -> str:
    path = _ports.the_port(wanted)
    _ports.check_port(path)
    return path


def _words(template: str) -> list[str]:
    try:
        words = shlex.split(template)
    except ValueError as error:
        raise _unusable(str(error)) from error
    if not words:
        raise ConfigError(
            "there is no command to flash with",
            cause="[flash] command is not set in the bench file",
            fix=f"write under [flash] in bench.toml: {EXAMPLE}",
        )
    places = [name for word in words for name in _PLACE.findall(word)]
    for name in places:
        if name not in _KNOWN:
            raise _unusable(f"{{{name}}} is not one of {{image}}, {{port}}, {{address}}")
    if "image" not in places:
        raise _unusable("{image} is missing")
    if _PLACE.search(words[0]):
        raise _unusable("the program itself must be written out")
    return words


def _unusable(cause: str) -> ConfigError:
    return ConfigError(
        "[flash] command cannot be used", cause=cause, fix=f"write it like this: {EXAMPLE}"
    )


def _fill(word: str, values: dict[str, str]) -> str:
    def value(place: re.Match[str]) -> str:
        text = values[place[1]]
        if word != place[0] and not _PLAIN.fullmatch(text):
            raise ConfigError(
                f"{text} cannot stand inside {word!r}",
                cause="the tool may read spaces, brackets or quotes in it as commands",
                fix="move the file to a path of letters, digits and ._-/",
            )
        return text

    return _PLACE.sub(value, word)
