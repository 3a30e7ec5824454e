"""Three times too much: what is refused is told, and what is served is shared. By counts alone."""

from __future__ import annotations

import contextlib
import threading
import time

from edge_rig import (
    WAIT_S,
    EdgeProcess,
    Gate,
    LocalTail,
    ServerThread,
    fake_bundle,
    frame_payload,
    joined,
    pump_all,
)

from waistline.frame import OutcomeKind
from waistline_hostctl.bench_edge_bundle import golden_waist
from waistline_hostctl.bench_edge_load import BUSY, REMOTE, Load

NODES, QUEUE, EACH = 8, 32, 12


def _submit(bundle, client, count, first):
    frames = {}
    for k in range(count):
        frame = frame_payload(bundle, first + k)
        frames[client.submit(*frame)] = frame
    return frames


def test_every_frame_of_an_overload_ends_once_and_nodes_get_equal_shares(tmp_path):
    bundle = fake_bundle(tmp_path / "a.bundle")
    gate, local = Gate(), LocalTail(bundle)
    with contextlib.ExitStack() as stack:
        edge = stack.enter_context(ServerThread(bundle, gate, queue_limit=QUEUE, workers=1))
        clients = [
            stack.enter_context(joined(edge, bundle, f"n{k}", max_in_flight=16))
            for k in range(NODES)
        ]
        # The first one has filled the queue before the others come.
        sent = [_submit(bundle, clients[0], 16, 0)]
        pump_all(clients[:1], lambda: edge.server.load() == (15, 1))
        sent += [_submit(bundle, each, EACH, 100 * k) for k, each in enumerate(clients[1:], 1)]
        total = sum(map(len, sent))
        pump_all(clients, lambda: edge.server.stats.frames["busy"] == total - QUEUE - 1)
        gate.event.set()
        pump_all(clients, lambda: sum(len(each.outcomes) for each in clients) == total)
        counted = edge.server.stats.frames
    served = []
    for client, frames in zip(clients, sent, strict=True):
        ends = {seq: (each.kind, each.reason) for seq, each in client.outcomes.items()}
        assert set(ends) == set(frames)
        assert set(ends.values()) <= {(OutcomeKind.REMOTE, ""), (OutcomeKind.DROPPED, "busy")}
        answered = [seq for seq, end in ends.items() if end[0] is OutcomeKind.REMOTE]
        assert all(client.outcomes[seq].answer == local.answer(*frames[seq]) for seq in answered)
        served.append(len(answered))
    assert sum(served) == QUEUE + 1 == counted["remote"]
    assert max(served) - min(served) <= 2
    assert sum(counted.values()) == total


def test_busy_says_when_to_come_again(tmp_path):
    bundle = fake_bundle(tmp_path / "a.bundle")
    gate = Gate()
    with (
        ServerThread(bundle, gate, queue_limit=1, workers=1) as edge,
        joined(edge, bundle, "a", max_in_flight=8) as client,
    ):
        _submit(bundle, client, 4, 0)
        # The worker may have taken the first before the second came, or not.
        client.pump(lambda: sum(o.reason == "busy" for o in client.outcomes.values()) >= 2)
        told = [outcome for outcome in client.outcomes.values() if outcome.reason == "busy"]
        assert all("asked for" in outcome.detail for outcome in told)
        gate.event.set()
        client.pump(lambda: len(client.outcomes) == 4)
        assert client.ask(*frame_payload(bundle, 99)).kind is OutcomeKind.REMOTE


def test_the_load_generator_accounts_for_every_frame(tmp_path):
    """Eight nodes send by the clock what one worker that takes 20 ms cannot run."""
    bundle = fake_bundle(tmp_path / "a.bundle", delay_ms=20)
    options = ("--queue", "4", "--workers", "1")
    with EdgeProcess(bundle.path, *options, log=tmp_path / "log") as edge:
        with Load(edge.endpoint, bundle, golden_waist(bundle), 8) as load:
            peak = load.closed_loop(1, 0.4)
            overload = load.open_loop([100.0] * 8, 0.4)
        _, summary = edge.stop()
    for phase in (peak, overload):
        assert phase.unanswered == 0
        assert sum(node.wrong for node in phase.nodes) == 0
        assert {name for node in phase.nodes for name in node.ends} <= {REMOTE, BUSY}
    assert set(summary["frames"]) == {"remote", "busy"}


def test_connections_take_turns_with_their_frames(tmp_path):
    """A node that has sent much at once does not have all of it taken before the next one's."""
    bundle = fake_bundle(tmp_path / "a.bundle", codec="f32|none")
    frames = [frame_payload(bundle, seed) for seed in range(16)]
    gate = Gate()
    with (
        ServerThread(bundle, gate, queue_limit=100, workers=1) as edge,
        joined(edge, bundle, "much", max_in_flight=16) as much,
        joined(edge, bundle, "little", max_in_flight=16) as little,
    ):
        order = []
        submit = edge.server._pool.submit

        def noted(line, job, expires_at):
            order.append(line)
            return submit(line, job, expires_at)

        edge.server._pool.submit = noted
        held, release = threading.Event(), threading.Event()
        edge.loop.call_soon_threadsafe(lambda: (held.set(), release.wait(WAIT_S)))
        assert held.wait(WAIT_S)
        for client, count in ((much, 16), (little, 2)):
            for frame in frames[:count]:
                client.submit(*frame)
            while out := client.session.to_send(time.monotonic()):
                client.link.send(out)
        release.set()
        gate.event.set()
        pump_all([much, little], lambda: len(much.outcomes) == 16 and len(little.outcomes) == 2)
    assert len(order) == 18
    assert [k for k, line in enumerate(order) if line == "little"][-1] < 6
