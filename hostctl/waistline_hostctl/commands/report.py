"""Render a run's report again, or compute all its tables anew."""

from __future__ import annotations

from pathlib import Path

import click

from waistline_hostctl.options import App, common
from waistline_hostctl.results import ReportResult


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--recompute", is_flag=True, help="Compute every table from the raw ones first.")
@click.option("--task", type=click.Path(path_type=Path), metavar="FILE",
              help="A task file you trust, for a metric that is code of its own.")  # fmt: skip
@common
def command(app: App, run: Path, recompute: bool, task: Path | None) -> None:
    """Render a run's report again; --recompute computes every table from the raw ones first."""
    from waistline_hostctl.recording import report_again

    done = report_again(run, recompute=recompute, task=task)
    if recompute:
        same = "identical to before" if not done.changed else f"changed: {', '.join(done.changed)}"
        app.console.say(f"recomputed {', '.join(done.recomputed)}: {same}")
    app.console.say(f"report  {done.path}")
    app.console.emit(
        ReportResult(
            folder=str(run),
            report=str(done.path),
            recomputed=done.recomputed,
            changed=done.changed,
        )
    )
