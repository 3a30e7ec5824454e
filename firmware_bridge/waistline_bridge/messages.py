"""Commands, statuses and the fixed layouts of requests and replies; ``PROTOCOL.md`` section 3."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Any

from waistline.errors import BadFrame, DeviceFault, VersionMismatch
from waistline_bridge.places import release_fix

PROTOCOL = 1
MIN_PAYLOAD = 512
ALL_LAYERS = 0xFFFF

_DEVICE = struct.Struct("<HH13I24s")
_HEAD = struct.Struct("<8s3I4HI")
_OUTPUT = struct.Struct("<6I")


class Command(IntEnum):
    PING = 1
    INFO = 2
    LOAD = 3
    COMMIT = 4
    INFER = 5
    READ = 6
    MARK = 7
    RESET = 8


class Area(IntEnum):
    BLOB = 0
    INPUT = 1
    OUTPUT = 2
    TICKS = 3
    ARENA = 4


class Mark(IntEnum):
    """What the marker pin does while a head runs."""

    OFF = 0
    HEAD = 1
    LAYERS = 2
    PULSES = 3


class Feature(IntFlag):
    FPU = 1
    DSP = 2
    MVE = 4
    CYCLES = 8
    KEEPS = 16
    MARKER = 32
    EMULATED = 64
    SMP = 128


class Status(IntEnum):
    OK = 0
    UNKNOWN = 1
    LENGTH = 2
    ARGUMENT = 3
    NOT_NOW = 4
    ORDER = 5
    FLASH = 6
    REFUSED = 7
    CRC = 8
    NO_ROOM = 9


STATUS_TEXT = {
    Status.UNKNOWN: "it does not know the command",
    Status.LENGTH: "the request has the wrong length",
    Status.ARGUMENT: "an argument is out of its range",
    Status.NOT_NOW: "nothing is loaded that it could do this with",
    Status.ORDER: "bytes came out of order",
    Status.FLASH: "its flash failed",
    Status.REFUSED: "the blob does not hold together",
    Status.CRC: "the blob it holds is not the one that was sent",
    Status.NO_ROOM: "there is no room for it",
}

REASON_TEXT = {
    1: "another version of blob or kernels",
    2: "impossible counts in the header",
    3: "a table outside the blob",
    4: "it needs more arena than there is",
    5: "tensor {0} does not fit",
    6: "record of layer {0}",
    7: "layer {0} reads what is not written yet",
    8: "layer {0} writes what is written already",
    9: "shapes of layer {0}",
    10: "clamp of layer {0}",
    11: "weights or records of layer {0}",
    12: "scratch of layer {0}",
    13: "layer {0} writes on what is still to be read",
    14: "waist {0} is never written",
    15: "codes of waist {0}",
    16: "scratch of waist {0}",
    17: "output of waist {0}",
    18: "golden input {0}",
}


class Refusal(DeviceFault):
    """A device's answer other than ok, with the numbers of ``PROTOCOL.md``."""

    def __init__(
        self,
        what: str,
        *,
        cause: str,
        fix: str = "",
        status: int,
        reason: int = 0,
        detail: int = 0,
    ) -> None:
        super().__init__(what, cause=cause, fix=fix)
        self.status = status
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """INFO page 0. Sizes in bytes; ``stack_free`` None: not known; ``active_crc`` 0: no head."""

    protocol: int
    blob_version: int
    max_payload: int
    cpuid: int
    features: Feature
    tick_hz: int
    arena_bytes: int
    slot_bytes: int
    program_bytes: int
    kernels: int
    build: int
    active_crc: int
    active_bytes: int
    sequence: int
    stack_free: int | None
    board: str

    @property
    def tick_source(self) -> str:
        return "DWT" if self.features & Feature.CYCLES else "SysTick or clock"


@dataclass(frozen=True, slots=True)
class HeadInfo:
    """INFO page 1. ``keeps_input``: a loaded input may be inferred again."""

    id: str
    input_bytes: int
    output_bytes: int
    raw_len: int
    layers: int
    waists: int
    goldens: int
    keeps_input: bool
    arena_bytes: int


@dataclass(frozen=True, slots=True)
class OutputInfo:
    """Front of INFER's reply; ``inline`` are the output's first bytes."""

    output_bytes: int
    raw_len: int
    crc: int
    ticks: int
    inline: bytes


def device_info(payload: bytes) -> DeviceInfo:
    """What a device says of itself.

    Raises:
        VersionMismatch: it speaks another version, in which all that follows may lie elsewhere.
        BadFrame: not such a payload.
    """
    spoken = int.from_bytes(payload[:2], "little")
    if len(payload) >= 2 and spoken != PROTOCOL:
        raise VersionMismatch(
            f"the device speaks version {spoken} of the bridge",
            cause=f"this is version {PROTOCOL}",
            fix=release_fix(),
        )
    (protocol, blob_version, *words, board) = _unpack(_DEVICE, payload, "INFO")
    limit, cpuid, features, hz, arena, slot, unit, kernels, build, crc, size, sequence, stack = (
        words
    )
    name = board.rstrip(b"\0").decode("ascii", "replace")
    return DeviceInfo(
        protocol,
        blob_version,
        limit,
        cpuid,
        Feature(features),
        hz,
        arena,
        slot,
        unit,
        kernels,
        build,
        crc,
        size,
        sequence,
        None if stack == 0xFFFFFFFF else stack,
        name if name.isprintable() else repr(name),
    )


def head_info(payload: bytes) -> HeadInfo:
    """Raises `BadFrame` for a payload that is none."""
    identity, inputs, output, raw, layers, waists, goldens, flags, arena = _unpack(
        _HEAD, payload, "INFO"
    )
    return HeadInfo(
        identity.hex(), inputs, output, raw, layers, waists, goldens, bool(flags & 1), arena
    )


def output_info(payload: bytes) -> OutputInfo:
    """Raises `BadFrame` for a payload that is none."""
    size, raw, crc, low, high, inline = _unpack(_OUTPUT, payload[: _OUTPUT.size], "INFER")
    rest = payload[_OUTPUT.size :]
    if len(rest) != inline or inline > size:
        raise BadFrame("not a reply to INFER", cause=f"{len(rest)} bytes of {inline} follow")
    return OutputInfo(size, raw, crc, low | high << 32, rest)


def refusal(command: Command, status: int, payload: bytes) -> Refusal:
    """The error for a reply that is not ok."""
    reason, detail = struct.unpack("<II", payload) if len(payload) == 8 else (0, 0)
    known = status in {member.value for member in STATUS_TEXT}
    text = STATUS_TEXT[Status(status)] if known else f"status {status}"
    if reason:
        text += ": " + REASON_TEXT.get(reason, f"reason {reason}").format(detail)
    elif detail:
        text += f" ({detail})"
    return Refusal(
        f"the device refused {command.name}",
        cause=text,
        fix="load a head first" if status == Status.NOT_NOW else "",
        status=status,
        reason=reason,
        detail=detail,
    )


def _unpack(layout: struct.Struct, payload: bytes, what: str) -> tuple[Any, ...]:
    if len(payload) != layout.size:
        raise BadFrame(
            f"not a reply to {what}", cause=f"{len(payload)} bytes instead of {layout.size}"
        )
    return layout.unpack(payload)
