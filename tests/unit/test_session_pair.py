"""Both halves against each other: random losses, answers and delays break no promise."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from session_help import MAX_ANSWER, MAX_PAYLOAD, Pair, make_store

from waistline.errors import LinkError
from waistline.frame import EdgeTimes, OutcomeKind
from waistline.session.events import Broken, Refused, Requested

SIZES = st.integers(1, 400)
STEPS = st.one_of(
    st.tuples(st.just("submit"), st.binary(max_size=MAX_PAYLOAD)),
    st.tuples(st.just("up"), SIZES),
    st.tuples(st.just("down"), SIZES),
    st.tuples(st.sampled_from(["reply", "busy", "error"]), st.integers(0, 5)),
    st.tuples(st.sampled_from(["drop", "connect", "restart"])),
    st.tuples(st.just("tick"), st.floats(0.0, 3.0)),
)


def answer_to(payload: bytes) -> bytes:
    return payload[::-1][:MAX_ANSWER]


class World(Pair):
    """A pair that checks the promises after every step."""

    def __init__(self) -> None:
        super().__init__(make_store(max_in_flight=3), queue_limit=2, max_in_flight=4, budget_s=5.0)
        self.submitted: dict[int, bytes] = {}
        self.given_back: Counter[int] = Counter()
        self.seen = 0

    def step(self, verb: str, argument=None) -> None:
        if verb == "submit":
            self.submitted[self.submit(argument)] = argument
        elif verb == "up":
            self.carry_up(argument)
        elif verb == "down":
            self.carry_down(argument)
        elif verb == "drop":
            self.drop()
        elif verb == "connect":
            self.connect()
        elif verb == "restart":
            self.drop()
            self.store = make_store(max_in_flight=3)
            self.jobs.clear()
            self.edge_events.clear()
            self.given_back.clear()
        elif verb == "tick":
            self.tick(argument)
        elif self.jobs:
            self.end_job(verb, argument)
        self.check()

    def end_job(self, verb: str, which: int) -> None:
        session, job = self.jobs.pop(which % len(self.jobs))
        if verb == "reply":
            session.reply(job.seq, EdgeTimes(tail_s=0.5), answer_to(job.payload))
        elif verb == "error":
            session.error(job.seq, "backend", "made up")
        else:
            session.busy(job.seq, 0.25)
            self.given_back[job.seq] += 1

    def check(self) -> None:
        ends = Counter(outcome.seq for outcome in self.outcomes)
        assert all(count == 1 for count in ends.values())
        assert ends.keys() <= self.submitted.keys()
        assert self.node.pending + len(ends) == len(self.submitted)
        runs = Counter(event.seq for event in self.edge_events if isinstance(event, Requested))
        runs.subtract(self.given_back)
        assert all(count <= 1 for count in runs.values())
        for outcome in self.outcomes[self.seen :]:
            if outcome.kind is OutcomeKind.REMOTE:
                assert outcome.answer == answer_to(self.submitted[outcome.seq])
            assert outcome.transit_s >= 0
            assert outcome.node_queue_s >= 0
        self.seen = len(self.outcomes)
        assert self.node.pending <= 2 + 4
        assert len(self.jobs) <= 3
        # Nothing either side says may be a breach of the protocol in the other's eyes.
        assert all(isinstance(event.error, LinkError) for event in self.events(Broken))
        assert not self.events(Refused)


@settings(max_examples=200)
@given(st.lists(STEPS, max_size=80))
def test_each_frame_ends_once_and_runs_at_most_once(steps):
    world = World()
    world.connect()
    for step in steps:
        world.step(*step)
    world.finish()
    ends = Counter(outcome.seq for outcome in world.outcomes)
    assert ends == Counter(world.submitted.keys())
    assert world.node.pending == 0


@settings(max_examples=50)
@given(st.lists(STEPS, max_size=60))
def test_after_any_past_a_good_connection_serves_again(steps):
    world = World()
    for step in steps:
        world.step(*step)
    world.connect()
    world.tick(10.0)
    world.connect()
    world.settle()
    while world.jobs:
        world.end_job("reply", 0)
    world.settle()
    world.tick(0.3)
    seq = world.submit(b"last")
    world.submitted[seq] = b"last"
    world.settle()
    while world.jobs:
        world.end_job("reply", 0)
    world.settle()
    assert [out.kind for out in world.outcomes if out.seq == seq] == [OutcomeKind.REMOTE]


@settings(max_examples=200)
@given(st.data())
def test_hostile_bytes_from_either_side_cost_only_the_connection(data):
    pair = Pair()
    pair.connect()
    if data.draw(st.booleans()):
        pair.settle()
    pair.submit()
    pair.carry_up()
    stream = b"".join(bytes(part) for part in pair.edge.to_send())
    spoilt = bytearray(stream + data.draw(st.binary(max_size=60)))
    for place in data.draw(st.lists(st.integers(0, 500), max_size=3)):
        if place < len(spoilt):
            spoilt[place] ^= data.draw(st.integers(1, 255))
    pair.node_events += pair.node.receive(spoilt, pair.now)
    pair.edge_events += pair.edge.receive(data.draw(st.binary(max_size=100)), pair.now)
    assert not [out for out in pair.outcomes if out.kind is OutcomeKind.REMOTE]
    pair.connect()
    pair.settle()
    pair.submit()
    pair.settle()
    while pair.jobs:
        pair.answer()
    pair.settle()
    assert pair.outcomes[-1].kind is OutcomeKind.REMOTE
