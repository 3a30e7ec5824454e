"""The ring: nothing lost unsaid, nothing torn, nothing left behind."""

import os
import subprocess
import sys
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from waistline.errors import ConfigError
from waistline_hostctl.capture.records import RECORD_BYTES, Consumer, Kind, Producer
from waistline_hostctl.capture.ring import PAGE, Ring


@pytest.fixture
def ring():
    made = Ring.make(8192)
    yield made
    made.close()


def _send(producer, data, host_ns=1):
    view = producer.reserve(len(data))
    if view is None:
        producer.drop(len(data), host_ns)
        return False
    view[:] = data
    producer.commit(len(data), host_ns)
    return True


def _taken(consumer):
    record = consumer.take()
    if record is None:
        return None
    found = (record.kind, bytes(record.payload), record.dropped_bytes, record.host_ns)
    record.payload.release()
    consumer.release()
    return found


def test_what_goes_in_comes_out(ring):
    producer, consumer = Producer(ring), Consumer(ring)
    assert _taken(consumer) is None
    for k in range(200):
        data = bytes([k]) * (37 * k % 900)
        assert _send(producer, data, host_ns=k)
        assert _taken(consumer) == (Kind.DATA, data, 0, k)
        assert _taken(consumer) is None


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(st.integers(0, 3000), st.none()), max_size=120), st.integers(0, 9))
def test_bytes_kept_and_bytes_dropped_are_all_bytes(steps, seed):
    """A number sends so many bytes, None takes a record."""
    ring = Ring.make(4096)
    try:
        producer, consumer = Producer(ring), Consumer(ring)
        sent, stream = [], []
        for k, step in enumerate(steps):
            if step is None:
                found = _taken(consumer)
                if found:
                    stream.append(found)
            else:
                data = bytes([(k + seed) % 251]) * step
                sent.append((data, _send(producer, data)))
        while found := _taken(consumer):
            stream.append(found)
        kept = [data for data, taken in sent if taken]
        assert [data for kind, data, _, _ in stream if kind == Kind.DATA] == kept
        owed = sum(len(data) for data, taken in sent if not taken)
        said = sum(dropped for kind, _, dropped, _ in stream if kind == Kind.DROPPED)
        assert said <= owed == producer.dropped_bytes
        # Once there is room the rest is said, in front of what comes next.
        assert producer.end("over", 5)
        rest = []
        while found := _taken(consumer):
            rest.append(found)
        assert rest[-1][:2] == (Kind.END, b"over")
        assert said + sum(dropped for _, _, dropped, _ in rest) == owed
    finally:
        ring.close()


def test_a_loss_is_said_where_it_was(ring):
    producer, consumer = Producer(ring), Consumer(ring)
    fits = 0
    while _send(producer, b"a" * 1000):
        fits += 1
    assert _send(producer, b"b" * 1000) is False
    _taken(consumer)
    _taken(consumer)
    assert _send(producer, b"c" * 1000)
    kinds = []
    while found := _taken(consumer):
        kinds.append((found[0], found[1][:1], found[2]))
    a = (Kind.DATA, b"a", 0)
    assert kinds == [a] * (fits - 2) + [(Kind.DROPPED, b"", 2000), (Kind.DATA, b"c", 0)]


@pytest.mark.parametrize("at", [0, 8, 16, 24, 28, 32, RECORD_BYTES, RECORD_BYTES + 99])
def test_a_record_that_is_not_whole_is_not_there(ring, at):
    producer, consumer = Producer(ring), Consumer(ring)
    _send(producer, b"x" * 100)
    ring.memory[PAGE + at] ^= 0x40
    assert consumer.take() is None
    ring.memory[PAGE + at] ^= 0x40
    assert _taken(consumer)[1] == b"x" * 100


def test_what_lay_there_before_is_not_taken_for_new(ring):
    producer, consumer = Producer(ring), Consumer(ring)
    for _ in range(50):
        _send(producer, b"y" * 960)
        _taken(consumer)
        assert consumer.take() is None


def test_notices_are_read_whole_or_not_at_all(ring):
    assert ring.notice("reader") == {}
    ring.say("reader", {"bytes": 12})
    ring.say("writer", {"samples": 3})
    assert (ring.notice("reader"), ring.notice("writer")) == ({"bytes": 12}, {"samples": 3})
    ring.memory[128 + 9] ^= 1
    assert ring.notice("reader") == {}


def test_a_ring_that_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match="not possible"):
        Ring.make(1 << 50)


CHILD = """
import sys, time
from waistline_hostctl.capture.records import Consumer, Kind
from waistline_hostctl.capture.ring import Ring
import zlib
ring = Ring(int(sys.argv[1]))
consumer, crc, dropped = Consumer(ring), 0, 0
while True:
    record = consumer.take()
    if record is None:
        time.sleep(0.001)
        continue
    dropped += record.dropped_bytes
    crc = zlib.crc32(record.payload, crc) if record.kind == Kind.DATA else crc
    kind = record.kind
    record.payload.release()
    consumer.release()
    if kind == Kind.END:
        break
print(crc, dropped)
"""


def test_two_processes_agree():
    ring = Ring.make(1 << 16)
    try:
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(ring.descriptor)],
            pass_fds=[ring.descriptor], stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        producer, crc = Producer(ring), 0
        for k in range(3000):
            data = os.urandom(k % 700)
            if _send(producer, data):
                crc = zlib.crc32(data, crc)
        while not producer.end("", 1):
            pass
        said, _ = child.communicate(timeout=60)
        assert said.split() == [str(crc), str(producer.dropped_bytes)]
    finally:
        ring.close()


def test_a_ring_larger_than_free_memory_is_refused(monkeypatch):
    monkeypatch.setattr("waistline_hostctl.capture.ring._available", lambda: 10 << 20)
    with pytest.raises(ConfigError, match="no memory") as error:
        Ring.make(8 << 20)
    assert "10 MiB are available" in error.value.cause
    Ring.make(6 << 20).close()
