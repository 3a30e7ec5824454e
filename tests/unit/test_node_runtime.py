import random
import threading
import time
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from mini_edge import BUNDLE_ID, MAX_PAYLOAD_BYTES, MiniEdge

from waistline.codec.waist import EncodedWaist
from waistline.errors import BackendError, CodecError, ConfigError, NonFinite, VersionMismatch
from waistline.frame import EdgeTimes, SensorFrame
from waistline.links.base import LinkProfile
from waistline.links.paced import PacedLink
from waistline.session.node import NodeSession
from waistline_node import backoff, uplink
from waistline_node import runtime as runtime_module
from waistline_node.heads.base import StageTimes
from waistline_node.runtime import NodeRuntime, Pace
from waistline_node.sources.base import IndexedSource, SourceOptions
from waistline_node.summary import STAGES

WAIT_S = 30
HEAD_AND_TAIL = SimpleNamespace(tail=object())
HEAD_ONLY = SimpleNamespace(tail=None)


class StubHead:
    """Sends a frame's index as four bytes; ``faults`` maps (stage, index) to an error."""

    def __init__(self, faults=None, delay_s=0.0):
        self.faults = faults or {}
        self.delay_s = delay_s
        self.threads = set()
        self.gate = threading.Event()
        self.gate.set()

    def _pass(self, stage, value):
        self.threads.add(threading.current_thread().ident)
        if error := self.faults.get((stage, value)):
            raise error
        return value

    def preprocess(self, frame):
        return self._pass("preprocess", int(frame.arrays[0]))

    def head(self, value):
        assert self.gate.wait(WAIT_S)
        if self.delay_s:
            time.sleep(self.delay_s)
        return self._pass("head", value)

    def encode(self, value):
        return EncodedWaist(self._pass("encode", value).to_bytes(4, "little"), 4)

    def run(self, frame):
        return self.encode(self.head(self.preprocess(frame))), StageTimes(1, 2, 3)

    def info(self):
        return {}

    def close(self):
        pass


def source(count, *, broken=(), total=None, loop=False):
    def read_at(position, index):
        if position in broken:
            raise ConfigError("damaged", cause="bit rot")
        return SensorFrame(index, (np.array(position),), position % 10, f"f{position}")

    return IndexedSource(
        count, read_at, lambda position: f"f{position}", SourceOptions((), True, total, loop)
    )


@pytest.fixture
def edge():
    made = MiniEdge()
    yield made
    made.close()


@pytest.fixture
def node(edge):
    """Makes a runtime whose records land in ``.records``, and runs it in a thread."""
    threads = []

    def make(frames, head=None, *, bundle=HEAD_AND_TAIL, pace=None, connect=None, **settings):
        records, said = [], []
        session = NodeSession(
            node_id=settings.pop("node_id", "n1"),
            session_id=settings.pop("session_id", 7),
            bundle_id=settings.pop("bundle_id", BUNDLE_ID),
            max_payload_bytes=MAX_PAYLOAD_BYTES,
            max_answer_bytes=64,
            queue_limit=pace.queue_limit if pace else 1,
            **{key: settings.pop(key) for key in ("budget_s", "max_in_flight") if key in settings},
        )
        runtime = NodeRuntime(
            bundle, head or StubHead(), frames, session, connect or edge.connect,
            pace=pace, on_record=settings.pop("on_record", records.append), say=said.append,
            **settings,
        )  # fmt: skip
        runtime.records, runtime.said = records, said

        def start():
            def work():
                runtime.result = runtime.run()

            thread = threading.Thread(target=work, daemon=True)
            threads.append(thread)
            thread.start()
            return thread

        runtime.start = start
        return runtime

    yield make
    for thread in threads:
        thread.join(WAIT_S)
        assert not thread.is_alive()


def until(condition):
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, "never happened"
        time.sleep(0.005)


def one_outcome_each(records, count):
    assert sorted(record.index for record in records) == list(range(count))


