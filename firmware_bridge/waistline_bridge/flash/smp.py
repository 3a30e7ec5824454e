"""Devices that take images over their serial line by SMP (MCUmgr): MCUboot, Zephyr, our own.

Our firmware, built with ``SMP=1``, speaks it when asked to (``enter=on``), and takes a head, not
itself. Options: ``baud`` (default 115200), ``slot`` (of the image group; default 0), ``timeout``
(seconds for a reply; default 5), ``sha=off`` (for servers with small buffers), ``reset=off``
(stay in SMP), ``enter`` (default off).
"""

from __future__ import annotations

import asyncio
import hashlib
import struct
from collections.abc import Awaitable, Callable
from typing import TypeVar

from smpclient import SMPClient
from smpclient.exceptions import SMPClientException, SMPUploadError
from smpclient.generics import error as refused
from smpclient.requests.image_management import ImageStatesRead
from smpclient.requests.os_management import ResetWrite
from smpclient.transport import SMPTransportDisconnected
from smpclient.transport.serial import SMPSerialTransport

from waistline.errors import ConfigError, LinkClosed, LinkTimeout, VerificationFailed
from waistline_bridge.boards.serial import SerialLine
from waistline_bridge.client import Client
from waistline_bridge.flash import _ports
from waistline_bridge.flash._image import Image
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
from waistline_bridge.messages import Refusal

TRIED = f"{UNTRIED}; our firmware on host and QEMU; an SMP server on a pseudoterminal"
_DEFAULTS = {"baud": 115200, "slot": 0, "timeout": 5}
_SWITCHES = {"sha": "on", "reset": "on", "enter": "off"}
_ERASE_S = 40.0
"""The first reply comes after the slot has been erased."""

# MCUboot, docs/design.md: image header, then two areas of tag-length-values.
_HEAD = struct.Struct("<IIHHI")
_MCUBOOT, _TLV_INFO, _TLV_PROTECTED, _TLV_SHA256 = 0x96F3B83D, 0x6907, 0x6908, 0x10

T = TypeVar("T")


def open_flasher(choice: Choice) -> Flasher:
    """Raises `ConfigError` for an option that cannot be used."""
    choice.check_options((*_DEFAULTS, *_SWITCHES))
    numbers = dict(_DEFAULTS)
    for key in _DEFAULTS:
        text = choice.options.get(key, str(_DEFAULTS[key]))
        if not text.isdecimal() or len(text) > 8:
            raise _unusable(key, text, "a whole number")
        numbers[key] = int(text)
    for key in _SWITCHES:
        if choice.options.get(key, "on") not in {"on", "off"}:
            raise _unusable(key, choice.options[key], "on or off")
    return _Smp(choice, numbers)


def _unusable(key: str, text: str, wanted: str) -> ConfigError:
    return ConfigError(
        f"{key}={text} cannot be used", cause=f"it is {wanted}", fix=f"leave out --option {key}"
    )


def image_hash(data: bytes) -> bytes:
    """What a server shows as the hash of an image: MCUboot's own where it is one, else of it all.

    Raises:
        ConfigError: it begins as MCUboot's and has no hash.
    """
    if len(data) < _HEAD.size or _HEAD.unpack_from(data)[0] != _MCUBOOT:
        return hashlib.sha256(data).digest()
    _, _, head, protected, body = _HEAD.unpack_from(data)
    at = head + body
    for kind in (_TLV_PROTECTED, _TLV_INFO):
        if kind == _TLV_PROTECTED and protected == 0:
            continue
        if at + 4 > len(data):
            break
        magic, size = struct.unpack_from("<HH", data, at)
        end = min(at + size, len(data))
        if magic != kind or size < 4:
            break
        entry, at = at + 4, at + size
        while entry + 4 <= end:
            tag, count = struct.unpack_from("<HH", data, entry)
            if tag == _TLV_SHA256 and count == 32 and entry + 36 <= end:
                return data[entry + 4 : entry + 36]
            entry += 4 + count
    raise ConfigError(
        "the image begins as one of MCUboot and has no hash",
        cause="there is no SHA-256 behind its body",
        fix="sign it: imgtool sign ...",
    )


