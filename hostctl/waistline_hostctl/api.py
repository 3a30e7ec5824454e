"""The Python API behind the command line, beside ``waistline.split``, ``load_bundle``, ``verify``.

from waistline_hostctl import api
run = api.run_pair("model.bundle", source="images/", link="wifi-n-esp32")
print(run.figures["latency_p50_waist_s"].value)
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from msgspec.structs import replace

from waistline.bench import FLAG, ResolvedBench, resolve, with_board, with_link
from waistline.bundle.golden import read_frame
from waistline.bundle.schema import MANIFEST
from waistline.bundle.store import Bundle, load_bundle
from waistline.errors import ConfigError
from waistline.evidence import Figure
from waistline.files import unwritable
from waistline.links._profiles import profile
from waistline.run import RunFolder, Table, new_run
from waistline_bridge.split import McuSplit, split_mcu
from waistline_edge.options import EdgeOptions
from waistline_hostctl import inprocess, raw, recording
from waistline_hostctl.console import Console
from waistline_hostctl.derive import (
    MAIN,
    Derived,
    Settings,
    cheaper,
    derive,
    measure_of,
    pick_metric,
)
from waistline_hostctl.describing import describe_stream
from waistline_hostctl.devices import devices
from waistline_hostctl.doctor import examine
from waistline_hostctl.recording import About, Rendered, report_again
from waistline_hostctl.streaming import Stream, Streamed, check_answered, run_streams
from waistline_hostctl.uncut import reference_of
from waistline_node.sources.base import path_of

if TYPE_CHECKING:
    from waistline_hostctl.capture.record import Captured

__all__ = [
    "RADIOS",
    "McuSplit",
    "Rendered",
    "Run",
    "capture",
    "devices",
    "examine",
    "report_again",
    "run_pair",
    "split_mcu",
]  # fmt: skip

RADIOS = ("ble5-2m-nrf52840", "lte-cat1")
"""Modelled in every run: a short-range radio and a modem."""
REPEATED = (
    "one frame, the bundle's golden one, was sent again and again: bytes and answers are those of "
    "a single frame, and their ± says nothing of others (--source gives frames of your own)"
)
GOLDEN_FRAMES = 100
"""Sent where no source is given: the bundle's golden frame so many times."""
HELLO_BYTES = 320
"""A node's greeting, about; what a paced link must carry before the edge gives up."""
BUDGET_FACTOR = 20
BUDGET_S = 5.0


def capture(
    meter: str,
    *,
    port: str | None = None,
    options: Mapping[str, str] | None = None,
    duration_s: float | None = None,
    output: str | Path | None = None,
    runs: str | Path = "runs",
    name: str = "",
    command: Sequence[str] = (),
    allow_slow: bool = False,
    bench: ResolvedBench | None = None,
    console: Console | None = None,
) -> Captured:
    """Record a power trace; returns once it is closed.

    Args:
        meter: its name, such as ``ppk2``, or of its section in the bench file.
        port: path or id, where there are several.
        options: the meter's own, such as ``{"voltage": "3.3"}``.
        duration_s: of the trace; None: until interrupted, or the command ends.
        output: of the trace alone; None: a run folder.
        runs: folder of run folders.
        name: of the run; "" is the meter's.
        command: program and arguments to capture around; its begin and end become markers.
        allow_slow: a meter below 100 kHz will do.
        bench: settings; None: the defaults and the environment.
        console: gets the line of statistics.

    Raises:
        SamplesLost: losses cannot be accounted for, or it ended early; the trace is kept.
        RateTooLow, MeterError, ConfigError, MissingExtra, TraceError: it did not begin.
    """
    # What it needs takes a while to import, and most callers do not.
    from waistline_hostctl.capture.control import Wanted, run
    from waistline_hostctl.meters.base import MeterChoice

    wanted = Wanted(
        choice=MeterChoice(meter, port, dict(options or {})),
        duration_s=duration_s,
        output=None if output is None else Path(output),
        runs=Path(runs),
        name=name,
        command=tuple(command),
        allow_slow=allow_slow,
    )
    found = run(wanted, bench or resolve(environment=os.environ), console or Console(json=True))
    found.check()
    return found


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
    console = console or Console(json=True, beside=io.StringIO())
    bench = bench or resolve(environment=os.environ)
    if link is not None:
        bench = with_link(bench, link, FLAG)
    bench = with_board(bench, FLAG, board=board, port=port, baud=baud)
    link = bench.bench.link.profile
    for known in radios:
        profile(known)
    check_link(link)
    opened = load_bundle(bundle)
    # Refused here, before a folder is made and two processes are started.
    remarks = () if source is None else inprocess.look_at(opened, source)
    folder = folder or new_run(runs, name)
    loop = source is None
    if loop:
        remarks = (REPEATED,)
    if source is None:
        source, count = str(write_golden(folder, opened)), count or GOLDEN_FRAMES
    budget = budget_s(link, opened)
    stream = Stream(MAIN, opened, source, count, sequential, budget, rate_hz, loop)
    streamed = run_streams([stream], bench.bench, folder.path, console, board_options=board_options)
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


