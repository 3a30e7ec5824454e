"""Show what this machine can do and how to mend what it cannot."""

from __future__ import annotations

import click

from waistline_hostctl import doctor
from waistline_hostctl.console import grid
from waistline_hostctl.options import App, common
from waistline_hostctl.results import DoctorResult


@click.command(epilog="Exit code 3 when something needed is missing.")
@common
@click.pass_context
def command(ctx: click.Context, app: App) -> None:
    """Show what this machine can do and how to mend what it cannot."""
    result = doctor.examine()
    app.console.say(text(result))
    app.console.emit(result)
    if any(finding.level == "fail" for finding in result.findings):
        ctx.exit(3)


def text(result: DoctorResult) -> str:
    """The findings as a table, then each remedy on a line of its own."""
    machine = result.machine
    lines = [
        f"waistline {result.version}  {result.commit[:12]}".rstrip(),
        f"{machine.system}, Linux {machine.kernel}, {machine.python}",
        "",
        grid(
            ("", "", ""),
            [(finding.level, finding.name, finding.found) for finding in result.findings],
        ).lstrip("\n"),
    ]
    remedies = [
        (finding.name, finding.fix)
        for finding in result.findings
        if finding.fix and finding.level in {"warn", "fail"}
    ]
    if remedies:
        lines += ["", *(f"  fix {name}: {fix}" for name, fix in remedies)]
    return "\n".join(lines)
