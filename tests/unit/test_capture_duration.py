"""A duration is so many samples: where a trace is cut, what its account says, what limits it."""

import io

import numpy as np
import pytest
from test_capture_writer import INFO, RATE_HZ, ByteDecoder, ListTrace

from waistline.trace.base import SIGNALS, Annotation, Block, Gap
from waistline_hostctl.capture.limits import LATE_S, Limits, samples_of
from waistline_hostctl.capture.live import Live
from waistline_hostctl.capture.records import Producer
from waistline_hostctl.capture.ring import Ring
from waistline_hostctl.capture.writer import Event, Keeper
from waistline_hostctl.meters._ledger import Ledger, Loss
from waistline_hostctl.meters._losses import Resolver

START_NS = 5_000_000_000


class Parts(ByteDecoder):
    """Gives one list of parts a record, and enters them; the rest at its finish."""

    def __init__(self, *steps, rest=()):
        super().__init__()
        self.steps, self.rest = list(steps), list(rest)
        self.fed = 0
        self.account = Ledger("counter")

    def feed(self, raw, host_ns):
        self.fed += 1
        return self._entered(self.steps.pop(0))

    def finish(self, host_ns):
        return self._entered(self.rest)

    def ledger(self):
        return self.account.as_dict()

    def _entered(self, parts):
        for part in parts:
            if isinstance(part, Block):
                self.account.kept += len(part)
            elif isinstance(part, Gap):
                low = part.count if part.low is None else part.low
                high = part.count if part.high is None else part.high
                self.account.hole(Loss(part.first, part.count, low, high, 0, part.kind))
        return parts


@pytest.fixture
def ring():
    made = Ring.make(1 << 20)
    yield made
    made.close()


def _kept(ring, decoder, most, *, records=None, reason="", **options):
    """What is kept of a ring that was filled before; the reads are 10 ms apart."""
    producer = Producer(ring)
    count = len(decoder.steps) if records is None else records
    for k in range(count):
        producer.reserve(10)[:] = bytes(10)
        producer.commit(10, START_NS + (k + 1) * 10_000_000)
    producer.end(reason, START_NS + (count + 1) * 10_000_000)
    trace = ListTrace()
    return Keeper(ring, decoder, trace, INFO, most=most, **options).run(), trace


def _block(first, count):
    return Block(first, np.arange(first, first + count, dtype=np.float32) / 1000)


def test_a_trace_ends_at_its_sample_and_what_comes_later_is_not_decoded(ring):
    decoder = Parts([_block(0, 10)], [_block(10, 10)], [_block(20, 10)], [_block(30, 10)])
    kept, trace = _kept(ring, decoder, 23, reason="the line hung up")
    assert trace.samples == list(range(23))
    assert (kept.samples, kept.missing, kept.full, kept.reason) == (23, 0, True, "")
    assert (kept.ledger["kept"], kept.ledger["closes"], decoder.fed) == (23, True, 3)
    assert kept.parts.total.current * 1000 == pytest.approx(sum(range(23)))
    assert ring.notice("writer")["samples"] == 23


def test_a_trace_that_ends_before_is_what_came(ring):
    decoder = Parts([_block(0, 10)], rest=[_block(10, 5)])
    kept, trace = _kept(ring, decoder, 23, reason="the line hung up")
    assert (len(trace.samples), kept.full, kept.reason) == (15, False, "the line hung up")
    assert kept.ledger["kept"] == 15


def test_what_a_decoder_gives_at_its_end_is_cut_too(ring):
    kept, trace = _kept(ring, Parts([_block(0, 10)], rest=[_block(10, 90)]), 23)
    assert (len(trace.samples), kept.full, kept.ledger["kept"]) == (23, True, 23)


@pytest.mark.parametrize(
    ("gap", "lost", "unknown"),
    [
        (Gap(12, 100, "counter"), 8, 0),
        (Gap(12, 100, "counter", low=90, high=154), 8, 1),
        (Gap(12, 8, "counter", low=0, high=64), 8, 1),
        (Gap(20, 100, "counter", low=90, high=154), 0, 0),
    ],
    ids=["certain", "uncertain", "up to the end", "behind the end"],
)
def test_a_hole_at_the_end_counts_as_far_as_it_is_in_the_trace(ring, gap, lost, unknown):
    decoder = Parts([_block(0, gap.first), gap, _block(gap.end, 50)])
    kept, trace = _kept(ring, decoder, 20)
    assert len(trace.samples) == 20
    assert trace.samples.count(None) == kept.missing == lost
    account = kept.ledger
    assert account["kept"] + sum(account["lost"].values()) == 20
    assert (account["unknown"], account["closes"]) == (unknown, not unknown)
    assert account["holes"] == len(account["losses"]) == (lost > 0)


