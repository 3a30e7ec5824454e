"""Build, emulate and ask microcontrollers; load and measure heads."""

from __future__ import annotations

import signal
from pathlib import Path

import click

from waistline import interrupts
from waistline.errors import BridgeError
from waistline_bridge.boards import DEFAULT
from waistline_hostctl.board_flags import board_options
from waistline_hostctl.commands._trace_markers import Time
from waistline_hostctl.mcu_mark import MODES
from waistline_hostctl.mcu_open import BoardChoice, parse_options
from waistline_hostctl.options import App, common


@click.group()
def command() -> None:
    """Build, emulate and ask microcontrollers; load and measure heads.

    \b
    waistline mcu build                     the firmware of every board
    waistline mcu info                      boards to emulate and serial ports
    waistline mcu emulate                   a board that --port attaches to
    waistline mcu load NAME.bundle          a head onto a board, checked there
    waistline mcu bench NAME.bundle         what each of its layers costs
    """  # noqa: D301


@command.command()
@click.option("--board", "names", multiple=True, metavar="NAME", help="Only this one (repeatable).")
@click.option("--baud", type=click.IntRange(300), metavar="N",
              help="Of real UARTs (default: as the board's code says).")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
              help="Where to build (default: where boards look for it).")  # fmt: skip
@common
def build(app: App, names: tuple[str, ...], baud: int | None, out: Path | None) -> None:
    """Compile the firmware; sizes against each board."""
    from waistline_hostctl import mcu_build

    with app.console.progress("building, boards") as progress:
        result = mcu_build.build(names, baud=baud, out=out, progress=progress.update)
    app.console.say(mcu_build.text(result))
    app.console.emit(result)


@command.command(epilog="Ends with SIGTERM (exit code 0), Ctrl-C (130) or the emulator (4).")
@click.option("--board", metavar="NAME", help=f"Which one (default: {DEFAULT}).")
@click.option("--line", type=click.Choice(["pty", "tcp"]), default="pty", show_default=True,
              help="What others attach to.")  # fmt: skip
@click.option("--icount", is_flag=True, help="Let QEMU's ticks count instructions.")
@click.option("--board-option", "pairs", multiple=True, metavar="KEY=VALUE",
              help="The board's own option, such as firmware=FILE.")  # fmt: skip
@common
@click.pass_context
def emulate(
    ctx: click.Context,
    app: App,
    board: str | None,
    line: str,
    icount: bool,
    pairs: tuple[str, ...],
) -> None:
    """Keep a board running for others to attach to."""
    from waistline_hostctl import mcu_emulate
    from waistline_hostctl.services import ending_on_sigterm

    name = board or app.bench().bench.node.board or DEFAULT
    with (
        ending_on_sigterm(),
        mcu_emulate.running(name, line, icount, parse_options(pairs)) as (ready, process),
    ):
        app.console.say(mcu_emulate.text(ready))
        app.console.emit_line(ready)
        try:
            number = mcu_emulate.wait(process, name)
        except BridgeError as error:
            # The ready line was the one object of this command.
            app.console.complain(error)
            ctx.exit(error.exit_code)
        if number == signal.SIGINT:
            ctx.exit(interrupts.INTERRUPTED)


@command.command()
@board_options
@common
def info(app: App, wanted: BoardChoice) -> None:
    """Say what a device is and holds, or list devices."""
    from waistline_hostctl import mcu_info, mcu_work

    result = mcu_work.ask_mcu(**wanted.named(), bench=app.bench(), console=app.console)
    if result.device is None:
        app.console.say(mcu_info.choices_text(result.choices))
    else:
        app.console.say(mcu_info.device_text(result.device))
    app.console.emit(result)


@command.command()
@click.argument("head", metavar="BUNDLE|BLOB", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Send it even if it is there.")
@board_options
@common
def load(app: App, head: Path, force: bool, wanted: BoardChoice) -> None:
    """Put a head on a device, and check it there."""
    from waistline_hostctl import mcu_load, mcu_work

    result = mcu_work.load_mcu(
        head, force=force, **wanted.named(), bench=app.bench(), console=app.console
    )
    app.console.say(mcu_load.text(result))
    if result.ends:
        app.console.note(
            f"{result.board} ended with this command; waistline mcu emulate keeps one running"
        )
    app.console.emit(result)


@command.command(
    epilog="Ticks are time on a real device, instructions with --icount; an emulated board without "
    "it has no time. Exit code 5 when counts that must repeat do not."
)
@click.argument("head", metavar="BUNDLE|BLOB", type=click.Path(path_type=Path))
@click.option("--icount", is_flag=True, help="Count instructions; with an emulated board of QEMU.")
@click.option("--repeat", type=click.IntRange(1, 10_000), default=3, show_default=True,
              metavar="N", help="Runs for the ticks of layers.")  # fmt: skip
@click.option("--frames", type=click.IntRange(1, 10_000), default=3, show_default=True,
              metavar="N", help="Frames with upload, for times on the line.")  # fmt: skip
@click.option("--mark", type=click.Choice(MODES),
              help="What the marker pin does from then on, for a trace that is captured meanwhile "
              "(waistline trace markers).")  # fmt: skip
@click.option("--settle", type=Time(), metavar="TIME",
              help="It waits so long at each edge, such as 20us; no ticks count that.")  # fmt: skip
@board_options
@common
def bench(
    app: App,
    head: Path,
    icount: bool,
    repeat: int,
    frames: int,
    mark: str | None,
    settle: float | None,
    wanted: BoardChoice,
) -> None:
    """Measure the layers of a head, and a frame."""
    from waistline_hostctl import mcu_bench_text, mcu_work

    result = mcu_work.bench_mcu(
        head,
        icount=icount,
        repeat=repeat,
        frames=frames,
        mark=mark,
        settle_s=settle,
        **wanted.named(),
        bench=app.bench(),
        console=app.console,
    )
    app.console.say(mcu_bench_text.text(result))
    app.console.emit(result)
