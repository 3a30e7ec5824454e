"""One connection of one node: bytes to the session, the session's output to the socket.

Everything here runs in the event loop and nothing waits for a tail. What a peer can make the edge
hold is bounded: the parser by the bundle's sizes, requests by the session's in-flight limit, output
by `Limits.unsent_bytes`, time by the session's timers and by `Limits.unread_s`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass

from waistline.errors import BadFrame, LinkClosed, LinkTimeout, VersionMismatch, WaistlineError
from waistline.session.edge import EdgeSession
from waistline.session.events import Broken, Declined, Event, Joined, Left, Requested
from waistline.session.store import SessionStore
from waistline.wire import HEADER_BYTES
from waistline_edge.stats import EdgeStats

log = logging.getLogger("waistline_edge")

READ_BYTES = 1 << 16
HELLO_TURN_BYTES = 1 << 14
LINGER_S = 1.0
"""After the last word, how long the peer gets to read it: closing at once, with bytes of the peer
unread, would reset the connection and take the word away."""
LINGER_BYTES = 1 << 20
"""More than that is not read and thrown away for a peer that was cut off."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection may cost.

    Attributes:
        handshake_s: until a whole HELLO has come.
        idle_s: silence after which a node counts as dead.
        unread_s: how long the peer may leave a full send buffer unread.
        unsent_bytes: output that may wait for the peer; over it the connection is cut.
    """

    handshake_s: float
    idle_s: float
    unread_s: float
    unsent_bytes: int


class _Intake(asyncio.Protocol):
    """Takes the bytes of a connection at once; all else stays with the streams' own protocol.

    A `StreamReader` would hand them on a turn of the loop later, copied twice.
    """

    def __init__(self, streams: asyncio.StreamReaderProtocol, take: Callable[[bytes], None]):
        self._streams = streams
        self._take = take

    def data_received(self, data: bytes) -> None:
        self._take(data)

    def eof_received(self) -> bool | None:
        return self._streams.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._streams.connection_lost(exc)

    def pause_writing(self) -> None:
        self._streams.pause_writing()

    def resume_writing(self) -> None:
        self._streams.resume_writing()


class Connection:
    """Owns one socket and its session until `run` returns.

    Args:
        store: the edge's sessions.
        stats: what is counted.
        limits: what this connection may cost.
        request: called with every frame to run.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        store: SessionStore,
        stats: EdgeStats,
        limits: Limits,
        request: Callable[[Connection, Requested], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader = reader
        self._writer = writer
        self._store = store
        self._stats = stats
        self._limits = limits
        self._request = request
        self._timer: asyncio.TimerHandle | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._closing = False
        self._waiting: asyncio.Task[None] | None = None
        """For the peer to read; as long, nothing is read from it."""
        self._unread = memoryview(b"")
        """What has come and waits for its turn; as long, nothing is read either."""
        self._turn_bytes = HELLO_TURN_BYTES
        self._said_bytes = self._ignored_bytes = 0
        self.peer = _name(writer)
        self.session = EdgeSession(
            store,
            now=self._loop.time(),
            wake=self._woken,
            handshake_timeout_s=limits.handshake_s,
            idle_timeout_s=limits.idle_s,
        )

    async def run(self) -> None:
        """Serve until either side ends it; never raises for what the peer does."""
        transport = self._writer.transport
        try:
            self._arm()
            streams = transport.get_protocol()
            assert isinstance(streams, asyncio.StreamReaderProtocol)
            transport.set_protocol(_Intake(streams, self._received))
            # Only what had come before is read here, and then the end.
            while data := await self._reader.read(READ_BYTES):
                self._received(data)
                while self._unread and self._waiting is None:
                    self._take_turn()
        except OSError as error:
            log.debug("%s: %s", self.peer, error)
        finally:
            self._end()

    def _received(self, data: bytes) -> None:
        """Bytes from the peer; about a frame of them is taken in a turn of the loop.

        So connections take turns with their frames. If all that had come were taken at once, a node
        that sends twice as much would get twice as much done whenever the loop is behind, and one
        that sends a thousand small messages at once would keep the others waiting.
        """
        self._stats.bytes_in += len(data)
        if self._closing:
            self._ignored_bytes += len(data)
            if self._ignored_bytes > LINGER_BYTES:
                self._reader.feed_eof()
            return
        if self._unread:
            self._unread = memoryview(bytes(self._unread) + data)
            return
        self._unread = memoryview(data)
        self._take_turn()

    def _take_turn(self) -> None:
        """Take a part of what has come; from a peer that is behind with reading, no more."""
        if not self._closing:
            part, self._unread = self._unread[: self._turn_bytes], self._unread[self._turn_bytes :]
            self._handle(self.session.receive(part, self._loop.time()))
            self.flush()
        if self._closing:
            self._unread = memoryview(b"")
        elif self._is_behind() and self._waiting is None:
            self._transport.pause_reading()
            self._waiting = self._loop.create_task(self._resume())
        self._go_on()

    def _go_on(self) -> None:
        """Take the next turn, read on, or wait for the peer to read."""
        if self._waiting is not None:
            return
        if self._unread:
            self._transport.pause_reading()
            self._loop.call_soon(self._next_turn)
        else:
            self._transport.resume_reading()

    def _next_turn(self) -> None:
        if self._unread and self._waiting is None:
            self._take_turn()

    @property
    def _transport(self) -> asyncio.Transport:
        transport = self._writer.transport
        assert isinstance(transport, asyncio.Transport)
        return transport

    @property
    def can_be_evicted(self) -> bool:
        """Nobody would miss it: it never said HELLO or has been told the last word."""
        unwanted = self._closing or not self.session.joined
        return unwanted and not self._writer.transport.is_closing()

    def pump(self) -> None:
        """Let the session look at the clock, then send what it has."""
        if not self._closing:
            self._handle(self.session.on_time(self._loop.time()))
            self.flush()

    def flush(self) -> None:
        """Write the session's output without waiting; cut off a peer that does not read."""
        if self._closing:
            return
        out = self.session.to_send()
        size_bytes = sum(memoryview(part).nbytes for part in out)
        waiting_bytes = self._writer.transport.get_write_buffer_size()
        if out and size_bytes + waiting_bytes > self._limits.unsent_bytes:
            self._reject("unread", f"left {waiting_bytes} bytes unread")
            self.abort()
            return
        if out:
            self._writer.writelines(out)
            self._said_bytes += size_bytes
            self._stats.bytes_out += size_bytes
        if self.session.over:
            self._close(says_something=bool(out) or waiting_bytes > 0)
        else:
            self._arm()

    def _is_behind(self) -> bool:
        transport = self._writer.transport
        waiting_bytes: int = transport.get_write_buffer_size()
        return waiting_bytes > transport.get_write_buffer_limits()[1]

    async def _resume(self) -> None:
        """Wait for the peer, then read from it again; cut it off when it reads nothing at all."""
        try:
            await self._wait_for_reader()
        except TimeoutError:
            self._reject("unread", f"read nothing for {self._limits.unread_s:g} s")
            self._reader.feed_eof()
        except OSError as error:
            log.debug("%s: %s", self.peer, error)
        else:
            self._waiting = None
            self._go_on()
        self._waiting = None

    async def _wait_for_reader(self) -> None:
        """Until the peer is no longer behind; TimeoutError when it reads nothing at all."""
        while self._is_behind():
            taken_bytes = self._taken_bytes()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._limits.unread_s):
                    await self._writer.drain()
            if self._taken_bytes() == taken_bytes:
                raise TimeoutError

    def _taken_bytes(self) -> int:
        """How much of what was said the kernel has taken, on the peer's way to read it."""
        return self._said_bytes - self._writer.transport.get_write_buffer_size()

    def bye(self) -> None:
        """The edge stops: say so and close."""
        self.session.bye()
        self.flush()

    def abort(self) -> None:
        """Close at once; `run` returns soon."""
        self._closing = True
        self._writer.transport.abort()

    def _handle(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Requested):
                self._request(self, event)
            elif isinstance(event, Declined):
                self._stats.frames[event.reason] += 1
            elif isinstance(event, Joined):
                self._stats.nodes += 1
                limits = self._store.bundles[event.bundle_id]
                self._turn_bytes = HEADER_BYTES + limits.max_payload_bytes
                log.debug("node %s joined from %s", event.node_id, self.peer)
            elif isinstance(event, Left):
                log.debug("node %s left", self.session.node_id)
            elif isinstance(event, Broken):
                self._reject(cause_of(event.error, joined=self.session.joined), str(event.error))

    def _reject(self, cause: str, why: str) -> None:
        aloud = self._stats.reject(cause, self._loop.time())
        who = f"node {self.session.node_id}" if self.session.joined else self.peer
        level = logging.WARNING if aloud else logging.DEBUG
        log.log(level, "%s is cut off (%s): %s", who, cause, why)

    def _close(self, *, says_something: bool) -> None:
        """Finish writing; then the peer has `LINGER_S` to close, and what it sends is ignored."""
        self._closing = True
        transport = self._writer.transport
        if not says_something or not transport.can_write_eof():
            transport.close()
        else:
            try:
                transport.write_eof()
            except OSError:  # the peer was faster and has reset the connection
                transport.abort()
        self._linger = self._loop.call_later(LINGER_S, transport.abort)

    def _arm(self) -> None:
        """Have `pump` called when the session wants it.

        A timer that is early enough is kept: the deadline moves with every byte received.
        """
        due = self.session.next_timer()
        if due is None:
            return
        if self._timer is not None:
            if self._timer.when() <= due:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._on_timer)

    def _woken(self) -> None:
        self._loop.call_soon(self.pump)

    def _on_timer(self) -> None:
        self._timer = None
        self.pump()

    def _end(self) -> None:
        self._closing = True
        for handle in (self._timer, self._linger, self._waiting):
            if handle is not None:
                handle.cancel()
        if self.session.joined:
            self._stats.nodes -= 1
        self.session.disconnected()
        transport = self._writer.transport
        transport.close()
        if transport.get_write_buffer_size():
            self._loop.call_later(LINGER_S, transport.abort)


def cause_of(error: WaistlineError, *, joined: bool) -> str:
    """One word for the metrics."""
    if isinstance(error, BadFrame):
        return "garbage"
    if isinstance(error, VersionMismatch):
        return "mismatch"
    if isinstance(error, LinkTimeout):
        return "silent" if joined else "handshake"
    if isinstance(error, LinkClosed):
        return "superseded"
    return "refused"


def _name(writer: asyncio.StreamWriter) -> str:
    peer = writer.get_extra_info("peername")
    return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) and len(peer) >= 2 else "a local peer"
