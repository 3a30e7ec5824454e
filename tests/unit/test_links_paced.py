"""Pacing is arithmetic on planned times; the link around it only waits."""

from __future__ import annotations

import itertools
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waistline.errors import ConfigError, LinkClosed, LinkTimeout
from waistline.links._pacer import Pacer
from waistline.links._profiles import profile
from waistline.links.base import LinkProfile, parse_endpoint
from waistline.links.paced import PacedLink, connect

CAT1 = profile("lte-cat1")


class Wire:
    """An inner link: keeps what is sent with its time, and yields what the test puts in."""

    profile = LinkProfile("wire", "wire", 0.0, 0.0, 0.0)

    def __init__(self) -> None:
        self.sent: list[tuple[float, bytes]] = []
        self.incoming: list[bytes] = []
        self.changed = threading.Condition()
        self.closed = False

    def send(self, buffers) -> None:
        with self.changed:
            self.sent += [(time.monotonic(), bytes(part)) for part in buffers]
            self.changed.notify_all()

    def recv_into(self, view, timeout_s=None) -> int:
        with self.changed:
            self.changed.wait_for(lambda: self.incoming or self.closed, timeout_s)
            if not self.incoming:
                raise LinkClosed("the other side closed the connection")
            data = self.incoming.pop(0)
            view[: len(data)] = data
            return len(data)

    def put(self, data: bytes) -> None:
        with self.changed:
            self.incoming.append(data)
            self.changed.notify_all()

    def abort(self) -> None:
        with self.changed:
            self.closed = True
            self.changed.notify_all()

    def wait_sent(self, size_bytes: int) -> list[tuple[float, bytes]]:
        with self.changed:
            assert self.changed.wait_for(
                lambda: sum(len(data) for _, data in self.sent) >= size_bytes, 60.0
            )
            return list(self.sent)


def custom(**figures) -> LinkProfile:
    rates = {"rate_up_bps": 0.0, "rate_down_bps": 0.0, "rtt_s": 0.0, **figures}
    return LinkProfile("custom", "custom", **rates)


def test_a_waist_over_cat1_arrives_after_rate_and_delay():
    pacer = Pacer(CAT1.rate_up_bps, CAT1.rtt_s / 2, 0.0, seed=1)
    arrivals = [pacer.admit(5.0, 4096) for _ in range(40)]
    assert arrivals[-1] == pytest.approx(5.0 + 40 * 4096 * 8 / CAT1.rate_up_bps + 0.02)
    gaps = [later - sooner for sooner, later in itertools.pairwise(arrivals)]
    assert gaps == pytest.approx([4096 * 8 / CAT1.rate_up_bps] * 39)


def test_the_schedule_does_not_depend_on_when_chunks_are_handed_over():
    """A sender that wakes up late is not charged for it: no drift."""
    pacer = Pacer(1e6, 0.0, 0.0, seed=1)
    start = 3.0
    for _ in range(99):
        pacer.admit(start, 1250)
    assert pacer.admit(start, 1250) == pytest.approx(start + 1.0)


def test_an_idle_link_starts_afresh():
    pacer = Pacer(8000.0, 0.5, 0.0, seed=1)
    assert pacer.admit(0.0, 1000) == pytest.approx(1.5)
    assert pacer.admit(10.0, 1000) == pytest.approx(11.5)
    assert pacer.backlog_s(10.25) == pytest.approx(0.75)


@given(
    st.lists(st.tuples(st.floats(0, 2), st.integers(1, 5000)), min_size=1, max_size=50),
    st.floats(0, 1e6),
    st.floats(0, 1),
    st.floats(0, 0.5),
)
def test_nothing_arrives_early_or_out_of_order(chunks, rate_bps, delay_s, jitter_s):
    pacer, now, last = Pacer(rate_bps, delay_s, jitter_s, seed=3), 0.0, 0.0
    for wait_s, size_bytes in chunks:
        now += wait_s
        arrival = pacer.admit(now, size_bytes)
        serialised_s = size_bytes * 8 / rate_bps if rate_bps > 0 else 0.0
        assert arrival >= now + serialised_s + delay_s - 1e-9
        assert arrival >= last
        last = arrival


