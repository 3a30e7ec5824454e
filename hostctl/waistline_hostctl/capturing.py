"""`capture` of the Python API: a power trace, recorded as ``waistline capture`` does."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from waistline.bench import ResolvedBench, resolve
from waistline_hostctl.console import Console, nobody

if TYPE_CHECKING:
    from waistline_hostctl.capture.record import Captured


def capture(
    meter: str,
    *,
    port: str | None = None,
    options: Mapping[str, str] | None = None,
    duration_s: float | None = None,
    output: str | Path | None = None,
    runs: str | Path = "runs",
    name: str = "",
    command: Sequence[str] = (),
    allow_slow: bool = False,
    bench: ResolvedBench | None = None,
    console: Console | None = None,
) -> Captured:
    """Record a power trace; returns once it is closed.

    Args:
        meter: its name, such as ``ppk2``, or of its section in the bench file.
        port: path or id, where there are several.
        options: the meter's own, such as ``{"voltage": "3.3"}``.
        duration_s: of the trace; None: until interrupted, or the command ends.
        output: of the trace alone; None: a run folder.
        runs: folder of run folders.
        name: of the run; "" is the meter's.
        command: program and arguments to capture around; its begin and end become markers.
        allow_slow: a meter below 100 kHz will do.
        bench: settings; None: the defaults and the environment.
        console: gets the line of statistics.

    Raises:
        SamplesLost: losses cannot be accounted for, or it ended early; the trace is kept.
        RateTooLow, MeterError, ConfigError, MissingExtra, TraceError: it did not begin.
    """
    # What it needs takes a while to import, and most callers do not.
    from waistline_hostctl.capture.control import run
    from waistline_hostctl.capture.wanted import Wanted
    from waistline_hostctl.meters.base import MeterChoice

    wanted = Wanted(
        choice=MeterChoice(meter, port, dict(options or {})),
        duration_s=duration_s,
        output=None if output is None else Path(output),
        runs=Path(runs),
        name=name,
        command=tuple(command),
        allow_slow=allow_slow,
    )
    found = run(wanted, bench or resolve(environment=os.environ), console or nobody())
    found.check()
    return found
