from __future__ import annotations

import queue
import threading
import time

import numpy as np
import pytest

from waistline.errors import BackendError, CodecError, NonFinite
from waistline_edge.pool import Done, Expired, Failed, Job, TailPool, run
from waistline_edge.sharing import SharedSlice

WAIT_S = 30


class EchoStages:
    """Answers the payload; decode takes one float32 from it."""

    def __init__(self, gate=None, fail=None):
        self.gate, self.fail, self.threads = gate, fail or {}, set()

    def _step(self, name):
        if name in self.fail:
            raise self.fail[name]

    def decode(self, payload, raw_len):
        self._step("decode")
        return [np.frombuffer(payload, np.uint8)]

    def preprocess(self, tensors):
        self._step("preprocess")
        return list(tensors)

    def tail(self, tensors):
        self.threads.add(threading.get_ident())
        if self.gate is not None:
            assert self.gate.wait(WAIT_S)
        self._step("tail")
        return list(tensors)

    def postprocess(self, outputs):
        self._step("postprocess")
        return outputs[0].tobytes()


def _job(seq, owner="node", payload=b"abc"):
    return Job("bundle", seq, payload, len(payload), time.monotonic(), owner)


def _permits(count):
    permits = queue.SimpleQueue()
    for _ in range(count):
        permits.put(None)
    return permits


@pytest.fixture
def make_pool():
    pools, gates = [], []

    def make(stages, limit=100, tails_at_once=None):
        results = queue.SimpleQueue()
        pool = TailPool(
            [{"bundle": each} for each in stages],
            limit,
            lambda job, result: results.put((job, result)),
            tails_at_once=tails_at_once,
        )
        pools.append(pool)
        gates.extend(each.gate for each in stages if each.gate is not None)
        pool.start()
        return pool, results

    yield make
    for gate in gates:
        gate.set()
    for pool in pools:
        assert pool.stop(WAIT_S)


def _wait_until(condition):
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "did not happen"
        time.sleep(0.002)


def test_every_job_is_answered_once(make_pool):
    pool, results = make_pool([EchoStages(), EchoStages()])
    later = time.monotonic() + WAIT_S
    for seq in range(50):
        assert pool.submit("a", _job(seq, payload=bytes([seq])), later).accepted
    answers = dict(
        (job.seq, result.answer) for job, result in (results.get(timeout=WAIT_S) for _ in range(50))
    )
    assert answers == {seq: bytes([seq]) for seq in range(50)}
    assert results.empty()


def test_a_slice_is_only_ever_used_by_one_thread(make_pool):
    stages = [EchoStages() for _ in range(3)]
    pool, results = make_pool(stages)
    for seq in range(60):
        pool.submit("a", _job(seq), time.monotonic() + WAIT_S)
    for _ in range(60):
        results.get(timeout=WAIT_S)
    used = [each.threads for each in stages]
    assert all(len(threads) <= 1 for threads in used)
    assert sum(len(threads) for threads in used) == len(set().union(*used))


def test_submitting_does_not_wait_for_a_tail(make_pool):
    gate = threading.Event()
    pool, results = make_pool([EchoStages(gate)], limit=2)
    later = time.monotonic() + WAIT_S
    pool.submit("a", _job(0), later)
    _wait_until(lambda: pool.in_flight == 1)
    accepted = [pool.submit("a", _job(seq), later).accepted for seq in range(1, 5)]
    assert accepted == [True, True, False, False]
    assert pool.depth == 2
    assert pool.retry_after_s() > 0
    assert results.empty()
    gate.set()
    assert sorted(results.get(timeout=WAIT_S)[0].seq for _ in range(3)) == [0, 1, 2]


def test_a_greedy_line_does_not_starve_another(make_pool):
    gate = threading.Event()
    pool, results = make_pool([EchoStages(gate)])
    later = time.monotonic() + WAIT_S
    pool.submit("greedy", _job(0, "greedy"), later)
    _wait_until(lambda: pool.in_flight == 1)
    for seq in range(1, 20):
        pool.submit("greedy", _job(seq, "greedy"), later)
    pool.submit("modest", _job(0, "modest"), later)
    gate.set()
    order = [results.get(timeout=WAIT_S)[0].owner for _ in range(21)]
    assert order.index("modest") <= 2


