"""Splitting for a microcontroller: the cuts it can run, the fit table, what was written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from waistline.bundle.cuts import CutRow
from waistline.bundle.store import Bundle
from waistline.model.load import CutModel
from waistline.task.load import Task
from waistline_bridge.cuts import McuCut
from waistline_hostctl import models
from waistline_hostctl.console import grid, indented, size
from waistline_hostctl.fit_text import fit_text
from waistline_hostctl.mcu_survey import emulated_boards
from waistline_hostctl.options import App
from waistline_hostctl.results import BoardFit, CutsResult, HeadSizes, SplitResult

if TYPE_CHECKING:
    from waistline_bridge.fit import BoardLimits
    from waistline_bridge.split import McuSplit


@dataclass(frozen=True, slots=True)
class Asked:
    """The arguments of ``waistline split`` that lead to a bundle."""

    model: Path
    cut: str
    output: str
    task: Task | None
    shapes: tuple[str, ...]
    codecs: tuple[str, ...]
    force: bool
    board: str | None


def split_for_board(app: App, asked: Asked) -> SplitResult:
    """Write a bundle whose head is a blob; the table of boards comes before it.

    Raises:
        WaistlineError: as `waistline_bridge.split.split_mcu`.
    """
    from waistline_bridge.split import split_mcu

    general, named = models.parse_codecs(asked.codecs)
    done = split_mcu(
        asked.model,
        asked.cut,
        asked.output,
        codec=general,
        task=asked.task,
        shapes=models.parse_shapes(asked.shapes),
        codecs_by_tensor=named,
        board=asked.board,
        force=asked.force,
        say=app.console.note,
        show=lambda fits: app.console.say(fit_text(fits)),
    )
    return replace(result_of(done.bundle), head=_sizes(done))


def result_of(bundle: Bundle) -> SplitResult:
    """What a bundle that was written is."""
    codec = bundle.waist_codec()
    return SplitResult(
        bundle=str(bundle.path),
        bundle_id=bundle.id,
        partition_point=bundle.cut.partition_point,
        after=bundle.cut.after,
        waist=tuple(item.tensor.name for item in bundle.cut.tensors),
        codecs={item.tensor.name: item.codec for item in bundle.cut.tensors},
        float_bytes=sum(item.tensor.size_bytes for item in bundle.cut.tensors),
        packed_bytes=codec.raw_len if codec else bundle.answer_kind.max_bytes,
        last_x=bundle.manifest.partition_points,
    )


def _sizes(done: McuSplit) -> HeadSizes:
    lowered = done.lowered
    boards = tuple(
        BoardFit(
            board=row.limits.board,
            blob_left_bytes=row.blob_left_bytes,
            arena_left_bytes=row.arena_left_bytes,
            flash_bytes=row.limits.flash_bytes,
            flash_used_bytes=row.limits.flash_used_bytes,
            ram_bytes=row.limits.ram_bytes,
            ram_used_bytes=row.limits.ram_used_bytes,
            stack_bytes=row.limits.stack_bytes,
            problem=row.problem,
        )
        for row in done.fits
    )
    return HeadSizes(
        blob_bytes=len(lowered.data),
        arena_bytes=lowered.plan.size_bytes,
        live_bytes=lowered.plan.largest_live_bytes,
        layers=len(lowered.head.layers),
        boards=boards,
    )


def head_line(head: HeadSizes) -> str:
    """The row of a blob in what is said of a bundle."""
    return (
        f"  head   {head.layers} layers, blob {size(head.blob_bytes)}, "
        f"arena {size(head.arena_bytes)} (buffers that live at once: {size(head.live_bytes)})"
    )


def next_flags(board: str | None) -> tuple[str, str]:
    """What ``verify`` and ``run`` take to use the board that a bundle was split for."""
    if board is None:
        return " --backend mcu", ""
    own = f" --board {board}" if board in emulated_boards() else " --port DEVICE"
    return own, own


def cuts_on_board(app: App, model: CutModel, board: str | None) -> tuple[McuCut, ...]:
    """What each cut takes; takes a while for a float model, whose heads are quantized for it.

    Raises:
        ConfigError: there is no such board.
    """
    from waistline_bridge.fit import limits_of
    from waistline_bridge.listing import list_mcu_cuts

    if board is not None:
        limits_of(board)
    with app.console.progress("cuts lowered", model.graph.last_x - 1) as progress:
        return tuple(list_mcu_cuts(model, progress.update))


def runnable(rows: Sequence[CutRow], found: Sequence[McuCut]) -> list[CutRow]:
    """The cuts among which one is chosen: as the board sends them, without those it cannot run."""
    packed = {row.x: row.packed_bytes for row in found if not row.refused}
    last = rows[-1].x
    kept = [row for row in rows if row.x < 2 or row.x in packed or row.x == last]
    return [
        replace(row, packed_bytes=packed[row.x]) if row.x in packed and row.x != last else row
        for row in kept
    ]


def board_text(result: CutsResult, board: str | None) -> str:
    """The table of cuts for a microcontroller, with a legend that says which it cannot run."""
    from waistline_bridge.fit import all_limits, limits_of

    names = {row.x: names_of(row) for row in result.cuts}
    rows, known = [], len(all_limits())
    for row in result.mcu:
        if row.refused:
            continue
        mark = "*" if row.x == result.default_x else ""
        waist = names[row.x] if row.x != result.last_x else f"{names[row.x]} (answer)"
        fits = f"{len(row.boards)} of {known}" if board is None else _yes(board in row.boards)
        sizes = (row.waist_bytes, row.packed_bytes, row.blob_bytes, row.arena_bytes)
        rows.append((str(row.x), mark, *map(size, sizes), fits, waist))
    fit_heading = "boards" if board is None else "fits"
    headings = ("x", "", "int8", "4 bit", "blob", "arena", fit_heading, "waist")
    lines = [grid(headings, rows, indent=0), ""] if rows else []
    if rows and result.default_x is not None:
        lines.append("*  the earliest whose waist is below the picture, else the smallest waist")
    for why, some in groupby(result.mcu, key=lambda row: row.refused):
        if why:
            xs = [row.x for row in some]
            where = f"x = {xs[0]}" if len(xs) == 1 else f"x = {xs[0]} to {xs[-1]}"
            lines.append(indented(f"{where}: no board runs it: {why}", indent=3))
    if rows:
        legend = (
            "int8, 4 bit: the waist before entropy coding; blob: the head in a slot, without "
            "its golden frame; arena: the RAM that it runs in"
        )
        if board is None:
            legend += "; boards: how many of those known it fits (--board NAME asks for one)"
        lines.append(indented(legend, indent=0))
        limits = all_limits() if board is None else (limits_of(board),)
        lines += _too_small(result.mcu, max(limits, key=lambda one: one.arena_bytes))
    return "\n".join(lines)


def _too_small(cuts: Sequence[McuCut], limits: BoardLimits) -> list[str]:
    """What is said where the first layer alone, which every cut has, is above the arena."""
    from waistline_bridge.fit import NO_CUT_FITS

    needed = min(row.first_layer_bytes for row in cuts if not row.refused)
    if needed <= limits.arena_bytes:
        return []
    seen = f"the first layer takes {size(needed)}, the arena of {limits.board} has "
    return [indented(f"{seen}{size(limits.arena_bytes)}: {NO_CUT_FITS}", indent=0)]


def _yes(fits: bool) -> str:
    return "yes" if fits else "too big"


def names_of(row: CutRow) -> str:
    """The waist's tensors as ``--cut`` takes them."""
    return ",".join(tensor.name for tensor in row.tensors)
