"""What an edge gives at most, and what is left of that under overload: ``waistline bench edge``.

Rounds of two phases, so that both see the same machine: *peak*, in which every node keeps frames
under way and none is refused, and *overload*, in which the nodes send by the clock, together
``overload`` times as much as the peak of that round, half of them twice as often as the others.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from waistline.bench import ResolvedBench
from waistline.bundle.store import Bundle, load_bundle
from waistline.errors import LinkError, MeterError, WaistlineError
from waistline_hostctl import services
from waistline_hostctl.bench_edge_bundle import golden_waist, sleeping_bundle
from waistline_hostctl.bench_edge_load import REMOTE, Load, Phase
from waistline_hostctl.passing import with_settings

UNDER_WAY = 64
"""Frames under way at peak, all nodes together: as many as a queue of the default length holds, so
that none is refused and an edge that is kept from its processor for a while still has work."""
MAX_GENERATOR_CPU = 0.85
"""Of one core: more, and the generator's own thread may be what limits."""
MIN_OFFERED = 0.97
"""Of the planned rate; less, and the overload was not the one that is reported."""
MIN_WAITING = 1.0
"""Requests in the edge's queue at peak, on average: fewer, and the edge was waiting for frames."""
MIN_EDGE_CPU = 0.9
"""Of one core: an edge that is limited by its own thread has no queue."""
_SEE_LOG = "see its log"
_LOG_LINES, _LOG_CHARACTERS = 4, 800


@dataclass(frozen=True, slots=True)
class Setting:
    """What is to be measured.

    Attributes:
        nodes: connections.
        overload: offered load over peak.
        seconds: of each phase.
        rounds: of peak and overload.
    """

    nodes: int = 32
    overload: float = 3.0
    seconds: float = 3.0
    rounds: int = 3

    @property
    def window(self) -> int:
        """Frames that one node keeps under way at peak."""
        return -(-UNDER_WAY // self.nodes)

    def rates_hz(self, peak_hz: float) -> list[float]:
        """What each node sends: half of them twice as much as the others.

        All the same where the lesser half would then send less than its fair share.
        """
        weights = [1.0] * self.nodes
        if self.overload >= 2.0:
            weights = [1.0 + k % 2 for k in range(self.nodes)]
        unit_hz = self.overload * peak_hz / sum(weights)
        return [weight * unit_hz for weight in weights]


@dataclass(frozen=True, slots=True)
class Round:
    """A peak and the overload that was made of it."""

    peak: Phase
    overload: Phase


@dataclass(frozen=True, slots=True)
class UnderTest:
    """A running edge.

    Attributes:
        endpoint: where it listens.
        pid: of its process; None: it is not ours.
        workers: tails at once; None: not known.
        backend: engine, "" when not known.
    """

    endpoint: str
    pid: int | None = None
    workers: int | None = None
    backend: str = ""

    def cpu_s(self) -> float | None:
        """Processor time so far."""
        if self.pid is None:
            return None
        try:
            text = Path(f"/proc/{self.pid}/stat").read_text()
        except OSError:
            return None
        # The name, in parentheses, may hold anything.
        user, system = text.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def loaded_bundle(path: Path | None, tail_ms: float) -> Iterator[Bundle]:
    """The bundle at ``path``; None: one with a sleeping tail, which is gone afterwards."""
    if path is not None:
        yield load_bundle(path)
        return
    with tempfile.TemporaryDirectory(prefix="waistline-bench-") as folder:
        yield sleeping_bundle(Path(folder) / "sleeping.bundle", tail_ms)


@contextlib.contextmanager
def edge_under_test(
    bundle: Bundle, endpoint: str | None, bench: ResolvedBench, nodes: int
) -> Iterator[UnderTest]:
    """The edge at ``endpoint``, or one of our own with the settings of ``bench``, ended at last.

    Raises:
        WaistlineError: it failed to start; the error it reported.
    """
    if endpoint is not None:
        yield UnderTest(endpoint)
        return
    given = ["--listen", "tcp://127.0.0.1:0", "--max-connections", str(max(256, 2 * nodes))]
    stage = bundle.tail
    if stage is not None and stage.format == "fake":
        given += ["--backend", "fake"]
    command = with_settings(services.EDGE, [str(bundle.path), *given, "--json"], bench)
    with tempfile.TemporaryDirectory(prefix="waistline-bench-") as folder:
        log = Path(folder) / "edge.log"
        try:
            with services.Service(services.EDGE, command, log) as edge:
                ready = edge.ready()
                yield UnderTest(ready["endpoint"], edge.pid, ready["workers"], ready["backend"])
        except WaistlineError as error:
            _quote(error, log)
            raise


def _quote(error: WaistlineError, log: Path) -> None:
    """Put the last lines of the edge's log, which goes away now, where the log is referred to."""
    named = str(log) in error.cause + error.fix
    if not (named or error.cause == _SEE_LOG or isinstance(error, LinkError)):
        return
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()][-_LOG_LINES:]
    said = f"its log ends: {' | '.join(lines)[-_LOG_CHARACTERS:]}" if lines else "its log is empty"
    kept = "" if error.cause == _SEE_LOG else error.cause
    error.cause = "; ".join(part for part in (kept, said) if part)
    if named or not error.fix:
        error.fix = "start an edge by hand to see all it says: waistline edge NAME.bundle"


