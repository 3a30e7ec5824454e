"""`run_pair` of the Python API: both ends of a bundle as two processes, and the run folder."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from waistline.bench import FLAG, ResolvedBench, resolve, with_board, with_link
from waistline.bundle.schema import MANIFEST
from waistline.bundle.store import load_bundle
from waistline.evidence import Figure
from waistline.links._profiles import profile
from waistline.run import RunFolder, Table, new_run
from waistline_hostctl import inprocess, raw, recording
from waistline_hostctl.console import Console, nobody
from waistline_hostctl.derive import MAIN, Derived, Settings, cheaper, derive, measure_of
from waistline_hostctl.describing import describe_stream
from waistline_hostctl.mcu_open import mcu_head
from waistline_hostctl.recording import About
from waistline_hostctl.run_link import (
    budget_s,
    check_link,
    describe_link,
    settings_of,
    write_golden,
)
from waistline_hostctl.streaming import Stream, Streamed, check_answered, run_streams
from waistline_hostctl.uncut import reference_of
from waistline_node.sources.base import path_of

RADIOS = ("ble5-2m-nrf52840", "lte-cat1")
"""Modelled in every run: a short-range radio and a modem."""
REPEATED = (
    "one frame, the bundle's golden one, was sent again and again: bytes and answers are those of "
    "a single frame, and their ± says nothing of others (--source gives frames of your own)"
)
GOLDEN_FRAMES = 100
"""Sent where no source is given: the bundle's golden frame so many times."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run that is on disk.

    Attributes:
        folder: of the run.
        report: its page.
        outcomes: frames by outcome, all streams.
        figures: by name, as in run.json.
        tables: raw and computed, by name.
        remarks: what the figures mean, in sentences.
        measure: what the score of its answers is called, "" where frames have no labels.
    """

    folder: Path
    report: Path
    outcomes: dict[str, int]
    figures: dict[str, Figure]
    tables: dict[str, Table]
    remarks: tuple[str, ...]
    measure: str = ""


def run_pair(
    bundle: str | Path,
    *,
    source: str | None = None,
    link: str | None = None,
    count: int | None = None,
    sequential: bool = True,
    rate_hz: float | None = None,
    radios: Sequence[str] = RADIOS,
    runs: str | Path = "runs",
    name: str = "run",
    bench: ResolvedBench | None = None,
    console: Console | None = None,
    board: str | None = None,
    port: str | None = None,
    baud: int | None = None,
    board_options: Mapping[str, str] | None = None,
    model: Path | None = None,
    folder: RunFolder | None = None,
) -> Run:
    """Run both ends of a bundle as two processes over loopback; write a run folder.

    Args:
        bundle: its folder.
        source: of frames, not live (`waistline_node.sources`); None: the bundle's golden frame,
            again and again.
        link: profile that paces the link; "" for loopback as it is; None: as the bench says.
        count: frames at most.
        sequential: one frame at a time; False: stages overlap, so latency holds waiting.
        rate_hz: frames a second; frames that come too late are dropped.
        radios: link profiles whose energy is modelled.
        runs: folder of run folders.
        name: of the run.
        bench: settings in force; None: defaults and ``WAISTLINE_*``.
        console: is told progress; None: nobody is.
        board: emulated microcontroller that runs a head made for one.
        port: serial port of a microcontroller instead; None of both: as the bench says.
        baud: of the port.
        board_options: of the board, such as ``{"icount": "on"}``.
        model: the uncut model, for the uncut answers; None: head and tail joined.
        folder: of this run, made already; None: a new one.

    Raises:
        WaistlineError: anything that keeps the run from being whole.
    """
    console = console or nobody()
    bench = bench or resolve(environment=os.environ)
    if link is not None:
        bench = with_link(bench, link, FLAG)
    bench = with_board(bench, FLAG, board=board, port=port, baud=baud)
    link = bench.bench.link.profile
    for known in radios:
        profile(known)
    check_link(link)
    opened = load_bundle(bundle)
    if board or port:
        mcu_head(opened)
    # Refused here, before a folder is made and two processes are started.
    remarks = () if source is None else inprocess.look_at(opened, source)
    with folder or new_run(runs, name) as folder:
        loop = source is None
        if loop:
            remarks = (REPEATED,)
        if source is None:
            source, count = str(write_golden(folder, opened)), count or GOLDEN_FRAMES
        budget = budget_s(link, opened)
        stream = Stream(MAIN, opened, source, count, sequential, budget, rate_hz, loop)
        streamed = run_streams(
            [stream], bench.bench, folder.path, console, board_options=board_options
        )
        check_answered(streamed)
        tables = [
            raw.frames_table([raw.Sent(MAIN, streamed[0].records)], emulated=bool(link),
                             board_emulated=streamed[0].board_emulated),
            *describe_stream(
                streamed[0], reference_of(bench.bench.node.backend), console, model=model
            ),
        ]  # fmt: skip
        settings = replace(
            settings_of(opened, tables[1].column("label"), link, radios),
            board=streamed[0].board,
            board_emulated=streamed[0].board_emulated,
        )
        derived = derive({row.name: row for row in tables}, settings)
        told = remarks if loop else (*cheaper(derived.tables, settings), *remarks)
        return finish(folder, tables, derived, _about(name, bench, streamed[0], settings, told))


def _about(
    name: str,
    bench: ResolvedBench,
    streamed: Streamed,
    settings: Settings,
    remarks: Sequence[str],
) -> About:
    stream = streamed.stream
    files = [path for path in [path_of(stream.source)] if path]
    manifest = stream.bundle.path / MANIFEST
    return About(
        name=name,
        title=f"{stream.bundle.manifest.model_name}, cut at x = {settings.partition_point}",
        bench=bench,
        seeds=recording.seeds(settings.link),
        inputs={str(manifest): stream.bundle.id, **recording.hashes(files)},
        settings=settings,
        remarks=remarks,
        more={
            "link": describe_link(settings.link),
            "source": stream.source,
            "sequential": stream.sequential,
            "head": dict(streamed.head),
        },
    )


def finish(folder: RunFolder, tables: Sequence[Table], derived: Derived, about: About) -> Run:
    """Write everything of a run and describe it."""
    report = recording.record_run(folder, tables, derived, about)
    named = {row.name: row for row in (*tables, *derived.tables)}
    outcomes: dict[str, int] = {}
    for outcome in named[raw.FRAMES].column("outcome"):
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    measure = measure_of(about.settings) if about.settings.metric else ""
    return Run(folder.path, report, outcomes, derived.figures, named, tuple(about.remarks), measure)


def pids(streamed: Sequence[Streamed]) -> str:
    """Who ran, for people: two processes of the operating system."""
    return f"edge process {streamed[0].edge_pid}, node process {streamed[0].node_pid}"