def test_markers_behind_the_end_are_left_out(ring):
    notes = [Annotation(sample, "marker", str(sample)) for sample in (3, 15, 16)]
    told = iter([[Event(START_NS + 9_000_000, "in"), Event(START_NS + 90_000_000, "behind")]])
    decoder = Parts([_block(0, 10)], [_block(10, 10), *notes])
    kept, trace = _kept(ring, decoder, 15, events=lambda last: next(told, []))
    assert [note.text for note in trace.notes] == ["3", "15", "in"]
    # By the reads as they were, also of what was cut off: sample 20 had come after 20 ms.
    assert trace.notes[2].sample == pytest.approx(9.0, abs=1e-3)
    assert kept.annotations == 3


def test_invalid_samples_come_first_in_the_part_of_a_hole():
    ledger = Ledger("counter", kept=100)
    ledger.hole(Loss(50, 30, 30, 30, 10, "counter"))
    ledger.hole(Loss(95, 2, 2, 2, 0, "ring"))
    ledger.cut(65, 50)
    assert (ledger.kept, ledger.invalid, ledger.holes) == (50, 10, 1)
    assert ledger.lost == {"counter": 5, "ring": 0}
    assert ledger.losses == [Loss(50, 5, 5, 5, 10, "counter")]


def test_the_balance_of_an_account_is_known_while_it_runs():
    ledger = Ledger("counter")
    resolver = Resolver(RATE_HZ * 100, 64, ledger)
    for k in range(1, 200):
        resolver.received(500)
        resolver.arrived(k * 5_000_000)
        resolver.take()
    assert ledger.balance == pytest.approx(0, abs=1)
    assert ledger.elapsed == pytest.approx(198 * 500, rel=0.02)
    assert ledger.kept
    assert ledger.closes


def test_a_duration_is_the_nearest_number_of_samples():
    assert samples_of(60.0, 1e5) == 6_000_000
    assert samples_of(0.25, 3.0) == 1
    assert samples_of(1e-3, 1.0) == 1
    assert samples_of(0.1 + 0.2, 1e6) == 300_000


class Rig:
    """Limits over a ring in which the test says how far the writer is."""

    def __init__(self, ring, duration_s, **info):
        told = {name: getattr(INFO, name) for name in INFO.__slots__} | info
        self.ring = ring
        self.live = Live(ring, type(INFO)(**told), io.StringIO())
        self.limits = Limits(type(INFO)(**told), self.live, duration_s)
        self.limits.begin(100.0)
        self.now_s = 100.0
        self.bytes = 0

    def wait(self, seconds, samples=0, *, moves=True, passed_s=0.0):
        """Look every 100 ms."""
        for _ in range(round(seconds * 10)):
            self.now_s += 0.1
            self.bytes += moves
            self.ring.say("reader", {"bytes": self.bytes})
            if samples:
                self.ring.say("writer", {"samples": samples, "began_ns": 1})
            self.live.update(self.now_s)
            self.limits.look(self.now_s)
        self.limits.passed_s = lambda: passed_s
        return self.limits.passed(self.now_s)


def test_a_delay_at_the_end_makes_no_trace_shorter(ring):
    rig = Rig(ring, 2.0)
    assert rig.wait(4, 1999, passed_s=2.0 + LATE_S - 1) is None
    assert not rig.limits.full
    assert rig.wait(0.1, 2000) is None
    assert rig.limits.full


def test_samples_that_never_come_are_not_waited_for_without_end(ring):
    rig = Rig(ring, 2.0)
    found = rig.wait(30, 1500, passed_s=2.0 + LATE_S + 1)
    assert found == ("duration", "")
    assert not rig.limits.full


@pytest.mark.parametrize(("rate_hz", "waits"), [(1000.0, False), (1.0, True)])
def test_an_instrument_that_says_nothing_is_silent_by_its_own_rate(ring, rate_hz, waits):
    rig = Rig(ring, None, rate_hz=rate_hz)
    rig.wait(1, 500)
    found = rig.wait(8, 500, moves=False)
    assert found is None if waits else found.ended == "silent"


def test_a_machine_that_stood_still_makes_no_instrument_silent(ring):
    rig = Rig(ring, None)
    rig.wait(1, 500)
    rig.now_s += 60
    assert rig.wait(0.1, 500, moves=False) is None
    assert rig.wait(4, 500, moves=False) is None
    assert rig.wait(4, 500, moves=False).ended == "silent"


def test_a_source_that_can_wait_is_never_late(ring):
    rig = Rig(ring, 2.0, patient=True, signals=(SIGNALS["power"],))
    assert rig.wait(10, 500, moves=False, passed_s=1e6) is None
