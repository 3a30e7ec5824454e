"""Record a power trace with a meter, around a command or for a time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from waistline.errors import ConfigError
from waistline_hostctl.options import App, Number, common

_DURATION = re.compile(r"(?P<number>\d+(\.\d+)?|\.\d+)\s*(?P<unit>ms|s|min|m|h)?\Z")
_UNITS = {"ms": 1e-3, "s": 1.0, None: 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}
_MOST_S = 1000 * 3600.0
EPILOG = """\b
  waistline capture --meter ppk2 --meter-option voltage=3.3 --duration 60s -o run.jls
  waistline capture --meter ppk2 --meter-option voltage=3.3 -- python inference.py

\b
COMMAND's own markers are in the trace, too; X-begin and X-end make a segment X with its energy:
  from waistline.trace.events import mark, span   mark("ready"); with span("conv1"): ...

\b
Without --duration and COMMAND it ends with Ctrl-C (exit code 0). Exit code 5 when losses cannot be
accounted for, the meter was unplugged or the disk was full: the trace up to there is kept. A
capture that ends before COMMAND ends COMMAND, too (SIGTERM). Only if it is killed (SIGKILL) COMMAND
goes on undisturbed, for it is your program; the trace up to there is kept."""


class Duration(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """``60s``, ``10min``, ``250ms``; seconds."""

    name = "duration"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        if isinstance(value, float):
            return value
        found = _DURATION.match(str(value).strip())
        seconds = float(found["number"]) * _UNITS[found["unit"]] if found else 0.0
        if not 0 < seconds <= _MOST_S:
            self.fail(
                f"{value!r} is no duration; write 60s, 250ms or 10min, 1000h at most", param, ctx
            )
        return seconds


def options_of(pairs: Sequence[str]) -> dict[str, str]:
    """``KEY=VALUE`` of each ``--meter-option``.

    Raises:
        ConfigError: one is not of that form.
    """
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (equals and key):
            raise ConfigError(
                f"--meter-option {pair} cannot be used",
                cause="it is not KEY=VALUE",
                fix="give it as in --meter-option voltage=3.3",
            )
        found[key] = value
    return found


@click.command(epilog=EPILOG)
@click.option("--meter", required=True, metavar="NAME",
              help="Such as ppk2, lpm01a, sim; waistline meter list has all.")  # fmt: skip
@click.option("--port", metavar="DEVICE", help="Path or id, where there are several.")
@click.option("--meter-option", "pairs", multiple=True, metavar="KEY=VALUE",
              help="The meter's own option, such as voltage=3.3.")  # fmt: skip
@click.option("--duration", "duration_s", type=Duration(), metavar="TIME",
              help="Of the trace, to the sample: 60s, 10min.")  # fmt: skip
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False),
              metavar="FILE.jls", help="The trace alone, not a run folder.")  # fmt: skip
@click.option("--runs", default="runs", show_default=True, metavar="DIR", help="Run folders.")
@click.option("--name", default="", metavar="NAME", help="Of the run (default: the meter's).")
@click.option("--log", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Gets the command's standard output.")  # fmt: skip
@click.option("--buffer", "buffer_s", type=Number(4, 600), default=5.0,
              show_default=True, metavar="S", help="What the ring in memory holds.")  # fmt: skip
@click.option("--allow-slow", is_flag=True, help="Let a meter below 100 kHz do.")
@click.argument("words", nargs=-1, metavar="[-- COMMAND ...]")
@common
def command(
    app: App,
    meter: str,
    port: str | None,
    pairs: tuple[str, ...],
    duration_s: float | None,
    output: Path | None,
    runs: str,
    name: str,
    log: Path | None,
    buffer_s: float,
    allow_slow: bool,
    words: tuple[str, ...],
) -> None:
    """Record a power trace with a meter, around a command or for a time.

    COMMAND's begin and end become markers; its exit code is shown, ours is the capture's.
    """
    from waistline.interrupts import held_back
    from waistline_hostctl.capture import text
    from waistline_hostctl.capture.control import run
    from waistline_hostctl.capture.wanted import Wanted
    from waistline_hostctl.meters.base import MeterChoice

    wanted = Wanted(
        choice=MeterChoice(meter, port, options_of(pairs)),
        duration_s=duration_s,
        output=output,
        runs=Path(runs),
        name=name,
        command=words,
        log=log,
        beside=app.console.json,
        allow_slow=allow_slow,
        buffer_s=buffer_s,
    )
    found = run(wanted, app.bench(), app.console)
    with held_back():
        app.console.say(text.captured(found))
        app.console.emit(text.result(found))
    if found.problems:
        click.get_current_context().exit(5)
    if found.ended == "interrupted" and (duration_s is not None or words):
        click.get_current_context().exit(130)
