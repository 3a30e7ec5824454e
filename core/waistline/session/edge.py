"""The edge's half of a conversation: one object per connection, one store for all of them.

No I/O, no clock, no threads. The owner lives in one event loop, feeds bytes and the monotonic time
``now`` in seconds, writes what `to_send` returns, and wakes at `next_timer`. An answer may be given
through the session that emitted the request even when its connection is gone: it goes out through
whatever connection the node has by then, or waits for the next one.
"""

from __future__ import annotations

from collections.abc import Callable

from waistline.errors import (
    BadFrame,
    LinkClosed,
    LinkError,
    LinkTimeout,
    VersionMismatch,
    WaistlineError,
    WireError,
)
from waistline.frame import EdgeTimes
from waistline.links.base import Buffer
from waistline.session import bodies
from waistline.session.events import Broken, Declined, Event, Joined, Left, Requested
from waistline.session.store import Record, SessionStore
from waistline.wire import (
    MAX_CONTROL_BYTES,
    MINOR_MAX,
    MINOR_MIN,
    Message,
    MessageType,
    Parser,
    bundle_tag,
    encode_message,
)

OUTBOX_MESSAGES = bodies.MAX_IN_FLIGHT + 16
"""One read of a sound node makes no more answers than it may have frames under way."""
MAX_PINGS_PER_S = 100
"""A node pings when it has heard nothing for seconds. Each PING takes the loop some 15 us, and
64 kB hold 1,600 of them."""
RETRY_AFTER_S = 0.05
"""Advice to a node that has more frames running than was agreed."""