@pytest.mark.parametrize("sequential", [False, True])
def test_every_frame_is_answered_and_its_times_add_up(node, edge, sequential):
    head = StubHead()
    runtime = node(source(50), head, pace=Pace(sequential=sequential))
    summary = runtime.run()
    one_outcome_each(runtime.records, 50)
    assert summary.outcomes == {"remote": 50}
    assert summary.verdict() is None
    for record in runtime.records:
        assert record.answer == record.index.to_bytes(4, "little")
        assert record.label == str(record.index % 10)
        assert (record.waist_bytes, record.raw_len) == (4, 4)
        parts = sum(getattr(record, stage) for stage in STAGES)
        assert parts == pytest.approx(record.latency_s, abs=1e-6)
    assert edge.said_bye.wait(WAIT_S)
    assert len(head.threads) == (1 if sequential else 3)


def test_one_at_a_time_means_one_at_a_time(node, edge):
    runtime = node(source(20), pace=Pace(sequential=True))
    runtime.run()
    spans = [(r.index, r.started_s, r.started_s + r.latency_s) for r in runtime.records]
    assert [index for index, _, _ in spans] == list(range(20))
    assert all(end <= begin for (_, _, end), (_, begin, _) in pairwise(spans))


def test_at_the_last_partition_point_the_answer_is_the_nodes_own(node, edge):
    edge.answer = lambda edge, session, request: session.reply(request.seq, EdgeTimes(), b"")
    runtime = node(source(5), bundle=HEAD_ONLY)
    runtime.run()
    assert sorted(record.answer[0] for record in runtime.records) == list(range(5))


def test_a_bad_frame_ends_alone(node):
    faults = {
        ("preprocess", 1): CodecError("misfit"),
        ("head", 2): BackendError("engine"),
        ("encode", 3): NonFinite("NaN"),
    }
    runtime = node(source(8, broken=(5,)), StubHead(faults))
    summary = runtime.run()
    one_outcome_each(runtime.records, 8)
    assert summary.reasons == {
        "error(codec)": 1, "error(backend)": 1, "error(nonfinite)": 1, "error(source)": 1,
    }  # fmt: skip
    ended = {record.index: record for record in runtime.records}
    assert [ended[i].reason for i in (1, 2, 3, 5)] == ["codec", "backend", "nonfinite", "source"]
    assert ended[5].name == "f5"
    assert "bit rot" in ended[5].detail
    assert ended[2].head_s == 0.0
    assert summary.verdict() is None
    assert sum("ended as error(" in line for line in runtime.said) == 4


@pytest.mark.parametrize("sequential", [False, True])
def test_a_bad_frame_ends_alone_in_either_mode(node, sequential):
    faults = {("head", i): BackendError("engine") for i in range(0, 10, 2)}
    runtime = node(source(10), StubHead(faults), pace=Pace(sequential=sequential))
    assert runtime.run().outcomes == {"remote": 5, "error": 5}
    one_outcome_each(runtime.records, 10)


def test_a_run_without_a_single_answer_is_an_error(node):
    faults = {("head", i): BackendError("engine") for i in range(3)}
    summary = node(source(3), StubHead(faults)).run()
    assert isinstance(summary.verdict(), BackendError)
    assert "3 ended as error(backend)" in summary.verdict().cause


def test_an_edge_that_is_down_is_waited_for(node, edge):
    edge.up = False
    runtime = node(source(5))
    runtime.start()
    until(lambda: any("waiting for the edge" in line for line in runtime.said))
    assert not runtime.records
    edge.up = True
    until(lambda: len(runtime.records) == 5)
    assert {record.outcome for record in runtime.records} == {"remote"}
    assert sum("waiting" in line for line in runtime.said) == 1


@pytest.mark.parametrize("sequential", [False, True])
def test_an_edge_that_dies_mid_stream_costs_no_frame(node, edge, sequential):
    def answer(edge, session, request):
        if len(edge.requests) in (5, 12, 13):
            edge.hang_up()
        else:
            edge.reply(session, request)

    edge.answer = answer
    runtime = node(source(40), pace=Pace(sequential=sequential), budget_s=WAIT_S)
    summary = runtime.run()
    one_outcome_each(runtime.records, 40)
    assert summary.outcomes == {"remote": 40}
    assert summary.connections >= 3


