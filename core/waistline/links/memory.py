"""``memory://NAME``: both ends in one process, for tests and for ``waistline run``.

A pair of connected sockets without a network: bounded buffers, ordered, closed like any other.
"""

from __future__ import annotations

import asyncio
import socket
import threading

from waistline.errors import LinkError
from waistline.links._stream import SocketLink
from waistline.links.base import LOCAL, Endpoint, OnClient, Server

BUFFER_BYTES = 1 << 17
"""Per direction, asked of the kernel (which doubles it)."""

_lock = threading.Lock()
_servers: dict[str, _MemoryServer] = {}
"""Who serves a name now: the port table of this process."""


def exposed(endpoint: Endpoint) -> bool:
    """Never: nothing leaves the process."""
    return False


def connect(endpoint: Endpoint, deadline_s: float) -> SocketLink:
    """Connect to whoever serves the name in this process; never waits.

    Raises:
        LinkError: nobody does.
    """
    near, far = socket.socketpair()
    for sock in (near, far):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
    with _lock:
        server = _servers.get(endpoint.host)
        if server is not None and server.accept(far):
            return SocketLink(near, LOCAL)
    near.close()
    far.close()
    raise LinkError(
        f"nothing listens at {endpoint.text}",
        cause="a memory link reaches only a server in the same process",
        fix="start the edge in this process first, or use tcp://",
    )


async def serve(endpoint: Endpoint, on_client: OnClient) -> Server:
    """Serve the name in this process, from the running event loop.

    Raises:
        LinkError: the name is taken.
    """
    server = _MemoryServer(endpoint.host, on_client, asyncio.get_running_loop())
    with _lock:
        if endpoint.host in _servers:
            raise LinkError(
                f"cannot listen at {endpoint.text}",
                cause="the name is served already",
                fix="choose another name",
            )
        _servers[endpoint.host] = server
    return server


class _MemoryServer:
    def __init__(self, name: str, on_client: OnClient, loop: asyncio.AbstractEventLoop) -> None:
        self.endpoint = f"memory://{name}"
        self._name = name
        self._on_client = on_client
        self._loop = loop
        self._tasks: set[asyncio.Task[None]] = set()

    def accept(self, sock: socket.socket) -> bool:
        """Hand the far end to the event loop; False: that loop is closed."""
        try:
            self._loop.call_soon_threadsafe(self._start, sock)
        except RuntimeError:
            del _servers[self._name]
            return False
        return True

    def _start(self, sock: socket.socket) -> None:
        task = self._loop.create_task(self._run(sock))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, sock: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=sock)
        await self._on_client(reader, writer)

    async def close(self) -> None:
        """See `waistline.links.base.Server`."""
        with _lock:
            if _servers.get(self._name) is self:
                del _servers[self._name]
