"""Reader and writer around a ring, with a meter made of bytes; every loss is counted."""

import os
import threading
import time

import numpy as np
import pytest

from waistline.errors import MeterError, TraceError
from waistline.evidence import Evidence
from waistline.trace.base import SIGNALS, Annotation, Block, Gap
from waistline_hostctl.capture.clock import HostClock
from waistline_hostctl.capture.reader import pump
from waistline_hostctl.capture.records import Producer
from waistline_hostctl.capture.ring import Ring
from waistline_hostctl.capture.writer import Event, Keeper
from waistline_hostctl.meters.base import MeterInfo

RATE_HZ = 1000.0
INFO = MeterInfo("bytes", "bytes:0", RATE_HZ, (SIGNALS["current"],), Evidence.SIMULATED, True,
                 "counter", supply_v=2.0)  # fmt: skip


class ByteDecoder:
    """A byte is a sample, in milliamperes."""

    def __init__(self):
        self.next = self.lost = 0

    def feed(self, raw, host_ns):
        block = Block(self.next, np.frombuffer(bytes(raw), np.uint8).astype(np.float32) / 1000)
        self.next += len(block)
        return [block] if len(block) else []

    def skip(self, size_bytes, host_ns):
        gap = Gap(self.next, size_bytes, "ring")
        self.next += size_bytes
        self.lost += size_bytes
        return [gap]

    def finish(self, host_ns):
        return []

    def ledger(self):
        return {"lost": self.lost, "closes": True}


class ListTrace:
    """A trace writer that keeps what it is given."""

    def __init__(self, full_after=None):
        self.samples, self.notes, self.points = [], [], []
        self.closed, self.full_after = None, full_after

    def write(self, block):
        if self.full_after is not None and len(self.samples) > self.full_after:
            raise TraceError("the disk is full", cause="0 MiB are left", fix="free space")
        self.samples += [round(float(value) * 1000) for value in block.current_a]

    def gap(self, gap):
        self.samples += [None] * gap.count

    def utc(self, sample, utc_ns):
        self.points.append((sample, utc_ns))

    def annotate(self, annotation: Annotation):
        self.notes.append(annotation)

    def flush(self):
        pass

    def close(self, ledger=b""):
        self.closed = ledger


class Script:
    """A reader that gives one piece at a time; an exception in between is raised."""

    def __init__(self, pieces):
        self.pieces, self.stopped = list(pieces), False

    def fileno(self):
        return -1

    def read_into(self, buffer):
        if not self.pieces:
            return 0
        piece = self.pieces.pop(0)
        if isinstance(piece, Exception):
            raise piece
        buffer[: len(piece)] = piece
        return len(piece)

    def stop(self):
        self.stopped = True


@pytest.fixture
def ring():
    made = Ring.make(1 << 20)
    yield made
    made.close()


def _captured(ring, pieces, **trace_options):
    """Runs both ends; the reader is told to stop once it has given everything."""
    script, trace = Script(pieces), ListTrace(**trace_options)
    out, into = os.pipe()
    reasons = []
    thread = threading.Thread(target=lambda: reasons.append(pump(script, ring, out).reason))
    thread.start()
    while script.pieces and thread.is_alive():
        time.sleep(0.001)
    os.close(into)
    kept = Keeper(ring, ByteDecoder(), trace, INFO).run()
    thread.join()
    os.close(out)
    assert script.stopped
    return kept, trace


def test_every_byte_is_kept(ring):
    pieces = [bytes([k % 100]) * (k % 50) for k in range(200)]
    kept, trace = _captured(ring, pieces)
    assert trace.samples == list(b"".join(pieces))
    assert (kept.samples, kept.missing, kept.reason, kept.error) == (len(trace.samples), 0, "", "")
    total = kept.parts.total
    assert total.current / total.count == pytest.approx(np.mean(trace.samples) / 1000)
    assert total.power == pytest.approx(2.0 * sum(trace.samples) / 1000)
    assert trace.closed == b'{"lost":0,"closes":true}'


def test_a_trace_too_short_for_a_point_of_each_second_has_one(ring):
    began_ns = time.time_ns()
    _, trace = _captured(ring, [b"abc"])
    assert [sample for sample, _ in trace.points] == [3]
    assert began_ns - 10**9 < trace.points[0][1] < time.time_ns() + 10**9


def test_an_instrument_that_goes_ends_the_trace_with_what_it_gave(ring):
    lost = MeterError("the meter at X is gone", cause="unplugged", fix="plug it in")
    kept, trace = _captured(ring, [b"abc", b"de", lost, b"never"])
    assert bytes(trace.samples) == b"abcde"
    assert kept.reason == "unplugged"
    assert kept.error == ""
    assert trace.closed is not None


def test_a_full_disk_ends_the_writer_and_closes_the_trace(ring):
    kept, trace = _captured(ring, [b"x" * 100] * 30, full_after=500)
    assert "disk is full" in kept.error
    assert 500 < len(trace.samples) < 3000
    assert trace.closed is not None


