"""Show what this machine can do and how to mend what it cannot."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Iterator

import click

from waistline_hostctl import doctor, wheels
from waistline_hostctl.console import WIDTH
from waistline_hostctl.options import App, common
from waistline_hostctl.results import DoctorResult, Finding

_COLOURS = {"ok": "32", "warn": "33", "fail": "31", "info": "2"}
_LEVEL, _NAME = 6, 16
_NAMES_ONLY = {doctor.SOURCES, doctor.LINKS}
"""Groups of which nothing but the names is worth a line where all is well."""


@click.command(epilog="Exit code 3 when something needed is missing.")
@click.option("--wheels", "with_wheels", is_flag=True,
              help="Which engines have a ready-made package for which board.")  # fmt: skip
@common
@click.pass_context
def command(ctx: click.Context, app: App, with_wheels: bool) -> None:
    """Show what this machine can do and how to mend what it cannot."""
    result = doctor.examine()
    if with_wheels:
        app.console.say(wheels.text())
    else:
        colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        app.console.say(text(result, colours=colours))
    app.console.emit(result)
    if any(finding.level == "fail" for finding in result.findings):
        ctx.exit(3)


def text(result: DoctorResult, *, colours: bool = False) -> str:
    """The findings by group, then what mends and what adds, a command a line."""
    machine = result.machine
    lines = [
        f"waistline {result.version}  {result.commit[:12]}".rstrip(),
        f"{machine.system}, Linux {machine.kernel}, {machine.python}",
    ]
    for group in (*doctor.GROUPS, ""):
        found = [finding for finding in result.findings if finding.group == group]
        if found:
            lines += ["", group] if group else [""]
            lines += _rows(found, group, colours)
    mend = [one for one in result.findings if one.fix and one.level in {"warn", "fail"}]
    add = [one for one in result.findings if one.fix and one.level == "info"]
    for title, rows in (("to mend", mend), ("to add what is missing, if you need it", add)):
        if rows:
            lines += ["", title, *dict.fromkeys(f"  fix {one.name}: {one.fix}" for one in rows)]
    return "\n".join(lines)


def _rows(findings: list[Finding], group: str, colours: bool) -> Iterator[str]:
    if group in _NAMES_ONLY:
        names = [_name(finding, group) for finding in findings if finding.level == "ok"]
        if names:
            yield _row("ok", ", ".join(names), "", colours)
        findings = [finding for finding in findings if finding.level != "ok"]
    for finding in findings:
        yield _row(finding.level, _name(finding, group), finding.found, colours)


def _name(finding: Finding, group: str) -> str:
    """Without what the heading says."""
    return finding.name.removeprefix(f"{group.removesuffix('s')} ")


def _row(level: str, name: str, found: str, colours: bool) -> str:
    indent = 2 + _LEVEL + _NAME + 1
    start = f"  {level.ljust(_LEVEL)}{name.ljust(_NAME)} "
    text = textwrap.fill(
        found, WIDTH, initial_indent=start, subsequent_indent=" " * indent
    ) if found else start.rstrip()  # fmt: skip
    if colours and level in _COLOURS:
        text = text.replace(level, f"\x1b[{_COLOURS[level]}m{level}\x1b[0m", 1)
    return text