def test_jitter_is_repeatable_and_bounded():
    first, second = (Pacer(0.0, 0.1, 0.05, seed=9) for _ in range(2))
    got = [first.admit(float(step), 10) - step for step in range(200)]
    assert got == [second.admit(float(step), 10) - step for step in range(200)]
    assert min(got) >= 0.1
    assert max(got) <= 0.15 + 1e-9
    assert max(got) - min(got) > 0.04


def test_bytes_come_through_whole_and_not_before_their_time():
    wire = Wire()
    link = PacedLink(wire, custom(rate_up_bps=4e6, rate_down_bps=4e6, rtt_s=0.02))
    sent = bytes(range(256)) * 400
    began = time.monotonic()
    link.send([sent[:70_000], sent[70_000:]])
    records = wire.wait_sent(len(sent))
    assert b"".join(data for _, data in records) == sent
    passed = 0
    for at, data in records:
        passed += len(data)
        assert at - began >= passed * 8 / 4e6 + 0.01 - 1e-6
    wire.put(b"answer")
    view = memoryview(bytearray(4))
    began = time.monotonic()
    assert link.recv_into(view, 60.0) == 4
    assert link.recv_into(view, 60.0) == 2
    assert bytes(view[:2]) == b"er"
    link.abort()


def test_send_waits_while_the_link_is_full():
    """Of ten seconds' worth of bytes only what fits the link and a little more is taken."""
    wire = Wire()
    link = PacedLink(wire, custom(rate_up_bps=8e4, rtt_s=0.1))
    caught = []

    def send() -> None:
        try:
            link.send([bytes(100_000)])
        except LinkClosed as error:
            caught.append(error)

    thread = threading.Thread(target=send)
    thread.start()
    wire.wait_sent(100)
    assert thread.is_alive()
    link.abort()
    thread.join(60.0)
    assert caught
    for pump in link.threads:
        pump.join(60.0)
        assert not pump.is_alive()


def test_what_came_before_the_close_is_still_delivered():
    wire = Wire()
    link = PacedLink(wire, custom(rtt_s=0.05))
    wire.put(b"last words")
    wire.abort()
    view = memoryview(bytearray(64))
    assert link.recv_into(view, 60.0) == 10
    with pytest.raises(LinkClosed, match="the other side"):
        link.recv_into(view, 60.0)
    link.abort()


def test_the_close_travels_as_long_as_bytes_do():
    wire = Wire()
    link = PacedLink(wire, custom(rtt_s=0.2))
    began = time.monotonic()
    wire.abort()
    with pytest.raises(LinkClosed, match="the other side"):
        link.recv_into(memoryview(bytearray(1)), 60.0)
    assert time.monotonic() - began >= 0.1
    link.abort()


def test_a_receive_times_out_while_bytes_are_on_the_way():
    wire = Wire()
    link = PacedLink(wire, custom(rtt_s=120.0))
    wire.put(b"slow")
    with pytest.raises(LinkTimeout):
        link.recv_into(memoryview(bytearray(10)), 0.01)
    link.abort()


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ("", "neither a profile nor a rate"),
        ("?profile=lte", "known: "),
        ("?rate=5", "known: profile, rate_bps"),
        ("?rate_bps=fast", "'fast' is not a number"),
        ("?rate_bps=-1", "not a number from 0 up"),
        ("?rtt_s=inf", "not a number from 0 up"),
        ("?rtt_s=nan", "not a number from 0 up"),
        ("?rate_bps=1&seed=x", "not a whole number"),
        ("?rate_bps=1&seed=" + "9" * 5000, "at most 18 digits"),
    ],
)
def test_options_that_cannot_be_used(options, cause):
    with pytest.raises(ConfigError) as caught:
        connect(parse_endpoint(f"paced:tcp://127.0.0.1:1{options}"), 1.0)
    assert cause in caught.value.cause


def test_a_deadline_below_the_round_trip_is_a_timeout():
    with pytest.raises(LinkTimeout, match="a round trip over nb-iot takes 1 s"):
        connect(parse_endpoint("paced:tcp://127.0.0.1:1?profile=nb-iot"), 0.5)
