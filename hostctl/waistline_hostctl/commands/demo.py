"""Cut, run and report the example networks; no hardware needed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from waistline.errors import WaistlineError
from waistline_hostctl.console import indented
from waistline_hostctl.options import App, common
from waistline_hostctl.results import DemoAct, DemoResult, DoctorResult

if TYPE_CHECKING:
    from waistline.bench import ResolvedBench
    from waistline_hostctl.running import Run


@click.command()
@click.option("--act", "acts", multiple=True, type=click.Choice(["biscuits", "fashion", "mcu"]),
              help="Only this one (default: all).")  # fmt: skip
@click.option("--frames", type=click.IntRange(min=2), metavar="N",
              help="Report images to stream, at most (default: 200 and 400).")  # fmt: skip
@click.option("--link", metavar="PROFILE",
              help="Row of the protocol table to emulate (default: wifi-n-esp32).")  # fmt: skip
@click.option("--runs", default="runs", show_default=True, metavar="DIR", help="Run folders.")
@common
def command(
    app: App, acts: tuple[str, ...], frames: int | None, link: str | None, runs: str
) -> None:
    """Cut, run and report the example networks: two processes, an emulated link."""
    from waistline_hostctl import demo, demo_mcu
    from waistline_hostctl.doctor import examine

    began = time.monotonic()
    say = app.console.say
    say(_doctor_text(examine(only=("onnxruntime",))))
    bench = demo.with_default_link(app.bench(link_profile=link))
    wanted = [act for act in demo.ACTS if not acts or act.example in acts]
    on_board = not acts or demo_mcu.NAME in acts
    count = len(wanted) + on_board
    done = []
    for place, act in enumerate(wanted, 1):
        say(_title(act.title, place, count))
        made = demo.run_act(act, bench, app.console, frames=frames, runs=runs)
        done.append(_act(act.example, made.run, made.cut.x))
        _say_run(app, made.run, picture=demo.PICTURE)
    if on_board:
        say(_title(demo_mcu.TITLE, count, count))
        done += _on_board(app, bench, frames, runs, chosen=demo_mcu.NAME in acts)
    duration_s = time.monotonic() - began
    say("\n".join(f"report   {act.report}" for act in done))
    say(f"         {duration_s:.0f} s in all")
    say("next     waistline split YOUR.onnx --list")
    app.console.emit(DemoResult(acts=tuple(done), duration_s=duration_s))


def _on_board(
    app: App, bench: ResolvedBench, frames: int | None, runs: str, *, chosen: bool
) -> list[DemoAct]:
    """The act on the emulated board; without its tools an error where it was asked for."""
    from waistline_hostctl import demo_mcu

    try:
        demo_mcu.check_board()
    except WaistlineError as error:
        if chosen:
            raise
        app.console.say("\n".join(["left out", *error.lines(), ""]))
        return []
    made = demo_mcu.run_act(bench, app.console, frames=frames, runs=runs)
    _say_run(app, made.run)
    return [_act(demo_mcu.NAME, made.run, made.cut.x)]


def _act(example: str, run: Run, x: int) -> DemoAct:
    return DemoAct(
        example=example,
        folder=str(run.folder),
        report=str(run.report),
        partition_point=x,
        outcomes=run.outcomes,
        figures=run.figures,
        remarks=run.remarks,
    )


def _title(text: str, place: int, count: int) -> str:
    return f"{'=' * 100}\n{text}  ({place} of {count})\n"


def _say_run(app: App, run: Run, picture: str = "") -> None:
    from waistline_hostctl import summary

    say = app.console.say
    say(f"         {summary.outcomes_text(run.outcomes)}\n")
    say(summary.run_text(run.tables, run.figures, metric=run.measure, picture=picture))
    say("\n" + "\n".join(indented(remark, "note") for remark in run.remarks) + "\n")


def _doctor_text(result: DoctorResult) -> str:
    found = {finding.name: finding for finding in result.findings}
    machine = result.machine
    engines = [
        f"{name.removeprefix('engine ')} {finding.found}"
        for name, finding in found.items()
        if name.startswith("engine ") and finding.level == "ok"
    ]
    parts = [machine.python, f"{machine.cores} cores", f"codec {found['codec'].found}", *engines]
    lines = [indented(", ".join(parts), "doctor")]
    lines += [
        indented(f"{finding.level} {finding.name}: {finding.found} ({finding.fix})", " ")
        for finding in result.findings
        if finding.level in {"warn", "fail"}
    ]
    return "\n".join(lines) + "\n"
