"""What an edge remembers about its nodes between connections: who they are, what was answered.

One store serves all connections of one edge and lives in its event loop; nothing here locks.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from waistline.session.bodies import MAX_IN_FLIGHT

if TYPE_CHECKING:
    from waistline.session.edge import EdgeSession

WINDOW_FRAMES = 256
"""Frames of a session that are told from new ones: far more than may be in flight."""
_WINDOW_MASK = (1 << WINDOW_FRAMES) - 1
ENTRY_BYTES = 136
"""What keeping an answer costs beside its bytes: two objects and a place in a table, measured."""
MAX_SESSIONS = 1024
"""An empty one takes about 1 kB."""


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

    key: tuple[str, int, str]
    connection: EdgeSession | None = None
    running: set[int] = field(default_factory=set)
    answers: dict[int, bytes] = field(default_factory=dict)
    """Ready messages by seq, oldest first."""
    size_bytes: int = 0
    """Of the answers, with what keeping them costs."""
    _highest: int = 0
    _taken: int = 0
    """Bit k: frame ``_highest - k`` was taken."""

    def is_new(self, seq: int) -> bool:
        """Whether this seq was never taken; below the window nobody knows, so no."""
        age = self._highest - seq
        return age < 0 or (age < WINDOW_FRAMES and not self._taken >> age & 1)

    def start(self, seq: int) -> None:
        """Frame ``seq``, which `is_new`, runs from now on."""
        self.running.add(seq)
        ahead = seq - self._highest
        if ahead > 0:
            self._highest = seq
            self._taken = (self._taken << min(ahead, WINDOW_FRAMES)) & _WINDOW_MASK
        self._taken |= 1 << (self._highest - seq)

    def give_back(self, seq: int) -> None:
        """Frame ``seq`` did not run after all and may come again."""
        self.running.discard(seq)
        age = self._highest - seq
        if age < WINDOW_FRAMES:
            self._taken &= ~(1 << age)

    def keep(self, seq: int, message: bytes, limit_bytes: int) -> None:
        """Remember the answer; older ones make room, the newest always stays."""
        self.running.discard(seq)
        self.answers[seq] = message
        self.size_bytes += len(message) + ENTRY_BYTES
        while len(self.answers) > 1 and (
            self.size_bytes > limit_bytes or len(self.answers) > WINDOW_FRAMES
        ):
            self.drop_oldest()

    def drop_oldest(self) -> int:
        """Forget the oldest answer, not that its frame was taken; returns the bytes it took."""
        freed_bytes = len(self.answers.pop(next(iter(self.answers)))) + ENTRY_BYTES
        self.size_bytes -= freed_bytes
        return freed_bytes


class SessionStore:
    """Sessions of one edge.

    Args:
        bundles: limits by full bundle id (64 hex digits); only these are served.
        edge: name told to the nodes.
        max_in_flight: frames of one session that may run at once.
        max_sessions: remembered; the least recently used one without a connection is forgotten.
        replay_bytes: memory of the answers kept per session.
        total_replay_bytes: for all sessions together; when it is used up, the sessions that were
            answered longest ago lose theirs.
    """

    def __init__(
        self,
        bundles: Mapping[str, BundleLimits],
        *,
        edge: str = "edge",
        max_in_flight: int = 16,
        max_sessions: int = MAX_SESSIONS,
        replay_bytes: int = 1 << 20,
        total_replay_bytes: int = 8 << 20,
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
        """Memory of the answers kept now, all sessions."""

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
            record = self._records[key] = Record(key)
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

    def keep(self, record: Record, seq: int, message: bytes) -> None:
        """Remember an answer within the limits of the session and of the store."""
        if self._records.get(record.key) is not record:
            return  # its session was forgotten while the frame ran
        self._records.move_to_end(record.key)
        before_bytes = record.size_bytes
        record.keep(seq, message, self._replay_bytes)
        self.replay_size_bytes += record.size_bytes - before_bytes
        for other in self._records.values():
            while self._is_full() and other.answers and other is not record:
                self.replay_size_bytes -= other.drop_oldest()
            if not self._is_full():
                break

    def _is_full(self) -> bool:
        return self.replay_size_bytes > self._total_replay_bytes

    def _forget_one(self, superseded: Record | None) -> bool:
        """Make room for one record: the least recently used one that nobody is connected to."""
        for key, record in self._records.items():
            if record.connection is None or record is superseded:
                self.replay_size_bytes -= record.size_bytes
                del self._records[key]
                return True
        return False
