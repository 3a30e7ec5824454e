"""List the engines, emulated boards, cameras, meters and ports here."""

from __future__ import annotations

import click

from waistline_hostctl.console import indented
from waistline_hostctl.devices import UNTRIED, USABLE, devices
from waistline_hostctl.mcu_survey import no_port
from waistline_hostctl.options import App, common
from waistline_hostctl.results import DevicesResult

_HEADINGS = {
    "engine": "engines",
    "board": "emulated boards, for --board",
    "camera": "cameras",
    "meter": "meters, for --meter",
    "serial": "serial ports",
}
_NOWHERE = {
    "engine": "no engine: pip install 'waistline[onnxruntime]'",
    "board": "no emulated board",
    "camera": "no camera: nothing that captures under /dev/video*",
    "meter": "no meter",
}


@click.command()
@common
def command(app: App) -> None:
    """List the engines, emulated boards, cameras, meters and ports here, with ids to paste."""
    result = DevicesResult(devices=devices())
    app.console.say(text(result))
    app.console.emit(result)


def text(result: DevicesResult) -> str:
    """By kind, a line a device, and below it what is to be pasted where the name is not enough."""
    lines = []
    for kind in _HEADINGS:
        found = [row for row in result.devices if row.kind == kind]
        lines.append(_HEADINGS[kind] if found else _NOWHERE.get(kind) or no_port())
        name = max((len(row.name) for row in found), default=0)
        state = max((len(row.state) for row in found), default=0)
        for row in found:
            line = f"  {row.name.ljust(name)}  {row.state.ljust(state)}  "
            untried = UNTRIED if row.tried == UNTRIED else ""
            about = "; ".join(part for part in (untried, row.detail) if part)
            lines.append(indented(about, line, len(line)) if about else line.rstrip())
            # A board's name is what --board takes, a meter's without a port what --meter takes.
            named = row.kind == "board" or row.id == f"--meter {row.name}"
            flags = row.id.startswith("--") and not named
            if flags and row.state in {USABLE, "present"}:
                lines.append(f"      {row.id}")
        lines.append("")
    return "\n".join(lines).rstrip()
