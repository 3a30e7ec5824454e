"""What a session tells its owner after it was fed bytes or time."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from waistline.errors import WaistlineError
from waistline.frame import Outcome


@dataclass(frozen=True, slots=True)
class Welcomed:
    """Node: the edge accepted us; frames may flow."""

    edge: str
    max_in_flight: int


class Finished(msgspec.Struct, frozen=True):
    """Node: a submitted frame ended."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Refused:
    """Node: the edge will not serve us, now or later; reconnecting is no use."""

    error: WaistlineError


@dataclass(frozen=True, slots=True)
class Broken:
    """Either side: this connection must be closed; what is queued to send goes out first."""

    error: WaistlineError


@dataclass(frozen=True, slots=True)
class Joined:
    """Edge: a node said HELLO and was accepted."""

    node_id: str
    session_id: int
    bundle_id: str


class Requested(msgspec.Struct, frozen=True):
    """Edge: run this. Emitted at most once per (session, seq).

    Attributes:
        seq: echo it in `reply`, `busy` or `error`.
        payload: CRC-checked; not yet decoded.
        raw_len: packed bytes before entropy coding; equals the bundle's exact figure.
        expires_at: on the owner's monotonic clock; the answer is no use later.
    """

    seq: int
    payload: bytes
    raw_len: int
    expires_at: float


@dataclass(frozen=True, slots=True)
class Declined:
    """Edge: the session itself answered this frame; there is nothing to run.

    Attributes:
        seq: its number.
        reason: ``busy``, or the kind of the ERROR.
    """

    seq: int
    reason: str


@dataclass(frozen=True, slots=True)
class Left:
    """Either side: the other end said BYE."""


Event = Welcomed | Finished | Refused | Broken | Joined | Requested | Declined | Left
