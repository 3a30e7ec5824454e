"""List the engines and ports of this machine."""

from __future__ import annotations

import click

from waistline_hostctl.console import grid
from waistline_hostctl.devices import devices
from waistline_hostctl.options import App, common
from waistline_hostctl.results import DevicesResult


@click.command()
@common
def command(app: App) -> None:
    """List the engines and ports of this machine, with ids to paste."""
    result = DevicesResult(devices=devices())
    rows = [(row.id, row.kind, row.state, row.tried, row.detail) for row in result.devices]
    app.console.say(grid(("id", "kind", "state", "tried", ""), rows, indent=0))
    if not any(row.kind == "serial" for row in result.devices):
        app.console.say("\nno serial port under /dev/serial/by-id")
    app.console.emit(result)
