"""The node's half of a conversation: frames go in, exactly one outcome each comes out.

No I/O, no clock, no threads: the owner passes bytes and the monotonic time ``now`` in seconds, and
guards the session with one lock that it never holds while it sends, receives or computes. After
each call it drains `to_send` (until that returns nothing) and wakes again at `next_timer`.
"""

from __future__ import annotations

from waistline.errors import (
    BadFrame,
    ConfigError,
    LinkTimeout,
    VersionMismatch,
    WaistlineError,
    WireError,
)
from waistline.frame import EdgeTimes, OutcomeKind
from waistline.links.base import Buffer
from waistline.session import bodies
from waistline.session._frames import Frame, FrameBook
from waistline.session._refusals import refusal
from waistline.session._state import OPEN, READY, State
from waistline.session.events import Broken, Event, Left, Refused, Welcomed
from waistline.wire import (
    MAX_CONTROL_BYTES,
    MAX_SEQ,
    Message,
    MessageType,
    Parser,
    bundle_tag,
    encode_message,
)

MAX_RETRY_AFTER_S = 10.0
"""A BUSY may not silence a node for longer."""


class NodeSession:
    """One process's conversation with the edge, kept over reconnects.

    Args:
        node_id: names the node to the edge; a later session with the same id supersedes this one.
        session_id: random u32, chosen once per process.
        bundle_id: 64 hex digits.
        max_payload_bytes: of one frame; a larger one is a mistake of the caller.
        max_answer_bytes: a longer answer is refused as soon as its header is read.
        policy: ``live`` is the only one so far.
        queue_limit: frames that wait to be sent; a newer one pushes the oldest out.
        max_in_flight: frames sent and unanswered; the edge may lower it.
        budget_s: from `submit` on; a frame without a reply by then ends as ``error(link)``.
        ping_interval_s: silence after which the edge is asked whether it lives.
        patience_s: how long a WELCOME or a PONG may take.
    """

    def __init__(
        self,
        *,
        node_id: str,
        session_id: int,
        bundle_id: str,
        max_payload_bytes: int,
        max_answer_bytes: int,
        policy: str = "live",
        queue_limit: int = 1,
        max_in_flight: int = 4,
        budget_s: float = 5.0,
        ping_interval_s: float = 5.0,
        patience_s: float = 10.0,
        software: str = "",
    ) -> None:
        _check_settings(policy, queue_limit, max_in_flight, budget_s)
        self._hello = bodies.Hello(
            node_id=node_id,
            bundle=bundle_id,
            policy=policy,
            max_in_flight=max_in_flight,
            software=software,
        )
        try:
            bodies.load(bodies.dump(self._hello), bodies.Hello)
        except BadFrame as error:
            raise ConfigError(
                "node id or bundle id cannot be used",
                cause=str(error.cause),
                fix="use 1 to 128 printable ASCII characters without blanks",
            ) from error
        self.session_id = session_id
        self.max_payload_bytes = max_payload_bytes
        self._tag = bundle_tag(bundle_id)
        self._queue_limit = queue_limit
        self._budget_s = budget_s
        self._ping_interval_s = ping_interval_s
        self._patience_s = patience_s
        reply_limit = bodies.REPLY_TIMES_BYTES + max_answer_bytes
        self._first_limits = {
            MessageType.WELCOME: MAX_CONTROL_BYTES,
            MessageType.ERROR: MAX_CONTROL_BYTES,
            MessageType.BYE: 0,
        }
        self._ready_limits = {
            MessageType.REPLY: reply_limit,
            MessageType.ERROR: MAX_CONTROL_BYTES,
            MessageType.BUSY: bodies.BUSY_BYTES,
            MessageType.PING: 0,
            MessageType.PONG: 0,
            MessageType.BYE: 0,
        }
        self._state = State.DOWN
        self._parser = Parser(self._first_limits)
        self._seq = 0
        self._in_flight_limit = max_in_flight
        self._frames = FrameBook()
        self._control: list[Buffer] = []
        self._heard_at = 0.0
        self._waiting_since: float | None = None
        """When the HELLO or PING that is unanswered was handed out."""
        self._greeted = self._pinging = False
        self._hold_until = 0.0
        self._end_of_all = (OutcomeKind.DROPPED, "shutdown")

    @property
    def ready(self) -> bool:
        """The edge has welcomed this connection."""
        return self._state is READY

    def _is_open(self) -> bool:
        return self._state in OPEN

    @property
    def pending(self) -> int:
        """Submitted frames that have no outcome yet."""
        return len(self._frames)

    @property
    def can_submit(self) -> bool:
        """A frame submitted now drops no other and will not age while nobody listens."""
        return self.ready and len(self._frames.queue) < self._queue_limit

    def submit(self, payload: bytes, raw_len: int, now: float) -> tuple[int, list[Event]]:
        """Take one frame; returns its seq, and the ends of frames that had to give way.

        Raises:
            ValueError: the payload is larger than announced to the constructor.
        """
        if len(payload) > self.max_payload_bytes:
            raise ValueError(f"{len(payload)} bytes, {self.max_payload_bytes} were agreed")
        if self._seq == MAX_SEQ:
            raise ValueError("this session has used up its sequence numbers")
        self._seq += 1
        frame = Frame(self._seq, payload, raw_len, now, now + self._budget_s)
        if self._state is State.OVER:
            return frame.seq, [frame.ended(*self._end_of_all, now)]
        queue = self._frames.queue
        queue.append(frame)
        detail = f"pushed out by a newer frame; the queue holds {self._queue_limit}"
        events: list[Event] = []
        while len(queue) > self._queue_limit:
            events.append(queue.popleft().ended(OutcomeKind.DROPPED, "queue", now, detail=detail))
        return frame.seq, events

    def connected(self, now: float) -> None:
        """A fresh link is up: greet, and once welcomed send again what is unanswered."""
        if self._state is State.OVER:
            return
        self._frames.set_aside()
        self._state = State.GREETING
        self._parser = Parser(self._first_limits)
        self._heard_at = now
        self._waiting_since = now
        self._greeted = self._pinging = False
        self._hold_until = 0.0
        self._control = self._message(MessageType.HELLO, [bodies.dump(self._hello)])

    def disconnected(self, now: float) -> list[Event]:
        """The link is gone; frames under way wait for the next one while their budget lasts."""
        self._frames.set_aside()
        if self._state is not State.OVER:
            self._state = State.DOWN
        self._control = []
        self._waiting_since = None
        return self._expire(now)

    def receive(self, data: Buffer, now: float) -> list[Event]:
        """Bytes from the edge. After a `Broken` or `Refused` the rest of them is ignored."""
        events: list[Event] = []
        if not self._is_open():
            return events
        self._heard_at = now
        if self.ready:
            self._waiting_since, self._pinging = None, False
        try:
            for message in self._parser.feed(data):
                events += self._take(message, now)
                if not self._is_open():
                    break
        except VersionMismatch as error:
            events += self._refuse("version", error, now)
        except WireError as error:
            events += self._fail(error, now)
        return events

    def to_send(self, now: float) -> list[Buffer]:
        """What to write next: control messages and at most one frame; empty: nothing for now.

        One frame at a time, so that frames wait here, where a newer one can replace them, and not
        in the link. Write the buffers in order, then ask again.
        """
        out, self._control = self._control, []
        if self._state is State.GREETING and not self._greeted:
            self._greeted, self._waiting_since = True, now
        if self._pinging and self._waiting_since is None:
            self._waiting_since = now
            out += self._message(MessageType.PING)
        room = len(self._frames.sent) < self._in_flight_limit
        if self.ready and room and now >= self._hold_until:
            out += self._next_frame(now)
        return out

    def next_timer(self) -> float | None:
        """When `on_time` wants to be called, or `to_send` may have more; None: never."""
        deadline = self._frames.next_deadline()
        times = [] if deadline is None else [deadline]
        if self._waiting_since is not None:
            times.append(self._waiting_since + self._patience_s)
        elif self._state is State.READY and not self._pinging:
            times.append(self._heard_at + self._ping_interval_s)
        if self._hold_until and (self._frames.queue or self._frames.again):
            times.append(self._hold_until)
        return min(times, default=None)

    def on_time(self, now: float) -> list[Event]:
        """End what has expired, ask after a silent edge, give up on a dead one."""
        events = self._expire(now)
        if self._hold_until <= now:
            self._hold_until = 0.0
        if not self._is_open():
            return events
        if self._waiting_since is not None:
            if now >= self._waiting_since + self._patience_s:
                waited = f"nothing was heard for {self._patience_s:g} s"
                error = LinkTimeout("the edge does not answer", cause=waited)
                return [*events, *self._fail(error, now)]
        elif self._state is State.READY and now >= self._heard_at + self._ping_interval_s:
            self._pinging = True
        return events

    def finish(self, now: float) -> list[Event]:
        """Say BYE and end what is left as ``dropped(shutdown)``.

        Write what `to_send` still has, then wait a moment for the edge to close: a slow link may
        hold the BYE, and aborting it would lose that.
        """
        if self._is_open():
            self._control += self._message(MessageType.BYE)
        return self._close("the node was stopped", now)

    def _message(
        self,
        kind: MessageType,
        payload: list[Buffer] | None = None,
        *,
        seq: int = 0,
        raw_len: int = 0,
        budget_ms: int = 0,
    ) -> list[Buffer]:
        return encode_message(
            kind,
            payload or [],
            session=self.session_id,
            seq=seq,
            bundle=self._tag,
            raw_len=raw_len,
            budget_ms=budget_ms,
        )

    def _next_frame(self, now: float) -> list[Buffer]:
        frame = self._frames.send_next(now)
        if frame is None:
            return []
        return self._message(
            MessageType.DATA,
            [frame.payload],
            seq=frame.seq,
            raw_len=frame.raw_len,
            budget_ms=max(1, int((frame.deadline - now) * 1e3)),
        )

    def _take(self, message: Message, now: float) -> list[Event]:
        kind = message.type
        if message.session != self.session_id or message.bundle != self._tag:
            raise BadFrame(f"a {kind.name} of another session or bundle")
        if kind is MessageType.REPLY:
            return self._answer(message, now)
        if kind is MessageType.WELCOME:
            return self._welcome(bodies.load(message.payload, bodies.Welcome))
        if kind is MessageType.BYE:
            self._state = State.BROKEN
            return [Left()]
        if kind is MessageType.PING:
            self._control += self._message(MessageType.PONG, seq=message.seq)
            return []
        if kind is MessageType.PONG:
            return []
        if kind is MessageType.ERROR and message.seq == 0:
            fault = bodies.load(message.payload, bodies.Fault)
            error, final = refusal(fault, self._hello)
            return self._refuse(fault.kind, error, now) if final else self._fail(error, now)
        return self._answer(message, now)

    def _welcome(self, welcome: bodies.Welcome) -> list[Event]:
        if not self._hello.minor_min <= welcome.minor <= self._hello.minor_max:
            raise VersionMismatch(
                f"the edge chose minor version {welcome.minor} of the protocol",
                cause=f"this node speaks {self._hello.minor_min} to {self._hello.minor_max}",
                fix="install the same release of waistline on both machines",
            )
        self._state = State.READY
        self._waiting_since = None
        self._parser.allow(self._ready_limits)
        self._in_flight_limit = min(welcome.max_in_flight, self._hello.max_in_flight)
        return [Welcomed(welcome.edge, self._in_flight_limit)]

    def _answer(self, message: Message, now: float) -> list[Event]:
        """REPLY, BUSY or ERROR about one frame; about one that has ended already: nothing."""
        if self._state is not State.READY or not 0 < message.seq <= self._seq:
            raise BadFrame(f"a {message.type.name} about a frame that was never sent")
        outcome = (OutcomeKind.REMOTE, "")
        edge, answer, detail = EdgeTimes(), b"", ""
        if message.type is MessageType.REPLY:
            edge, answer = bodies.load_reply(message.payload)
        elif message.type is MessageType.BUSY:
            retry_after_s = min(bodies.load_busy(message.payload), MAX_RETRY_AFTER_S)
            self._hold_until = max(self._hold_until, now + retry_after_s)
            outcome = (OutcomeKind.DROPPED, "busy")
            detail = f"the edge was busy and asked for {retry_after_s:g} s"
        else:
            fault = bodies.load(message.payload, bodies.Fault)
            outcome, detail = (OutcomeKind.ERROR, fault.kind), fault.message
        frame = self._frames.answered(message.seq)
        if frame is None:
            return []
        return [frame.ended(*outcome, now, edge=edge, answer=answer, detail=detail)]

    def _expire(self, now: float) -> list[Event]:
        return [
            frame.ended(
                OutcomeKind.ERROR,
                "link",
                now,
                detail=f"no reply within {self._budget_s:g} s; sent {frame.sends} times",
            )
            for frame in self._frames.expired(now)
        ]

    def _fail(self, error: WaistlineError, now: float) -> list[Event]:
        """This connection is spoilt; the next one may be fine."""
        self._state = State.BROKEN
        self._waiting_since = None
        self._frames.set_aside()
        return [Broken(error), *self._expire(now)]

    def _refuse(self, kind: str, error: WaistlineError, now: float) -> list[Event]:
        self._end_of_all = (OutcomeKind.ERROR, kind)
        return [Refused(error), *self._close(error.what, now)]

    def _close(self, detail: str, now: float) -> list[Event]:
        self._state = State.OVER
        self._waiting_since = None
        left = self._frames.clear()
        return [frame.ended(*self._end_of_all, now, detail=detail) for frame in left]


def _check_settings(policy: str, queue_limit: int, max_in_flight: int, budget_s: float) -> None:
    problem = ""
    if policy != "live":
        problem = f"queue policy {policy!r} is not known; 'live' is"
    elif queue_limit < 1:
        problem = f"a queue of {queue_limit} frames cannot hold one"
    elif not 1 <= max_in_flight <= bodies.MAX_IN_FLIGHT:
        problem = f"{max_in_flight} frames in flight is outside 1..{bodies.MAX_IN_FLIGHT}"
    elif not 0.0 < budget_s <= 86_400.0:
        problem = f"a budget of {budget_s} s is outside 0..86400"
    if problem:
        raise ConfigError(problem, fix="leave the setting out to get its default")