class EdgeSession:
    """One connection of one node.

    Args:
        store: shared by all connections of this edge.
        now: when the connection was accepted.
        wake: called when something outside this connection (an answer to a frame of an earlier
            connection, a newer connection of the same node) gave it output or events; the owner
            then calls `on_time` and `to_send` soon. Called in the event loop's thread.
        handshake_timeout_s: a connection without a whole HELLO by then is closed.
        idle_timeout_s: silence after which a node counts as dead; nodes ping when idle.
    """

    def __init__(
        self,
        store: SessionStore,
        *,
        now: float,
        wake: Callable[[], None] | None = None,
        handshake_timeout_s: float = 2.0,
        idle_timeout_s: float = 60.0,
    ) -> None:
        self._store = store
        self._wake = wake
        self._idle_timeout_s = idle_timeout_s
        self._deadline: float | None = now + handshake_timeout_s
        self._parser = Parser({MessageType.HELLO: MAX_CONTROL_BYTES})
        self._record: Record | None = None
        self._hello: bodies.Hello | None = None
        self._session_id = 0
        self._tag = 0
        self._out: list[Buffer] = []
        self._out_messages = 0
        self._events: list[Event] = []
        self._over = False
        self._pings_since, self._pings = now, 0

    @property
    def joined(self) -> bool:
        """The node has said HELLO and was accepted."""
        return self._record is not None

    @property
    def over(self) -> bool:
        """Nothing more will be read; flush `to_send` and close."""
        return self._over

    @property
    def node_id(self) -> str:
        return self._hello.node_id if self._hello else ""

    @property
    def bundle_id(self) -> str:
        return self._hello.bundle if self._hello else ""

    def receive(self, data: Buffer, now: float) -> list[Event]:
        """Bytes from the node. After a `Broken` or `Left` the rest of them is ignored."""
        if self._over:
            return self._take_events()
        if self.joined:
            self._deadline = now + self._idle_timeout_s
        try:
            for message in self._parser.feed(data):
                self._take(message, now)
                if self.over:
                    break
                if self._out_messages > OUTBOX_MESSAGES:
                    raise BadFrame("the node asks for answers and does not read them")
        except WireError as error:
            self._refuse(error)
        return self._take_events()

    def reply(self, seq: int, times: EdgeTimes, answer: Buffer) -> None:
        """Frame ``seq`` is done. Only the first ending of a frame counts."""
        self._finish(seq, MessageType.REPLY, bodies.dump_reply(times, answer))

    def error(self, seq: int, kind: str, message: str) -> None:
        """Frame ``seq`` failed; ``kind`` is the one-word reason of its outcome."""
        fault = bodies.Fault(kind, message[:1024])
        self._finish(seq, MessageType.ERROR, [bodies.dump(fault)])

    def busy(self, seq: int, retry_after_s: float) -> None:
        """Frame ``seq`` was not run and is forgotten; the node may not send for a while."""
        record = self._record
        if record is None or seq not in record.running:
            return
        record.give_back(seq)
        self._deliver(record, self._busy_message(seq, retry_after_s))

    def bye(self) -> None:
        """The edge closes on purpose: say so. The node keeps its frames for the next edge."""
        if not self._over:
            self._say(self._message(MessageType.BYE))
            self._over = True

    def to_send(self) -> list[Buffer]:
        """All there is to write, in order."""
        out, self._out, self._out_messages = self._out, [], 0
        return out

    def next_timer(self) -> float | None:
        """When `on_time` wants to be called; None: never."""
        if self._events:
            return 0.0
        return None if self._over else self._deadline

    def on_time(self, now: float) -> list[Event]:
        """Give up on a node that is silent or never introduced itself."""
        if not self._over and self._deadline is not None and now >= self._deadline:
            what = "the node fell silent" if self.joined else "no HELLO came in time"
            self._break(LinkTimeout(what, cause="the other side is dead, stuck, or not a node"))
        return self._take_events()

    def disconnected(self) -> None:
        """The connection is gone; the session's memory stays in the store."""
        self._over = True
        if self._record is not None and self._hello is not None:
            self._store.leave(self._hello.node_id, self._record, self)

    def _take(self, message: Message, now: float) -> None:
        kind = message.type
        if kind is MessageType.HELLO:
            self._greet(message, now)
            return
        if message.session != self._session_id or message.bundle != self._tag:
            raise BadFrame(f"a {kind.name} of another session or bundle")
        if kind is MessageType.DATA:
            self._request(message, now)
        elif kind is MessageType.PING:
            self._count_ping(now)
            self._say(self._message(MessageType.PONG, seq=message.seq))
        elif kind is MessageType.BYE:
            self._over = True
            self._events.append(Left())

    def _count_ping(self, now: float) -> None:
        if now - self._pings_since >= 1.0:
            self._pings_since, self._pings = now, 0
        self._pings += 1
        if self._pings > MAX_PINGS_PER_S:
            raise BadFrame(f"the node sends more than {MAX_PINGS_PER_S} PINGs a second")

    def _greet(self, message: Message, now: float) -> None:
        self._session_id = message.session
        hello = bodies.load(message.payload, bodies.Hello)
        limits = self._store.bundles.get(hello.bundle)
        problem = self._problem(hello, message)
        if problem is not None or limits is None:
            self._turn_away(problem or bodies.Fault("bundle"), hello)
            return
        self._tag = message.bundle
        record, superseded = self._store.join(hello.node_id, message.session, hello.bundle, self)
        if record is None:
            full = f"{self._store.sessions} sessions are connected"
            self._turn_away(bodies.Fault("full", full), hello)
            return
        if superseded is not None:
            superseded._give_way(same_session=superseded._session_id == message.session)
        self._hello, self._record = hello, record
        self._deadline = now + self._idle_timeout_s
        self._parser.allow(
            {
                MessageType.DATA: limits.max_payload_bytes,
                MessageType.PING: 0,
                MessageType.PONG: 0,
                MessageType.BYE: 0,
            }
        )
        in_flight = min(hello.max_in_flight, self._store.max_in_flight)
        welcome = bodies.Welcome(self._store.edge, in_flight, min(hello.minor_max, MINOR_MAX))
        self._say(self._message(MessageType.WELCOME, [bodies.dump(welcome)]))
        self._events.append(Joined(hello.node_id, message.session, hello.bundle))

    def _problem(self, hello: bodies.Hello, message: Message) -> bodies.Fault | None:
        """Why this node cannot be served; None: it can."""
        if max(hello.minor_min, MINOR_MIN) > min(hello.minor_max, MINOR_MAX):
            return bodies.Fault("version", f"this edge speaks minor {MINOR_MIN} to {MINOR_MAX}")
        if hello.bundle not in self._store.bundles:
            held = tuple(self._store.bundles)[:16]
            return bodies.Fault("bundle", f"edge {self._store.edge}", held)
        if message.bundle != bundle_tag(hello.bundle):
            return bodies.Fault("protocol", "the header names another bundle than the HELLO")
        if hello.policy != "live":
            return bodies.Fault("policy", "this edge serves 'live'")
        return None

    def _request(self, message: Message, now: float) -> None:
        record, seq = self._record, message.seq
        if record is None or seq == 0:
            raise BadFrame("a DATA without a frame number")
        if seq in record.running:
            return
        if seq in record.answers:
            self._say([record.answers[seq]])
            return
        if not record.is_new(seq):
            self._tell(seq, bodies.Fault("replay", "its answer is no longer kept"))
            self._events.append(Declined(seq, "replay"))
            return
        if len(record.running) >= self._store.max_in_flight:
            self._say(self._busy_message(seq, RETRY_AFTER_S))
            self._events.append(Declined(seq, "busy"))
            return
        fault = self._frame_fault(message)
        record.start(seq)
        if fault is not None:
            self.error(seq, fault.kind, fault.message)
            self._events.append(Declined(seq, fault.kind))
            return
        expires_at = now + message.budget_ms * 1e-3
        self._events.append(Requested(seq, message.payload, message.raw_len, expires_at))

    def _frame_fault(self, message: Message) -> bodies.Fault | None:
        expected = self._store.bundles[self.bundle_id].raw_len
        if expected is None:
            expected = len(message.payload)
        if message.raw_len != expected:
            seen = f"raw length {message.raw_len}, this bundle has {expected}"
            return bodies.Fault("codec", seen)
        if message.budget_ms == 0:
            return bodies.Fault("deadline", "it came without any time left")
        return None

    def _finish(self, seq: int, kind: MessageType, payload: list[Buffer]) -> None:
        record = self._record
        if record is None or seq not in record.running:
            return
        message = b"".join(self._message(kind, payload, seq=seq))
        self._store.keep(record, seq, message)
        self._deliver(record, [message])

    def _deliver(self, record: Record, message: list[Buffer]) -> None:
        """Through the connection the session has now, which may be a later one than this."""
        connection = record.connection
        if connection is None or connection._over:
            return
        connection._say(message)
        if connection is not self:
            connection._notify()

    def _give_way(self, *, same_session: bool) -> None:
        """A newer connection of this node has come."""
        if self._over:
            return
        if not same_session:
            self._tell(0, bodies.Fault("superseded", "its new connection has another session"))
        self._break(LinkClosed("the node has connected anew", cause=f"node {self.node_id}"))
        self._notify()

    def _turn_away(self, fault: bodies.Fault, hello: bodies.Hello) -> None:
        self._tag = bundle_tag(hello.bundle)
        self._tell(0, fault)
        what = f"node {hello.node_id} was turned away ({fault.kind})"
        cause = f"it runs bundle {hello.bundle[:12]}; {fault.message}"
        if fault.kind in ("bundle", "version"):
            self._break(VersionMismatch(what, cause=cause, fix="use the same bundle on both ends"))
        else:
            self._break(LinkError(what, cause=cause))

    def _refuse(self, error: WireError) -> None:
        """Tell a peer that may understand; whoever never sent a sound header gets no answer."""
        if isinstance(error, VersionMismatch):
            self._tell(0, bodies.Fault("version", str(error)[:1024]))
        elif self.joined or self._session_id:
            self._tell(0, bodies.Fault("protocol", str(error)[:1024]))
        self._break(error)

    def _break(self, error: WaistlineError) -> None:
        self._over = True
        self._events.append(Broken(error))

    def _notify(self) -> None:
        if self._wake is not None:
            self._wake()

    def _tell(self, seq: int, fault: bodies.Fault) -> None:
        self._say(self._message(MessageType.ERROR, [bodies.dump(fault)], seq=seq))

    def _say(self, message: list[Buffer]) -> None:
        self._out += message
        self._out_messages += 1

    def _message(
        self, kind: MessageType, payload: list[Buffer] | None = None, *, seq: int = 0
    ) -> list[Buffer]:
        return encode_message(
            kind, payload or [], session=self._session_id, seq=seq, bundle=self._tag
        )

    def _busy_message(self, seq: int, retry_after_s: float) -> list[Buffer]:
        return self._message(MessageType.BUSY, [bodies.dump_busy(retry_after_s)], seq=seq)

    def _take_events(self) -> list[Event]:
        events, self._events = self._events, []
        return events
