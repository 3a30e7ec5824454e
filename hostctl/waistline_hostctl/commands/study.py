"""Study choices on a task's data: which codec a waist should have."""

from __future__ import annotations

from pathlib import Path

import click

from waistline_bridge.boards import DEFAULT
from waistline_hostctl.console import indented
from waistline_hostctl.options import App, Number, common


@click.group()
def command() -> None:
    """Study choices on a task's data: which codec a waist should have."""


@command.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--task", type=click.Path(path_type=Path), metavar="FILE",
              help="Data and metric (default: task.toml beside the bundle).")  # fmt: skip
@click.option("--data", type=click.Choice(["selection", "test"]), default="selection",
              show_default=True,
              help="Frames to judge by; clip limits are from calibration.")  # fmt: skip
@click.option("--frames", type=click.IntRange(min=2), default=400, show_default=True, metavar="N",
              help="Frames that are answered, at most, evenly over the data.")  # fmt: skip
@click.option("--quantizer", "quantizers", multiple=True, metavar="NAME|SPEC",
              help="Only this one, such as affine, or 'affine:b=3,clip=p99'.")  # fmt: skip
@click.option("--coder", "coders", multiple=True, metavar="NAME|SPEC",
              help="Only this one, such as ctx, or jpeg:60.")  # fmt: skip
@click.option("--link", "links", multiple=True, metavar="PROFILE",
              help="Advise for this link (default: a BLE, an LTE Cat 1, a Wi-Fi).")  # fmt: skip
@click.option("--slowdown", type=Number(min=0, min_open=True), default=1.0,
              show_default=True, metavar="K",
              help="The node computes K times slower than this machine.")  # fmt: skip
@click.option("--board", metavar="NAME",
              help="Microcontroller that encodes: its core and clock (default: of bench.toml, else "
              f"{DEFAULT}).")  # fmt: skip
@click.option("--clock", type=Number(min=0, min_open=True), metavar="MHZ",
              help="Of a microcontroller with this core, clocked otherwise.")  # fmt: skip
@click.option("--baud", type=click.IntRange(300), metavar="N",
              help="Of its line to the bridge (default: of bench.toml, else 921600).")  # fmt: skip
@click.option("--max-loss", type=Number(0, 1), default=0.01, show_default=True,
              metavar="SHARE", help="Of the metric, that an advised codec may lose.")  # fmt: skip
@click.option("--runs", default="runs", show_default=True, metavar="DIR", help="Run folders.")
@click.option("--name", default="codecs", show_default=True, metavar="NAME", help="Of the run.")
@common
def codec(
    app: App,
    bundle: Path,
    task: Path | None,
    data: str,
    frames: int,
    quantizers: tuple[str, ...],
    coders: tuple[str, ...],
    links: tuple[str, ...],
    slowdown: float,
    board: str | None,
    clock: float | None,
    baud: int | None,
    max_loss: float,
    runs: str,
    name: str,
) -> None:
    """Measure every codec at a bundle's cut and advise one for each link.

    Bytes, processor time, accuracy and agreement of quantizers x bits x entropy coders, the fronts
    of what is worth having, a report with the charts. For a head on a microcontroller the time to
    encode is the board's, and its line to the bridge counts beside the link.

    \b
    waistline study codec fashion.bundle --task examples/fashion/task.toml
    .. --link lte-cat1 --slowdown 6 --coder ctx --coder zstd
    .. --board nucleo-f446re --baud 921600 --link wifi-n-esp32
    """  # noqa: D301
    from waistline_hostctl import study, study_tables
    from waistline_hostctl.study_text import advice_text, front_text

    request = study.Request(
        bundle=bundle,
        task=task,
        data=data,
        frames=frames,
        quantizers=quantizers,
        coders=coders,
        links=links or study.LINKS,
        slowdown=slowdown,
        max_loss=max_loss,
        board=board,
        clock_hz=None if clock is None else 1e6 * clock,
        baud=baud,
    )
    made = study.run_study(request, bench=app.bench(), console=app.console, runs=runs, name=name)
    result = study.result_of(made, request.links)
    say = app.console.say
    say(front_text(made.tables[study_tables.CODECS].dicts()))
    say(advice_text(made.tables, request))
    say("\n" + "\n".join(indented(remark, "note") for remark in made.remarks))
    say(f"report   {made.report}")
    app.console.emit(result)
