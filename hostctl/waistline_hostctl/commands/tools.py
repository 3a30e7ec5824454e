"""Install, list and remove the environments of tools that cannot live beside Waistline."""

from __future__ import annotations

import click
import msgspec

from waistline import toolenv
from waistline_hostctl.console import grid
from waistline_hostctl.options import App, common
from waistline_hostctl.results import Result


class ToolRow(msgspec.Struct, frozen=True):
    """A tool environment and what is there of it."""

    name: str
    state: str
    purpose: str
    folder: str
    detail: str
    requirements: tuple[str, ...]
    size_bytes: int


class ToolsResult(Result, frozen=True, kw_only=True, tag="tools"):
    tools: tuple[ToolRow, ...]


@click.group()
def command() -> None:
    """Install, list and remove the environments of tools that cannot live beside Waistline."""


@command.command("list")
@common
def list_(app: App) -> None:
    """List the tool environments; starts nothing."""
    _show(app, tuple(_row(name) for name in toolenv.TOOLS))


@command.command()
@click.argument("name")
@click.option("--force", is_flag=True, help="Make it anew.")
@common
def install(app: App, name: str, force: bool) -> None:
    """Make a tool environment; needs the package index, nothing else here does."""
    from waistline_hostctl.services import ending_on_sigterm

    with ending_on_sigterm():
        toolenv.install(name, force=force, say=app.console.note)
    _show(app, (_row(name),))


@command.command()
@click.argument("name")
@common
def remove(app: App, name: str) -> None:
    """Delete a tool environment."""
    if not toolenv.remove(name, say=app.console.note):
        app.console.note(f"{name} was not installed")
    _show(app, (_row(name),))


def _row(name: str) -> ToolRow:
    tool, found = toolenv.TOOLS[name], toolenv.tool_state(name)
    return ToolRow(
        name=name,
        state=found.state,
        purpose=tool.purpose,
        folder=str(toolenv.tools_folder() / name),
        detail=found.detail,
        requirements=tool.requirements,
        size_bytes=tool.size_bytes,
    )


def _show(app: App, tools: tuple[ToolRow, ...]) -> None:
    rows = [
        (row.name, row.state, f"{row.size_bytes / 1e9:.1f} GB", row.purpose, row.detail)
        for row in tools
    ]
    app.console.say(grid(("name", "state", "size", "for", ""), rows, indent=0))
    app.console.emit(ToolsResult(tools=tools))
