"""Frames from a source to their outcomes: the node's threads and who waits for whom.

    source -> preprocess -> head -> encode -> uplink == link ==> edge
       each arrow a bounded queue, each name a thread       <==

The caller's thread attends: it writes records, keeps the timers and obeys `stop`. Every frame that
was read ends in exactly one outcome and is reported once, whatever fails.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from waistline.bundle.store import Bundle
from waistline.codec.waist import EncodedWaist
from waistline.errors import (
    BackendError,
    BridgeError,
    CodecError,
    ConfigError,
    LinkError,
    ModelError,
    NonFinite,
    VerificationFailed,
    WaistlineError,
    WireError,
)
from waistline.frame import Outcome, OutcomeKind, SensorFrame
from waistline.links.base import Link
from waistline.session.node import NodeSession
from waistline_node.heads.base import Head, let_go
from waistline_node.pipe import Pipe
from waistline_node.records import FrameRecord
from waistline_node.sources.base import Source, UnreadableFrame, lost_by, wake
from waistline_node.summary import Summary
from waistline_node.ticket import Ticket
from waistline_node.uplink import Uplink

DRAIN_S = 1.0
"""After `stop`, frames under way may still be answered for so long."""
JOIN_S = 10.0
"""A head that runs longer than this after the end is left behind; its frame has ended."""

_Item = tuple[Ticket, Any]


@dataclass(frozen=True, slots=True)
class Pace:
    """How frames flow.

    Attributes:
        rate_hz: frames a second; a stage that cannot follow drops its oldest frame. None: the
            source is read as fast as its frames are taken, and nothing is dropped.
        queue_limit: frames that may wait before each stage and before the link.
        sequential: one frame at a time, each waiting for the outcome of the one before.
    """

    rate_hz: float | None = None
    queue_limit: int = 1
    sequential: bool = False


class NodeRuntime:
    """One run of a node.

    Args:
        bundle: what is run; at x = N the answers are those this node made.
        head: opened, used by this run alone.
        source: likewise.
        session: fresh.
        connect: opens a link to the edge, blocking; raises LinkError to be asked again.
        pace: how frames flow.
        on_record: gets each record, on the thread that called `run`. If it or ``on_idle`` raises a
            WaistlineError the run is stopped and ends with that error.
        on_idle: called when there is no further record for now: the time to write to disk.
        say: told what a person should know, in one line; any thread.
    """

    def __init__(
        self,
        bundle: Bundle,
        head: Head,
        source: Source,
        session: NodeSession,
        connect: Callable[[], Link],
        *,
        pace: Pace | None = None,
        on_record: Callable[[FrameRecord], None] = lambda record: None,
        on_idle: Callable[[], None] = lambda: None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._head = head
        self._source = source
        self._pace = pace or Pace()
        self._on_record = on_record
        self._on_idle = on_idle
        self._say = say
        self._answers_itself = bundle.tail is None
        self._uplink: Uplink[Ticket] = Uplink(session, connect, self)
        self._live = self._pace.rate_hz is not None or source.live
        self._pipes: list[Pipe[_Item]] = [
            Pipe(self._pace.queue_limit, drop_oldest=self._live) for _ in range(3)
        ]
        self._mailbox: queue.SimpleQueue[FrameRecord | None] = queue.SimpleQueue()
        self._open: dict[int, Ticket] = {}
        """Frames without an outcome, by index."""
        self._exhausted = False
        self._stopping = threading.Event()
        self._stop_asked = 0
        self._drain_until = float("inf")
        self._error: WaistlineError | None = None
        self._bug: BaseException | None = None
        self._recording = True
        self._said: set[str] = set()
        self._summary = Summary()

    def run(self) -> Summary:
        """Stream until the source ends or `stop`; returns what became of the frames.

        An error that ends the run early stands in the summary.
        """
        threads = [threading.Thread(target=work, daemon=True) for work in self._workers()]
        self._uplink.start()
        for thread in threads:
            thread.start()
        try:
            self._attend()
        finally:
            self._begin_stop()
            self._uplink.close(DRAIN_S)
            for thread in threads:
                thread.join(JOIN_S)
            for ticket in list(self._open.values()):
                self._drop(ticket)
            self._empty_mailbox()
        if self._bug is not None:
            raise self._bug
        self._summary.connections = self._uplink.connections
        self._summary.lost = lost_by(self._source)
        self._summary.error = self._error
        self._summary.clean = not any(thread.is_alive() for thread in threads)
        return self._summary

    def stop(self) -> None:
        """End soon: no more frames, a second for those under way. Again: at once.

        May be called from a signal handler.
        """
        self._stop_asked += 1
        self._mailbox.put(None)

    def finished(self, ticket: Ticket, outcome: Outcome) -> None:
        """A frame ended; called by the uplink and by the stages."""
        if self._open.pop(ticket.index, None) is None:
            return
        if self._answers_itself and outcome.kind is OutcomeKind.REMOTE:
            self._mailbox.put(ticket.record(outcome, ticket.payload))
        else:
            self._mailbox.put(ticket.record(outcome, outcome.answer))
        ticket.ended()

    def connected(self, edge: str) -> None:
        self._said.discard("waiting")
        self._say(f"connected to edge {edge!r}")
        self._mailbox.put(None)

    def disconnected(self, error: WaistlineError) -> None:
        """Say so, once for a row of failed attempts."""
        if "waiting" not in self._said:
            self._said.add("waiting")
            self._say(f"{error}; waiting for the edge, trying again until it answers")
        self._mailbox.put(None)

    def failed(self, error: BaseException) -> None:
        if isinstance(error, WaistlineError):
            self._error = self._error or error
        else:
            self._bug = self._bug or error
        self.stop()

    def timer_moved(self) -> None:
        self._mailbox.put(None)

    def _workers(self) -> list[Callable[[], None]]:
        if self._pace.sequential:
            return [self._guarded(self._run_in_turn)]
        first, second, third = self._pipes
        head = self._head
        return [
            self._guarded(self._read_all),
            self._guarded(lambda: self._stage(first, head.preprocess, "preprocess_ns", second)),
            self._guarded(lambda: self._stage(second, head.head, "head_ns", third)),
            self._guarded(lambda: self._stage(third, head.encode, "encode_ns", None)),
        ]

    def _guarded(self, work: Callable[[], None]) -> Callable[[], None]:
        """A thread that dies of a bug ends the run, which then raises it."""

        def guarded() -> None:
            try:
                work()
            except BaseException as error:
                self.failed(error)

        return guarded

    def _attend(self) -> None:
        while self._open or not self._exhausted or not self._mailbox.empty():
            timer = self._uplink.next_timer()
            until = min(self._drain_until, float("inf") if timer is None else timer)
            left_s = until - time.monotonic()
            self._empty_mailbox(None if left_s == float("inf") else max(left_s, 0.0))
            if timer is not None and time.monotonic() >= timer:
                self._uplink.on_time()
            if self._stop_asked:
                self._begin_stop()
                self._drain_until = min(self._drain_until, time.monotonic() + DRAIN_S)
                if self._stop_asked > 1 or not self._uplink.pending or self._error:
                    return
            if time.monotonic() >= self._drain_until:
                return

    def _empty_mailbox(self, wait_s: float | None = 0.0) -> None:
        """Deal with all records there are; wait for the first letter."""
        try:
            letter = self._mailbox.get(wait_s != 0.0, wait_s)
            while True:
                if letter is not None:
                    self._summary.add(letter)
                    self._deliver(letter)
                letter = self._mailbox.get_nowait()
        except queue.Empty:
            self._deliver(None)

    def _deliver(self, record: FrameRecord | None) -> None:
        """Hand a record over, or say that there is none for now; after an error nothing is."""
        if not self._recording:
            return
        try:
            if record is None:
                self._on_idle()
            else:
                self._on_record(record)
        except WaistlineError as error:
            self._recording = False
            self.failed(error)

    def _begin_stop(self) -> None:
        """Let every waiting thread go; frames that are not under way end as dropped(shutdown)."""
        self._stopping.set()
        wake(self._source)
        let_go(self._head)
        self._uplink.refuse_frames()
        for pipe in self._pipes:
            for ticket, _ in pipe.close():
                self._drop(ticket)
        for ticket in list(self._open.values()):
            ticket.ended()

    def _drop(self, ticket: Ticket, reason: str = "shutdown") -> None:
        detail = "the node was stopped" if reason == "shutdown" else "a newer frame came"
        self.finished(ticket, Outcome(0, OutcomeKind.DROPPED, reason, detail=detail))

    def _frames(self) -> Callable[[], tuple[Ticket, SensorFrame | None] | None]:
        """Reads the next frame at the pace that was asked for; None after the last."""
        period_s = 1.0 / self._pace.rate_hz if self._pace.rate_hz else 0.0
        due = time.monotonic()

        def read() -> tuple[Ticket, SensorFrame | None] | None:
            nonlocal due
            while not self._stopping.wait(max(0.0, due - time.monotonic()) if period_s else 0.0):
                # A source that cannot follow is not followed by a burst.
                due = max(due + period_s, time.monotonic())
                ticket = Ticket()
                try:
                    frame = self._source.read()
                except UnreadableFrame as error:
                    ticket.read(error.index, error.name)
                    self._open[ticket.index] = ticket
                    self._fail(ticket, error)
                    continue
                if frame is None:
                    return None
                ticket.read(frame.index, frame.name, frame.label, frame.captured_s)
                self._open[ticket.index] = ticket
                return ticket, frame
            return None

        return read

    def _read_all(self) -> None:
        read = self._frames()
        try:
            while item := read():
                self._hand_on(item, self._pipes[0])
        finally:
            self._exhausted = True
            self._pipes[0].end()
            self._mailbox.put(None)

    def _stage(
        self,
        source: Pipe[_Item],
        work: Callable[[Any], Any],
        clock: str,
        sink: Pipe[_Item] | None,
    ) -> None:
        while (item := source.get()) is not None:
            ticket, value = item
            began = time.monotonic_ns()
            try:
                value = work(value)
            except WaistlineError as error:
                self._fail(ticket, error)
                continue
            setattr(ticket, clock, time.monotonic_ns() - began)
            if sink is not None:
                self._hand_on((ticket, value), sink)
            else:
                self._submit(ticket, value)
        if sink is not None:
            sink.end()

    def _hand_on(self, item: _Item, sink: Pipe[_Item]) -> None:
        pushed_out = sink.put(item)
        if pushed_out is not None:
            self._drop(pushed_out[0], "shutdown" if self._stopping.is_set() else "queue")

    def _submit(self, ticket: Ticket, encoded: EncodedWaist, *, pump: bool = False) -> None:
        ticket.submitted(encoded, keep=self._answers_itself)
        taken = self._uplink.submit(
            ticket, encoded.payload, encoded.raw_len, wait=not self._live, pump=pump
        )
        if not taken:
            self._drop(ticket)

    def _run_in_turn(self) -> None:
        read = self._frames()
        try:
            while item := read():
                ticket, frame = item
                ticket.wait_on()
                try:
                    encoded, times = self._head.run(frame)  # type: ignore[arg-type]
                except WaistlineError as error:
                    self._fail(ticket, error)
                    continue
                ticket.preprocess_ns = times.preprocess_ns
                ticket.head_ns, ticket.encode_ns = times.head_ns, times.encode_ns
                self._submit(ticket, encoded, pump=True)
                ticket.wait()
        finally:
            self._exhausted = True
            self._mailbox.put(None)

    def _fail(self, ticket: Ticket, error: WaistlineError) -> None:
        """The frame ends, the stream goes on; the first of each kind is shown at once."""
        reason = reason_of(error)
        if reason not in self._said:
            self._said.add(reason)
            self._say(f"frame {ticket.name or ticket.index} ended as error({reason}): {error}")
        self.finished(ticket, Outcome(0, OutcomeKind.ERROR, reason, detail=str(error)))


_REASONS: Sequence[tuple[type[WaistlineError], str]] = (
    (NonFinite, "nonfinite"),
    (CodecError, "codec"),
    (BackendError, "backend"),
    (ConfigError, "source"),
    *((kind, "board") for kind in (BridgeError, LinkError, WireError, ModelError)),
    (VerificationFailed, "board"),
)


def reason_of(error: WaistlineError) -> str:
    """The word an outcome gives as its reason."""
    return next((word for kind, word in _REASONS if isinstance(error, kind)), "node")
