"""``paced:ENDPOINT?profile=ID``: slows any link down to a profile of the protocol table.

Connect-only; both directions are delayed in user space. Options: ``profile`` (a row's id), or
``rate_bps``, ``rate_down_bps`` (default: the same), ``rtt_s``, ``jitter_s``, which also override a
profile's figures; ``seed`` of the jitter. This paces bytes: it loses none, and shows neither TCP's
retransmissions nor its congestion control.
"""

from __future__ import annotations

import dataclasses
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from waistline import plugins
from waistline.errors import ConfigError, LinkClosed, LinkError, LinkTimeout
from waistline.evidence import Evidence
from waistline.links._pacer import Pacer
from waistline.links._profiles import profile as find_profile
from waistline.links.base import Buffer, Endpoint, Link, LinkProfile, parse_endpoint

CHUNK_S = 0.01
"""Time on the link of one chunk; the serialiser may be given two of them ahead."""
MIN_CHUNK_BYTES, MAX_CHUNK_BYTES = 64, 1 << 16
UNLIMITED_BYTES = 4 << 20
"""Held on the way by a link without a rate."""
_MAX_SEED_DIGITS = 18
_NUMBERS = {
    "rate_bps": "rate_up_bps",
    "rate_down_bps": "rate_down_bps",
    "rtt_s": "rtt_s",
    "jitter_s": "jitter_s",
}


def exposed(endpoint: Endpoint) -> bool:
    """As exposed as the link inside."""
    inner = parse_endpoint(endpoint.inner)
    return bool(plugins.load("waistline.links", inner.scheme).exposed(inner))


def check(endpoint: Endpoint) -> None:
    """Whether `connect` can make something of it and of the link inside.

    Raises:
        ConfigError: unknown profile or option, a value out of range, or what the link inside says.
    """
    _read_options(endpoint)
    inner = parse_endpoint(endpoint.inner)
    module = plugins.load("waistline.links", inner.scheme)
    if hasattr(module, "check"):
        module.check(inner)


def connect(endpoint: Endpoint, deadline_s: float) -> PacedLink:
    """Connect the inner link, then wait the round trip its handshake would take.

    Raises:
        ConfigError: unknown profile or option, a value out of range.
        LinkTimeout: the profile's round trip alone is longer than the deadline.
        LinkError: whatever the inner link raises.
    """
    profile, seed = _read_options(endpoint)
    if profile.rtt_s > deadline_s:
        raise LinkTimeout(
            f"a round trip over {profile.id} takes {profile.rtt_s:g} s",
            cause=f"the deadline is {deadline_s:g} s",
            fix="allow more time to connect, or use a faster profile",
        )
    inner = parse_endpoint(endpoint.inner)
    link = plugins.load("waistline.links", inner.scheme).connect(inner, deadline_s - profile.rtt_s)
    time.sleep(profile.rtt_s)
    return PacedLink(link, profile, seed=seed)


def _read_options(endpoint: Endpoint) -> tuple[LinkProfile, int]:
    options = dict(endpoint.options)
    known = options.pop("profile", "")
    seed_text = options.pop("seed", "1")
    if "rate_bps" in options:
        options.setdefault("rate_down_bps", options["rate_bps"])
    custom = LinkProfile("custom", "custom", 0.0, 0.0, 0.0, evidence=Evidence.EMULATED)
    start = find_profile(known) if known else custom
    changes: dict[str, Any] = {}
    for key, text in options.items():
        if key not in _NUMBERS:
            raise _bad_option(endpoint, key, f"known: profile, {', '.join(_NUMBERS)}, seed")
        changes[_NUMBERS[key]] = _number(endpoint, key, text)
    if not seed_text.isdecimal() or len(seed_text) > _MAX_SEED_DIGITS:
        digits = f"{seed_text[:_MAX_SEED_DIGITS]!r} is not a whole number of at most"
        raise _bad_option(endpoint, "seed", f"{digits} {_MAX_SEED_DIGITS} digits")
    if not known and not options:
        raise _bad_option(endpoint, "profile", "neither a profile nor a rate or delay is given")
    if changes:
        start = dataclasses.replace(
            start, id="custom", source=f"{endpoint.text}; {start.source}".rstrip("; "), **changes
        )
    return start, int(seed_text)


