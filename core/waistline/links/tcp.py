"""``tcp://HOST:PORT``: one TCP connection, tuned so that live frames do not age in the kernel."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
import time
from typing import TYPE_CHECKING

from waistline.errors import ConfigError, LinkError, LinkTimeout
from waistline.links._stream import SocketLink
from waistline.links.base import Endpoint, LinkProfile, OnClient, Server

if TYPE_CHECKING:
    import asyncio

USER_TIMEOUT_MS = 5_000
"""Unacknowledged for so long, the connection is dead (by default Linux tries for 15 minutes)."""
KEEPALIVE_IDLE_S, KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT = 3, 2, 3
"""An idle dead link is noticed after 3 + 3 * 2 s."""
NOTSENT_LOWAT_BYTES = 16 << 10
"""Of data the kernel has not yet put on the way; the rest waits in the session."""
BACKLOG = 128
READ_LIMIT_BYTES = 1 << 18
"""Unread bytes per connection at which an event loop stops reading."""


def exposed(endpoint: Endpoint) -> bool:
    """Whether bytes leave this machine; they are not encrypted."""
    if endpoint.host == "localhost":
        return False
    try:
        return not ipaddress.ip_address(endpoint.host).is_loopback
    except ValueError:
        return True


def check(endpoint: Endpoint) -> None:
    """Whether `connect` can make something of it.

    Raises:
        ConfigError: no host or no port, or more than these.
    """
    _check_parts(endpoint)
    if not endpoint.host or not endpoint.port:
        raise ConfigError(
            f"{endpoint.text!r} does not say where to connect",
            cause="host or port is missing",
            fix="for example tcp://127.0.0.1:7571",
        )


def connect(endpoint: Endpoint, deadline_s: float) -> SocketLink:
    """Connect within ``deadline_s``.

    Raises:
        ConfigError: see `check`.
        LinkTimeout: nothing answered in time.
        LinkError: refused, unreachable, unknown host.
    """
    check(endpoint)
    start = time.monotonic()
    failure: OSError | None = None
    for family, kind, proto, _, address in _resolve(endpoint, passive=False):
        left_s = deadline_s - (time.monotonic() - start)
        if left_s <= 0:
            break
        sock = socket.socket(family, kind, proto)
        try:
            sock.settimeout(left_s)
            sock.connect(address)
            if sock.getsockname() == sock.getpeername():
                # Linux connects an unused local port to itself when the numbers happen to meet.
                raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
            _tune(sock)
            return SocketLink(sock, _profile(endpoint))
        except OSError as error:
            failure = error
            sock.close()
    raise _cannot_connect(endpoint, failure, deadline_s) from failure


async def serve(endpoint: Endpoint, on_client: OnClient) -> Server:
    """Listen; port 0 picks a free one.

    Raises:
        ConfigError: the address is not one of this machine.
        LinkError: the port is taken or needs rights.
    """
    import asyncio

    _check_parts(endpoint)
    family, kind, proto, _, address = _resolve(endpoint, passive=True)[0]
    sock = socket.socket(family, kind, proto)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise _cannot_listen(endpoint, error) from error

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer: socket.socket = writer.get_extra_info("socket")
        with contextlib.suppress(OSError):
            _tune(peer)
        await on_client(reader, writer)

    server = await asyncio.start_server(
        accepted, sock=sock, limit=READ_LIMIT_BYTES, backlog=BACKLOG
    )
    host, port = sock.getsockname()[:2]
    return _TcpServer(server, f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}")


class _TcpServer:
    def __init__(self, server: asyncio.Server, endpoint: str) -> None:
        self.endpoint = endpoint
        self._server = server

    async def close(self) -> None:
        """See `waistline.links.base.Server`. From 3.12 on ``wait_closed`` waits for clients too."""
        self._server.close()


def _check_parts(endpoint: Endpoint) -> None:
    if endpoint.options or endpoint.path.strip("/"):
        raise ConfigError(
            f"{endpoint.text!r} has parts that tcp does not know",
            cause=f"after host and port came {endpoint.path} {endpoint.options or ''}".rstrip(),
            fix=f"use tcp://{endpoint.host}:{endpoint.port}",
        )


def _resolve(
    endpoint: Endpoint, *, passive: bool
) -> list[tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]]:
    flags = socket.AI_PASSIVE if passive else 0
    host = endpoint.host or ("0.0.0.0" if passive else "")
    try:
        found = socket.getaddrinfo(host, endpoint.port, type=socket.SOCK_STREAM, flags=flags)
    except (OSError, UnicodeError) as error:
        # UnicodeError: a label that IDNA refuses, such as one of 64 letters.
        raise LinkError(
            f"host {endpoint.host!r} is not known here",
            cause=str(error),
            fix="check the spelling, or use the machine's IP address",
        ) from error
    return [row for row in found if row[0] in (socket.AF_INET, socket.AF_INET6)]  # type: ignore[misc]


def _profile(endpoint: Endpoint) -> LinkProfile:
    """A socket says nothing about the radio under it: rates stay 0, not limited by us."""
    return LinkProfile("tcp", f"TCP to {endpoint.host}", 0.0, 0.0, 0.0, source=endpoint.text)


def _tune(sock: socket.socket) -> None:
    tcp = socket.IPPROTO_TCP
    sock.setsockopt(tcp, socket.TCP_NODELAY, 1)
    sock.setsockopt(tcp, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(tcp, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
    sock.setsockopt(tcp, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S)
    sock.setsockopt(tcp, socket.TCP_KEEPCNT, KEEPALIVE_COUNT)
    sock.setsockopt(tcp, socket.TCP_NOTSENT_LOWAT, NOTSENT_LOWAT_BYTES)
    # 1.5 times as fast as cubic on an LTE Cat.1 link that loses 1 %; not every kernel has it.
    with contextlib.suppress(OSError):
        sock.setsockopt(tcp, socket.TCP_CONGESTION, b"bbr")


def _cannot_connect(endpoint: Endpoint, failure: OSError | None, deadline_s: float) -> LinkError:
    place = f"{endpoint.host}:{endpoint.port}"
    if failure is None or isinstance(failure, TimeoutError):
        return LinkTimeout(
            f"no answer from {place}",
            cause=f"waited {deadline_s:g} s; the machine is off, or a firewall drops packets",
            fix=f"ping {endpoint.host}",
        )
    if isinstance(failure, ConnectionRefusedError):
        return LinkError(
            f"nothing listens at {place}",
            cause="the connection was refused",
            fix=f"waistline edge NAME.bundle --listen tcp://{place}",
        )
    return LinkError(
        f"cannot reach {place}", cause=str(failure), fix=f"check the network: ping {endpoint.host}"
    )


def _cannot_listen(endpoint: Endpoint, error: OSError) -> LinkError | ConfigError:
    place = f"{endpoint.host}:{endpoint.port}"
    if error.errno == errno.EADDRINUSE:
        return LinkError(
            f"cannot listen at {place}",
            cause="another process uses this port",
            fix=f"stop it, or let the system choose a port: tcp://{endpoint.host}:0",
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return ConfigError(
            f"cannot listen at {place}",
            cause=f"{endpoint.host} is not an address of this machine",
            fix="use 127.0.0.1, or 0.0.0.0 for every address",
        )
    return LinkError(f"cannot listen at {place}", cause=str(error), fix="use a port above 1023")
