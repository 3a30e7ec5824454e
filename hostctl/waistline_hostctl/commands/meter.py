"""List meters, and compare one with a load that is known."""

from __future__ import annotations

import click

from waistline_hostctl.options import App, Number, common

_CHECK = """\b
  waistline meter check --meter ppk2 --meter-option voltage=3.3 --load open
  waistline meter check --meter ppk2 --meter-option voltage=3.3 --load 100ohm±0.1% --voltage 3.297
First with nothing connected, then with a resistor: the lines it prints belong into the bench file.
Exit code 5 where measured and expected are further apart than twice their uncertainty."""


@click.group()
def command() -> None:
    """List meters, and compare one with a load that is known.

    \b
    waistline meter list
    waistline meter check --meter joulescope --load 100ohm
    """  # noqa: D301


@command.command("list")
@common
def list_(app: App) -> None:
    """Say which meters there are, and which instruments are plugged in."""
    from waistline_hostctl import meter_list

    result = meter_list.meters(app.bench().bench)
    app.console.say(meter_list.text(result))
    app.console.emit(result)


@command.command(epilog=_CHECK)
@click.option("--meter", required=True, metavar="NAME", help="Or its section of the bench file.")
@click.option("--port", metavar="DEVICE", help="Path or id, where there are several.")
@click.option("--meter-option", "pairs", multiple=True, metavar="KEY=VALUE",
              help="The meter's own option, such as voltage=3.3.")  # fmt: skip
@click.option("--load", "load_text", metavar="OHMS",
              help="Connected to it: 100ohm, 4.7k±0.1% (1 % where not said), or open.")  # fmt: skip
@click.option("--voltage", "voltage_v", type=Number(0, min_open=True), metavar="VOLTS",
              help="Across the load, by another instrument.")  # fmt: skip
@click.option("--voltage-uncertainty", "spread_v", type=Number(0), metavar="VOLTS",
              help="Its standard uncertainty; 0.5 % where none is stated.")  # fmt: skip
@click.option("--duration", "duration_s", type=Number(0.5, 600), default=3.0,
              show_default=True, metavar="S", help="Of the capture, in seconds.")  # fmt: skip
@common
def check(
    app: App,
    meter: str,
    port: str | None,
    pairs: tuple[str, ...],
    load_text: str | None,
    voltage_v: float | None,
    spread_v: float | None,
    duration_s: float,
) -> None:
    """Compare a meter with a load that is known."""
    from waistline_hostctl import meter_check
    from waistline_hostctl.mcu_open import parse_options
    from waistline_hostctl.meters.base import MeterChoice

    load = meter_check.parse_load(load_text) if load_text else None
    result = meter_check.check(
        MeterChoice(meter, port, parse_options(pairs, "--meter-option", "voltage=3.3")),
        app.bench(),
        app.console,
        load=load,
        voltage_v=voltage_v,
        voltage_spread_v=spread_v,
        duration_s=duration_s,
    )
    app.console.say(meter_check.text(result))
    app.console.emit(result)
    if result.problems or result.state == "outside":
        click.get_current_context().exit(5)
