"""Run both ends of a bundle on this machine and write a run folder."""

from __future__ import annotations

from pathlib import Path

import click

from waistline_hostctl.board_flags import board_options
from waistline_hostctl.console import indented
from waistline_hostctl.mcu_open import BoardChoice
from waistline_hostctl.options import App, Number, common
from waistline_hostctl.results import RunResult


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--source", metavar="SOURCE",
              help="A folder of images or sounds, a .npz, .wav, .csv or video file "
              "(default: the bundle's golden frame, again and again).")  # fmt: skip
@click.option("--link", metavar="PROFILE",
              help="Pace the link to a row of the protocol table (wifi-n-esp32).")  # fmt: skip
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after N frames.")
@click.option("--overlap", is_flag=True,
              help="Let stages overlap: more frames a second, latency holds waiting.")  # fmt: skip
@click.option("--rate", "rate_hz", type=Number(min=0, min_open=True), metavar="HZ",
              help="Frames a second; frames that come too late are dropped.")  # fmt: skip
@click.option("--radio", "radios", multiple=True, metavar="PROFILE",
              help="Model the energy of this radio (default: one BLE, one LTE Cat 1).")  # fmt: skip
@click.option("--runs", default="runs", show_default=True, metavar="DIR", help="Run folders.")
@click.option("--name", default="run", show_default=True, metavar="NAME", help="Of the run.")
@board_options
@common
def command(
    app: App,
    bundle: Path,
    source: str | None,
    link: str | None,
    count: int | None,
    overlap: bool,
    rate_hz: float | None,
    radios: tuple[str, ...],
    runs: str,
    name: str,
    wanted: BoardChoice,
) -> None:
    """Run both ends of a bundle as two processes and say what it cost."""
    from waistline_hostctl import raw, running, summary

    sequential = not overlap and rate_hz is None
    run = running.run_pair(
        bundle,
        source=source,
        count=count,
        sequential=sequential,
        rate_hz=rate_hz,
        radios=radios or running.RADIOS,
        runs=runs,
        name=name,
        bench=app.bench(link_profile=link),
        console=app.console,
        **wanted.named(),
    )
    say = app.console.say
    say(summary.outcomes_text(run.outcomes))
    reasons = summary.reasons_text(run.tables[raw.FRAMES])
    say(f"{reasons}\n" if reasons else "")
    say(summary.run_text(run.tables, run.figures, metric=run.measure, sequential=sequential))
    remarks = "\n".join(indented(remark, "note") for remark in run.remarks)
    say(f"\n{remarks}\n" if remarks else "")
    say(f"report   {run.report}")
    app.console.emit(
        RunResult(
            folder=str(run.folder),
            report=str(run.report),
            outcomes=run.outcomes,
            figures=run.figures,
            remarks=run.remarks,
        )
    )
