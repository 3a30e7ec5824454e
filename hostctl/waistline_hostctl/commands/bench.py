"""Measure a part of the system under load."""

from __future__ import annotations

from pathlib import Path

import click

from waistline.errors import ConfigError
from waistline_hostctl.options import App, Number, common


@click.group()
def command() -> None:
    """Measure a part of the system under load."""


@command.command(epilog="Exit code 5 when a goal is missed.")
@click.argument("bundle", type=click.Path(path_type=Path), required=False)
@click.option("--nodes", type=click.IntRange(1, 1024), default=32, show_default=True, metavar="N",
              help="Connections.")  # fmt: skip
@click.option("--overload", type=Number(min=1.0), default=3.0, show_default=True,
              metavar="X", help="Offered load over peak goodput.")  # fmt: skip
@click.option("--seconds", type=Number(min=0.2), default=3.0, show_default=True,
              metavar="S", help="Of each phase.")  # fmt: skip
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, metavar="N",
              help="Of peak and overload.")  # fmt: skip
@click.option("--edge", "endpoint", metavar="ENDPOINT",
              help="An edge that serves BUNDLE already (default: one is started).")  # fmt: skip
@click.option("--tail-ms", type=Number(0.0, 1000.0), default=10.0, show_default=True,
              metavar="MS", help="Of the sleeping tail that stands in without BUNDLE.")  # fmt: skip
@click.option("--runs", default="runs", show_default=True, metavar="DIR", help="Run folders.")
@common
@click.pass_context
def edge(
    ctx: click.Context,
    app: App,
    bundle: Path | None,
    nodes: int,
    overload: float,
    seconds: float,
    rounds: int,
    endpoint: str | None,
    tail_ms: float,
    runs: str,
) -> None:
    """Peak goodput of an edge, and what overload leaves of it.

    Goals: at least 90 % of peak, every refusal typed as dropped(busy), no node served over 20 %
    more than another.
    """
    from waistline_hostctl import bench_edge, bench_edge_report, services

    if endpoint and bundle is None:
        raise ConfigError(
            "--edge needs the bundle that the edge serves",
            cause="a frame is made from it",
            fix=f"waistline bench edge NAME.bundle --edge {endpoint}",
        )
    bench = app.bench()
    setting = bench_edge.Setting(nodes, overload, seconds, rounds)
    with (
        services.ending_on_sigterm(),
        bench_edge.loaded_bundle(bundle, tail_ms) as loaded,
        bench_edge.edge_under_test(loaded, endpoint, bench, nodes) as under_test,
        app.console.progress("phases", 2 * rounds) as progress,
    ):
        found = bench_edge.measure(under_test, loaded, setting, progress.update)
        result = bench_edge_report.evaluate(found, setting, under_test, loaded, bench, Path(runs))
    app.console.say(bench_edge_report.shown(result, setting))
    app.console.say(f"\nrun       {result.folder}")
    app.console.emit(result)
    if not all(result.goals.values()):
        ctx.exit(5)
