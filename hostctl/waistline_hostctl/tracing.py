"""`trace_info` and `trace_energy` of the Python API, and where the trace of a run folder lies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from waistline.errors import ConfigError

if TYPE_CHECKING:
    from waistline_hostctl.trace_work import TraceEnergyResult, TraceInfoResult

TRACE = "trace.jls"
"""The trace in a capture's run folder."""


def trace_file(path: str | Path) -> Path:
    """A trace, or the one in a capture's run folder.

    Raises:
        ConfigError: there is none, or it is a folder without one.
    """
    found = Path(path)
    if not found.exists():
        raise ConfigError(
            f"{found} cannot be read",
            cause="there is no such file",
            fix="give the path of a trace (.jls), or the run folder of a capture",
        )
    if not found.is_dir():
        return found
    if (found / TRACE).is_file():
        return found / TRACE
    raise ConfigError(
        f"{found} is a folder without a trace",
        cause=f"there is no {TRACE} in it",
        fix="give a trace, or the run folder of a capture",
    )


def trace_info(path: str | Path) -> TraceInfoResult:
    """What a trace is, as ``waistline trace info --json`` tells it.

    Args:
        path: of a trace, or a capture's run folder.

    Raises:
        TraceError, ConfigError: it cannot be read.
    """
    from waistline.trace.store import open_trace
    from waistline_hostctl import trace_work

    with open_trace(trace_file(path)) as trace:
        return trace_work.info(trace)


def trace_energy(
    path: str | Path, start: str | float | None = None, stop: str | float | None = None
) -> TraceEnergyResult:
    """Energy, mean power and current of a stretch, as ``waistline trace energy`` finds them.

    Args:
        path: of a trace, or a capture's run folder.
        start: seconds, or a place as for ``--from``, such as ``conv1[2]``; a segment's name
            alone is all of it. None: the trace's begin.
        stop: likewise, its end.

    Raises:
        ConfigError, MarkerMissing: no such place.
        TraceError: it cannot be read.
    """
    from waistline.trace.store import open_trace
    from waistline_hostctl import trace_work

    with open_trace(trace_file(path)) as trace:
        return trace_work.energy(trace, _place(start), _place(stop))


def _place(given: str | float | None) -> str | None:
    return given if given is None or isinstance(given, str) else f"{float(given)!r}"
