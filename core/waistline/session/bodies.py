"""What the payloads of control messages and replies hold, checked strictly when read.

Unknown JSON keys are ignored, so that a later minor version may add some.
"""

from __future__ import annotations

import struct
from typing import Annotated, TypeVar

import msgspec

from waistline.errors import BadFrame
from waistline.frame import EdgeTimes
from waistline.links.base import Buffer
from waistline.wire import MINOR_MAX, MINOR_MIN

REPLY_TIMES_BYTES = 20
BUSY_BYTES = 4
MAX_IN_FLIGHT = 256
"""Not more than the replay window remembers, or a frame could be run twice."""

_TIMES = struct.Struct("<5I")
_RETRY = struct.Struct("<I")
_U32_MAX = 0xFFFF_FFFF

BundleId = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}\\Z")]
Text = Annotated[str, msgspec.Meta(max_length=2048)]
Minor = Annotated[int, msgspec.Meta(ge=0, le=255)]
InFlight = Annotated[int, msgspec.Meta(ge=1, le=MAX_IN_FLIGHT)]


class Hello(msgspec.Struct, frozen=True):
    """HELLO. The session id stands in the header.

    Attributes:
        node_id: one per node; a second connection with it supersedes the first.
        bundle: full id of the bundle whose head the node runs.
        policy: what happens to frames that cannot be sent; ``live`` drops the oldest.
        max_in_flight: frames the node would like to have under way.
        minor_min, minor_max: minor versions the node speaks.
        software: for people.
    """

    node_id: Annotated[str, msgspec.Meta(pattern="^[!-~]{1,128}\\Z")]
    bundle: BundleId
    policy: Annotated[str, msgspec.Meta(max_length=32)] = "live"
    max_in_flight: InFlight = 1
    minor_min: Minor = MINOR_MIN
    minor_max: Minor = MINOR_MAX
    software: Annotated[str, msgspec.Meta(max_length=128)] = ""


class Welcome(msgspec.Struct, frozen=True):
    """WELCOME: the minor version in use, the edge's name, and how many frames may be under way."""

    edge: Annotated[str, msgspec.Meta(max_length=128)]
    max_in_flight: InFlight
    minor: Minor = MINOR_MAX


class Fault(msgspec.Struct, frozen=True, omit_defaults=True):
    """ERROR. Seq 0 in the header: the connection ends. Otherwise that frame failed.

    Attributes:
        kind: one lower-case word, a program can decide by it.
        message: for people.
        bundles: with kind ``bundle``: ids the edge does hold.
    """

    kind: Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9_-]{0,31}\\Z")]
    message: Text = ""
    bundles: Annotated[tuple[BundleId, ...], msgspec.Meta(max_length=16)] = ()


_Body = TypeVar("_Body", Hello, Welcome, Fault)


def dump(body: Hello | Welcome | Fault) -> bytes:
    return msgspec.json.encode(body)


def load(payload: bytes, kind: type[_Body]) -> _Body:
    """Read a JSON payload.

    Raises:
        BadFrame: not JSON, a key is missing, or a value is of another type or out of its range.
    """
    try:
        return msgspec.json.decode(payload, type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise BadFrame(
            f"a {kind.__name__.upper()} that cannot be read",
            cause=str(error),
            fix="install the same release of waistline on both machines",
        ) from error


def dump_reply(times: EdgeTimes, answer: Buffer) -> list[Buffer]:
    """REPLY: stage times rounded to a microsecond and clamped to u32, then the answer."""
    stages_s = (
        times.queue_s, times.decode_s, times.preprocess_s, times.tail_s, times.postprocess_s
    )  # fmt: skip
    times_us = [min(max(round(stage_s * 1e6), 0), _U32_MAX) for stage_s in stages_s]
    return [_TIMES.pack(*times_us), answer]


def load_reply(payload: bytes) -> tuple[EdgeTimes, bytes]:
    """Read a REPLY.

    Raises:
        BadFrame: too short to hold the stage times.
    """
    if len(payload) < REPLY_TIMES_BYTES:
        raise BadFrame(
            f"a REPLY of {len(payload)} bytes", cause=f"{REPLY_TIMES_BYTES} are stage times"
        )
    times = EdgeTimes(*[time_us * 1e-6 for time_us in _TIMES.unpack_from(payload)])
    return times, payload[REPLY_TIMES_BYTES:]


def dump_busy(retry_after_s: float) -> bytes:
    return _RETRY.pack(min(max(round(retry_after_s * 1e3), 0), _U32_MAX))


def load_busy(payload: bytes) -> float:
    """Seconds to wait before the next frame.

    Raises:
        BadFrame: not four bytes.
    """
    if len(payload) != BUSY_BYTES:
        raise BadFrame(f"a BUSY of {len(payload)} bytes", cause=f"it has exactly {BUSY_BYTES}")
    return float(_RETRY.unpack(payload)[0]) * 1e-3