def test_a_job_whose_budget_is_over_is_not_run(make_pool):
    gate = threading.Event()
    stages = EchoStages(gate)
    pool, results = make_pool([stages])
    pool.submit("a", _job(0), time.monotonic() + WAIT_S)
    _wait_until(lambda: pool.in_flight == 1)
    pool.submit("a", _job(1), time.monotonic() - 1)
    gate.set()
    by_seq = {job.seq: result for job, result in (results.get(timeout=WAIT_S) for _ in range(2))}
    assert isinstance(by_seq[0], Done)
    assert by_seq[1] == Expired()


def test_cancelled_jobs_are_handed_back(make_pool):
    gate = threading.Event()
    pool, results = make_pool([EchoStages(gate)])
    later = time.monotonic() + WAIT_S
    pool.submit("a", _job(0), later)
    _wait_until(lambda: pool.in_flight == 1)
    pool.submit("a", _job(1), later)
    assert [job.seq for job in pool.cancel()] == [1]
    assert pool.in_flight == 1
    gate.set()
    assert results.get(timeout=WAIT_S)[0].seq == 0
    _wait_until(lambda: not pool.in_flight)


def test_stopping_says_when_a_tail_hangs():
    gate = threading.Event()
    pool = TailPool([{"bundle": EchoStages(gate)}], 4, lambda job, result: None)
    pool.start()
    pool.submit("a", _job(0), time.monotonic() + WAIT_S)
    _wait_until(lambda: pool.in_flight == 1)
    assert not pool.stop(0.01)
    gate.set()
    assert pool.stop(WAIT_S)


@pytest.mark.parametrize(
    ("stage", "error", "kind"),
    [
        ("decode", CodecError("too long"), "codec"),
        ("decode", NonFinite("NaN"), "nonfinite"),
        ("postprocess", NonFinite("NaN"), "nonfinite"),
        ("tail", BackendError("no such operator"), "backend"),
        ("preprocess", ValueError("a bug"), "edge"),
        ("tail", MemoryError(), "edge"),
    ],
)
def test_a_failure_ends_its_frame_with_its_kind(stage, error, kind):
    permits = _permits(1)
    result = run(EchoStages(fail={stage: error}), _job(7), time.monotonic(), permits)
    assert permits.qsize() == 1, "whatever fails, another tail may run"
    assert isinstance(result, Failed)
    assert result.kind == kind


def test_a_worker_survives_failures(make_pool):
    pool, results = make_pool([EchoStages(fail={"tail": RuntimeError("a bug")})])
    for seq in range(5):
        pool.submit("a", _job(seq), time.monotonic() + WAIT_S)
    assert [results.get(timeout=WAIT_S)[1].kind for _ in range(5)] == ["edge"] * 5


def test_stage_times_add_up_to_the_stay():
    class Slow(EchoStages):
        def tail(self, tensors):
            time.sleep(0.02)
            return super().tail(tensors)

    job = _job(1)
    time.sleep(0.01)
    before = time.monotonic()
    result = run(Slow(), job, before, _permits(1))
    stay = time.monotonic() - job.received_at
    assert isinstance(result, Done)
    assert result.times.tail_s >= 0.02
    assert result.times.queue_s >= 0.01
    assert result.times.residence_s <= stay


def test_one_worker_more_decodes_ahead_and_its_wait_counts_as_queue(make_pool):
    gate = threading.Event()
    first, second = EchoStages(gate), EchoStages(gate)
    decoded = threading.Semaphore(0)
    for each in (first, second):
        each.decode = lambda payload, raw_len: decoded.release() or [np.frombuffer(payload, "u1")]
    pool, results = make_pool([first, second], tails_at_once=1)
    for seq in range(2):
        pool.submit("a", _job(seq), time.monotonic() + WAIT_S)
    for _ in range(2):
        assert decoded.acquire(timeout=WAIT_S)
    _wait_until(lambda: len(first.threads) + len(second.threads) == 1)
    time.sleep(0.05)
    assert len(first.threads) + len(second.threads) == 1, "one tail at once"
    gate.set()
    times = [results.get(timeout=WAIT_S)[1].times for _ in range(2)]
    assert times[1].queue_s >= 0.05


def test_a_shared_slice_runs_each_opening_on_one_thread_at_a_time():
    class Opened:
        def __init__(self):
            self.busy = threading.Lock()

        def run(self, tensors):
            assert self.busy.acquire(blocking=False), "two threads in one slice"
            time.sleep(0.001)
            self.busy.release()
            return list(tensors)

    shared = SharedSlice([Opened(), Opened()])
    wrong = []

    def use(number):
        for _ in range(20):
            try:
                assert shared.run([number]) == [number]
            except AssertionError as error:
                wrong.append(error)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert not wrong
