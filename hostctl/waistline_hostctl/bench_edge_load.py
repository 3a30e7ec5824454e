"""Many nodes in one thread: sends frames to an edge as a plan says and counts how they end.

A node here is a connection and a few counters; the frame is encoded once. Unlike a real node it
goes on sending after a BUSY, which is the harder case for an edge. What the generator itself cost
and how late it sent is part of every result, so that no limit of its own is taken for one of the
edge.
"""

from __future__ import annotations

import heapq
import selectors
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType

from waistline.bundle.store import Bundle
from waistline.codec.waist import EncodedWaist
from waistline.session import bodies
from waistline.wire import Message, MessageType
from waistline_hostctl.bench_edge_peer import WAIT_S, Peer

REMOTE, BUSY = "remote", "dropped(busy)"
_RAMP = 0.15
"""Of a phase is run before it is measured: queues fill, estimates settle."""
_NEVER = float("inf")


@dataclass(slots=True)
class Tally:
    """One node's frames within the measured time; times in seconds.

    Attributes:
        sent: frames sent.
        withheld: frames that were due while the node could not send, see `Peer.is_full`.
        ends: answers by outcome: ``remote``, ``dropped(busy)`` or ``error(<kind>)``.
        latency_s: of remote frames, from sending to answer.
        busy_s: the same of frames that were not taken.
        queue_s: how long remote frames waited inside the edge, by its own clock.
        wrong: answers that differ from the first one; every frame is the same.
    """

    sent: int = 0
    withheld: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    latency_s: list[float] = field(default_factory=list)
    busy_s: list[float] = field(default_factory=list)
    queue_s: list[float] = field(default_factory=list)
    wrong: int = 0


@dataclass(frozen=True, slots=True)
class Phase:
    """One stretch of load.

    Attributes:
        seconds: measured; what came before or after it is in no tally.
        nodes: a tally for each.
        late_s: how long after its time each frame of a timed plan was sent.
        unanswered: frames without an end `WAIT_S` after the last was sent.
        cpu_s: processor time that this process spent in ``seconds``.
        edge_cpu_s: the same of the edge; None: it is not on this machine.
    """

    seconds: float
    nodes: tuple[Tally, ...]
    late_s: tuple[float, ...]
    unanswered: int
    cpu_s: float
    edge_cpu_s: float | None

    def total(self, outcome: str) -> int:
        return sum(node.ends[outcome] for node in self.nodes)

    @property
    def goodput_hz(self) -> float:
        """Remote frames a second."""
        return self.total(REMOTE) / self.seconds

    @property
    def offered_hz(self) -> float:
        """Frames a second that were sent, or would have been had the edge taken those before."""
        return sum(node.sent + node.withheld for node in self.nodes) / self.seconds

    @property
    def withheld_share(self) -> float:
        """Of the frames offered: held back at the nodes."""
        held = sum(node.withheld for node in self.nodes)
        return held / max(1, held + sum(node.sent for node in self.nodes))

    @property
    def waiting(self) -> float:
        """Mean number of requests in the edge's queue, by Little's law."""
        return sum(sum(node.queue_s) for node in self.nodes) / self.seconds


