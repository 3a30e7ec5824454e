"""Cut, run and report the example network; no hardware needed."""

from __future__ import annotations

import time

import click

from waistline_hostctl.console import indented
from waistline_hostctl.options import App, common
from waistline_hostctl.results import DemoResult, DoctorResult


@click.command()
@click.option("--frames", type=click.IntRange(min=2), default=1000, show_default=True,
              metavar="N", help="Report images to stream.")  # fmt: skip
@click.option("--link", metavar="PROFILE",
              help="Row of the protocol table to emulate (default: wifi-n-esp32).")  # fmt: skip
@click.option("--runs", default="runs", show_default=True, metavar="DIR", help="Run folders.")
@common
def command(app: App, frames: int, link: str | None, runs: str) -> None:
    """Cut, run and report the example network: two processes, real images, an emulated link."""
    from waistline_hostctl import demo, summary
    from waistline_hostctl.doctor import examine

    began = time.monotonic()
    say = app.console.say
    say(_doctor_text(examine()))
    bench = demo.with_default_link(app.bench(link_profile=link))
    done = demo.run_demo(bench, app.console, frames=frames, runs=runs)
    say(f"         {summary.outcomes_text(done.run.outcomes)}\n")
    say(summary.run_text(done.run.tables, done.run.figures))
    say("\n" + "\n".join(indented(remark, "note") for remark in done.remarks))
    duration_s = time.monotonic() - began
    say(f"\nreport   {done.run.report}   ({duration_s:.0f} s)")
    say("next     waistline split YOUR.onnx --list")
    app.console.emit(
        DemoResult(
            folder=str(done.run.folder),
            report=str(done.run.report),
            partition_point=done.cut.x,
            outcomes=done.run.outcomes,
            figures=done.run.figures,
            remarks=done.remarks,
            duration_s=duration_s,
        )
    )


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
