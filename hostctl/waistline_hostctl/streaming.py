"""Both ends at once: an edge process and a node process over loopback, the link paced or not."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from waistline.bench import Bench, NodeBench
from waistline.blob import FORMAT
from waistline.bundle.store import Bundle
from waistline.errors import ConfigError
from waistline_hostctl.console import Console
from waistline_hostctl.raw import records_of
from waistline_hostctl.services import EDGE, NODE, Service, ending_on_sigterm, paced
from waistline_node.heads.base import board_by_default
from waistline_node.records import FrameRecord

LISTEN = "tcp://127.0.0.1:0"
NODE_LOG, EDGE_LOG = "node-{}.log", "edge.log"


@dataclass(frozen=True, slots=True)
class Stream:
    """One run of a node.

    Attributes:
        name: for the table.
        bundle: what is run.
        source: where frames come from.
        count: at most so many.
        sequential: one frame at a time, so that latency holds no waiting for other frames.
        budget_s: age limit of a frame.
        rate_hz: frames a second, None: as fast as they are taken.
        loop: begin the source again at its end; needs a count.
    """

    name: str
    bundle: Bundle
    source: str
    count: int | None = None
    sequential: bool = True
    budget_s: float | None = None
    rate_hz: float | None = None
    loop: bool = False


@dataclass(frozen=True, slots=True)
class Streamed:
    """What became of it.

    Attributes:
        records: in the order of the source.
        edge_pid, node_pid: of the two processes.
        head: what ran the head, as it says itself.
    """

    stream: Stream
    records: list[FrameRecord]
    edge_pid: int
    node_pid: int
    head: Mapping[str, str] = field(default_factory=dict)

    @property
    def board(self) -> str:
        """The microcontroller that ran the head, "" for none."""
        return self.head.get("board", "")

    @property
    def board_emulated(self) -> bool:
        return self.head.get("emulated") == "yes"


def run_streams(
    streams: Sequence[Stream],
    bench: Bench,
    folder: Path,
    console: Console,
    *,
    board_options: Mapping[str, str] | None = None,
) -> list[Streamed]:
    """Run each stream in turn against one edge that serves all their bundles.

    Args:
        streams: at least one.
        bench: engines, threads, link profile.
        folder: gets the logs of both services.
        console: is shown progress.
        board_options: of the board that runs the heads of bundles for one.

    Raises:
        WaistlineError: a service failed; the error it reported.
    """
    bundles = list(dict.fromkeys(str(stream.bundle.path) for stream in streams))
    edge_bench = bench.edge
    arguments = [
        *bundles, "--listen", LISTEN, "--backend", edge_bench.backend,
        "--threads", str(edge_bench.threads), "--workers", str(edge_bench.workers),
    ]  # fmt: skip
    done = []
    with ending_on_sigterm(), Service(EDGE, arguments, folder / EDGE_LOG) as edge:
        endpoint = paced(edge.ready()["endpoint"], bench.link.profile)
        for stream in streams:
            arguments = [
                *_node_arguments(stream, endpoint, bench),
                *_board_arguments(stream.bundle, bench.node, board_options or {}),
            ]
            done.append(_run_node(stream, arguments, folder, console, edge))
    return done


def _run_node(
    stream: Stream, arguments: Sequence[str], folder: Path, console: Console, edge: Service
) -> Streamed:
    with tempfile.TemporaryDirectory(prefix=".records.", dir=folder) as temporary:
        file = Path(temporary) / "records.csv"
        log = folder / NODE_LOG.format(stream.name)
        with Service(NODE, [*arguments, "--records", str(file)], log) as node:
            with console.progress("loading the head onto the board: bytes") as loading:
                ready = node.ready(progress=loading.update)
            _remark(ready["head"], console)
            records = _Counter(file)
            with console.progress(f"{stream.name}: frames", ready.get("frames")) as progress:

                def waiting() -> None:
                    edge.check()  # nobody starts it again, so the node would wait in vain
                    progress.update(records.count())

                node.result(waiting)
            return Streamed(stream, records_of(file), edge.pid, node.pid, ready["head"])


def _remark(head: Mapping[str, str], console: Console) -> None:
    """Which board ran the head, where a node chose one by itself."""
    if head.get("chosen") == "default":
        console.note(board_by_default(head["board"]))


def _node_arguments(stream: Stream, endpoint: str, bench: Bench) -> Iterable[str]:
    yield from (str(stream.bundle.path), "--source", stream.source, "--edge", endpoint)
    yield from ("--backend", bench.node.backend)
    if bench.node.threads:
        yield from ("--threads", str(bench.node.threads))
    if stream.count is not None:
        yield from ("--count", str(stream.count))
    if stream.loop:
        yield "--loop"
    if stream.sequential:
        yield "--sequential"
    if stream.budget_s is not None:
        yield from ("--budget-s", str(stream.budget_s))
    if stream.rate_hz is not None:
        yield from ("--rate", str(stream.rate_hz))


def _board_arguments(bundle: Bundle, node: NodeBench, options: Mapping[str, str]) -> Iterable[str]:
    """Flags of the node that say which board; none for a bundle whose head runs on no board."""
    if bundle.head is None or bundle.head.format != FORMAT:
        return
    if node.board:
        yield from ("--board", node.board)
    if node.port:
        yield from ("--port", node.port, "--baud", str(node.baud))
    for key, value in options.items():
        yield from ("--board-option", f"{key}={value}")


class _Counter:
    """Records in a file that grows; each byte is read once."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._offset = self._lines = 0

    def count(self) -> int:
        with contextlib.suppress(OSError), self._file.open("rb") as stream:
            stream.seek(self._offset)
            data = stream.read()
            self._offset += len(data)
            self._lines += data.count(b"\n")
        return max(self._lines - 1, 0)


def check_answered(streamed: Iterable[Streamed]) -> None:
    """Refuse a run in which a stream has no answer at all: there is nothing to report."""
    for row in streamed:
        if not any(record.outcome == "remote" for record in row.records):
            raise ConfigError(
                f"no frame of stream {row.stream.name!r} was answered",
                cause=f"{len(row.records)} frames, none remote",
                fix="see the logs of node and edge in the run folder",
            )
