from __future__ import annotations

import asyncio

import pytest
from prometheus_client.parser import text_string_to_metric_families

from waistline.errors import LinkError
from waistline.frame import EdgeTimes
from waistline_edge.metrics import MAX_REQUEST_BYTES, MetricsServer
from waistline_edge.stats import EdgeStats

LABELS = ("outcome", "cause", "stage", "le")


def _samples(server):
    head, _, body = server.respond(b"GET /metrics HTTP/1.1\r\n\r\n").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    families = text_string_to_metric_families(body.decode())
    return {
        (sample.name, *(sample.labels[key] for key in LABELS if key in sample.labels)): sample.value
        for family in families
        for sample in family.samples
    }


def test_what_was_counted_is_what_is_scraped():
    stats = EdgeStats()
    for _ in range(3):
        stats.remote(EdgeTimes(0.0001, 0.0002, 0.0, 0.03, 7.0))
    stats.frames["busy"] += 2
    stats.rejects["garbage"] += 1
    stats.bytes_in = 1234
    stats.connections = 4
    samples = _samples(MetricsServer(stats, lambda: (5, 2)))
    assert samples["waistline_edge_queue_depth",] == 5
    assert samples["waistline_edge_in_flight",] == 2
    assert samples["waistline_edge_connections",] == 4
    assert samples["waistline_edge_received_bytes_total",] == 1234
    assert samples["waistline_edge_frames_total", "remote"] == 3
    assert samples["waistline_edge_frames_total", "busy"] == 2
    assert samples["waistline_edge_rejects_total", "garbage"] == 1
    assert samples["waistline_edge_stage_seconds_count", "tail"] == 3
    assert samples["waistline_edge_stage_seconds_sum", "tail"] == pytest.approx(0.09)
    assert samples["waistline_edge_stage_seconds_bucket", "tail", "0.025"] == 0
    assert samples["waistline_edge_stage_seconds_bucket", "tail", "0.05"] == 3
    assert samples["waistline_edge_stage_seconds_bucket", "queue", "0.0001"] == 3
    assert samples["waistline_edge_stage_seconds_bucket", "postprocess", "5.0"] == 0
    assert samples["waistline_edge_stage_seconds_bucket", "postprocess", "+Inf"] == 3


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"404"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", b"405"),
        (b"GET /metrics?x=1 HTTP/1.0\r\n\r\n", b"200"),
        (b"\r\n\r\n", b"405"),
    ],
)
def test_other_requests_are_refused(request_head, status):
    reply = MetricsServer(EdgeStats(), lambda: (0, 0)).respond(request_head)
    assert reply.split(b" ", 2)[1] == status


async def _exchange(address, request):
    port = int(address.rsplit(":", 1)[1].split("/")[0])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        writer.write_eof()
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


def test_the_listener_survives_bad_clients():
    async def scenario():
        server = MetricsServer(EdgeStats(), lambda: (0, 0))
        await server.start("127.0.0.1", 0)
        try:
            flood = b"GET /" + b"a" * 4 * MAX_REQUEST_BYTES
            replies = [await _exchange(server.address, head) for head in (b"", b"\x00" * 99, flood)]
            good = await _exchange(server.address, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        finally:
            await server.close()
        return replies, good

    replies, good = asyncio.run(scenario())
    assert replies == [b"", b"", b""]
    assert b"waistline_edge_queue_depth 0.0" in good


def test_a_port_in_use_says_what_to_do():
    async def scenario():
        first = MetricsServer(EdgeStats(), lambda: (0, 0))
        await first.start("127.0.0.1", 0)
        port = int(first.address.rsplit(":", 1)[1].split("/")[0])
        try:
            await MetricsServer(EdgeStats(), lambda: (0, 0)).start("127.0.0.1", port)
        finally:
            await first.close()

    with pytest.raises(LinkError, match="cannot be served") as caught:
        asyncio.run(scenario())
    assert "--metrics" in caught.value.fix


def test_rejects_are_all_counted_and_seldom_logged():
    stats = EdgeStats()
    aloud = [stats.reject("garbage", now=k * 0.1) for k in range(25)]
    assert stats.rejects["garbage"] == 25
    assert aloud.count(True) == 3
    assert stats.reject("silent", now=0.0)
