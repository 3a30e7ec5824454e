"""Worker threads that run the tails, so that the event loop never waits for one.

Engines and the compiled codec give up the interpreter lock while they compute, so threads are
enough. There is one worker more than tails may run at once: it decodes the next frame meanwhile, so
that an engine never waits for a codec. Slices are opened before the first request, so that a bundle
that cannot run fails at start.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Protocol

import msgspec
import numpy as np

from waistline.errors import BackendError, CodecError, NonFinite
from waistline.frame import EdgeTimes
from waistline_edge.queue import Admission, FairQueue, ServiceEstimate

log = logging.getLogger("waistline_edge")


class Stages(Protocol):
    """What a worker runs, one call after the other; see `waistline.stages.TailStages`."""

    def decode(self, payload: bytes | memoryview, raw_len: int) -> list[np.ndarray]: ...

    def preprocess(self, tensors: Sequence[np.ndarray]) -> list[np.ndarray]: ...

    def tail(self, tensors: Sequence[np.ndarray]) -> list[np.ndarray]: ...

    def postprocess(self, outputs: Sequence[np.ndarray]) -> bytes: ...


class Job(msgspec.Struct, frozen=True, eq=False):
    """A request on its way through the pool.

    Attributes:
        bundle_id: which bundle's tail is wanted.
        seq: the node's number for it.
        payload, raw_len: as the session checked them.
        received_at: monotonic time of the request's last byte.
        owner: whom the answer is for; the pool only hands it back.
    """

    bundle_id: str
    seq: int
    payload: bytes
    raw_len: int
    received_at: float
    owner: Hashable


class Done(msgspec.Struct, frozen=True):
    """The tail ran. ``times.queue_s`` is what the job waited for a worker and for its tail."""

    answer: bytes
    times: EdgeTimes


@dataclass(frozen=True, slots=True)
class Failed:
    """The frame ends as an error; ``kind`` is codec, nonfinite, backend or edge."""

    kind: str
    message: str


@dataclass(frozen=True, slots=True)
class Expired:
    """The frame's budget was over before a worker was free; nothing ran."""


Result = Done | Failed | Expired
Deliver = Callable[[Job, Result], None]


class TailPool:
    """``len(stages)`` workers behind one fair queue.

    Args:
        stages: for every worker its own stages by bundle id.
        queue_limit: requests that may wait; more are refused.
        deliver: called on a worker's thread with every job that was accepted and not evicted.
        tails_at_once: how many workers may be in `Stages.tail`; None: all of them.
    """

    def __init__(
        self,
        stages: Sequence[Mapping[str, Stages]],
        queue_limit: int,
        deliver: Deliver,
        *,
        tails_at_once: int | None = None,
    ) -> None:
        self._queue: FairQueue[Job] = FairQueue(queue_limit)
        self._estimate = ServiceEstimate(len(stages))
        self._deliver = deliver
        self._tails: SimpleQueue[None] = SimpleQueue()
        """A permit for each tail that may begin."""
        for _ in range(tails_at_once or len(stages)):
            self._tails.put(None)
        self._lock = threading.Lock()
        self._bell: SimpleQueue[None] = SimpleQueue()
        """One ring for each request that was queued: a worker that wakes looks what there is."""
        self._running = 0
        self._stopping = False
        # Daemon: a tail that hangs in its engine must not keep a stopped service alive.
        self._threads = [
            threading.Thread(target=self._work, args=(mine,), name=f"tail-{index}", daemon=True)
            for index, mine in enumerate(stages)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    @property
    def depth(self) -> int:
        """Requests that wait."""
        return len(self._queue)

    @property
    def in_flight(self) -> int:
        """Requests that a worker has."""
        return self._running

    def submit(self, line: Hashable, job: Job, expires_at: float) -> Admission[Job]:
        """Queue ``job``; never blocks. The caller answers what was evicted or found expired."""
        with self._lock:
            admission = self._queue.put(line, job, now=time.monotonic(), expires_at=expires_at)
        if admission.accepted:
            self._bell.put(None)
        return admission

    def retry_after_s(self) -> float:
        """When a request refused now has a fair chance."""
        with self._lock:
            return self._estimate.retry_after_s(len(self._queue) + self._running)

    def cancel(self) -> list[Job]:
        """Empty the queue and return what was waiting; running tails go on."""
        with self._lock:
            return [entry.item for entry in self._queue.clear()]

    def stop(self, timeout_s: float) -> bool:
        """Let the workers end after the tail they are in; False when one did not in time."""
        self._stopping = True
        for _ in self._threads:
            self._bell.put(None)
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self, stages: Mapping[str, Stages]) -> None:
        while True:
            self._bell.get()
            if self._stopping:
                return
            job, expired = self._take()
            for late in expired:
                self._deliver(late, Expired())
            if job is None:
                continue
            started = time.monotonic()
            result = run(stages[job.bundle_id], job, started, self._tails)
            # First of all: everything after it is time in which the loop waits for this thread.
            self._deliver(job, result)
            with self._lock:
                self._running -= 1
                self._estimate.observe(time.monotonic() - started)

    def _take(self) -> tuple[Job | None, list[Job]]:
        """The next request, None if it is gone, and the expired ones before it."""
        with self._lock:
            entry, expired = self._queue.take(time.monotonic())
            if entry is not None:
                self._running += 1
        return (None if entry is None else entry.item), [each.item for each in expired]


def run(stages: Stages, job: Job, started: float, tails: SimpleQueue[None]) -> Result:
    """One request through all stages. Whatever goes wrong ends this frame and nothing else."""
    try:
        tensors = stages.decode(job.payload, job.raw_len)
        decoded = time.monotonic()
        inputs = stages.preprocess(tensors)
        prepared = time.monotonic()
        tails.get()
        try:
            begun = time.monotonic()
            outputs = stages.tail(inputs)
        finally:
            tails.put(None)
        computed = time.monotonic()
        answer = stages.postprocess(outputs)
        times = EdgeTimes(
            queue_s=started - job.received_at + begun - prepared,
            decode_s=decoded - started,
            preprocess_s=prepared - decoded,
            tail_s=computed - begun,
            postprocess_s=time.monotonic() - computed,
        )
    except NonFinite as error:
        return Failed("nonfinite", str(error))
    except CodecError as error:
        return Failed("codec", str(error))
    except BackendError as error:
        return Failed("backend", str(error))
    except Exception as error:
        # The payload came from outside: no input may end a worker. A bug is logged with its trace.
        log.exception("frame %d of bundle %.12s failed", job.seq, job.bundle_id)
        return Failed("edge", f"{type(error).__name__} while running the tail")
    return Done(answer, times)
