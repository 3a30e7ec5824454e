"""The edge: listens, hands frames to the tail pool, and answers.

Several bundles and many nodes at once, in one event loop with a pool of worker threads beside it.
The loop parses, queues and writes; decoding and computing happen on the workers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import platform
from collections import deque
from collections.abc import Mapping, Sequence

from waistline import endpoints
from waistline.backends.base import Backend, BackendOptions, load_backend
from waistline.bundle.store import Bundle
from waistline.errors import ConfigError
from waistline.links.base import Server
from waistline.session.bodies import REPLY_TIMES_BYTES
from waistline.session.events import Requested
from waistline.session.store import MAX_SESSIONS, BundleLimits, SessionStore
from waistline.stages import TailStages, open_slice
from waistline.wire import HEADER_BYTES
from waistline_edge.connection import Connection, Limits
from waistline_edge.options import EdgeOptions
from waistline_edge.pool import Done, Expired, Failed, Job, Result, Stages, TailPool
from waistline_edge.sharing import SharedSlice
from waistline_edge.stats import EdgeStats

log = logging.getLogger("waistline_edge")

BYE_S = 0.5
"""How long nodes get to take their BYE; what is not gone then is cut."""
MIN_UNSENT_BYTES = 1 << 20


def open_stages(bundles: Sequence[Bundle], options: EdgeOptions) -> list[dict[str, Stages]]:
    """Stages for each worker of a pool that runs ``options.workers`` tails at once.

    A bundle's tail is opened so many times, and shared by one worker more.

    Raises:
        ConfigError: an unknown backend or option, or a tail of a format it does not open.
        BackendError: the engine refused a tail.
        MissingExtra: the backend's package is not installed.
    """
    choice = BackendOptions(threads=options.threads, extra=dict(options.backend_options))
    formats = {bundle.tail.format for bundle in bundles if bundle.tail}
    engines = {each: load_backend(options.backend, each, choice) for each in formats}
    tails = {bundle.id: _tail(bundle, engines, options.workers) for bundle in bundles}
    return [
        {bundle.id: TailStages(bundle, tails[bundle.id]) for bundle in bundles}
        for _ in range(options.workers + 1)
    ]


def _tail(bundle: Bundle, engines: Mapping[str, Backend], times: int) -> SharedSlice | None:
    if bundle.tail is None:
        return None
    engine = engines[bundle.tail.format]
    opened = [open_slice(engine, bundle, bundle.tail) for _ in range(times)]
    found = [each for each in opened if each is not None]
    return SharedSlice(found) if found else None


def limits_of(bundle: Bundle) -> BundleLimits:
    """What one frame of ``bundle`` may be; where the node runs everything it is the answer."""
    codec = bundle.waist_codec()
    if codec is None:
        return BundleLimits(None, bundle.answer_kind.max_bytes)
    return BundleLimits(codec.raw_len, codec.max_payload_bytes)


class EdgeServer:
    """One edge.

    Args:
        bundles: checked bundles, each once.
        options: see `EdgeOptions`.
        stages: per worker the stages by bundle id; None opens them with the options' backend.

    Raises:
        ConfigError: no bundle, the same one twice, or what `open_stages` raises.
    """

    def __init__(
        self,
        bundles: Sequence[Bundle],
        options: EdgeOptions,
        *,
        stages: Sequence[Mapping[str, Stages]] | None = None,
    ) -> None:
        _check_bundles(bundles)
        self.options = options
        self.stats = EdgeStats()
        self.endpoint = ""
        self._pool = TailPool(
            open_stages(bundles, options) if stages is None else stages,
            options.queue_limit,
            self._deliver,
            tails_at_once=options.workers if stages is None else None,
        )
        self._store = SessionStore(
            {bundle.id: limits_of(bundle) for bundle in bundles},
            edge=platform.node()[:128] or "edge",
            max_in_flight=options.max_in_flight,
            max_sessions=max(MAX_SESSIONS, 2 * options.max_connections),
        )
        reply_bytes = (
            HEADER_BYTES
            + REPLY_TIMES_BYTES
            + max(bundle.answer_kind.max_bytes for bundle in bundles)
        )
        self._limits = Limits(
            handshake_s=options.handshake_s,
            idle_s=options.idle_s,
            unread_s=options.write_s,
            unsent_bytes=max(MIN_UNSENT_BYTES, 2 * options.max_in_flight * reply_bytes),
        )
        self._connections: dict[Connection, None] = {}
        self._listener: Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._results: deque[tuple[Job, Result]] = deque()
        """What the workers have done and the loop has not answered yet."""
        self._open_jobs = 0
        self._draining = False
        self._worked_off = asyncio.Event()
        self._all_gone = asyncio.Event()

    async def start(self) -> None:
        """Listen; `endpoint` then says where.

        Raises:
            ConfigError, LinkError: the endpoint cannot be listened at.
        """
        self._loop = asyncio.get_running_loop()
        self._listener = await endpoints.serve(
            self.options.listen, self._accept, insecure=self.options.insecure
        )
        self.endpoint = self._listener.endpoint
        self._pool.start()

    def load(self) -> tuple[int, int]:
        """Requests that wait, requests that run."""
        return self._pool.depth, self._pool.in_flight

    async def drain(self) -> bool:
        """Accept nothing more, finish what is queued within ``drain_s``, say BYE, stop the workers.

        Frames that were not reached get no answer: after the BYE their nodes send them to the next
        edge, while their budget lasts.

        Returns:
            False when a tail was still running at the end.
        """
        self._draining = True
        if self._listener is not None:
            await self._listener.close()
        if self._open_jobs:
            self._worked_off.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._worked_off.wait(), self.options.drain_s)
        unreached = self._pool.cancel()
        if unreached:
            log.warning("%d requests were not reached before the edge stopped", len(unreached))
        for connection in list(self._connections):
            connection.bye()
        await self._until_all_gone()
        for connection in list(self._connections):
            connection.abort()
        await self._until_all_gone()
        return self._pool.stop(timeout_s=0.1)

    async def _until_all_gone(self) -> None:
        """At most `BYE_S`. A connection that outlives the loop would end with a traceback."""
        if self._connections:
            self._all_gone.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_gone.wait(), BYE_S)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.stats.accepted += 1
        if self._draining or not self._make_room():
            if self.stats.reject("connections", self._now()):
                log.warning("a connection is turned away: %d are open", len(self._connections))
            writer.transport.abort()
            return
        connection = Connection(
            reader,
            writer,
            store=self._store,
            stats=self.stats,
            limits=self._limits,
            request=self._request,
        )
        self._connections[connection] = None
        self.stats.connections = len(self._connections)
        try:
            await connection.run()
        finally:
            del self._connections[connection]
            self.stats.connections = len(self._connections)
            if not self._connections:
                self._all_gone.set()

    def _make_room(self) -> bool:
        """Whether one more connection fits; the oldest that nobody would miss gives way."""
        if len(self._connections) < self.options.max_connections:
            return True
        victim = next((each for each in self._connections if each.can_be_evicted), None)
        if victim is None:
            return False
        self.stats.reject("evicted", self._now())
        victim.abort()
        return True

    def _request(self, connection: Connection, event: Requested) -> None:
        """A frame to run: queue it, or tell its node that there is no room."""
        if self._draining:
            return
        session = connection.session
        job = Job(
            bundle_id=session.bundle_id,
            seq=event.seq,
            payload=event.payload,
            raw_len=event.raw_len,
            received_at=self._now(),
            owner=connection,
        )
        admission = self._pool.submit(session.node_id, job, event.expires_at)
        self._open_jobs += 1
        for entry in admission.expired:
            self._finish(entry.item, Expired())
            self._now_send(_owner(entry.item))
        refused = [entry.item for entry in admission.evicted]
        if not admission.accepted:
            refused.append(job)
        for each in refused:
            self._refuse(each)
            if _owner(each) is not connection:  # which flushes when its events are handled
                self._now_send(_owner(each))

    def _refuse(self, job: Job) -> None:
        self._open_jobs -= 1
        self.stats.frames["busy"] += 1
        _owner(job).session.busy(job.seq, self._pool.retry_after_s())

    def _deliver(self, job: Job, result: Result) -> None:
        """On a worker's thread: have the loop answer."""
        self._results.append((job, result))
        if self._loop is not None:
            # Only a loop that was closed under a hanging tail refuses; nobody waits then.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._answer_all)

    def _answer_all(self) -> None:
        """Answer what the workers have done; one write for each connection."""
        answered: dict[Connection, None] = {}
        while self._results:
            job, result = self._results.popleft()
            self._finish(job, result)
            answered[_owner(job)] = None
        for connection in answered:
            connection.flush()

    def _finish(self, job: Job, result: Result) -> None:
        """Have the session say how a frame ended; the caller flushes it."""
        session = _owner(job).session
        if isinstance(result, Done):
            # Every wait counts as queue, the one for this loop included.
            times = result.times.with_residence(self._now() - job.received_at)
            session.reply(job.seq, times, result.answer)
            self.stats.remote(times)
        elif isinstance(result, Failed):
            session.error(job.seq, result.kind, result.message)
            self.stats.frames[result.kind] += 1
        else:
            session.error(job.seq, "expired", "its budget was over before a worker was free")
            self.stats.frames["expired"] += 1
        self._open_jobs -= 1
        if not self._open_jobs:
            self._worked_off.set()

    def _now_send(self, connection: Connection) -> None:
        """Flush after the events being handled, so that one write carries what they made."""
        assert self._loop is not None
        self._loop.call_soon(connection.flush)

    def _now(self) -> float:
        assert self._loop is not None
        return self._loop.time()


def _owner(job: Job) -> Connection:
    assert isinstance(job.owner, Connection)
    return job.owner


def _check_bundles(bundles: Sequence[Bundle]) -> None:
    if not bundles:
        raise ConfigError("an edge needs a bundle", fix="name one: waistline edge NAME.bundle")
    seen: dict[str, Bundle] = {}
    for bundle in bundles:
        if bundle.id in seen:
            raise ConfigError(
                f"{bundle.path} is the same bundle as {seen[bundle.id].path}",
                cause=f"both have the id {bundle.id[:12]}",
                fix="name each bundle once",
            )
        seen[bundle.id] = bundle