def test_what_nobody_answers_ends_when_its_budget_is_spent(node, edge):
    edge.answer = lambda edge, session, request: None
    runtime = node(source(6), budget_s=0.2, max_in_flight=2)
    summary = runtime.run()
    one_outcome_each(runtime.records, 6)
    assert summary.reasons == {"error(link)": 6}
    assert summary.verdict().exit_code == 4


def test_pauses_between_attempts_have_full_jitter(node, edge, monkeypatch):
    asked = []

    def no_delay(low, high):
        asked.append((low, high))
        edge.up = len(asked) > 10
        return 0.0

    monkeypatch.setattr(uplink.random, "uniform", no_delay)
    edge.up = False
    runtime = node(source(1))
    assert runtime.run().outcomes == {"remote": 1}
    assert [low for low, _ in asked] == [0.0] * 11
    highs = [high for _, high in asked]
    assert highs[0] == pytest.approx(0.2)
    assert highs == sorted(highs)
    assert [line for line in runtime.said if "waiting" in line] == [
        "nothing listens here; the edge is down; waiting for the edge, trying again until it "
        "answers"
    ]


def test_goodbye_survives_a_slow_link(node, edge):
    """The link still holds the BYE when it was sent; it is not aborted before that arrived."""
    slow = LinkProfile("custom", "slow", 4e6, 4e6, rtt_s=0.2)
    runtime = node(source(3), connect=lambda: PacedLink(edge.connect(), slow))
    assert runtime.run().outcomes == {"remote": 3}
    assert edge.said_bye.wait(WAIT_S)


def test_an_edge_that_does_not_close_is_waited_for_only_briefly(node, edge, monkeypatch):
    monkeypatch.setattr(runtime_module, "DRAIN_S", 0.05)
    monkeypatch.setattr(MiniEdge, "leave", lambda self, session: False)
    runtime = node(source(3))
    runtime.start()
    until(lambda: hasattr(runtime, "result"))
    assert edge.said_bye.wait(WAIT_S)


def test_another_bundle_is_refused_for_good(node, edge):
    runtime = node(source(1000, loop=True), bundle_id="cd" * 32)
    summary = runtime.run()
    assert isinstance(summary.error, VersionMismatch)
    assert summary.verdict().exit_code == 4
    one_outcome_each(runtime.records, summary.frames)
    assert edge.connections == 1


def test_stop_gives_every_frame_its_outcome(node, edge):
    runtime = node(source(10, loop=True))
    runtime.start()
    until(lambda: len(runtime.records) > 20)
    runtime.stop()
    until(lambda: hasattr(runtime, "result"))
    one_outcome_each(runtime.records, runtime.result.frames)
    assert set(runtime.result.outcomes) <= {"remote", "dropped"}
    assert set(runtime.result.reasons) <= {"dropped(shutdown)"}
    assert edge.said_bye.wait(WAIT_S)


def test_stop_waits_only_briefly_for_what_is_under_way(node, edge):
    held = []
    edge.answer = lambda edge, session, request: held.append((session, request))
    runtime = node(source(3), max_in_flight=3)
    runtime.start()
    until(lambda: len(held) == 3)
    runtime.stop()
    until(lambda: hasattr(runtime, "result"))
    assert runtime.result.outcomes == {"dropped": 3}
    assert runtime.result.reasons == {"dropped(shutdown)": 3}


def test_stop_while_the_edge_is_down(node, edge):
    edge.up = False
    runtime = node(source(100))
    runtime.start()
    until(lambda: any("waiting" in line for line in runtime.said))
    runtime.stop()
    until(lambda: hasattr(runtime, "result"))
    one_outcome_each(runtime.records, runtime.result.frames)
    assert set(runtime.result.outcomes) <= {"dropped"}


