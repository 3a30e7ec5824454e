"""What to capture and where to, and what is refused of that."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from waistline.errors import ConfigError, RateTooLow
from waistline_hostctl.meters.base import MeterChoice, MeterInfo

SUFFIX = ".jls"
TRACE = f"trace{SUFFIX}"
LEAST_HZ = 100_000.0
BUFFER_S = 5.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to capture, and where to.

    Attributes:
        choice: of the meter.
        duration_s: of the trace; None: until interrupted, or the command ends.
        output: of the trace alone; None: a run folder.
        runs, name: of that folder; "" is the meter's name.
        command: program to capture around.
        log: gets its standard output.
        beside: its standard output goes to our standard error.
        allow_slow: a meter below 100 kHz will do.
        buffer_s: that the ring holds.
    """

    choice: MeterChoice
    duration_s: float | None = None
    output: Path | None = None
    runs: Path = Path("runs")
    name: str = ""
    command: tuple[str, ...] = ()
    log: Path | None = None
    beside: bool = False
    allow_slow: bool = False
    buffer_s: float = BUFFER_S


def check_output(path: Path | None) -> None:
    """Refuse a name that no trace can get, before the meter is touched.

    Raises:
        ConfigError: it is not FILE.jls, exists, or its folder does not.
    """
    if path is None:
        return
    if path.suffix != SUFFIX:
        raise ConfigError(
            f"{path} is no name for a trace",
            cause=f"traces end in {SUFFIX}, by which other programs know them",
            fix=f"-o {path.with_suffix(SUFFIX).name}; waistline trace export makes CSV of it",
        )
    if path.exists():
        raise ConfigError(
            f"{path} exists, and a measurement is not overwritten",
            cause=f"it holds {path.stat().st_size} bytes",
            fix="choose another name or move it away",
        )
    if not path.parent.is_dir():
        raise ConfigError(
            f"{path} cannot be made",
            cause=f"there is no folder {path.parent}",
            fix=f"mkdir -p {path.parent}",
        )


def check_rate(info: MeterInfo, *, allow_slow: bool) -> None:
    """Refuse a meter that is too slow for layers.

    Raises:
        RateTooLow: below 100 kHz, and not allowed.
    """
    if info.rate_hz < LEAST_HZ and not allow_slow:
        raise RateTooLow(
            f"{info.name} samples at {info.rate_hz:g} Hz",
            cause=f"layers last from 20 us on; {LEAST_HZ:g} Hz are needed to tell them apart",
            fix="choose a faster rate or meter, or say --allow-slow for whole inferences",
        )