class Load:
    """``nodes`` connections to one edge; a context manager that closes them.

    Args:
        endpoint: of the edge.
        bundle: that it serves.
        frame: what every node sends.
        nodes: how many.
        edge_cpu: processor time of the edge so far, seconds; None: not known.

    Raises:
        LinkError: the edge does not answer or turned a node away.
    """

    def __init__(
        self,
        endpoint: str,
        bundle: Bundle,
        frame: EncodedWaist,
        nodes: int,
        edge_cpu: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._edge_cpu = edge_cpu
        self._selector = selectors.DefaultSelector()
        self._peers: list[Peer] = []
        self._answer: bytes | None = None
        self._tallies: list[Tally] = []
        self._window = 0
        """Frames each node keeps under way; 0: it sends by the clock."""
        try:
            for k in range(nodes):
                peer = Peer(endpoint, bundle, frame, f"bench-{k}")
                self._peers.append(peer)
                self._selector.register(peer.sock, selectors.EVENT_READ, k)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Load:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        for peer in self._peers:
            peer.close()
        self._selector.close()

    def closed_loop(self, window: int, seconds: float) -> Phase:
        """Every node keeps ``window`` frames under way: what the edge gives at most."""
        self._window = max(1, min(window, *(peer.window for peer in self._peers)))
        self._tallies = [Tally() for _ in self._peers]
        now = time.monotonic()
        for k in range(len(self._peers)):
            self._top_up(k, now)
        return self._measured([], seconds)

    def open_loop(self, rates_hz: Sequence[float], seconds: float) -> Phase:
        """Every node sends at its rate, whatever it is told, as a camera would."""
        self._window = 0
        return self._measured([1.0 / rate_hz for rate_hz in rates_hz], seconds)

    def _measured(self, intervals_s: Sequence[float], seconds: float) -> Phase:
        """Ramp, measure, then wait for what is still under way."""
        start = time.monotonic()
        count = len(intervals_s)
        # Spread over one interval, so that the nodes do not all send at once.
        due = [(start + gap_s * k / count, k) for k, gap_s in enumerate(intervals_s)]
        due.append((_NEVER, -1))
        heapq.heapify(due)
        self._tallies = [Tally() for _ in self._peers]
        self._run(due, intervals_s, start + _RAMP * seconds)
        self._tallies = tallies = [Tally() for _ in self._peers]
        began, cpu_s, edge_cpu_s = time.monotonic(), time.process_time(), self._edge_cpu()
        late_s = self._run(due, intervals_s, began + seconds)
        took_s, cpu_s = time.monotonic() - began, time.process_time() - cpu_s
        spent_s = self._edge_cpu()
        if spent_s is not None and edge_cpu_s is not None:
            spent_s -= edge_cpu_s
        self._tallies = [Tally() for _ in self._peers]
        left = self._settle()
        return Phase(took_s, tuple(tallies), tuple(late_s), left, cpu_s, spent_s)

    def _run(
        self, due: list[tuple[float, int]], intervals_s: Sequence[float], end: float
    ) -> list[float]:
        """Send and read until ``end``; how late each timed frame was."""
        late_s = []
        while (now := time.monotonic()) < end:
            while due[0][0] <= now:
                planned, k = due[0]
                late_s.append(now - planned)
                heapq.heapreplace(due, (planned + intervals_s[k], k))
                self._send(k, now)
                now = time.monotonic()
            self._read(min(due[0][0], end) - now)
        return late_s

    def _send(self, k: int, now: float) -> None:
        peer = self._peers[k]
        if peer.is_full:
            self._tallies[k].withheld += 1
            return
        self._tallies[k].sent += 1
        if not peer.send(now):
            both = selectors.EVENT_READ | selectors.EVENT_WRITE
            self._selector.modify(peer.sock, both, k)

    def _top_up(self, k: int, now: float) -> None:
        """Have as many frames under way as a closed loop wants."""
        peer = self._peers[k]
        while len(peer.open) < self._window and not peer.is_full:
            self._send(k, now)

    def _read(self, timeout_s: float) -> None:
        for key, ready in self._selector.select(max(0.0, timeout_s)):
            k: int = key.data
            peer = self._peers[k]
            if ready & selectors.EVENT_WRITE and peer.flush():
                self._selector.modify(peer.sock, selectors.EVENT_READ, k)
            if ready & selectors.EVENT_READ:
                now = time.monotonic()
                for message in peer.read():
                    self._note(k, message, now)
                self._top_up(k, now)

    def _note(self, k: int, message: Message, now: float) -> None:
        sent_at = self._peers[k].open.pop(message.seq, None)
        if sent_at is None:
            return
        tally = self._tallies[k]
        if message.type is MessageType.REPLY:
            times, answer = bodies.load_reply(message.payload)
            if self._answer is None:
                self._answer = answer
            tally.wrong += answer != self._answer
            tally.ends[REMOTE] += 1
            tally.latency_s.append(now - sent_at)
            tally.queue_s.append(times.queue_s)
        elif message.type is MessageType.BUSY:
            bodies.load_busy(message.payload)
            tally.ends[BUSY] += 1
            tally.busy_s.append(now - sent_at)
        else:
            fault = bodies.load(message.payload, bodies.Fault)
            tally.ends[f"error({fault.kind})"] += 1

    def _settle(self) -> int:
        """Take the last answers; how many never came."""
        self._window = 0
        deadline = time.monotonic() + WAIT_S
        while any(peer.open for peer in self._peers) and time.monotonic() < deadline:
            self._read(0.05)
        left = sum(len(peer.open) for peer in self._peers)
        for peer in self._peers:
            peer.open.clear()
        return left