def test_stop_does_not_wait_for_a_head_that_hangs(node, monkeypatch):
    monkeypatch.setattr("waistline_node.runtime.JOIN_S", 0.05)
    head = StubHead()
    head.gate.clear()
    runtime = node(source(100), head)
    runtime.start()
    until(lambda: runtime._open)
    runtime.stop()
    until(lambda: hasattr(runtime, "result"))
    one_outcome_each(runtime.records, runtime.result.frames)
    head.gate.set()


def test_without_a_rate_nothing_is_dropped_however_slow_the_head(node):
    runtime = node(source(30), StubHead(delay_s=0.005))
    assert runtime.run().outcomes == {"remote": 30}


def test_with_a_rate_the_oldest_give_way(node, edge):
    head = StubHead()
    head.gate.clear()
    runtime = node(source(200), head, pace=Pace(rate_hz=2000))
    runtime.start()
    until(lambda: runtime._exhausted)
    head.gate.set()
    until(lambda: hasattr(runtime, "result"))
    one_outcome_each(runtime.records, 200)
    assert set(runtime.result.reasons) == {"dropped(queue)"}
    answered = sorted(record.index for record in runtime.records if record.outcome == "remote")
    assert answered[-1] == 199, "the newest frame survives"
    assert len(answered) <= 6


def test_while_the_edge_is_down_a_live_stream_goes_on(node, edge):
    edge.up = False
    runtime = node(source(50), pace=Pace(rate_hz=1000))
    runtime.start()
    until(lambda: runtime._exhausted)
    edge.up = True
    until(lambda: hasattr(runtime, "result"))
    one_outcome_each(runtime.records, 50)
    assert runtime.result.reasons["dropped(queue)"] >= 40


def test_records_that_cannot_be_written_end_the_run(node):
    written = []

    def full(record):
        if len(written) == 10:
            raise ConfigError("records cannot be written", cause="No space left on device")
        written.append(record)

    runtime = node(source(10, loop=True), on_record=full)
    summary = runtime.run()
    assert "No space left" in summary.error.cause
    assert len(written) == 10
    assert summary.frames > 10


def test_a_bug_in_a_stage_is_raised_not_swallowed(node):
    runtime = node(source(10), StubHead({("head", 4): ZeroDivisionError("bug")}))
    with pytest.raises(ZeroDivisionError):
        runtime.run()
    one_outcome_each(runtime.records, len(runtime.records))


def test_an_endpoint_that_can_never_work_ends_the_run(node):
    def connect():
        raise ConfigError("plain bytes over a network")

    runtime = node(source(5), connect=connect)
    summary = runtime.run()
    assert "plain bytes" in summary.error.what
    one_outcome_each(runtime.records, summary.frames)


def test_no_thread_is_left_behind(node):
    before = set(threading.enumerate())
    node(source(10)).run()
    until(lambda: not {t for t in threading.enumerate() if t.name in ("link", "receive")} - before)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("pace", [Pace(), Pace(sequential=True), Pace(rate_hz=3000.0)], ids=str)
def test_whatever_the_edge_does_each_frame_ends_once(node, edge, monkeypatch, seed, pace):
    """An edge that answers, refuses, is busy, stays silent or dies, as the dice fall."""
    monkeypatch.setattr(backoff, "MAX_DELAY_S", 0.05)
    dice = random.Random(seed)

    def answer(edge, session, request):
        roll = dice.random()
        if roll < 0.05:
            edge.hang_up()
        elif roll < 0.10:
            session.error(request.seq, "codec", "no")
        elif roll < 0.15:
            session.busy(request.seq, 0.01)
        elif roll > 0.98:
            return
        else:
            edge.reply(session, request)

    edge.answer = answer
    faults = {("head", index): BackendError("engine") for index in range(0, 80, 9)}
    runtime = node(
        source(80, broken=(7, 8)), StubHead(faults), pace=pace, budget_s=0.5, max_in_flight=3
    )
    summary = runtime.run()
    one_outcome_each(runtime.records, 80)
    assert sum(summary.outcomes.values()) == summary.frames == 80
    assert summary.reasons["error(source)"] == 2