def test_a_full_ring_is_a_gap_of_that_size():
    small = Ring.make(4096)
    try:
        producer = Producer(small)
        sent = dropped = 0
        while True:
            view = producer.reserve(1000)
            if view is None:
                break
            view[:] = b"k" * 1000
            producer.commit(1000, 1)
            sent += 1
        for size in (700, 41):
            producer.drop(size, 2)
            dropped += size
        trace = ListTrace()
        alive = iter([True] * 3)
        keeper = Keeper(small, ByteDecoder(), trace, INFO, reader_alive=lambda: next(alive, False))
        thread = threading.Thread(target=lambda: setattr(trace, "kept", keeper.run()))
        thread.start()
        while not producer.end("", 3):
            time.sleep(0.001)
        thread.join()
        assert trace.samples == [107] * (1000 * sent) + [None] * dropped
        assert (trace.kept.missing, trace.kept.ledger["lost"]) == (dropped, dropped)
    finally:
        small.close()


def test_a_reader_that_dies_is_noticed(ring):
    producer = Producer(ring)
    view = producer.reserve(3)
    view[:] = b"abc"
    producer.commit(3, 1)
    trace = ListTrace()
    kept = Keeper(ring, ByteDecoder(), trace, INFO, reader_alive=lambda: False).run()
    assert bytes(trace.samples) == b"abc"
    assert "without a word" in kept.reason


def test_events_are_placed_by_the_clock_of_the_reads(ring):
    producer = Producer(ring)
    start_ns = 5_000_000_000
    for k in range(400):
        view = producer.reserve(10)
        view[:] = bytes(10)
        producer.commit(10, start_ns + (k + 1) * 10_000_000)
    producer.end("", start_ns + 4_000_000_000)
    trace = ListTrace()
    events = [Event(start_ns + 1_234_500_000, "begin"), Event(1, "before the trace")]
    told = iter([events])
    kept = Keeper(ring, ByteDecoder(), trace, INFO, events=lambda last: next(told, [])).run()
    assert [(note.text, note.kind) for note in trace.notes] == [("begin", "marker")]
    assert trace.notes[0].sample == pytest.approx(1234.5, abs=1e-6)
    assert kept.annotations == 1
    assert kept.clock_residual_s == pytest.approx(0, abs=1e-9)


def test_a_wall_clock_that_is_set_meanwhile_moves_nothing(ring, monkeypatch):
    """By an hour at each look; the trace has one offset from the clock that only runs on."""
    producer = Producer(ring)
    start_ns = time.monotonic_ns()
    for k in range(500):
        producer.reserve(10)[:] = bytes(10)
        producer.commit(10, start_ns + (k + 1) * 10_000_000)
    producer.end("", start_ns + 5_000_000_000)
    true_ns, steps = time.time_ns(), iter(range(1000))
    monkeypatch.setattr(time, "time_ns", lambda: true_ns + next(steps) * 3_600_000_000_000)
    trace = ListTrace()
    kept = Keeper(ring, ByteDecoder(), trace, INFO).run()
    assert (kept.samples, kept.missing) == (5000, 0)
    samples, utc_ns = np.array(trace.points, np.int64).T
    assert len(samples) >= 4
    np.testing.assert_allclose(utc_ns - utc_ns[0], (samples - samples[0]) * 1e6, atol=10)
    assert abs(utc_ns[0] - samples[0] * 1_000_000 - true_ns) < 60_000_000_000


def test_the_clock_follows_drift_and_forgives_late_reads():
    random = np.random.default_rng(3)
    rate, clock = 100_000.0, HostClock(100_000.0)
    for k in range(1, 4000):
        sample = k * 500
        true_ns = sample / (rate * (1 + 40e-6)) * 1e9
        clock.add(sample, int(true_ns + 1e6 + random.exponential(5e6)))
    for at_s in (2.5, 11.0, 19.2):
        error = clock.sample_at(int(at_s * 1e9 + 1e6)) - at_s * rate * (1 + 40e-6)
        assert abs(error) < rate * 1e-3
    assert clock.residual_s < 1e-3
    assert np.isnan(HostClock(rate).sample_at(5))


def test_a_second_without_a_prompt_read_moves_no_marker():
    clock = HostClock(100_000.0)
    # The first two seconds are late by 30 ms, the others by 1 ms.
    for k in range(1, 500):
        late_ns = 30_000_000 if k < 200 else 1_000_000
        clock.add(k * 1000, k * 10_000_000 + late_ns)
        if k == 110:
            # As yet nothing more is known; but the length of a stretch is right.
            length = clock.sample_at(1_000_000_000) - clock.sample_at(500_000_000)
            assert length == pytest.approx(50_000, rel=2e-3)
    for at_s in (0.5, 1.5, 4.2):
        error = clock.sample_at(int(at_s * 1e9) + 1_000_000) - at_s * 1e5
        assert abs(error) < 1e5 * 4e-3
    assert clock.residual_s < 2e-3


def test_values_without_a_finite_sum_end_the_capture_in_order(ring):
    class Absurd(ByteDecoder):
        def feed(self, raw, host_ns):
            parts = super().feed(raw, host_ns)
            for part in parts:
                part.current_a[:] = np.inf
            return parts

    producer = Producer(ring)
    view = producer.reserve(3)
    view[:] = b"abc"
    producer.commit(3, 1)
    producer.end("", 2)
    trace = ListTrace()
    kept = Keeper(ring, Absurd(), trace, INFO).run()
    assert "beyond all bounds" in kept.error
    assert (kept.samples, trace.closed is not None) == (0, True)