def measure(
    edge: UnderTest,
    bundle: Bundle,
    setting: Setting,
    step: Callable[[int], None] = lambda done: None,
) -> list[Round]:
    """All rounds; ``step`` is told how many phases are done.

    Raises:
        LinkError: the edge went away.
        MeterError: the generator was the limit, so the figures would be its own.
    """
    rounds = []
    with Load(edge.endpoint, bundle, golden_waist(bundle), setting.nodes, edge.cpu_s) as load:
        for k in range(setting.rounds):
            peak = load.closed_loop(setting.window, setting.seconds)
            step(2 * k + 1)
            _check_peak(peak)
            rates_hz = setting.rates_hz(peak.goodput_hz)
            overload = load.open_loop(rates_hz, setting.seconds)
            step(2 * k + 2)
            _check_offered(overload, sum(rates_hz))
            rounds.append(Round(peak, overload))
    return rounds


def _check_peak(phase: Phase) -> None:
    """Whether it was the edge that could not go faster."""
    _check_generator(phase)
    if phase.total(REMOTE) == 0:
        raise MeterError("the edge answered no frame", cause=_SEE_LOG)
    edge_cpu = (phase.edge_cpu_s or 0.0) / phase.seconds
    if phase.waiting < MIN_WAITING and edge_cpu < MIN_EDGE_CPU:
        raise MeterError(
            "the edge was not at its limit at peak",
            cause=f"{phase.waiting:.2f} requests waited in its queue, it used {edge_cpu:.2f} cores",
            fix="give it more to do: --nodes 64, or a bundle with a longer tail",
        )


def _check_offered(phase: Phase, planned_hz: float) -> None:
    """Whether the edge got the load that the figures speak of.

    What the edge itself does not take from its sockets was offered as well.
    """
    _check_generator(phase)
    due_hz = phase.offered_hz
    if due_hz < MIN_OFFERED * planned_hz:
        late_s = statistics.median(phase.late_s) if phase.late_s else 0.0
        raise MeterError(
            "the load generator could not send as much as planned",
            cause=f"{due_hz:.0f} of {planned_hz:.0f} frames/s, half of them {late_s:.3f} s late",
            fix="use a longer tail (--tail-ms 20), or an edge on another machine (--edge)",
        )


def _check_generator(phase: Phase) -> None:
    share = phase.cpu_s / phase.seconds
    if share > MAX_GENERATOR_CPU:
        raise MeterError(
            "the load generator was the limit, not the edge",
            cause=f"its one thread used {share:.0%} of a core",
            fix="use a longer tail (--tail-ms 20), or an edge on another machine (--edge)",
        )
