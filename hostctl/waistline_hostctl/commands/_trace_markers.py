"""``waistline trace markers``: a part of the command in ``trace.py``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from waistline.errors import ConfigError
from waistline_hostctl.commands._trace_file import TraceFile
from waistline_hostctl.options import App, Number, common

_FILE = click.Path(path_type=Path, dir_okay=False)
EPILOG = """\b
Events, one a line, ascending or not:            # a comment
  SECONDS NAME (monotonic, of any clock)         1234.500013 conv1-begin
  as waistline.trace.events.mark writes them     {"monotonic_ns": .., "utc_ns": .., "text": ".."}

\b
A program around which was captured notes them by
  from waistline.trace.events import mark, span   mark("ready"); with span("conv1"): ...
  python -m waistline.trace.events ready
and has them in its trace at once, by the host's clock. To place them better keep them, too:
  WAISTLINE_EVENTS=events.jsonl waistline capture ... -- python program.py

\b
  waistline trace markers run.jls                                    what it has
  waistline trace markers run.jls --bit 0 --events events.jsonl -o placed.jls
  waistline trace markers run.jls --bit 0 --mark head --ticks bench.json -o layers.jls
  python -m waistline_hostctl.markers.load -o code.json              play a code, on the device
  waistline trace markers run.jls --code code.json --lag 2ms --events events.jsonl -o placed.jls
  waistline trace energy placed.jls --from conv1-begin --to conv1-end

A map that fits no better than by chance, several that fit alike, or a clock that jumped: exit code
5. TRACE is only read."""


class Time(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """``50us``, ``2ms``, ``1.5``; seconds."""

    name = "time"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        from waistline_hostctl.trace_work import seconds

        found = seconds(str(value))
        if found is None or not 0 <= found <= 3600 or not math.isfinite(found):
            self.fail(f"{value!r} is no time; write 50us, 2ms or 1.5, 1 h at most", param, ctx)
        return found


class Bit(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """``0`` or ``D0``."""

    name = "bit"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        text = str(value).lower().removeprefix("d")
        if text not in tuple("01234567"):
            self.fail(f"{value!r} is no logic bit; they are D0 to D7", param, ctx)
        return int(text)


@click.command(epilog=EPILOG)
@click.argument("trace", type=TraceFile())
@click.option("--events", type=_FILE, metavar="FILE", help="What the program noted.")
@click.option("--clock-hz", type=Number(0, min_open=True), metavar="HZ",
              help="FILE's times are ticks of so many hertz.")  # fmt: skip
@click.option("--bit", type=Bit(), metavar="D0..D7", help="Logic bit that was set at each event.")
@click.option("--edge", type=click.Choice(["both", "rising", "falling"]), default="both",
              show_default=True, help="Of that bit.")  # fmt: skip
@click.option("--jitter", type=Time(), metavar="TIME",
              help="Between an event and its edge (50us; 2ms for markers of TRACE).")  # fmt: skip
@click.option("--within", type=Time(), metavar="TIME",
              help="The times of day of FILE and TRACE agree so well; for even edges.")  # fmt: skip
@click.option("--code", "codes", type=_FILE, multiple=True, metavar="FILE",
              help="A code that was played; give two for the drift.")  # fmt: skip
@click.option("--lag", type=Time(), metavar="TIME",
              help="The power follows the load within this: type B uncertainty.")  # fmt: skip
@click.option("--mark", "mode", type=click.Choice(["head", "layers", "pulses"]),
              help="The bit is a board's marker pin in this mode.")  # fmt: skip
@click.option("--layers", type=click.IntRange(1, 100_000), metavar="N", help="Of its head.")
@click.option("--settle", type=Time(), metavar="TIME", help="As MARK had it.")
@click.option("--longest", type=Time(), metavar="TIME",
              help="No layer takes longer, runs are further apart (50ms).")  # fmt: skip
@click.option("--ticks", type=_FILE, metavar="FILE", help="Of its layers: mcu bench --json.")
@click.option("--names", metavar="A,B,..", help="Of its layers.")
@click.option("--from", "start", metavar="PLACE", help="Look from here on.")
@click.option("--to", "stop", metavar="PLACE", help="Look up to here.")
@click.option("-o", "--output", type=_FILE, metavar="FILE.jls", help="New trace with the markers.")
@common
def markers(app: App, trace: Path, **given: Any) -> None:
    """Place what a program, a pin or a board noted; a clock map by edges or a code."""
    from waistline.trace.store import open_trace
    from waistline_hostctl import trace_text, trace_work
    from waistline_hostctl.trace_markers_result import markers as found_in

    output = given.pop("output")
    _check(given)
    if output is not None and output.suffix != ".jls":
        raise ConfigError(
            f"{output} is no name for a trace",
            cause="traces end in .jls, by which other programs know them",
            fix=f"-o {output.with_suffix('.jls')}",
        )
    with open_trace(trace) as found:
        start, stop = trace_work.stretch(found, given.pop("start"), given.pop("stop"))
        asked = _asked(given, int(start), math.ceil(stop))
        with app.console.progress("writing, samples", found.length) as progress:
            result = found_in(found, asked, output, progress.update)
    app.console.say(trace_text.markers(result))
    for remark in result.remarks:
        app.console.note(remark)
    app.console.emit(result)


_NEEDS = {
    "clock_hz": ("events",),
    "jitter": ("bit",),
    "within": ("bit",),
    "lag": ("codes",),
    "mode": ("bit",),
    "layers": ("mode",),
    "settle": ("mode",),
    "longest": ("mode",),
    "ticks": ("mode",),
    "names": ("mode",),
}
_EXCLUDES = (("bit", "codes"), ("mode", "events"), ("mode", "jitter"), ("mode", "within"))
_FLAGS = {"codes": "--code", "mode": "--mark", "clock_hz": "--clock-hz"}


def _check(given: dict[str, Any]) -> None:
    """Refuse options that do not go together.

    Raises:
        ConfigError: naming two of them.
    """
    for name, (other,) in _NEEDS.items():
        if given[name] is not None and not _there(given[other]):
            raise ConfigError(
                f"{_flag(name)} goes with {_flag(other)}",
                cause=f"{_flag(other)} was not given",
                fix="waistline trace markers --help",
            )
    for name, other in _EXCLUDES:
        if _there(given[name]) and _there(given[other]):
            raise ConfigError(
                f"{_flag(name)} and {_flag(other)} do not go together",
                cause="each is a way of its own to place what was noted",
                fix="place by one, then the rest in the trace that it wrote",
            )


def _there(value: Any) -> bool:
    return value is not None and value != ()


def _flag(name: str) -> str:
    return _FLAGS.get(name, f"--{name}")


def _asked(given: dict[str, Any], start: int, stop: int) -> Any:
    from waistline_bridge.messages import Mark
    from waistline_hostctl.markers.mcu import LONGEST_S
    from waistline_hostctl.trace_markers import Asked

    mode = given["mode"]
    return Asked(
        events=given["events"],
        clock_hz=given["clock_hz"],
        bit=given["bit"],
        edge=given["edge"],
        jitter_s=given["jitter"],
        within_s=given["within"],
        codes=given["codes"],
        lag_s=given["lag"] or 0.0,
        mode=Mark[mode.upper()] if mode else Mark.OFF,
        layers=given["layers"] or 0,
        settle_s=given["settle"] or 0.0,
        longest_s=given["longest"] or LONGEST_S,
        ticks=given["ticks"],
        names=tuple((given["names"] or "").split(",")) if given["names"] else (),
        start=start,
        stop=stop,
    )
