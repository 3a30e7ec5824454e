"""Cut, run and report the example networks; no hardware needed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from waistline_hostctl.console import indented
from waistline_hostctl.options import App, common
from waistline_hostctl.results import DemoAct, DemoResult, DoctorResult

if TYPE_CHECKING:
    from waistline_hostctl.demo import Demo


@click.command()
@click.option("--act", "acts", multiple=True, type=click.Choice(["biscuits", "fashion"]),
              help="Only this one (default: both).")  # fmt: skip
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
    from waistline_hostctl import demo
    from waistline_hostctl.doctor import examine

    began = time.monotonic()
    say = app.console.say
    say(_doctor_text(examine(only=("onnxruntime",))))
    bench = demo.with_default_link(app.bench(link_profile=link))
    wanted = [act for act in demo.ACTS if not acts or act.example in acts]
    done = []
    for place, act in enumerate(wanted, 1):
        say(f"{'=' * 100}\n{act.title}  ({place} of {len(wanted)})\n")
        done.append(demo.run_act(act, bench, app.console, frames=frames, runs=runs))
        _say_act(app, done[-1])
    duration_s = time.monotonic() - began
    say("\n".join(f"report   {act.run.report}" for act in done))
    say(f"         {duration_s:.0f} s in all")
    say("next     waistline split YOUR.onnx --list")
    app.console.emit(
        DemoResult(
            acts=tuple(
                DemoAct(
                    example=each.act.example,
                    folder=str(each.run.folder),
                    report=str(each.run.report),
                    partition_point=each.cut.x,
                    outcomes=each.run.outcomes,
                    figures=each.run.figures,
                    remarks=each.run.remarks,
                )
                for each in done
            ),
            duration_s=duration_s,
        )
    )


def _say_act(app: App, done: Demo) -> None:
    from waistline_hostctl import demo, summary

    run, say = done.run, app.console.say
    say(f"         {summary.outcomes_text(run.outcomes)}\n")
    say(summary.run_text(run.tables, run.figures, metric=run.measure, picture=demo.PICTURE))
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
