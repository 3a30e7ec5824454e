"""Look into traces: info, plot, energy, markers, export, import, repair."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from waistline_hostctl.commands._trace_file import TraceFile
from waistline_hostctl.commands._trace_markers import markers
from waistline_hostctl.options import App, Number, common

_PLACES = (
    "A place is seconds (1.5, 250ms), #SAMPLE, or a marker's name; NAME[2] is the third of its "
    "name, NAME[-1] the last."
)
_FILE = click.Path(path_type=Path, dir_okay=False)


def _part(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--from`` and ``--to``."""
    function = click.option("--to", "stop", metavar="PLACE", help="End (default: of the trace).")(
        function
    )
    return click.option("--from", "start", metavar="PLACE", help="Begin (default: of the trace).")(
        function
    )


@click.group()
def command() -> None:
    """Look into traces: info, plot, energy, markers, export, import, repair.

    \b
    waistline trace info run.jls                     what it is, gaps, markers, ledger
    waistline trace energy run.jls --from 1.5 --to 2
    waistline trace energy runs/20260101T000000Z-ppk2 --from command
    waistline trace plot run.jls -o run.svg
    waistline trace markers run.jls --bit 0 --events events.jsonl -o placed.jls
    waistline trace export run.jls part.csv --from 1.5 --to command-end
    waistline trace import scope.csv run.jls --map current=CH1*0.1,time=t:ms
    waistline trace repair run.jls                   a capture that was killed

    Instead of a trace its run folder may be given.
    """  # noqa: D301


command.add_command(markers)


@command.command()
@click.argument("trace", type=TraceFile())
@common
def info(app: App, trace: Path) -> None:
    """Say what a trace is: signals, gaps, markers, ledger."""
    from waistline.trace.store import open_trace
    from waistline_hostctl import trace_text, trace_work

    with open_trace(trace) as found:
        result = trace_work.info(found)
    app.console.say(trace_text.info(result))
    app.console.emit(result)


@command.command(epilog=_PLACES + " A segment's name as --from alone is all of it. Exit code 5 "
                 "where a gap of unknown size lies in it.")  # fmt: skip
@click.argument("trace", type=TraceFile())
@_part
@common
def energy(app: App, trace: Path, start: str | None, stop: str | None) -> None:
    """Energy, mean power and current between two places."""
    from waistline.trace.store import open_trace
    from waistline_hostctl import trace_text, trace_work

    with open_trace(trace) as found:
        result = trace_work.energy(found, start, stop)
    app.console.say(trace_text.energy(result))
    app.console.emit(result)
    if result.uncertain:
        click.get_current_context().exit(5)


@command.command(epilog=_PLACES)
@click.argument("trace", type=TraceFile())
@click.option("-o", "--output", type=_FILE, metavar="FILE", help="PNG or SVG (default: TRACE.png).")
@click.option("--signal", default=None, metavar="NAME", help="current, voltage or power (default).")
@click.option("--title", default="", help="Over the picture (default: the meter).")
@_part
@common
def plot(
    app: App,
    trace: Path,
    output: Path | None,
    signal: str | None,
    title: str,
    start: str | None,
    stop: str | None,
) -> None:
    """Draw a trace with its segments, markers and gaps."""
    from waistline.trace.plot import plot as draw
    from waistline.trace.store import open_trace
    from waistline.trace.view import drawn
    from waistline_hostctl import trace_work

    target = output or trace.with_suffix(".png")
    with open_trace(trace) as found:
        first, last = trace_work.stretch(found, start, stop)
        named = signal or drawn(found.spec)
        draw(found, target, signal=named, start=first, stop=last, title=title)
    app.console.say(str(target))
    app.console.emit(trace_work.TraceWrittenResult(path=str(target), count=0))


@command.command(epilog=_PLACES)
@click.argument("trace", type=TraceFile())
@click.argument("output", type=_FILE)
@click.option("--format", "kind", default="", metavar="NAME",
              help="csv, parquet or perfetto (default: by the suffix).")  # fmt: skip
@click.option("--every", type=click.IntRange(1), default=1, metavar="N", help="Average N samples.")
@click.option("--force", is_flag=True, help="More rows than a spreadsheet opens.")
@_part
@common
def export(
    app: App,
    trace: Path,
    output: Path,
    kind: str,
    every: int,
    force: bool,
    start: str | None,
    stop: str | None,
) -> None:
    """Write CSV, Parquet, or Perfetto JSON."""
    from waistline.trace.exporters.base import Part
    from waistline.trace.exporters.base import export as write
    from waistline.trace.store import open_trace
    from waistline_hostctl import trace_work

    with open_trace(trace) as found:
        first, last = trace_work.stretch(found, start, stop)
        part = Part(round(first), round(last), every=every, force=force)
        rows = write(found, output, part, kind)
    app.console.say(f"{output}: {rows:,} rows")
    app.console.emit(trace_work.TraceWrittenResult(path=str(output), count=rows))


@command.command("import", epilog="Without --map the headings are taken where they say what they "
                 "are, such as Current(uA) or power_w.")  # fmt: skip
@click.argument("recording", type=_FILE)
@click.argument("output", type=_FILE, required=False)
@click.option("--map", "mapping", metavar="SIGNAL=COLUMN,..",
              help="current=CH1*0.1,d0=#4,time=t:ms (#4: the fourth).")  # fmt: skip
@click.option("--rate", "rate_hz", type=Number(0, min_open=True), metavar="HZ",
              help="Where the file does not tell it.")  # fmt: skip
@click.option("--supply", "supply_v", type=Number(0, min_open=True), metavar="VOLTS",
              help="Constant supply, where only a current was recorded.")  # fmt: skip
@click.option("--delimiter", metavar="CHAR", help="Of a text file (default: found).")
@click.option("--decimal-comma", is_flag=True, help="Numbers are written 1,5.")
@click.option("--source", metavar="TEXT", help="Id of the instrument (default: the file's name).")
@common
def bring(
    app: App,
    recording: Path,
    output: Path | None,
    mapping: str | None,
    rate_hz: float | None,
    supply_v: float | None,
    delimiter: str | None,
    decimal_comma: bool,
    source: str | None,
) -> None:
    """Make a trace of CSV, NPY, Parquet or nRF .ppk2 files."""
    from waistline.trace.importers.base import ImportOptions, parse_map, read_source
    from waistline.trace.store import write_source
    from waistline_hostctl import trace_work
    from waistline_hostctl.console import si

    target = output or recording.with_suffix(".jls")
    options = ImportOptions(
        columns=parse_map(mapping) if mapping else {},
        rate_hz=rate_hz,
        supply_v=supply_v,
        delimiter=delimiter,
        decimal_comma=decimal_comma,
        source=source,
    )
    found = read_source(recording, options)
    count = write_source(found, target)
    app.console.say(f"{target}: {count:,} samples at {si(found.spec.rate_hz, 'Hz')}")
    for remark in found.remarks:
        app.console.note(remark)
    app.console.emit(
        trace_work.TraceWrittenResult(path=str(target), count=count, remarks=tuple(found.remarks))
    )


@command.command()
@click.argument("trace", type=TraceFile())
@click.option("-o", "--output", type=_FILE, metavar="FILE", help="Where the mended one goes.")
@common
def repair(app: App, trace: Path, output: Path | None) -> None:
    """Mend a trace whose capture was killed."""
    from waistline.trace.repair import repair as mend
    from waistline_hostctl import trace_text, trace_work

    report = mend(trace, output)
    app.console.say(trace_text.repaired(report))
    app.console.emit(trace_work.TraceRepairResult(report=report))
