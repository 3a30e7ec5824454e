"""The link contract, endpoints, and the profile that planner, emulator and tests share.

A link module exports ``connect(endpoint: Endpoint, deadline_s) -> Link`` (blocking, used by the
node's threads) and ``async serve(endpoint: Endpoint, on_client) -> Server`` (used by the edge's
event loop). A module that can only do one of them leaves the other out, and says so in its
docstring. ``exposed(endpoint) -> bool`` says whether strangers could read along: such an endpoint
is refused unless the user insists. ``check(endpoint)``, where there is one, raises what ``connect``
would for an endpoint that can never be connected to. `waistline.endpoints` is the door to all.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from urllib.parse import parse_qsl

from waistline.errors import ConfigError
from waistline.evidence import Evidence

if TYPE_CHECKING:
    # A node's threads never need it, and it takes a quarter as long as NumPy to import.
    import asyncio

Buffer = bytes | bytearray | memoryview

_SCHEME = re.compile(r"[a-z][a-z0-9+-]*\Z")
_AUTHORITY = re.compile(r"(?:\[(?P<v6>[^]]+)\]|(?P<host>[^:@[\]]*))(?::(?P<port>\d{1,5}))?\Z")
_BLUETOOTH_ADDRESS = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}\Z")


@dataclass(frozen=True, slots=True)
class LinkProfile:
    """Rate, delay and power of a link. What is predicted is what is emulated.

    Attributes:
        id: row of ``protocols.csv``, or ``custom``.
        name: for people.
        rate_up_bps, rate_down_bps: application throughput, bits per second; 0: unlimited.
        rtt_s: round-trip time of a small message on an idle link.
        jitter_s: each one-way delay grows by a uniform share of this much.
        tx_power_w, rx_power_w, idle_power_w, sleep_power_w: radio power; None: unknown.
        setup_s, setup_power_w, tail_s, tail_power_w: promotion before and tail after a transfer.
        payload_per_frame_bytes, overhead_per_frame_bytes: framing on the air, 0: unknown.
        evidence, source, confidence: where the row comes from.
    """

    id: str
    name: str
    rate_up_bps: float
    rate_down_bps: float
    rtt_s: float
    jitter_s: float = 0.0
    tx_power_w: float | None = None
    rx_power_w: float | None = None
    idle_power_w: float | None = None
    sleep_power_w: float | None = None
    setup_s: float | None = None
    setup_power_w: float | None = None
    tail_s: float | None = None
    tail_power_w: float | None = None
    payload_per_frame_bytes: int = 0
    overhead_per_frame_bytes: int = 0
    evidence: Evidence = Evidence.PUBLISHED
    source: str = ""
    confidence: str = ""


LOCAL = LinkProfile("local", "this machine", 0.0, 0.0, 0.0, source="no link is crossed")


class Link(Protocol):
    """An ordered, reliable byte stream with backpressure.

    One thread may send while another receives; ``abort`` may be called from any thread and makes
    both return at once with `LinkClosed`.
    """

    profile: LinkProfile

    def send(self, buffers: Sequence[Buffer]) -> None:
        """Write all buffers in order; blocks while the link is full.

        Raises:
            LinkClosed: the other side is gone.
        """
        ...

    def recv_into(self, view: memoryview, timeout_s: float | None = None) -> int:
        """Read at least one byte into ``view``; returns how many.

        Raises:
            LinkTimeout: nothing came within ``timeout_s``.
            LinkClosed: the other side closed the stream.
        """
        ...

    def abort(self) -> None:
        """Close at once, without flushing. Safe to call twice."""
        ...


OnClient = Callable[["asyncio.StreamReader", "asyncio.StreamWriter"], Awaitable[None]]


class Server(Protocol):
    """A listening endpoint inside an event loop."""

    endpoint: str
    """Where it really listens: port 0 is resolved here."""

    async def close(self) -> None:
        """Stop accepting; connections that are open are left to their owner."""
        ...


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A parsed endpoint string such as ``paced:tcp://host:port?profile=lte-cat1``."""

    scheme: str
    inner: str
    """The wrapped endpoint of a wrapper scheme, else ""."""
    host: str
    port: int
    path: str
    options: dict[str, str]
    text: str


def parse_endpoint(text: str) -> Endpoint:
    """Split an endpoint string into its parts; the scheme names the link module.

    A Bluetooth address stays whole: ``ble://AA:BB:CC:DD:EE:FF?psm=0x80`` has that host and port 0.

    Raises:
        ConfigError: not an endpoint.
    """
    base, mark, query = text.partition("?")
    try:
        options = dict(parse_qsl(query, strict_parsing=True)) if mark else {}
    except ValueError as error:
        raise _bad_endpoint(text, f"its options are not KEY=VALUE pairs: {error}") from error
    scheme, _, rest = base.partition(":")
    if not _SCHEME.match(scheme):
        raise _bad_endpoint(text, "it has no scheme")
    if not rest.startswith("//"):
        if "://" not in rest:
            raise _bad_endpoint(text, f"{scheme!r} is not followed by :// or another endpoint")
        return Endpoint(scheme, rest, "", 0, "", options, text)
    authority, slash, path = rest[2:].partition("/")
    host, port = _host_and_port(text, authority)
    return Endpoint(scheme, "", host, port, slash + path, options, text)


def _host_and_port(text: str, authority: str) -> tuple[str, int]:
    if _BLUETOOTH_ADDRESS.match(authority):
        return authority, 0
    match = _AUTHORITY.match(authority)
    if match is None:
        raise _bad_endpoint(text, f"{authority!r} is not HOST:PORT (IPv6 as [::1]:PORT)")
    port = int(match["port"] or 0)
    if port > 65535:
        raise _bad_endpoint(text, f"port {port} is over 65535")
    return match["v6"] or match["host"], port


def _bad_endpoint(text: str, cause: str) -> ConfigError:
    bare = text.removeprefix("//")
    address = _AUTHORITY.match(bare)
    named = f"tcp://{bare}" if address and address["port"] else ""
    return ConfigError(
        f"{text!r} is not an endpoint",
        cause=cause,
        fix=f"write {named}" if named else "for example tcp://127.0.0.1:7571",
    )
