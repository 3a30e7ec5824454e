"""A good client among hostile peers: what it notices of them; see benchmarks/edge.py.

Stretches without and with hostile peers take turns, so that both see the same machine; each
stretch's hostile peers are a process of their own.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from edge_attack import Sound, Talk, answer_of

from waistline.bundle.store import Bundle

PROGRAM = Path(__file__).parent / "edge_hostile.py"
PLAN = {
    "loris": (6, 3.0),
    "silent": (3, 3.0),
    "bombs": (3, 3.0),
    "flood": (3, 3.0),
    "deaf": (2, 15.0),
}
"""Kind of peer: stretches, seconds of each. A peer that reads nothing is cut off after 10 s."""
LORIS_LIMIT = 2.0
"""Times the idle p99 that the good client's may be among slow strangers."""
CLOSED_S = {"loris": 2.5, "silent": 2.5, "flood": 2.5, "deaf": 14.5}
"""In which a hostile connection must be gone: 2 s for a HELLO, 10 s unread."""
GROWTH_BYTES = {"loris": 200 * 64 << 10, "silent": 200 * 64 << 10, "bombs": 8 << 20,
                "flood": 16 * 2 << 20, "deaf": 16 * 2 << 20}  # fmt: skip
"""By all of a kind; a bundle with small answers keeps 1 MiB for a peer that does not read."""
PAUSE_S = 0.002


class Edge(Protocol):
    address: tuple[str, int]

    @property
    def rss_bytes(self) -> int: ...


@contextmanager
def hostile(kind: str, address: tuple[str, int], bundle: Bundle) -> Iterator[dict[str, Any]]:
    """Their process; what it found is filled in at the end."""
    host, port = address
    process = subprocess.Popen(
        [sys.executable, str(PROGRAM), kind, host, str(port), str(bundle.path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    found: dict[str, Any] = {}
    try:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise SystemExit(f"the {kind} peers did not start")
        yield found
        found |= json.loads(process.communicate(timeout=60)[0])
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


class GoodClient:
    """Asks one frame after the other and times each answer."""

    def __init__(self, edge: Edge, sound: Sound) -> None:
        self._edge, self._sound = edge, sound
        self._talk = Talk(edge.address, sound.bundle, "good", 7)
        self._seq = self.wrong = 0
        self.most_bytes = 0

    def ask(self, seconds: float) -> list[float]:
        """Latencies in seconds; a pause after each leaves the edge time for the others."""
        spent = []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._seq += 1
            began = time.perf_counter()
            self._talk.send(self._talk.frame(self._sound, self._seq))
            reply = self._talk.next(lambda message: message.seq == self._seq)
            spent.append(time.perf_counter() - began)
            self.wrong += reply is None or answer_of(reply) != self._sound.answer
            if self._seq % 16 == 0:
                self.most_bytes = max(self.most_bytes, self._edge.rss_bytes)
            time.sleep(PAUSE_S)
        return spent

    def close(self) -> None:
        self._talk.close()


def among(edge: Edge, sound: Sound) -> dict[str, Any]:
    """The good client's latencies with and without each kind of peer, and what became of them."""
    client = GoodClient(edge, sound)
    client.ask(1.0)
    found = {
        kind: _one_kind(edge, client, sound.bundle, kind, *stretches)
        for kind, stretches in PLAN.items()
    }
    client.close()
    return {
        "kinds": found,
        "wrong": client.wrong,
        "passed": not client.wrong and all(row["passed"] for row in found.values()),
    }


def _one_kind(
    edge: Edge, client: GoodClient, bundle: Bundle, kind: str, count: int, seconds: float
) -> dict[str, Any]:
    idle: list[float] = []
    beset: list[float] = []
    closed, longest_s, ratios = 0, 0.0, []
    before_bytes = client.most_bytes = edge.rss_bytes
    for _ in range(count):
        alone = client.ask(min(seconds, 4.0))
        with hostile(kind, edge.address, bundle) as peers:
            among_them = client.ask(seconds)
        idle += alone
        beset += among_them
        ratios.append(p99(among_them) / p99(alone))
        closed += peers["closed"]
        longest_s = max(longest_s, peers["longest_s"])
    ratio = p99(beset) / p99(idle)
    growth = client.most_bytes - before_bytes
    in_time = longest_s <= CLOSED_S.get(kind, 1e9) and (closed > 0 or kind not in CLOSED_S)
    return {
        "stretches": count,
        "seconds": seconds,
        "asked": len(idle) + len(beset),
        "idle_p50_s": statistics.median(idle),
        "idle_p99_s": p99(idle),
        "p50_s": statistics.median(beset),
        "p99_s": p99(beset),
        "ratio": ratio,
        "ratios": ratios,
        "closed": closed,
        "longest_s": longest_s,
        "growth_bytes": growth,
        "passed": in_time
        and growth <= GROWTH_BYTES[kind]
        and (kind != "loris" or ratio <= LORIS_LIMIT),
    }


def p99(values: Sequence[float]) -> float:
    return sorted(values)[int(0.99 * len(values))]


def markdown(found: dict[str, Any]) -> list[str]:
    names = {
        "loris": "200 that say HELLO a byte at a time",
        "silent": "200 that say nothing",
        "bombs": "4 that send bombs of 64 MiB",
        "flood": "16 that send 16,000 PINGs a second",
        "deaf": "16 that ask for 2,000 answers a second and read none",
    }
    rows = [
        "One good client, a frame at a time, without and with hostile peers in turns; p99 of its "
        f"latency over the p99 of the turns without (goal for the first kind: <= {LORIS_LIMIT:g}):",
        "",
        "| peers | p99 alone, ms | among them, ms | ratio | ratio of each turn | cut off | longest "
        "life, s | edge grew, MiB | |",
        "| --- | ---: | ---: | ---: | --- | ---: | ---: | ---: | --- |",
    ]
    for kind, row in found["kinds"].items():
        turns = ", ".join(f"{ratio:.2f}" for ratio in row["ratios"])
        verdict = "reached" if row["passed"] else "**missed**"
        rows.append(
            f"| {names[kind]} | {row['idle_p99_s'] * 1e3:.2f} | {row['p99_s'] * 1e3:.2f} | "
            f"**{row['ratio']:.2f}** | {turns} | {row['closed']} | {row['longest_s']:.2f} | "
            f"{row['growth_bytes'] / 2**20:.1f} | {verdict} |"
        )
    return [*rows, "", f"Wrong answers: {found['wrong']}."]
