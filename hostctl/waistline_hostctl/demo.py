"""The main job on the examples: choose a cut, run both ends over a paced link, say what it cost.

Two acts: biscuits on a conveyor, where a waist can beat the picture, and clothes of 28 x 28 pixels,
where it does not; the demo says so either way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from waistline.bench import DEFAULT, ResolvedBench, with_link
from waistline.bundle.cuts import CutRow, list_cuts, pick_default_cut
from waistline.bundle.store import Bundle
from waistline.model.load import load_model
from waistline.run import RunFolder, Table, new_run
from waistline.split import split
from waistline_hostctl import derive, inprocess, raw, recording, run_link, running
from waistline_hostctl.console import Console, grid, indented, size
from waistline_hostctl.describing import describe_stream
from waistline_hostctl.example import BISCUITS, FASHION, Example, find_example
from waistline_hostctl.recording import About
from waistline_hostctl.streaming import Stream, Streamed, check_answered, run_streams

LINK = "wifi-n-esp32"
PICTURE = "jpeg:90"
"""Codec of the picture stream."""
BISCUIT_CODEC = "affine:b=2,clip=mse,per=channel|ctx"
"""Two bits lose nothing on the selection data (``waistline study codec``)."""
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Act:
    """One example and how much of it is run.

    Attributes:
        example: folder of the example.
        title: of its report.
        codec: of the waist; None for the default.
        frames: streamed one at a time.
        beside: in each further stream.
        studied: at each code width.
    """

    example: str
    title: str
    codec: str | None
    frames: int
    beside: int
    studied: int


ACTS = (
    Act(BISCUITS, "Biscuits on a conveyor, Tiny YOLOv3", BISCUIT_CODEC, 200, 60, 60),
    Act(FASHION, "Fashion-MNIST, a small MobileNet", None, 400, 200, 400),
)


@dataclass(frozen=True, slots=True)
class Demo:
    """The run of one act, and the cut that was chosen."""

    act: Act
    run: running.Run
    cut: CutRow


def run_act(
    act: Act,
    bench: ResolvedBench,
    console: Console,
    *,
    frames: int | None = None,
    runs: str | Path = "runs",
) -> Demo:
    """Run one act; see the module's text.

    Args:
        act: what to run.
        bench: settings in force; without a link profile in them it is `LINK`.
        console: is told each result as soon as there is one.
        frames: report images to stream, at most; the side streams get no more.
        runs: folder of run folders.

    Raises:
        WaistlineError: a part failed.
    """
    run_link.check_link(bench.bench.link.profile)  # refused before anything is written
    link = run_link.describe_link(bench.bench.link.profile)
    example = find_example(act.example)
    count = min(act.frames, frames or act.frames)
    model = load_model(example.model)
    cuts = list_cuts(model, example.task)
    chosen = pick_default_cut(cuts)
    console.say(_cuts_text(cuts, chosen))
    with new_run(runs, f"demo-{act.example}") as folder:
        waist = split(
            model, chosen.x, folder.path / "waist.bundle", codec=act.codec, task=example.task
        )
        picture = split(model, 0, folder.path / "picture.bundle", codec=PICTURE, task=example.task)
        console.say(_split_text(waist))
        source = example.write_source(folder.path / "frames.npz", count)
        streamed = _stream(waist, picture, str(source), (count, act.beside), bench, folder, console)
        tables, settings = _tables(waist, example, act, cuts, chosen, streamed, bench, console)
        derived = derive.derive({row.name: row for row in tables}, settings)
        about = About(
            f"demo-{act.example}",
            f"{act.title}, cut at x = {chosen.x} of {cuts[-1].x}",
            bench,
            recording.seeds(bench.bench.link.profile),
            recording.hashes([*example.files, source]),
            settings,
            (*derive.cheaper(derived.tables, settings), *_cuts_remark(cuts, chosen)),
            {"link": link, "source": source.name, "frames": count, "bundle": waist.id,
             "picture": PICTURE},
        )  # fmt: skip
        return Demo(act, running.finish(folder, tables, derived, about), chosen)


def _stream(
    waist: Bundle,
    picture: Bundle,
    source: str,
    counts: tuple[int, int],
    bench: ResolvedBench,
    folder: RunFolder,
    console: Console,
) -> list[Streamed]:
    """The waist one frame at a time, then pipelined, then the picture; ``counts`` of frames."""
    link, count = bench.bench.link.profile, counts[0]
    beside = min(counts)
    budget = run_link.budget_s(link, picture)
    streams = [
        Stream(derive.MAIN, waist, source, count, budget_s=budget),
        Stream(derive.OVERLAP, waist, source, beside, sequential=False, budget_s=budget),
        Stream(derive.PICTURE, picture, source, beside, budget_s=budget),
    ]
    streamed = run_streams(streams, bench.bench, folder.path, console)
    check_answered(streamed)
    console.say(f"\nrun      {running.pids(streamed)}")
    console.say(indented(run_link.describe_link(link) or "this machine's loopback, as it is", " "))
    return streamed


def _tables(
    waist: Bundle,
    example: Example,
    act: Act,
    cuts: Sequence[CutRow],
    chosen: CutRow,
    streamed: Sequence[Streamed],
    bench: ResolvedBench,
    console: Console,
) -> tuple[list[Table], derive.Settings]:
    """Raw tables; the uncut answers, the pictures and the study are computed here."""
    backend = bench.bench.node.backend
    described = describe_stream(streamed[0], backend, console, model=example.model)
    limit = min(len(streamed[0].records), act.studied)
    with console.progress("bits 1 to 8: frames", limit) as progress:
        study = list(
            inprocess.study_bits(
                waist,
                example.task.data("calibration"),
                example.task.data("selection"),
                backend=backend,
                limit=limit,
                step=progress.update,
            )
        )
    link = bench.bench.link.profile
    sent = [raw.Sent(row.stream.name, row.records) for row in streamed]
    tables = [
        raw.frames_table(sent, emulated=bool(link)),
        *described,
        raw.cuts_table(cuts, chosen.x),
        raw.study_table(study),
    ]
    return tables, run_link.settings_of(waist, described[0].column("label"), link, running.RADIOS)


def _cuts_text(cuts: Sequence[CutRow], chosen: CutRow) -> str:
    """The cuts worth a look: the ends, the chosen one, and those with the least to send."""
    picture = cuts[0].packed_bytes
    least = sorted(cuts[2:-1], key=lambda row: row.packed_bytes)
    kept = {cuts[0].x, cuts[1].x, cuts[-1].x, chosen.x}
    for row in least:
        if len(kept) < _SHOWN and not row.breaks_fusion:
            kept.add(row.x)
    names = {0: "sensor frame (PNG)", 1: "model input"}
    rows = [
        (str(row.x), "*" if row.x == chosen.x else "", size(row.size_bytes),
         size(row.packed_bytes), f"{row.packed_bytes / picture:.2f}",
         f"{100 * row.macs_share:.1f}",
         names.get(row.x) or ",".join(tensor.name for tensor in row.tensors))
        for row in cuts
        if row.x in kept
    ]  # fmt: skip
    table = grid(("x", "", "float", "4 bit", "x PNG", "head MACs %", "waist"), rows)
    return (
        f"cuts     {len(cuts)} partition points, {len(rows)} shown "
        f"(all: waistline split MODEL --list)\n\n{table}\n\n"
        f"         * chosen: {CHOSEN}"
    )


CHOSEN = "the earliest whose 4-bit waist is below the picture (smaller of PNG, JPEG q90)"


def _split_text(bundle: Bundle) -> str:
    codec = ", ".join(f"{item.tensor.name} as {item.codec}" for item in bundle.cut.tensors)
    return f"\nsplit    {bundle.path}\n         {codec}"


def _cuts_remark(cuts: Sequence[CutRow], chosen: CutRow) -> list[str]:
    picture = cuts[0].picture_bytes
    between = cuts[2:-1]
    dearer = [row for row in between if row.packed_bytes >= picture]
    answer = size(cuts[-1].packed_bytes)
    return [
        f"at {len(dearer)} of {len(between)} cuts inside the network the 4-bit waist, before "
        f"entropy coding, is no smaller than the picture as PNG or JPEG q90 ({size(picture)}): "
        f"unless the coder makes up for it, sending the picture itself is cheaper there",
        f"the head of this cut does {100 * chosen.macs_share:.1f} % of the work (MACs); running "
        f"everything on the node (x = {cuts[-1].x}) would send {answer} at most",
    ]


def with_default_link(bench: ResolvedBench) -> ResolvedBench:
    """``bench`` with the demo's link where nobody chose one."""
    chosen = bench.origins["link.profile"] != DEFAULT
    return bench if chosen else with_link(bench, LINK, "demo")