class _Smp:
    def __init__(self, choice: Choice, numbers: dict[str, int]) -> None:
        self._choice = choice
        self._numbers = numbers
        self._timeout_s = float(numbers["timeout"])

    def find(self) -> list[Found]:
        return _ports.find_ports()

    def plan(self, image: Image) -> list[Step]:
        data, port = self._data(image), _ports.planned_port(self._choice.port)
        baud, slot = self._numbers["baud"], self._numbers["slot"]
        steps = [Step(f"let the firmware on {port} enter its update mode")] * self._is("enter")
        steps += [Step(f"upload {len(data)} bytes to slot {slot} by SMP on {port}, {baud} baud")]
        if self._choice.verify:
            steps.append(Step(f"find hash {image_hash(data).hex()[:16]} among its images"))
        if self._is("reset"):
            steps.append(Step("reset the device"))
        return steps

    def flash(self, image: Image, progress: Progress) -> None:
        port, data = self._checked(image)

        async def upload(client: SMPClient) -> None:
            # Any answer will do: without this an absent server is waited for as for an erase.
            await client.request(ImageStatesRead())
            sends = client.upload(
                data, slot=self._numbers["slot"], first_timeout_s=_ERASE_S,
                subsequent_timeout_s=self._timeout_s,
                use_sha=self._is("sha"),
            )  # fmt: skip
            async for done in sends:
                if not 0 < done <= len(data):
                    raise SMPUploadError(f"it asks for byte {done} of {len(data)}")
                progress(done, len(data))
            if self._is("reset") and not self._choice.verify:
                await client.request(ResetWrite())

        if self._is("enter"):
            self._enter(port)
        self._talk(port, upload, f"{image.path.name} was not written")

    def verify(self, image: Image) -> Verdict:
        port, data = self._checked(image)
        wanted = image_hash(data)

        async def states(client: SMPClient) -> list[tuple[int, bytes]]:
            reply = await client.request(ImageStatesRead())
            if refused(reply):
                raise SMPUploadError(reply)
            found = [(state.slot, bytes(state.hash or b"")) for state in reply.images]
            if self._is("reset") and wanted in [digest for _, digest in found]:
                await client.request(ResetWrite())
            return found

        held = self._talk(port, states, f"the images on {port} could not be read")
        for slot, digest in held:
            if digest == wanted:
                return Verdict("device's hash", f"slot {slot} holds {wanted.hex()[:16]}")
        listed = "; ".join(
            f"slot {slot}: {digest.hex()[:16] or 'no hash'}" for slot, digest in held
        )
        raise VerificationFailed(
            f"the device on {port} does not hold {image.path.name}",
            cause=f"its images are {listed or 'none'}; wanted: {wanted.hex()[:16]}",
            fix="run the same command again",
        )

    def _is(self, switch: str) -> bool:
        return self._choice.options.get(switch, _SWITCHES[switch]) == "on"

    def _enter(self, port: str) -> None:
        """From the bridge into the update mode of our own firmware."""
        _ports.check_port(port)
        line = SerialLine(port, self._numbers["baud"])
        try:
            Client(line).enter_update()
        except Refusal as error:
            raise ConfigError(
                f"the firmware on {port} has no update mode",
                cause=str(error),
                fix="make firmware SMP=1, and flash that once by another method",
            ) from error
        finally:
            line.close()

    def _checked(self, image: Image) -> tuple[str, bytes]:
        data = self._data(image)
        return _ports.the_port(self._choice.port), data

    def _data(self, image: Image) -> bytes:
        if image.format != "bin":
            raise ConfigError(
                f"{image.path.name} cannot be sent by SMP",
                cause=f"this is {image.format}; a slot takes a BIN: a signed image, or a head",
                fix="give the .bin that imgtool signed, or a bundle's head.blob",
            )
        if image.placed:
            raise ConfigError(
                "--address does not go with smp",
                cause="the device puts the image into its slot itself",
                fix="leave it out, or use --option slot=N",
            )
        if image.chip_id is not None:
            raise WrongChip(
                f"{image.path.name} is not for an SMP server",
                cause="it is an image for Espressif's bootloader",
                fix="use --via esptool",
            )
        return image.segments[0].data

    def _talk(self, port: str, work: Callable[[SMPClient], Awaitable[T]], what: str) -> T:
        _ports.check_port(port)
        transport = SMPSerialTransport(baudrate=self._numbers["baud"], exclusive=True)

        async def conversation() -> T:
            async with SMPClient(transport, port, self._timeout_s) as client:
                return await work(client)

        try:
            return asyncio.run(conversation())
        except (SMPTransportDisconnected, OSError) as error:
            if isinstance(error, TimeoutError):
                raise LinkTimeout(
                    f"no SMP server answers on {port}",
                    cause=str(error) or f"no reply in {self._timeout_s:g} s",
                    fix="let the device enter its update mode, and check --option baud",
                ) from error
            raise LinkClosed(
                f"the line to {port} broke", cause=str(error), fix="plug the device in again"
            ) from error
        except (SMPClientException, ValueError) as error:
            raise _told(what, str(error)) from error


def _told(what: str, said: str) -> FlashError | ImageTooBig:
    """The error behind a server's refusal; group and code stand in the text."""
    for sign in ("IMAGE_TOO_LARGE", "NO_FREE_MEMORY", "ENOMEM", "NO_FREE_SLOT"):
        if sign in said:
            return ImageTooBig(what, cause=_short(said), fix="the slot is smaller; make it fit")
    return FlashError(
        what, cause=_short(said), fix="see what the server takes; try --option sha=off"
    )


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 200 else line[:198] + ".."
