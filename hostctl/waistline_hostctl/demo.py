"""The main job on the example: choose a cut, run both ends over a paced link, say what it cost."""

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
from waistline_hostctl import api, derive, inprocess, raw, recording
from waistline_hostctl.console import Console, grid, indented, size
from waistline_hostctl.example import Example, find_example
from waistline_hostctl.recording import About
from waistline_hostctl.streaming import Stream, Streamed, check_answered, run_streams

LINK = "wifi-n-esp32"
FRAMES, BESIDE, STUDIED = 1000, 300, 400
"""Streamed one at a time; in each further stream; at each code width."""
_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Demo:
    """The run, the cut that was chosen, and what is to be said about it."""

    run: api.Run
    cut: CutRow
    remarks: tuple[str, ...]


def run_demo(
    bench: ResolvedBench, console: Console, *, frames: int = FRAMES, runs: str | Path = "runs"
) -> Demo:
    """Run it all; see the module's text.

    Args:
        bench: settings in force; without a link profile in them it is `LINK`.
        console: is told each result as soon as there is one.
        frames: report images to stream, at most; the side streams get no more.
        runs: folder of run folders.

    Raises:
        WaistlineError: a part failed.
    """
    link = api.describe_link(bench.bench.link.profile)  # refused before anything is written
    example = find_example()
    model = load_model(example.model)
    cuts = list_cuts(model, example.task)
    chosen = pick_default_cut(cuts)
    console.say(_cuts_text(cuts, chosen))
    folder = new_run(runs, "demo")
    waist = split(model, chosen.x, folder.path / "fashion.bundle", task=example.task)
    picture = split(model, 0, folder.path / "picture.bundle", codec="png", task=example.task)
    console.say(_split_text(waist))
    streamed = _stream(waist, picture, example, frames, bench, folder, console)
    tables, settings = _tables(waist, example, frames, cuts, chosen, streamed, bench, console)
    derived = derive.derive({row.name: row for row in tables}, settings)
    remarks = (*derive.cheaper(derived.tables), *_cuts_remark(cuts, chosen))
    about = About(
        "demo",
        f"Fashion-MNIST, cut at x = {chosen.x} of {cuts[-1].x}",
        bench,
        recording.seeds(bench.bench.link.profile),
        recording.hashes(example.files),
        settings,
        remarks,
        {"link": link, "source": str(example.source), "frames": frames, "bundle": waist.id},
    )
    return Demo(api.finish(folder, tables, derived, about), chosen, remarks)


def _stream(
    waist: Bundle,
    picture: Bundle,
    example: Example,
    frames: int,
    bench: ResolvedBench,
    folder: RunFolder,
    console: Console,
) -> list[Streamed]:
    link, source = bench.bench.link.profile, str(example.source)
    beside = min(frames, BESIDE)
    budget = api.budget_s(link, picture)
    streams = [
        Stream(derive.MAIN, waist, source, frames, budget_s=budget),
        Stream(derive.OVERLAP, waist, source, beside, sequential=False, budget_s=budget),
        Stream(derive.PICTURE, picture, source, beside, budget_s=budget),
    ]
    streamed = run_streams(streams, bench.bench, folder.path, console)
    check_answered(streamed)
    console.say(f"\nrun      {api.pids(streamed)}")
    console.say(indented(api.describe_link(link) or "this machine's loopback, as it is", " "))
    return streamed


def _tables(
    waist: Bundle,
    example: Example,
    frames: int,
    cuts: Sequence[CutRow],
    chosen: CutRow,
    streamed: Sequence[Streamed],
    bench: ResolvedBench,
    console: Console,
) -> tuple[list[Table], derive.Settings]:
    """Raw tables; the uncut answers and the study are computed here."""
    backend, source = bench.bench.node.backend, str(example.source)
    with console.progress("uncut model: frames", frames) as progress:
        inputs = list(
            inprocess.describe_inputs(
                waist,
                inprocess.frames_of(waist, source, frames),
                backend=backend,
                model=example.model,
                step=progress.update,
            )
        )
    limit = min(frames, STUDIED)
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
        raw.inputs_table(inputs),
        raw.cuts_table(cuts, chosen.x),
        raw.study_table(study),
    ]
    return tables, api.settings_of(waist, inputs, link, api.RADIOS)


def _cuts_text(cuts: Sequence[CutRow], chosen: CutRow) -> str:
    """The cuts worth a look: the ends, the chosen one, and those below the picture."""
    png = cuts[0].packed_bytes
    least = sorted(cuts[2:-1], key=lambda row: row.packed_bytes)
    kept = {cuts[0].x, cuts[1].x, cuts[-1].x, chosen.x}
    for row in least:
        if len(kept) < _SHOWN and not row.breaks_fusion:
            kept.add(row.x)
    names = {0: "sensor frame (PNG)", 1: "model input"}
    rows = [
        (str(row.x), "*" if row.x == chosen.x else "", size(row.size_bytes),
         size(row.packed_bytes), f"{row.packed_bytes / png:.2f}", f"{100 * row.macs_share:.1f}",
         names.get(row.x) or ",".join(tensor.name for tensor in row.tensors))
        for row in cuts
        if row.x in kept
    ]  # fmt: skip
    table = grid(("x", "", "float", "4 bit", "x PNG", "head MACs %", "waist"), rows)
    return (
        f"cuts     {len(cuts)} partition points, {len(rows)} shown "
        f"(all: waistline split MODEL --list)\n\n{table}\n\n"
        f"         * chosen: the latest cut whose waist is below the PNG"
    )


def _split_text(bundle: Bundle) -> str:
    codec = ", ".join(f"{item.tensor.name} as {item.codec}" for item in bundle.cut.tensors)
    return f"\nsplit    {bundle.path}\n         {codec}"


def _cuts_remark(cuts: Sequence[CutRow], chosen: CutRow) -> list[str]:
    png = cuts[0].packed_bytes
    between = cuts[2:-1]
    dearer = [row for row in between if row.packed_bytes >= png]
    remarks = [
        f"at {len(dearer)} of {len(between)} cuts inside the network the 4-bit waist, before "
        f"entropy coding, is no smaller than the mean PNG ({size(png)}): unless the coder makes up "
        f"for it, sending the picture itself is cheaper there"
    ]
    if chosen.macs_share > 0.9:
        remarks.append(
            f"the head of this cut does {100 * chosen.macs_share:.1f} % of the work (MACs); "
            f"sending the answer instead (x = {cuts[-1].x}) takes {size(cuts[-1].packed_bytes)}"
        )
    return remarks


def with_default_link(bench: ResolvedBench) -> ResolvedBench:
    """``bench`` with the demo's link where nobody chose one."""
    chosen = bench.origins["link.profile"] != DEFAULT
    return bench if chosen else with_link(bench, LINK, "demo")