def _number(endpoint: Endpoint, key: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 <= value < math.inf:
        raise _bad_option(endpoint, key, f"{text!r} is not a number from 0 up")
    return value


def _bad_option(endpoint: Endpoint, key: str, cause: str) -> ConfigError:
    return ConfigError(
        f"{endpoint.text!r}: {key} cannot be used as given",
        cause=cause,
        fix=f"for example paced:{endpoint.inner}?profile=lte-cat1",
    )


class _Direction:
    """Chunks on their way, with the time at which each may be seen."""

    def __init__(self, pacer: Pacer, clock: Callable[[], float]) -> None:
        self._pacer = pacer
        self._clock = clock
        rate_bps = pacer.rate_bps
        self.chunk_bytes = MAX_CHUNK_BYTES
        self._limit_bytes = UNLIMITED_BYTES
        if rate_bps > 0:
            chunk_bytes = int(rate_bps * CHUNK_S / 8)
            self.chunk_bytes = min(max(chunk_bytes, MIN_CHUNK_BYTES), MAX_CHUNK_BYTES)
            on_the_way_bytes = int(rate_bps / 8 * (pacer.delay_s + 4 * CHUNK_S))
            self._limit_bytes = on_the_way_bytes + 4 * self.chunk_bytes
            self._ahead_s = 2 * self.chunk_bytes * 8 / rate_bps
        else:
            self._ahead_s = math.inf
        self.changed = threading.Condition()
        self._chunks: deque[tuple[float, bytes]] = deque()
        self._size_bytes = 0
        self.error: LinkError | None = None
        """What ends this direction once the chunks are through."""
        self._ends_at = math.inf
        self.stopped = False

    def put(self, data: bytes, since: float) -> None:
        """Add one chunk; waits while the link is full.

        Raises:
            LinkClosed: the direction has ended.
        """
        with self.changed:
            while True:
                self._check()
                if self.error is not None:
                    raise self.error
                ahead_s = self._pacer.backlog_s(self._clock()) - self._ahead_s
                if self._size_bytes > self._limit_bytes:
                    # The other side does not read: the link stood still, nothing is made up for.
                    self.changed.wait()
                    since = self._clock()
                elif ahead_s > 0:
                    self.changed.wait(ahead_s)
                else:
                    break
            self._chunks.append((self._pacer.admit(since, len(data)), data))
            self._size_bytes += len(data)
            self.changed.notify_all()

    def take(self, limit_bytes: int, timeout_s: float | None) -> bytes:
        """The next chunk, or its beginning, as soon as it has arrived.

        Raises:
            LinkTimeout: nothing arrived in time.
            LinkClosed: the direction has ended and is empty.
        """
        deadline = None if timeout_s is None else self._clock() + timeout_s
        with self.changed:
            while True:
                self._check()
                now = self._clock()
                due = self._chunks[0][0] if self._chunks else self._ends_at
                if due <= now and self._chunks:
                    return self._pop(limit_bytes)
                if due <= now and self.error is not None:
                    raise self.error
                if deadline is not None and now >= deadline:
                    raise LinkTimeout(
                        "nothing came from the other side", cause=f"waited {timeout_s} s"
                    )
                wake = due if deadline is None else min(due, deadline)
                self.changed.wait(None if wake == math.inf else wake - now)

    def end(self, error: LinkError) -> None:
        """No more will be put; what is on the way still arrives, and this news after it."""
        with self.changed:
            if self.error is None:
                self.error = error
                self._ends_at = self._pacer.admit(self._clock(), 0)
            self.changed.notify_all()

    def stop(self) -> None:
        """Forget all; whoever waits is told."""
        with self.changed:
            self.stopped = True
            self._chunks.clear()
            self.changed.notify_all()

    def _pop(self, limit_bytes: int) -> bytes:
        due, data = self._chunks.popleft()
        if len(data) > limit_bytes:
            self._chunks.appendleft((due, data[limit_bytes:]))
            data = data[:limit_bytes]
        self._size_bytes -= len(data)
        self.changed.notify_all()
        return data

    def _check(self) -> None:
        if self.stopped:
            raise LinkClosed("the connection was closed here")


class PacedLink:
    """A link behind two pacers, each with one thread that `abort` ends."""

    def __init__(
        self,
        inner: Link,
        profile: LinkProfile,
        *,
        seed: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.profile = profile
        self._inner = inner
        self._clock = clock
        one_way_s = profile.rtt_s / 2
        up = Pacer(profile.rate_up_bps, one_way_s, profile.jitter_s, seed)
        down = Pacer(profile.rate_down_bps, one_way_s, profile.jitter_s, seed + 1)
        self._up, self._down = _Direction(up, clock), _Direction(down, clock)
        self.threads = [
            threading.Thread(target=self._pump_up, name="paced-up", daemon=True),
            threading.Thread(target=self._pump_down, name="paced-down", daemon=True),
        ]
        for thread in self.threads:
            thread.start()

    def send(self, buffers: Sequence[Buffer]) -> None:
        """See `waistline.links.base.Link`; returns when nearly all of it is on its way."""
        since = self._clock()
        for part in buffers:
            view = memoryview(part).cast("B")
            for start in range(0, len(view), self._up.chunk_bytes):
                self._up.put(bytes(view[start : start + self._up.chunk_bytes]), since)

    def recv_into(self, view: memoryview, timeout_s: float | None = None) -> int:
        """See `waistline.links.base.Link`."""
        data = self._down.take(len(view), timeout_s)
        view[: len(data)] = data
        return len(data)

    def abort(self) -> None:
        """See `waistline.links.base.Link`."""
        self._up.stop()
        self._down.stop()
        self._inner.abort()

    def _pump_up(self) -> None:
        try:
            while True:
                self._inner.send([self._up.take(MAX_CHUNK_BYTES, None)])
        except LinkError as error:
            self._up.end(error)

    def _pump_down(self) -> None:
        buffer = bytearray(MAX_CHUNK_BYTES)
        view = memoryview(buffer)
        try:
            while True:
                count = self._inner.recv_into(view)
                since = self._clock()
                for start in range(0, count, self._down.chunk_bytes):
                    stop = min(count, start + self._down.chunk_bytes)
                    self._down.put(bytes(view[start:stop]), since)
        except LinkError as error:
            self._down.end(error)
