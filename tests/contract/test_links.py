"""Every link module keeps the contract of `waistline.links.base`; new ones are found."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading

import pytest

from waistline import endpoints, plugins
from waistline.errors import LinkClosed, LinkError, LinkTimeout, MissingExtra

PATIENCE_S = 30.0
LISTEN = {"tcp": "tcp://127.0.0.1:0", "memory": "memory://contract", "paced": "tcp://127.0.0.1:0"}
"""Where a server for each link can be had without hardware; a link that is not here is skipped."""


class Host:
    """An event loop in a thread with one server whose behaviour the test chooses."""

    def __init__(self, name: str, behave) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.behave = behave
        self.writers: list[asyncio.StreamWriter] = []
        self.accepted = threading.Semaphore(0)
        self.finished = threading.Semaphore(0)
        self.server = self.call(endpoints.serve(LISTEN[name], self._client))
        paced = f"paced:{self.server.endpoint}?rtt_s=0.002&rate_bps=800000000"
        self.endpoint = paced if name == "paced" else self.server.endpoint

    def call(self, work):
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(PATIENCE_S)

    async def _client(self, reader, writer) -> None:
        self.writers.append(writer)
        self.accepted.release()
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await self.behave(reader, writer)
        self.finished.release()

    def close(self) -> None:
        self.call(self._close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(PATIENCE_S)
        self.loop.close()

    async def _close(self) -> None:
        await self.server.close()
        me = asyncio.current_task()
        while tasks := asyncio.all_tasks() - {me}:
            for writer in self.writers:
                writer.transport.abort()
            await asyncio.wait(tasks, timeout=0.1)
        for writer in self.writers:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def echo(reader, writer) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()


async def ignore(reader, writer) -> None:
    """Never reads; ends when the connection is closed from this side."""
    with contextlib.suppress(Exception):
        await writer.wait_closed()


@pytest.fixture(params=plugins.names("waistline.links"))
def link_name(request):
    try:
        plugins.load("waistline.links", request.param)
    except MissingExtra as error:
        pytest.skip(str(error))
    if request.param not in LISTEN:
        pytest.skip(f"{request.param} needs hardware")
    return request.param


@pytest.fixture
def start(link_name):
    with contextlib.ExitStack() as stack:

        def begin(behave):
            host = Host(link_name, behave)
            stack.callback(host.close)
            link = endpoints.connect(host.endpoint, PATIENCE_S)
            stack.callback(link.abort)
            assert host.accepted.acquire(timeout=PATIENCE_S)
            return host, link

        yield begin


def receive(link, size_bytes: int, view_bytes: int = 1 << 16) -> bytes:
    data, view = bytearray(), memoryview(bytearray(view_bytes))
    while len(data) < size_bytes:
        data += view[: link.recv_into(view, PATIENCE_S)]
    return bytes(data)


def caught_in_thread(work) -> tuple[threading.Thread, list[BaseException]]:
    caught: list[BaseException] = []

    def run() -> None:
        try:
            while True:
                work()
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, caught


def test_bytes_arrive_in_order(start):
    _, link = start(echo)
    parts = [b"one", b"", bytearray(b"two"), memoryview(b"three")]
    link.send(parts)
    link.send([b"four"])
    assert receive(link, 15, view_bytes=4) == b"onetwothreefour"


def test_a_buffer_may_be_reused_once_send_returns(start):
    _, link = start(echo)
    buffer = bytearray(b"first")
    link.send([buffer])
    buffer[:] = b"later"
    assert receive(link, 5) == b"first"


def test_a_megabyte_in_many_buffers_goes_there_and_back(start):
    _, link = start(echo)
    sent = random.Random(4).randbytes(1 << 20)
    parts = [sent[start : start + 700] for start in range(0, len(sent), 700)]
    sender = threading.Thread(target=link.send, args=(parts,))
    sender.start()
    assert receive(link, len(sent)) == sent
    sender.join(PATIENCE_S)
    assert not sender.is_alive()


def test_a_peer_that_does_not_read_blocks_the_sender(start):
    _, link = start(ignore)
    sent = []

    def work() -> None:
        link.send([bytes(1 << 20)])
        sent.append(1)

    thread, caught = caught_in_thread(work)
    thread.join(0.5)
    assert thread.is_alive()
    assert len(sent) < 64
    link.abort()
    thread.join(PATIENCE_S)
    assert isinstance(caught[0], LinkClosed)


def test_abort_wakes_a_receiver(start):
    _, link = start(ignore)
    view = memoryview(bytearray(10))
    thread, caught = caught_in_thread(lambda: link.recv_into(view))
    link.abort()
    link.abort()
    thread.join(PATIENCE_S)
    assert isinstance(caught[0], LinkClosed)
    with pytest.raises(LinkClosed):
        link.send([b"x"])
    with pytest.raises(LinkClosed):
        link.recv_into(view)


@pytest.mark.parametrize("timeout_s", [0.0, 0.01])
def test_a_receive_times_out_and_goes_on(start, timeout_s):
    _, link = start(echo)
    with pytest.raises(LinkTimeout):
        link.recv_into(memoryview(bytearray(10)), timeout_s)
    link.send([b"still"])
    assert receive(link, 5) == b"still"


def test_a_timeout_of_the_receiver_is_none_of_the_senders(start):
    _, link = start(echo)
    view = memoryview(bytearray(1 << 16))
    with pytest.raises(LinkTimeout):
        link.recv_into(view, 0.001)
    size_bytes = 1 << 22
    sender = threading.Thread(target=link.send, args=([bytes(size_bytes)],))
    sender.start()
    got = 0
    while got < size_bytes:
        with contextlib.suppress(LinkTimeout):
            got += link.recv_into(view, 0.001)
    sender.join(PATIENCE_S)
    assert got == size_bytes


def test_what_was_sent_before_closing_still_arrives(start):
    async def speak_and_close(reader, writer) -> None:
        writer.write(b"bye")
        writer.close()

    _, link = start(speak_and_close)
    assert receive(link, 3) == b"bye"
    with pytest.raises(LinkClosed):
        receive(link, 1)


def test_sending_to_a_closed_peer_fails_in_the_end(start):
    async def close(reader, writer) -> None:
        writer.transport.abort()

    host, link = start(close)
    assert host.finished.acquire(timeout=PATIENCE_S)
    thread, caught = caught_in_thread(lambda: link.send([bytes(1000)]))
    thread.join(PATIENCE_S)
    assert isinstance(caught[0], LinkClosed)


def test_the_peer_sees_an_abort(start):
    seen = threading.Event()

    async def wait(reader, writer) -> None:
        with contextlib.suppress(ConnectionError):
            assert not await reader.read(1)
        seen.set()
        writer.close()

    _, link = start(wait)
    link.abort()
    assert seen.wait(PATIENCE_S)


def test_nobody_there_is_a_link_error_with_a_remedy(start):
    host, _ = start(echo)
    host.call(host.server.close())
    with pytest.raises(LinkError) as caught:
        endpoints.connect(host.endpoint, PATIENCE_S)
    assert caught.value.fix


def test_an_address_in_use_is_a_link_error_with_a_remedy(start):
    host, _ = start(echo)
    with pytest.raises(LinkError) as caught:
        host.call(endpoints.serve(host.server.endpoint, echo))
    assert "cannot listen" in caught.value.what
    assert caught.value.fix


def test_a_link_says_what_it_is(start):
    _, link = start(echo)
    assert link.profile.id
    assert link.profile.source


def test_a_link_leaves_no_thread_behind(start):
    host, _ = start(echo)
    before = set(threading.enumerate())
    more = endpoints.connect(host.endpoint, PATIENCE_S)
    more.send([b"x"])
    receive(more, 1)
    more.abort()
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