def settings_of(
    bundle: Bundle, labels: Iterable[str], link: str, radios: Sequence[str]
) -> Settings:
    """What computing the tables of a run needs to know; ``labels`` of its frames, as text."""
    plain = Settings(
        answer=bundle.manifest.answer,
        metric="",
        link=link,
        radios=tuple(radios),
        partition_point=bundle.cut.partition_point,
        codec=", ".join(dict.fromkeys(item.codec for item in bundle.cut.tensors)),
    )
    return replace(plain, metric=pick_metric(labels, plain))


def describe_link(profile_id: str) -> str:
    """The paced link in words, "" for loopback."""
    if not profile_id:
        return ""
    found = profile(profile_id)
    return (
        f"emulated {found.name} ({found.id}): {found.rate_up_bps / 1e6:g} Mbit/s up, "
        f"round trip {found.rtt_s * 1e3:g} ms, jitter {found.jitter_s * 1e3:g} ms"
    )


def check_link(profile_id: str) -> None:
    """Refuse a link over which a node cannot greet its edge in time.

    Raises:
        ConfigError: there is no such profile, or it is too slow for a conversation.
    """
    if not profile_id:
        return
    found = profile(profile_id)
    hello_s = found.rtt_s + 2 * found.jitter_s + 8 * HELLO_BYTES / (found.rate_up_bps or 1e9)
    waits_s = EdgeOptions().handshake_s
    if hello_s > waits_s:
        raise ConfigError(
            f"link {profile_id} is too slow to run over",
            cause=f"greeting takes {hello_s:.1f} s, an edge waits {waits_s:g} s",
            fix=f"model its energy beside another link: --radio {profile_id}",
        )


def budget_s(profile_id: str, bundle: Bundle) -> float:
    """Age limit of a frame that a slow link does not run into.

    The default is 5 s; a profile whose largest payload and round trip need more gets more.
    """
    if not profile_id:
        return BUDGET_S
    found, codec = profile(profile_id), bundle.waist_codec()
    largest = codec.max_payload_bytes if codec else bundle.answer_kind.max_bytes
    one_s = found.rtt_s + 2 * found.jitter_s + 8 * largest / (found.rate_up_bps or 1e9)
    return max(BUDGET_S, BUDGET_FACTOR * one_s)


def write_golden(folder: RunFolder, bundle: Bundle) -> Path:
    """The bundle's golden frame as a source of one frame, in the run folder."""
    frame = read_frame(bundle)
    names = [spec.name for spec in bundle.manifest.golden.frame_tensors]
    keys = ["images"] if bundle.manifest.preprocess is not None else names
    target = folder.path / "golden.npz"
    try:
        np.savez(
            target,
            allow_pickle=False,
            **{key: array[np.newaxis] for key, array in zip(keys, frame.arrays, strict=True)},
        )
    except OSError as error:
        raise unwritable(target, error, elsewhere="choose another --runs folder") from error
    return target


def pids(streamed: Sequence[Streamed]) -> str:
    """Who ran, for people: two processes of the operating system."""
    return f"edge process {streamed[0].edge_pid}, node process {streamed[0].node_pid}"
