"""What every way to flash a device offers.

A flasher module exports ``open_flasher(choice) -> Flasher`` and ``TRIED``, a line for people: what
it was run on, beginning with `UNTRIED` where that was no hardware. GPL tools are programs beside
us and never imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from waistline.errors import BridgeError, ConfigError

if TYPE_CHECKING:
    from waistline_bridge.flash._image import Image

UNTRIED = "untried on hardware"

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all."""


class FlashError(BridgeError):
    """A tool or a device failed while an image was written."""


class NoDevice(FlashError):
    """There is nothing to write to."""

    exit_code = 3


class WrongChip(ConfigError):
    """The image is for another chip than the one that is there or was named."""


class ImageTooBig(ConfigError):
    """The image does not fit."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What a user said; "" where nothing.

    Attributes:
        method: file name in this folder.
        board: a board of this project that the image is for.
        target: chip, in the method's own spelling.
        port, drive, probe: which device, as `Found.flags` lists them.
        address: where a BIN goes.
        command: the template of the method ``command``.
        verify: `verify` will follow, so that the device must stay where it can be read.
        options: of the method, as ``KEY=VALUE`` on the command line.
    """

    method: str
    board: str = ""
    target: str = ""
    port: str = ""
    drive: str = ""
    probe: str = ""
    address: int | None = None
    command: str = ""
    verify: bool = True
    options: Mapping[str, str] = field(default_factory=dict)

    def check_options(self, known: Sequence[str]) -> None:
        """Raise `ConfigError` for an option that the method does not have."""
        unknown = sorted(set(self.options) - set(known))
        if unknown:
            raise ConfigError(
                f"{self.method} has no option {unknown[0]!r}",
                cause=f"its options: {', '.join(known)}" if known else "it has none",
                fix="remove it",
            )


@dataclass(frozen=True, slots=True)
class Found:
    """A device that could be written to.

    Attributes:
        flags: to paste, such as ``--probe 066FFF``.
        text: what it says of itself.
    """

    flags: str
    text: str


@dataclass(frozen=True, slots=True)
class Step:
    """Something `Flasher.flash` or `Flasher.verify` will do.

    Attributes:
        text: for people.
        command: exactly what is run, () where no program is.
    """

    text: str
    command: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """How an image was found to be there.

    Attributes:
        how: ``read back``, ``device's hash``, ``tool``, or ``not possible``.
        detail: the fact seen.
    """

    how: str
    detail: str


class Flasher(Protocol):
    """One way to write one device."""

    def find(self) -> list[Found]:
        """Devices that are there.

        Raises:
            MissingExtra: the tool is not installed.
        """
        ...

    def plan(self, image: Image) -> list[Step]:
        """What would be done; nothing is written.

        Raises:
            ConfigError: image and device do not go together, or a choice is missing.
            NoDevice: there is nothing to write to.
        """
        ...

    def flash(self, image: Image, progress: Progress) -> None:
        """Write the image.

        Raises:
            ConfigError, NoDevice: as of `plan`.
            LinkError: the port is taken, not permitted or gone.
            FlashError: it was not written.
        """
        ...

    def verify(self, image: Image) -> Verdict:
        """Whether the image is there, after `flash`.

        Raises:
            VerificationFailed: something else is there.
            LinkError, FlashError: it could not be found out.
        """
        ...


def only(found: Sequence[Found], wanted: str, what: str, plug: str) -> Found:
    """The one device that fits ``wanted`` ("": any); never a guess between two.

    Args:
        found: as `Flasher.find` gave it.
        wanted: the value behind the flag.
        what: it is called, such as ``debug probe``.
        plug: what to do when there is none.

    Raises:
        NoDevice: none fits.
        ConfigError: several do.
    """
    fitting = [one for one in found if wanted in ("", one.flags.partition(" ")[2])]
    listed = "; ".join(f"{one.flags} ({one.text})" for one in found)
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        raise NoDevice(
            f"there is no {what} {wanted}" if wanted else f"no {what} was found",
            cause=f"there are: {listed}" if found else "none is plugged in, or none is permitted",
            fix=f"use {found[0].flags}" if len(found) == 1 else plug,
        )
    raise ConfigError(
        f"{len(fitting)} {what}s are there, and none is guessed",
        cause=listed,
        fix=f"choose one, for example: {fitting[0].flags}",
    )
