"""Prometheus metrics on a small HTTP listener of their own.

Needs the extra ``edge`` and is imported only when ``--metrics`` is given. The numbers are those of
`EdgeStats`; a collector reads them when somebody scrapes, so that counting costs nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator

from prometheus_client.core import (
    CollectorRegistry,
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from waistline.errors import LinkError
from waistline_edge.stats import BUCKETS_S, EdgeStats, Histogram

MAX_REQUEST_BYTES = 8192
REQUEST_TIMEOUT_S = 5.0
MAX_SCRAPERS = 8
"""More than one scraper is rare; a flood of them must not cost the edge its memory."""


class EdgeCollector(Collector):
    """Turns the edge's counters into metric families.

    Args:
        stats: what was counted.
        load: current (queue depth, frames being run).
    """

    def __init__(self, stats: EdgeStats, load: Callable[[], tuple[int, int]]) -> None:
        self._stats = stats
        self._load = load

    def collect(self) -> Iterator[Metric]:
        stats = self._stats
        depth, in_flight = self._load()
        for name, text, value in (
            ("queue_depth", "Requests that wait for a worker.", depth),
            ("in_flight", "Requests that a worker runs.", in_flight),
            ("connections", "Open connections.", stats.connections),
            ("nodes", "Connections that have been welcomed.", stats.nodes),
        ):
            yield GaugeMetricFamily(f"waistline_edge_{name}", text, value=value)
        for name, text, value in (
            ("accepted", "Connections since start.", stats.accepted),
            ("received_bytes", "Bytes read from nodes.", stats.bytes_in),
            ("sent_bytes", "Bytes written to nodes.", stats.bytes_out),
        ):
            yield CounterMetricFamily(f"waistline_edge_{name}", text, value=value)
        yield _labelled("frames", "Answered requests by outcome.", "outcome", dict(stats.frames))
        yield _labelled(
            "rejects", "Connections turned away or broken, by cause.", "cause", dict(stats.rejects)
        )
        stages = HistogramMetricFamily(
            "waistline_edge_stage_seconds", "Time of a remote frame by stage.", labels=["stage"]
        )
        for stage, histogram in stats.stages.items():
            stages.add_metric([stage], _cumulative(histogram), histogram.total_s)
        yield stages


def _labelled(name: str, text: str, label: str, values: dict[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(f"waistline_edge_{name}", text, labels=[label])
    for value, count in sorted(values.items()):
        family.add_metric([value], count)
    return family


def _cumulative(histogram: Histogram) -> list[tuple[str, float]]:
    rows: list[tuple[str, float]] = []
    running = 0
    for bound, count in zip((*BUCKETS_S, float("inf")), histogram.counts, strict=True):
        running += count
        rows.append(("+Inf" if bound == float("inf") else repr(bound), float(running)))
    return rows


class MetricsServer:
    """Answers ``GET /metrics``, one request a connection."""

    def __init__(self, stats: EdgeStats, load: Callable[[], tuple[int, int]]) -> None:
        # No process or platform collector: they read files in /proc that are not the edge's own.
        self._registry = CollectorRegistry()
        self._registry.register(EdgeCollector(stats, load))
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = {}
        self.address = ""

    async def start(self, host: str, port: int) -> None:
        """Listen; `address` then says where, port 0 resolved.

        Raises:
            LinkError: the port is in use or the address is not this machine's.
        """
        try:
            self._server = await asyncio.start_server(
                self._client, host, port, limit=MAX_REQUEST_BYTES
            )
        except OSError as error:
            raise LinkError(
                f"the metrics cannot be served on {host}:{port}",
                cause=error.strerror or str(error),
                fix="choose another port: --metrics HOST:PORT, port 0 takes a free one",
            ) from error
        where = self._server.sockets[0].getsockname()
        shown = f"[{where[0]}]" if ":" in where[0] else where[0]
        self.address = f"http://{shown}:{where[1]}/metrics"

    async def close(self) -> None:
        """Stop listening and cut off who is still there."""
        if self._server is not None:
            self._server.close()
        for writer in self._open:
            writer.transport.abort()
        if tasks := [task for task in self._open.values() if task is not None]:
            await asyncio.wait(tasks, timeout=REQUEST_TIMEOUT_S)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open[writer] = asyncio.current_task()
        try:
            if len(self._open) <= MAX_SCRAPERS:
                async with asyncio.timeout(REQUEST_TIMEOUT_S):
                    request = await reader.readuntil(b"\r\n\r\n")
                    writer.write(self.respond(request))
                    await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            writer.transport.abort()
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            del self._open[writer]

    def respond(self, request: bytes) -> bytes:
        """The whole HTTP response to the head of a request."""
        method, _, rest = request.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        if method != b"GET":
            return _response("405 Method Not Allowed", "text/plain", b"only GET\n")
        if path != b"/metrics":
            return _response("404 Not Found", "text/plain", b"see /metrics\n")
        return _response("200 OK", CONTENT_TYPE_LATEST, generate_latest(self._registry))


def _response(status: str, content_type: str, body: bytes) -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode("ascii") + body
