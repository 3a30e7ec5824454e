"""List the cuts of a model, or cut it and write a bundle."""

from __future__ import annotations

from pathlib import Path

import click

from waistline.bundle.cuts import CutRow
from waistline.errors import ConfigError
from waistline.task.load import Task
from waistline_hostctl import models
from waistline_hostctl.console import grid, indented, size
from waistline_hostctl.options import App, common
from waistline_hostctl.results import CutsResult, SplitResult


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
    force: bool,
) -> None:
    """List the cuts of a model (.onnx or .tflite), or cut it and write a bundle.

    \b
    waistline split model.onnx --list
    waistline split model.onnx --cut 12 -o model.bundle
    waistline split model.int8.tflite --cut 12 --codec 'i8:b=4|ctx' -o small.bundle
    """  # noqa: D301
    _check_usage(model, list_only, cut, output)
    found = None if no_task else models.find_task(model, task, app.console.note)
    if list_only:
        _list(app, model, found, shapes)
    else:
        _split(app, model, found, shapes, str(cut), str(output), codecs, force)


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


def _list(app: App, model: Path, task: Task | None, shapes: tuple[str, ...]) -> None:
    from waistline.bundle.cuts import list_cuts, pick_default_cut
    from waistline.model.load import load_model

    loaded = load_model(model, models.parse_shapes(shapes))
    rows = list_cuts(loaded, task)
    try:
        default = pick_default_cut(rows).x
    except ConfigError:
        default = None
    result = CutsResult(
        model=str(model),
        model_sha256=loaded.graph.sha256,
        task=str(task.path) if task else "",
        last_x=loaded.graph.last_x,
        default_x=default,
        cuts=tuple(rows),
    )
    app.console.say(cuts_text(result))
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


def names_of(row: CutRow) -> str:
    """The waist's tensors as ``--cut`` takes them."""
    return ",".join(tensor.name for tensor in row.tensors)


def _split(
    app: App,
    model: Path,
    task: Task | None,
    shapes: tuple[str, ...],
    cut: str,
    output: str,
    codecs: tuple[str, ...],
    force: bool,
) -> None:
    from waistline.split import split

    general, named = models.parse_codecs(codecs)
    bundle = split(
        model,
        cut,
        output,
        codec=general,
        task=task,
        shapes=models.parse_shapes(shapes),
        codecs_by_tensor=named,
        force=force,
        say=app.console.note,
    )
    codec = bundle.waist_codec()
    result = SplitResult(
        bundle=str(bundle.path),
        bundle_id=bundle.id,
        partition_point=bundle.cut.partition_point,
        after=bundle.cut.after,
        waist=tuple(item.tensor.name for item in bundle.cut.tensors),
        codecs={item.tensor.name: item.codec for item in bundle.cut.tensors},
        float_bytes=sum(item.tensor.size_bytes for item in bundle.cut.tensors),
        packed_bytes=codec.raw_len if codec else bundle.answer_kind.max_bytes,
    )
    app.console.say(_split_text(result, bundle.manifest.partition_points))
    app.console.emit(result)


def _split_text(result: SplitResult, last_x: int) -> str:
    waist = ", ".join(f"{name} as {codec}" for name, codec in result.codecs.items())
    sizes = f"{size(result.float_bytes)} -> {size(result.packed_bytes)} before entropy coding"
    where = f"x = {result.partition_point} of 0..{last_x}"
    rows = [
        f"{result.bundle}  id {result.bundle_id[:12]}",
        f"  cut    {where}{f', after {result.after}' if result.after else ''}",
        f"  waist  {waist or 'none: the wire carries the answer'}",
        f"  bytes  {sizes if waist else f'at most {result.packed_bytes} B'}",
        f"next: waistline verify {result.bundle}",
        f"      waistline run {result.bundle}",
    ]
    return "\n".join(rows)
