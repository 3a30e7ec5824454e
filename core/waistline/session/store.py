"""What an edge remembers about its nodes between connections: who they are, what was answered.

One store serves all connections of one edge and lives in its event loop; nothing here locks.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from waistline.links.base import Buffer
from waistline.session.bodies import MAX_IN_FLIGHT

if TYPE_CHECKING:
    from waistline.session.edge import EdgeSession

WINDOW_FRAMES = 256
"""Frames of a session that are told from new ones: far more than may be in flight."""


@dataclass(frozen=True, slots=True)
class BundleLimits:
    """What one frame of a bundle may be.

    Attributes:
        raw_len: exact packed bytes before entropy coding; None where the payload is the answer
            itself (x = N): then it equals the payload's length.
        max_payload_bytes: largest DATA payload.
    """

    raw_len: int | None
    max_payload_bytes: int


@dataclass(slots=True)
class Record:
    """One (node, session, bundle): its replay window and the connection it speaks through."""

    session_id: int
    connection: EdgeSession | None = None
    running: set[int] = field(default_factory=set)
    answers: OrderedDict[int, list[Buffer]] = field(default_factory=OrderedDict)
    """Ready messages by seq, oldest first."""
    forgotten: set[int] = field(default_factory=set)
    """Inside the window, but their answers took too much room."""
    highest: int = 0
    size_bytes: int = 0

    def is_new(self, seq: int) -> bool:
        """Whether this seq was never taken; below the window nobody knows, so no."""
        if seq in self.running or seq in self.answers or seq in self.forgotten:
            return False
        return seq > self.highest - WINDOW_FRAMES

    def start(self, seq: int) -> None:
        self.running.add(seq)
        self.highest = max(self.highest, seq)
        floor = self.highest - WINDOW_FRAMES
        for old in [old for old in self.answers if old <= floor]:
            self.drop_answer(old)
        self.forgotten = {old for old in self.forgotten if old > floor}

    def keep(self, seq: int, message: list[Buffer], limit_bytes: int) -> None:
        """Remember the answer; older ones make room, the newest always stays."""
        self.running.discard(seq)
        self.answers[seq] = message
        self.size_bytes += _size_bytes(message)
        while self.size_bytes > limit_bytes and len(self.answers) > 1:
            self.drop_answer(next(iter(self.answers)))

    def drop_answer(self, seq: int) -> None:
        self.size_bytes -= _size_bytes(self.answers.pop(seq))
        self.forgotten.add(seq)


class SessionStore:
    """Sessions of one edge.

    Args:
        bundles: limits by full bundle id (64 hex digits); only these are served.
        edge: name told to the nodes.
        max_in_flight: frames of one session that may run at once.
        max_sessions: remembered; the least recently used one without a connection is forgotten.
        replay_bytes: answers kept per session.
        total_replay_bytes: answers kept for all sessions together.
    """

    def __init__(
        self,
        bundles: Mapping[str, BundleLimits],
        *,
        edge: str = "edge",
        max_in_flight: int = 16,
        max_sessions: int = 1024,
        replay_bytes: int = 1 << 20,
        total_replay_bytes: int = 64 << 20,
    ) -> None:
        self.bundles = dict(bundles)
        self.edge = edge
        self.max_in_flight = min(max_in_flight, MAX_IN_FLIGHT)
        self._max_sessions = max_sessions
        self._replay_bytes = replay_bytes
        self._total_replay_bytes = total_replay_bytes
        self._records: OrderedDict[tuple[str, int, str], Record] = OrderedDict()
        self._live: dict[str, Record] = {}
        """The record through which each node is connected now."""
        self.replay_size_bytes = 0
        """Answers kept now, all sessions."""

    @property
    def sessions(self) -> int:
        """How many are remembered."""
        return len(self._records)

    def join(
        self, node_id: str, session_id: int, bundle: str, connection: EdgeSession
    ) -> tuple[Record | None, EdgeSession | None]:
        """Find or make the record of a session and give it to ``connection``.

        Returns:
            The record, None if every place is taken by a connected session; and the connection
            this one supersedes.
        """
        key = (node_id, session_id, bundle)
        old = self._live.get(node_id)
        superseded = old.connection if old else None
        record = self._records.get(key)
        if record is None:
            if len(self._records) >= self._max_sessions and not self._forget_one(old):
                return None, None
            record = self._records[key] = Record(session_id)
        self._records.move_to_end(key)
        if old is not None:
            old.connection = None
        record.connection = connection
        self._live[node_id] = record
        return record, superseded

    def leave(self, node_id: str, record: Record, connection: EdgeSession) -> None:
        """The connection is gone; the record stays for the next one."""
        if record.connection is connection:
            record.connection = None
            if self._live.get(node_id) is record:
                del self._live[node_id]

    def start(self, record: Record, seq: int) -> None:
        """Frame ``seq`` runs from now on."""
        before_bytes = record.size_bytes
        record.start(seq)
        self.replay_size_bytes += record.size_bytes - before_bytes

    def keep(self, record: Record, seq: int, message: list[Buffer]) -> None:
        """Remember an answer within the limits of the session and of the store."""
        before_bytes = record.size_bytes
        record.keep(seq, message, self._replay_bytes)
        self.replay_size_bytes += record.size_bytes - before_bytes
        for other in self._records.values():
            if self.replay_size_bytes <= self._total_replay_bytes:
                break
            before_bytes = other.size_bytes
            while other.answers and other is not record:
                other.drop_answer(next(iter(other.answers)))
            self.replay_size_bytes += other.size_bytes - before_bytes

    def _forget_one(self, superseded: Record | None) -> bool:
        """Make room for one record: the least recently used one that nobody is connected to."""
        for key, record in self._records.items():
            if record.connection is None or record is superseded:
                self.replay_size_bytes -= record.size_bytes
                del self._records[key]
                return True
        return False


def _size_bytes(message: list[Buffer]) -> int:
    return sum(memoryview(part).nbytes for part in message)
