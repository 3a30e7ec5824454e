"""A node and an edge session joined by two byte pipes and a clock that the test turns."""

from __future__ import annotations

from waistline.frame import EdgeTimes, Outcome
from waistline.session.edge import EdgeSession
from waistline.session.events import Event, Finished, Requested
from waistline.session.node import NodeSession
from waistline.session.store import BundleLimits, SessionStore

BUNDLE = "ab" * 32
OTHER = "cd" * 32
RAW_LEN = 10
MAX_PAYLOAD = 64
MAX_ANSWER = 32


def make_node(**changes) -> NodeSession:
    settings = {
        "node_id": "node-1",
        "session_id": 7,
        "bundle_id": BUNDLE,
        "max_payload_bytes": MAX_PAYLOAD,
        "max_answer_bytes": MAX_ANSWER,
        "policy": "live",
        **changes,
    }
    return NodeSession(**settings)


def make_store(**changes) -> SessionStore:
    return SessionStore({BUNDLE: BundleLimits(RAW_LEN, MAX_PAYLOAD)}, edge="edge-1", **changes)


class Pair:
    """One node, one store, at most one connection between them."""

    def __init__(self, store: SessionStore | None = None, **node) -> None:
        self.now = 100.0
        self.node = make_node(**node)
        self.store = store or make_store()
        self.edge: EdgeSession | None = None
        self.up, self.down = bytearray(), bytearray()
        self.node_events: list[Event] = []
        self.edge_events: list[Event] = []
        self.jobs: list[tuple[EdgeSession, Requested]] = []
        self.woken = 0

    @property
    def outcomes(self) -> list[Outcome]:
        return [event.outcome for event in self.node_events if isinstance(event, Finished)]

    def events(self, kind: type) -> list[Event]:
        both = (*self.node_events, *self.edge_events)
        return [event for event in both if isinstance(event, kind)]

    def connect(self) -> None:
        self.drop()
        self.edge = EdgeSession(self.store, now=self.now, wake=self._wake)
        self.node.connected(self.now)

    def drop(self) -> None:
        """Whatever was on the way is lost."""
        if self.edge is None:
            return
        self.up.clear()
        self.down.clear()
        self.edge.disconnected()
        self.edge = None
        self.node_events += self.node.disconnected(self.now)

    def submit(self, payload: bytes = b"waist", raw_len: int = RAW_LEN) -> int:
        seq, events = self.node.submit(payload, raw_len, self.now)
        self.node_events += events
        return seq

    def carry_up(self, size_bytes: int = 1 << 20) -> None:
        """The node writes, and at most ``size_bytes`` of what is on the way reach the edge."""
        if self.edge is None:
            return
        while out := self.node.to_send(self.now):
            self.up += b"".join(bytes(part) for part in out)
        data, self.up = bytes(self.up[:size_bytes]), self.up[size_bytes:]
        self._edge_saw(self.edge.receive(data, self.now))

    def carry_down(self, size_bytes: int = 1 << 20) -> None:
        if self.edge is None:
            return
        self.down += b"".join(bytes(part) for part in self.edge.to_send())
        data, self.down = bytes(self.down[:size_bytes]), self.down[size_bytes:]
        self.node_events += self.node.receive(data, self.now)

    def settle(self) -> None:
        for _ in range(4):
            self.carry_up()
            self.carry_down()

    def answer(self, answer: bytes = b"yes", **times: float) -> None:
        """Answer the oldest job, whatever has become of its connection."""
        session, job = self.jobs.pop(0)
        session.reply(job.seq, EdgeTimes(**times), answer)

    def tick(self, duration_s: float) -> None:
        self.now += duration_s
        self.node_events += self.node.on_time(self.now)
        if self.edge is not None:
            self._edge_saw(self.edge.on_time(self.now))

    def finish(self) -> None:
        self.node_events += self.node.finish(self.now)

    def _edge_saw(self, events: list[Event]) -> None:
        assert self.edge is not None
        self.edge_events += events
        self.jobs += [(self.edge, event) for event in events if isinstance(event, Requested)]

    def _wake(self) -> None:
        self.woken += 1
