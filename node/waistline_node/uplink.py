"""The node's end of the link: one session, kept over as many connections as it takes.

A link thread connects, sends and reconnects; a receiving thread lives as long as a connection. One
lock guards the session and is never held during I/O. Frames go in from one thread; their outcomes
come out through callbacks, on whichever thread learnt of them.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable
from typing import Generic, Protocol, TypeVar

from waistline.errors import LinkError, WaistlineError
from waistline.frame import Outcome
from waistline.links.base import Buffer, Link
from waistline.session.events import Broken, Event, Finished, Left, Refused, Welcomed
from waistline.session.node import NodeSession
from waistline_node.backoff import Backoff

CONNECT_S = 5.0
RECEIVE_BYTES = 1 << 16
_NEVER = float("inf")

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


class Owner(Protocol[T_contra]):
    """Who is told what happens. Called from several threads, never under the session's lock."""

    def finished(self, ticket: T_contra, outcome: Outcome) -> None: ...

    def connected(self, edge: str) -> None: ...

    def disconnected(self, error: WaistlineError) -> None:
        """A connection or an attempt at one failed; more will be made."""
        ...

    def failed(self, error: BaseException) -> None:
        """No connection will be of use: refused by the edge, or an endpoint that cannot be used."""
        ...

    def timer_moved(self) -> None:
        """`Uplink.next_timer` is earlier than it was when last asked for."""
        ...


