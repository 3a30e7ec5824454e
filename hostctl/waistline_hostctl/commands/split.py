"""List the cuts of a model, or cut it and write a bundle."""

from __future__ import annotations

from pathlib import Path

import click

from waistline.errors import ConfigError
from waistline.task.load import Task
from waistline_hostctl import models
from waistline_hostctl.console import grid, indented, size
from waistline_hostctl.options import App, common
from waistline_hostctl.results import CutsResult, SplitResult
from waistline_hostctl.splitting import (
    Asked,
    board_text,
    cuts_on_board,
    head_line,
    names_of,
    next_flags,
    result_of,
    runnable,
    split_for_board,
)


@click.command()
@click.argument("model", metavar="MODEL", type=click.Path(path_type=Path))
@click.option("--list", "list_only", is_flag=True, help="List the cuts, write nothing.")
@click.option("--cut", metavar="NAME[,NAME]|X", help="Where: tensors, or a partition point 0..N.")
@click.option("-o", "--output", metavar="NAME.bundle", help="The folder to make.")
@click.option(
    "--codec",
    "codecs",
    multiple=True,
    metavar="SPEC|NAME=SPEC",
    help="How the waist is coded, such as 'affine:b=4|zstd:1' (see the README).",
)
@click.option("--task", metavar="FILE", help="What the model is for (default: task.toml beside).")
@click.option("--no-task", is_flag=True, help="Do not use the task.toml beside the model.")
@click.option("--shape", "shapes", multiple=True, metavar="NAME=1,3,224,224",
              help="Sizes of an input with symbolic axes.")  # fmt: skip
@click.option("--backend", type=click.Choice(["auto", "mcu"]), default="auto", show_default=True,
              help="What runs the head: an engine, or a microcontroller (int8 blob).")  # fmt: skip
@click.option("--board", metavar="NAME", help="Refuse a head that does not fit it (mcu).")
@click.option("--force", is_flag=True, help="Replace a bundle that is already there.")
@common
def command(
    app: App,
    model: Path,
    list_only: bool,
    cut: str | None,
    output: str | None,
    codecs: tuple[str, ...],
    task: str | None,
    no_task: bool,
    shapes: tuple[str, ...],
    backend: str,
    board: str | None,
    force: bool,
) -> None:
    """List the cuts of a model (.onnx or .tflite), or cut it and write a bundle.

    \b
    waistline split model.onnx --list
    waistline split model.onnx --cut 12 -o model.bundle
    waistline split model.int8.tflite --cut 12 --codec 'i8:b=4|ctx' -o small.bundle
    waistline split model.onnx --backend mcu --list
    waistline split model.onnx --backend mcu --board nucleo-f446re --cut 12 -o mcu.bundle
    """  # noqa: D301
    _check_usage(model, list_only, cut, output)
    if board is not None and backend != "mcu":
        raise ConfigError(
            f"--board {board} has no head to fit",
            cause=f"--backend is {backend}; boards run the heads of --backend mcu",
            fix="add --backend mcu, or leave --board out",
        )
    found = None if no_task else models.find_task(model, task, app.console.note)
    if list_only:
        _list(app, model, found, shapes, mcu=backend == "mcu", board=board)
        return
    asked = Asked(model, str(cut), str(output), found, shapes, codecs, force, board)
    done = split_for_board(app, asked) if backend == "mcu" else _split(app, asked)
    app.console.say(_split_text(done, board))
    app.console.emit(done)


def _check_usage(model: Path, list_only: bool, cut: str | None, output: str | None) -> None:
    if not list_only and cut is None:
        raise ConfigError(
            "no cut was chosen",
            cause="neither --list nor --cut was given",
            fix=f"see what there is: waistline split {model} --list",
        )
    if not list_only and output is None:
        raise ConfigError(
            "no bundle was named",
            cause="-o was not given",
            fix=f"add -o {model.stem}.bundle",
        )


def _list(
    app: App,
    model: Path,
    task: Task | None,
    shapes: tuple[str, ...],
    *,
    mcu: bool,
    board: str | None,
) -> None:
    from waistline.bundle.cuts import list_cuts, pick_default_cut
    from waistline.model.load import load_model

    loaded = load_model(model, models.parse_shapes(shapes))
    rows = list_cuts(loaded, task)
    on_board = cuts_on_board(app, loaded, board) if mcu else ()
    try:
        default = pick_default_cut(runnable(rows, on_board) if mcu else rows).x
    except ConfigError:
        default = None
    result = CutsResult(
        model=str(model),
        model_sha256=loaded.graph.sha256,
        task=str(task.path) if task else "",
        last_x=loaded.graph.last_x,
        default_x=default,
        cuts=tuple(rows),
        mcu=on_board,
    )
    app.console.say(board_text(result, board) if mcu else cuts_text(result))
    for name, why in loaded.graph.unsized.items():
        app.console.note(f"no cut through {name!r}: {why}")
    app.console.emit(result)


def cuts_text(result: CutsResult) -> str:
    """The table of cuts with a legend."""
    rows = []
    for row in result.cuts:
        mark = ("*" if row.x == result.default_x else "") + ("!" if row.breaks_fusion else "")
        name = {0: "sensor frame", 1: "model input"}.get(row.x) or names_of(row)
        shape = " + ".join("x".join(map(str, tensor.shape)) for tensor in row.tensors)
        rows.append(
            (str(row.x), mark, size(row.size_bytes), size(row.packed_bytes),
             f"{100 * row.macs_share:.1f}", shape, name)
        )  # fmt: skip
    headings = ("x", "", "as it is", "4 bit", "head MACs %", "shape", "waist")
    lines = [grid(headings, rows, indent=0), ""]
    if result.default_x is not None:
        lines.append("*  the earliest whose waist is below the picture, else the smallest waist")
    broken = sorted({row.breaks_fusion for row in result.cuts if row.breaks_fusion})
    if broken:
        why = f"engines fuse across this cut, so it runs slower: {', '.join(broken)}"
        lines.append(indented(why, "!", indent=3))
    if result.cuts and result.cuts[0].x == 0:
        lines.append("4 bit: float waists before entropy coding; x = 0: the mean PNG; last: answer")
    return "\n".join(lines)


def _split(app: App, asked: Asked) -> SplitResult:
    from waistline.split import split

    general, named = models.parse_codecs(asked.codecs)
    bundle = split(
        asked.model,
        asked.cut,
        asked.output,
        codec=general,
        task=asked.task,
        shapes=models.parse_shapes(asked.shapes),
        codecs_by_tensor=named,
        force=asked.force,
        say=app.console.note,
    )
    return result_of(bundle)


def _split_text(result: SplitResult, board: str | None) -> str:
    waist = ", ".join(f"{name} as {codec}" for name, codec in result.codecs.items())
    sizes = f"{size(result.float_bytes)} -> {size(result.packed_bytes)} before entropy coding"
    where = f"x = {result.partition_point} of 0..{result.last_x}"
    verify, run = next_flags(board) if result.head else ("", "")
    rows = [
        f"{result.bundle}  id {result.bundle_id[:12]}",
        f"  cut    {where}{f', after {result.after}' if result.after else ''}",
        f"  waist  {waist or 'none: the wire carries the answer'}",
        f"  bytes  {sizes if waist else f'at most {result.packed_bytes} B'}",
        *([head_line(result.head)] if result.head else []),
        f"next: waistline verify {result.bundle}{verify}",
        f"      waistline run {result.bundle}{run}",
    ]
    return "\n".join(rows)