class Uplink(Generic[T]):
    """Sends frames and delivers outcomes.

    Args:
        session: not yet connected; from now on used by this object alone.
        connect: opens a link, blocking; raises LinkError to be asked again later.
        owner: gets the outcomes; a ticket is whatever the owner wants to know a frame by.
    """

    def __init__(self, session: NodeSession, connect: Callable[[], Link], owner: Owner[T]) -> None:
        self._session = session
        self._connect = connect
        self._owner = owner
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        """A frame can be submitted, or the uplink is closing."""
        self._work = threading.Condition(self._lock)
        """There is something to send, the connection is lost, or the uplink is closing."""
        self._sending = threading.Lock()
        """Held while bytes are taken from the session and written, to keep their order."""
        self._tickets: dict[int, T] = {}
        self._link: Link | None = None
        self._lost: WaistlineError | None = None
        self._dead = False
        """The link itself failed: nothing more can be sent over this connection."""
        self._welcomed_at: float | None = None
        """When this connection's edge said WELCOME."""
        self._linger_until = 0.0
        """While closing: how long the edge may take to close after our BYE."""
        self._outbox: list[Buffer] = []
        self._crowded = False
        """Somebody waits for room."""
        self._refusing = self._closing = False
        self._asked_timer = _NEVER
        self._thread = threading.Thread(target=self._run, name="link", daemon=True)
        self.connections = 0

    def start(self) -> None:
        self._thread.start()

    def submit(self, ticket: T, payload: bytes, raw_len: int, *, wait: bool, pump: bool) -> bool:
        """Hand over a frame.

        Args:
            ticket: comes back with the outcome.
            payload: see `waistline.codec.waist.EncodedWaist`.
            raw_len: see there.
            wait: until the session has room; otherwise an older frame gives way.
            pump: send from this thread, which saves a change of threads and forgoes overlap.

        Returns:
            False: nothing was taken, because the uplink takes no more frames.
        """
        with self._lock:
            while wait and not self._session.can_submit and not self._refusing:
                self._crowded = True
                self._room.wait()
            if self._refusing:
                return False
            seq, events = self._session.submit(payload, raw_len, time.monotonic())
            self._tickets[seq] = ticket
            moved = (self._session.next_timer() or _NEVER) < self._asked_timer
            if not pump:
                self._offer()
        self._tell(events)
        if moved:
            self._owner.timer_moved()
        if pump:
            self._pump()
        return True

    def next_timer(self) -> float | None:
        """When `on_time` wants to be called, on the monotonic clock."""
        with self._lock:
            timer = self._session.next_timer()
            self._asked_timer = _NEVER if timer is None else timer
        return timer

    def on_time(self) -> None:
        with self._lock:
            events = self._session.on_time(time.monotonic())
            self._offer()
        self._tell(events)

    @property
    def pending(self) -> int:
        """Frames submitted that have no outcome."""
        with self._lock:
            return self._session.pending

    def refuse_frames(self) -> None:
        """Take no more frames and let go whoever waits to submit one."""
        with self._lock:
            self._refusing = True
            self._room.notify_all()

    def close(self, grace_s: float) -> None:
        """End what is left as ``dropped(shutdown)``, say BYE, and close when the edge has.

        A slow link still holds the BYE when it was sent, and aborting the link would lose it; so
        the edge gets ``grace_s`` to close first.
        """
        self.refuse_frames()
        with self._lock:
            now = time.monotonic()
            events = self._session.finish(now)
            self._closing, self._linger_until = True, now + grace_s
            self._work.notify_all()
        self._tell(events)
        self._thread.join(grace_s)
        with self._lock:
            link = self._link
        if link is not None:
            link.abort()
            self._thread.join(grace_s)

    def _run(self) -> None:
        backoff = Backoff(time.monotonic())
        try:
            while not self._closing:
                self._welcomed_at = None
                try:
                    error = self._serve(self._connect())
                except LinkError as refused:
                    error = refused
                if not self._closing:
                    now = time.monotonic()
                    backoff.lost(self._welcomed_at, now)
                    self._owner.disconnected(error)
                    self._pause(random.uniform(0.0, backoff.limit_s(now)))
        except BaseException as error:
            self._owner.failed(error)

    def _pause(self, duration_s: float) -> None:
        with self._lock:
            self._work.wait_for(lambda: self._closing, duration_s)

    def _serve(self, link: Link) -> WaistlineError:
        """Use one connection until it is lost; returns why."""
        with self._lock:
            self._link, self._lost, self._dead, self._outbox = link, None, False, []
            self._session.connected(time.monotonic())
        self._owner.timer_moved()
        self.connections += 1
        receiver = threading.Thread(target=self._receive, args=(link,), name="receive", daemon=True)
        receiver.start()
        try:
            while self._wait_for_work():
                self._pump()
        finally:
            link.abort()
            receiver.join()
            with self._lock:
                self._link = None
                events = self._session.disconnected(time.monotonic())
                error = self._lost or LinkError("the connection was closed here")
            self._tell(events)
        return error

    def _wait_for_work(self) -> bool:
        """Wait until there is something to send; False: nothing, and this connection is over."""
        with self._lock:
            while True:
                self._offer()
                if self._outbox:
                    return self._link is not None
                if self._lost is not None:
                    return False
                left_s: float | None = None
                if self._closing:
                    left_s = self._linger_until - time.monotonic()
                    if left_s <= 0 or self._welcomed_at is None:
                        return False
                self._work.wait(left_s)

    def _offer(self) -> None:
        """Under the lock: take what is to be sent next out of the session, and say so."""
        self._fill()
        if self._outbox:
            self._work.notify()

    def _fill(self) -> None:
        """Under the lock: take what is to be sent next out of the session."""
        if self._dead:
            # Frames that nobody can send now stay in the session, where newer ones replace them.
            self._outbox = []
        elif self._link is not None and not self._outbox:
            self._outbox = self._session.to_send(time.monotonic())
        if self._crowded and self._session.can_submit:
            self._crowded = False
            self._room.notify()

    def _pump(self) -> None:
        """Send until there is nothing to send."""
        with self._sending:
            while True:
                with self._lock:
                    self._fill()
                    link, buffers, self._outbox = self._link, self._outbox, []
                if link is None or not buffers:
                    return
                try:
                    link.send(buffers)
                except LinkError as error:
                    self._lose(link, error)
                    return

    def _receive(self, link: Link) -> None:
        view = memoryview(bytearray(RECEIVE_BYTES))
        try:
            while True:
                count = link.recv_into(view)
                with self._lock:
                    events = self._session.receive(view[:count], time.monotonic())
                    self._offer()
                self._tell(events)
        except LinkError as error:
            self._lose(link, error)
        except BaseException as error:
            self._lose(link, LinkError("the receiving thread failed", cause=repr(error)))
            self._owner.failed(error)

    def _lose(self, link: Link, error: WaistlineError, *, dead: bool = True) -> None:
        """The first reason counts; what follows from closing is no news."""
        with self._lock:
            if self._link is link:
                self._lost = self._lost or error
                self._dead = self._dead or dead
            self._work.notify_all()

    def _tell(self, events: Iterable[Event]) -> None:
        for event in events:
            if isinstance(event, Finished):
                with self._lock:
                    ticket = self._tickets.pop(event.outcome.seq)
                self._owner.finished(ticket, event.outcome)
            elif isinstance(event, Welcomed):
                self._welcomed_at = time.monotonic()
                self._owner.connected(event.edge)
            elif isinstance(event, Refused):
                self._give_up()
                self._owner.failed(event.error)
            elif isinstance(event, Broken | Left):
                left = LinkError("the edge is going down", cause="it said goodbye")
                self._spoil(event.error if isinstance(event, Broken) else left)

    def _spoil(self, error: WaistlineError) -> None:
        with self._lock:
            link = self._link
        if link is not None:
            self._lose(link, error, dead=False)

    def _give_up(self) -> None:
        with self._lock:
            self._refusing = self._closing = True
            self._room.notify_all()
            self._work.notify_all()
